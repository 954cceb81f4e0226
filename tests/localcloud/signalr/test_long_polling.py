"""The long polling transport on the wire."""

import asyncio

import msgspec

from localcloud.signalr.limits import Limits
from localcloud.signalr.transports.long_polling import LongPollingChannel

HANDSHAKE = '{"protocol":"json","version":1}\x1e'


async def negotiated_url(service) -> str:
    return service.connect_url(await service.negotiate("ann"))


async def post(service, url: str, data: str | bytes) -> int:
    async with service.session.post(url, data=data, headers=service.as_client("ann")) as response:
        return response.status


async def poll(service, url: str) -> tuple[int, bytes]:
    async with service.session.get(url, headers=service.as_client("ann")) as response:
        return response.status, await response.read()


async def polled(service) -> str:
    """A long polling connection after its handshake."""
    url = await negotiated_url(service)
    assert await poll(service, url) == (200, b"")
    assert await post(service, url, HANDSHAKE) == 200
    assert await poll(service, url) == (200, b"{}\x1e")
    return url


async def test_the_first_poll_is_answered_at_once_and_later_ones_with_news(service) -> None:
    url = await polled(service)
    polling = asyncio.create_task(poll(service, url))
    await service.send("x")
    assert await polling == (200, b'{"type":1,"target":"newMessage","arguments":["x"]}\x1e')


async def test_what_comes_between_two_polls_waits_for_the_next(service) -> None:
    url = await polled(service)
    for number in range(3):
        await service.send(number)
    _, body = await poll(service, url)
    records = body.split(b"\x1e")[:-1]
    assert [msgspec.json.decode(record)["arguments"] for record in records] == [[0], [1], [2]]


async def test_a_poll_without_news_is_answered_empty(start_service) -> None:
    service = await start_service(limits={"poll_seconds": 0.05})
    url = await polled(service)
    assert await poll(service, url) == (200, b"")


async def test_a_second_poll_takes_the_place_of_the_first(service) -> None:
    url = await polled(service)
    first = asyncio.create_task(poll(service, url))
    await service.until(lambda: service.server.counters.connections == 1)
    second = asyncio.create_task(poll(service, url))
    assert await asyncio.wait_for(first, 5) in ((204, b""), (200, b""))
    await service.send("x")
    assert b'"x"' in (await second)[1]


async def test_a_polling_client_leaves_by_delete_and_its_poll_ends(service) -> None:
    url = await polled(service)
    polling = asyncio.create_task(poll(service, url))
    await asyncio.sleep(0.05)
    async with service.session.delete(url, headers=service.as_client("ann")) as response:
        assert response.status == 202
    assert await polling == (204, b"")
    assert (await poll(service, url))[0] == 404


async def test_a_client_that_stops_polling_is_forgotten(start_service) -> None:
    service = await start_service(limits={"client_timeout_seconds": 0.1, "sweep_seconds": 0.01})
    url = await polled(service)
    await service.until(lambda: service.server.counters.connections == 0)
    assert (await poll(service, url))[0] == 404


def test_aborting_a_polling_client_resets_the_polls_that_are_being_answered() -> None:
    channel, aborted = LongPollingChannel(Limits()), []

    class Transport(asyncio.Transport):
        def abort(self) -> None:
            aborted.append(self)

    answering, answered = Transport(), Transport()
    with channel.polled_over(answered):
        pass
    with channel.polled_over(answering):
        channel.abort()
    assert aborted == [answering]
    assert not channel.write(b"x")


async def test_a_polling_client_may_speak_messagepack(service) -> None:
    url = await negotiated_url(service)
    await poll(service, url)
    assert await post(service, url, b'{"protocol":"messagepack","version":1}\x1e\x02\x91\x06') == 200
    await service.send(1.5)
    _, body = await poll(service, url)
    assert body[:3] == b"{}\x1e"
    assert msgspec.msgpack.decode(body[4:])[4] == [1.5]


async def test_what_a_client_posts_is_limited(service) -> None:
    url = await polled(service)
    assert await post(service, url, b"x" * 40_000) == 413

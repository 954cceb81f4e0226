"""WebSocket, server-sent events and long polling on the wire."""

import asyncio
import base64

import aiohttp
import msgspec
import pytest

from localcloud.signalr.limits import Limits
from localcloud.signalr.transports.long_polling import LongPollingChannel
from localcloud.signalr.transports.websocket import QueuedWebSocketChannel, WebSocketChannel

CHANNELS = [WebSocketChannel, QueuedWebSocketChannel]
HANDSHAKE = '{"protocol":"json","version":1}\x1e'
TEXT, BINARY, PONG = aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.PONG


@pytest.fixture(params=CHANNELS)
async def service(request, start_service):
    return await start_service(websocket_channel=request.param)


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


async def test_json_travels_in_text_frames_and_messagepack_in_binary_ones(service) -> None:
    text, binary = await service.websocket(), await service.websocket(protocol="messagepack")
    await service.send("x")
    received = await text.socket.receive(timeout=5), await binary.socket.receive(timeout=5)
    assert [message.type for message in received] == [TEXT, BINARY]
    assert msgspec.msgpack.decode(received[1].data[1:]) == [1, {}, None, "newMessage", ["x"], []]


async def test_a_handshakes_answer_travels_in_the_protocols_own_frames(service) -> None:
    socket = await service.session.ws_connect(service.client_url, headers=service.as_client())
    await socket.send_str('{"protocol":"messagepack","version":1}\x1e')
    assert (await socket.receive(timeout=5))[:2] == (BINARY, b"{}\x1e")


async def test_a_handshake_may_be_split_over_frames(service) -> None:
    socket = await service.session.ws_connect(service.client_url, headers=service.as_client())
    for character in HANDSHAKE:
        await socket.send_str(character)
    assert (await socket.receive(timeout=5)).data == "{}\x1e"


async def test_frames_are_never_compressed_even_where_the_client_would(service) -> None:
    async with service.session.ws_connect(service.client_url, headers=service.as_client(), compress=15) as socket:
        assert socket.compress == 0


@pytest.mark.parametrize("size", [1, 125, 126, 65_535, 65_536, 300_000])
async def test_frames_of_every_length_arrive_whole(service, size: int) -> None:
    client = await service.websocket()
    await service.send("x" * size)
    assert await client.arguments() == ["x" * size]


async def test_aiohttps_own_frames_and_ours_do_not_mix(service) -> None:
    client = await service.session.ws_connect(service.client_url, headers=service.as_client(), autoping=False)
    await client.send_str(HANDSHAKE)
    await client.receive(timeout=5)
    numbers, pongs = [], []
    for number in range(50):
        await client.ping(str(number).encode())
        await service.send(number, "x" * 5000 * (number % 4))
    while len(numbers) + len(pongs) < 100:
        message = await client.receive(timeout=5)
        if message.type is PONG:
            pongs.append(int(message.data))
        else:
            numbers.append(msgspec.json.decode(message.data[:-1])["arguments"][0])
    assert numbers == pongs == list(range(50))


async def test_a_client_that_leaves_is_forgotten(service) -> None:
    client = await service.websocket()
    assert service.server.counters.connections == 1
    await client.socket.close()
    await service.until(lambda: service.server.counters.connections == 0)
    await service.send("to nobody")


async def test_a_client_that_invokes_is_told_why_and_disconnected(service) -> None:
    client = await service.websocket()
    await client.socket.send_str('{"type":1,"target":"t","arguments":[]}\x1e')
    assert "listen only" in (await client.receive())["error"]
    assert (await client.socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize("text", ["garbage\x1e", '{"protocol":"xml","version":1}\x1e'])
async def test_a_bad_handshake_is_answered_and_ends(service, text: str) -> None:
    socket = await service.session.ws_connect(service.client_url, headers=service.as_client())
    await socket.send_str(text)
    assert "error" in msgspec.json.decode((await socket.receive(timeout=5)).data[:-1])
    assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


async def test_a_frame_of_two_mebibytes_ends_its_connection_only(service) -> None:
    big, other = await service.websocket(), await service.websocket()
    await big.socket.send_bytes(b"x" * 2**21)
    message = await big.socket.receive(timeout=5)
    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)
    await service.send("fine")
    assert await other.arguments() == ["fine"]


async def test_pings_keep_a_client_and_silence_ends_it(start_service) -> None:
    service = await start_service(limits={"ping_seconds": 0.05, "client_timeout_seconds": 0.3, "sweep_seconds": 0.01})
    client = await service.websocket()
    for _ in range(10):
        assert await client.receive() == {"type": 6}
        await client.socket.send_str('{"type":6}\x1e')
    while await client.receive() == {"type": 6}:
        pass
    assert service.server.counters.timed_out == 1


async def test_a_client_that_never_shakes_hands_is_disconnected(start_service) -> None:
    service = await start_service(limits={"handshake_seconds": 0.05, "sweep_seconds": 0.01})
    socket = await service.session.ws_connect(service.client_url, headers=service.as_client())
    assert (await socket.receive(timeout=5)).type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}


async def test_an_event_stream_opens_at_once_and_carries_one_message_per_event(service) -> None:
    url = await negotiated_url(service)
    headers = service.as_client("ann") | {"Accept": "text/event-stream"}
    async with service.session.get(url, headers=headers) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert await stream.content.readuntil(b"\r\n\r\n") == b":\r\n\r\n"
        assert await post(service, url, HANDSHAKE) == 200
        assert await stream.content.readuntil(b"\r\n\r\n") == b"data: {}\x1e\r\n\r\n"
        await service.send("line\r\nbreak")
        event = await stream.content.readuntil(b"\r\n\r\n")
    assert event == b'data: {"type":1,"target":"newMessage","arguments":["line\\r\\nbreak"]}\x1e\r\n\r\n'
    await service.until(lambda: service.server.counters.connections == 0)


async def test_an_event_stream_refuses_messagepack(service) -> None:
    url = await negotiated_url(service)
    headers = service.as_client("ann") | {"Accept": "text/event-stream"}
    async with service.session.get(url, headers=headers) as stream:
        await post(service, url, '{"protocol":"messagepack","version":1}\x1e')
        assert b"cannot carry" in await stream.content.read()


async def test_an_event_streams_token_may_come_in_the_query(service) -> None:
    token = service.as_client("ann")["Authorization"].removeprefix("Bearer ")
    url = f"{await negotiated_url(service)}&access_token={token}"
    async with service.session.get(url, headers={"Accept": "text/event-stream"}) as stream:
        assert stream.status == 200


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


async def test_garbage_frames_end_their_connection_only(start_service) -> None:
    service = await start_service(limits={"handshake_seconds": 0.2, "sweep_seconds": 0.01})
    other = await service.websocket()
    key = base64.b64encode(b"k" * 16).decode()
    for garbage in (b"\xff" * 50, b"\x81\x05hello", b"\x83\x80\0\0\0\0", b"\x81\x81\0\0\0\0\xff", b"\xc1\x80\0\0\0\0"):
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        token = service.as_client()["Authorization"]
        writer.write(
            f"GET /client/?hub=chat HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        writer.write(garbage)
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
    await service.until(lambda: service.server.counters.connections == 1)
    await service.send("fine")
    assert await other.arguments() == ["fine"]

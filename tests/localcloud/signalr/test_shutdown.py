"""The stop: clients are told to come back, and nobody holds it up."""

import asyncio

import aiohttp

COME_BACK = {"type": 7, "allowReconnect": True}
HANDSHAKE = '{"protocol":"json","version":1}\x1e'


async def test_clients_are_told_to_come_back_and_then_disconnected(service) -> None:
    clients = [await service.websocket() for _ in range(3)]
    stopping = asyncio.create_task(service.server.stop())
    for client in clients:
        assert await client.receive() == COME_BACK
        assert (await client.socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
    await stopping
    assert service.server.counters.connections == 0


async def test_what_was_sent_before_the_stop_arrives_before_the_farewell(service) -> None:
    client = await service.websocket()
    for number in range(50):
        await service.send(number, "x" * 5000)
    stopping = asyncio.create_task(service.server.stop())
    received = [await client.receive() for _ in range(51)]
    assert [message["arguments"][0] for message in received[:-1]] == list(range(50))
    assert received[-1] == COME_BACK
    await stopping


async def test_polls_and_event_streams_get_the_farewell_too(service) -> None:
    poll_url, stream_url = [service.connect_url(await service.negotiate()) for _ in range(2)]
    headers = service.as_client()
    async with service.session.get(poll_url, headers=headers) as first:
        assert first.status == 200
    stream = await service.session.get(stream_url, headers=headers | {"Accept": "text/event-stream"})
    for url in (poll_url, stream_url):
        async with service.session.post(url, data=HANDSHAKE, headers=headers) as response:
            assert response.status == 200
    stopping = asyncio.create_task(service.server.stop())
    async with service.session.get(poll_url, headers=headers) as poll:
        assert await poll.read() == b'{}\x1e{"type":7,"allowReconnect":true}\x1e'
    assert (await stream.content.read()).endswith(b'data: {"type":7,"allowReconnect":true}\x1e\r\n\r\n')
    await stopping


async def test_nobody_is_let_in_during_the_stop(start_service) -> None:
    service = await start_service(limits={"close_seconds": 30})  # the stop lasts until the client has left
    poll_url, headers = service.connect_url(await service.negotiate()), service.as_client()
    async with service.session.get(poll_url, headers=headers) as first:
        assert first.status == 200
    async with service.session.post(poll_url, data=HANDSHAKE, headers=headers) as response:
        assert response.status == 200
    stopping = asyncio.create_task(service.server.stop())
    await asyncio.sleep(0)
    url = f"{service.base}/client/negotiate?hub=chat"
    async with service.session.post(url, headers=headers) as response:
        assert response.status == 503
    async with service.session.get(poll_url, headers=headers) as poll:
        assert (await poll.read()).endswith(b'{"type":7,"allowReconnect":true}\x1e')
    assert not stopping.done()
    async with service.session.delete(poll_url, headers=headers) as response:
        assert response.status == 202
    await stopping


async def test_the_port_is_free_after_the_stop_and_the_server_can_stop_twice(service, start_service) -> None:
    await service.server.stop()
    await service.server.stop()
    assert (await start_service(port=service.port)).port == service.port

"""The server-sent events transport on the wire."""

HANDSHAKE = '{"protocol":"json","version":1}\x1e'


async def negotiated_url(service) -> str:
    return service.connect_url(await service.negotiate("ann"))


async def post(service, url: str, data: str | bytes) -> int:
    async with service.session.post(url, data=data, headers=service.as_client("ann")) as response:
        return response.status


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

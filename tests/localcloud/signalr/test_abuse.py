"""Peers that stall, drip or send garbage."""

import asyncio
import contextlib
import json
import os
import socket
import ssl

import pytest

from localcloud.certificates import ensure_certificates, server_ssl_context
from localcloud.signalr.transports.websocket import QueuedWebSocketChannel, WebSocketChannel

MESSAGES = 1000
PADDING = "x" * 8000
HANDSHAKE = b'{"protocol":"json","version":1}\x1e'
MASKED_HANDSHAKE = bytes((0x81, 0x80 | len(HANDSHAKE), 0, 0, 0, 0)) + HANDSHAKE


async def raw_client(service) -> socket.socket:
    """A socket with small buffers that reads only what the test reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", service.port))
    return client


def request_head(service, url: str, *headers: str) -> bytes:
    path = url.removeprefix(service.base)
    lines = [f"GET {path} HTTP/1.1", "Host: x", f"Authorization: {service.as_client()['Authorization']}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def request(service, client: socket.socket, url: str, *headers: str) -> None:
    await asyncio.get_running_loop().sock_sendall(client, request_head(service, url, *headers))


async def receive_until(client: socket.socket, end: bytes) -> None:
    received = b""
    while end not in received:
        received += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1), 5)


async def shake_hands(service, url: str) -> None:
    async with service.session.post(url, data=HANDSHAKE, headers=service.as_client()) as response:
        assert response.status == 200


async def stalled_websocket(service) -> socket.socket:
    client = await raw_client(service)
    upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    await request(service, client, service.client_url, *upgrade, "Sec-WebSocket-Key: " + "A" * 22 + "==")
    await receive_until(client, b"\r\n\r\n")
    await asyncio.get_running_loop().sock_sendall(client, MASKED_HANDSHAKE)
    await receive_until(client, b"{}\x1e")
    return client


async def stalled_event_stream(service) -> socket.socket:
    client, url = await raw_client(service), service.connect_url(await service.negotiate())
    await request(service, client, url, "Accept: text/event-stream")
    await receive_until(client, b":\r\n\r\n")
    await shake_hands(service, url)
    await receive_until(client, b"{}\x1e")
    return client


async def stalled_poll(service) -> socket.socket:
    client, url = await raw_client(service), service.connect_url(await service.negotiate())
    await request(service, client, url)
    await receive_until(client, b"\r\n\r\n")
    await shake_hands(service, url)
    await request(service, client, url)
    await receive_until(client, b"{}\x1e")
    await request(service, client, url)
    return client


async def absent_poll(service) -> None:
    url = service.connect_url(await service.negotiate())
    async with service.session.get(url, headers=service.as_client()) as response:
        assert response.status == 200
    await shake_hands(service, url)


STALLED = [
    (stalled_websocket, WebSocketChannel),
    (stalled_websocket, QueuedWebSocketChannel),
    (stalled_event_stream, WebSocketChannel),
    (stalled_poll, WebSocketChannel),
    (absent_poll, WebSocketChannel),
]


@pytest.mark.slow
@pytest.mark.parametrize(("stall", "channel"), STALLED)
async def test_a_client_that_reads_nothing_delays_nobody_and_is_aborted(start_service, stall, channel) -> None:
    service = await start_service(websocket_channel=channel)
    readers = [await service.websocket() for _ in range(3)]
    stalled = await stall(service)

    async def read(reader) -> list[int]:
        return [(await reader.arguments())[0] for _ in range(MESSAGES)]

    reading = [asyncio.create_task(read(reader)) for reader in readers]
    for number in range(MESSAGES):
        await service.send(number, PADDING)
    assert await asyncio.gather(*reading) == [list(range(MESSAGES))] * 3
    counters = service.server.counters
    assert (counters.too_slow, counters.connections) == (1, 3)
    if stalled is not None:
        stalled.close()


@pytest.mark.parametrize("stall", [stalled_websocket, stalled_event_stream])
async def test_a_client_that_was_too_slow_finds_its_connection_ended(start_service, stall) -> None:
    service = await start_service()
    stalled = await stall(service)
    while service.server.counters.too_slow == 0:
        await service.send(PADDING * 10)
    await end_of(stalled)


async def test_a_client_that_stalls_over_tls_is_aborted_too(start_service, tmp_path) -> None:
    service = await start_service()
    certificates = ensure_certificates(tmp_path, ["localhost"])
    port = await service.server.start("127.0.0.1", 0, server_ssl_context(certificates))
    trust = ssl.create_default_context(cafile=certificates.ca_file)
    reader, writer = await asyncio.open_connection("localhost", port, ssl=trust)
    upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    head = request_head(service, service.client_url, *upgrade, "Sec-WebSocket-Key: " + "A" * 22 + "==")
    writer.write(head + MASKED_HANDSHAKE)
    await asyncio.wait_for(reader.readuntil(b"{}\x1e"), 5)
    async with asyncio.timeout(10):
        while service.server.counters.too_slow == 0:
            await service.send(PADDING * 10)
    writer.transport.abort()


async def end_of(client: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        while await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1 << 20), 5):
            pass
    client.close()


async def test_a_stalled_client_does_not_hold_up_the_stop(start_service) -> None:
    service = await start_service(limits={"close_seconds": 0.2})
    client = await stalled_websocket(service)
    for number in range(100):
        await service.send(number, PADDING)
    await asyncio.wait_for(service.server.stop(), 2)
    client.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x10\x20\x00\x04MQTT\x04\x02\x00\x3c",
        os.urandom(2000).replace(b"\n", b""),
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /client/negotiate?hub=chat HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"a" * 20_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
    ],
)
async def test_garbage_closes_its_connection_and_nothing_else(start_service, garbage: bytes) -> None:
    service = await start_service(limits={"request_seconds": 0.2})
    other = await service.websocket()
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(garbage)
    await asyncio.wait_for(until_closed(reader), 5)
    writer.close()
    await service.send("fine")
    assert await other.arguments() == ["fine"]


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends. Where it ends beside bytes that nobody has read, TCP says so by a reset."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while chunk := await reader.read(4096):
            received += chunk
    return bytes(received)


@pytest.mark.parametrize("start", [b"", b"GET /hea", b"GET /health HTTP/1.1\r\nHost: x\r\n"])
async def test_a_request_that_drips_in_is_cut_off(start_service, start: bytes) -> None:
    service = await start_service(limits={"request_seconds": 0.2})
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(start)
    reading = asyncio.create_task(until_closed(reader))
    async with asyncio.timeout(5):
        while not reading.done():
            writer.write(b"a")
            await asyncio.sleep(0.02)
    assert b"200" not in await reading
    writer.close()


async def test_no_more_sockets_than_allowed(start_service) -> None:
    service = await start_service(limits={"max_sockets": 2})
    client = await service.websocket()
    waiting = await asyncio.open_connection("127.0.0.1", service.port)
    refused = await asyncio.open_connection("127.0.0.1", service.port)
    assert await asyncio.wait_for(refused[0].read(), 5) == b""
    assert service.server.counters.refused_connections == 1
    for _, writer in (waiting, refused):
        writer.close()
    await service.until(lambda: service.server._server.sockets == 1)
    await service.send("fine")
    assert await client.arguments() == ["fine"]


async def test_tokens_are_never_logged(start_service, caplog) -> None:
    caplog.set_level("DEBUG")
    service = await start_service()
    client = await service.websocket()
    token = service.as_client()["Authorization"].removeprefix("Bearer ")
    async with service.session.get(f"{service.client_url}&id=x&access_token={token}") as response:
        assert response.status == 404
    async with service.session.get(f"{service.client_url}&id=x&access_token={token}x") as response:
        assert response.status == 401
    await client.socket.send_str(json.dumps({"type": 1}) + "\x1e")
    assert (await client.receive())["type"] == 7
    await service.server.stop()
    server_lines = [record for record in caplog.records if record.name.startswith(("localcloud", "aiohttp"))]
    assert server_lines
    assert not any(token[:40] in record.getMessage() for record in server_lines)

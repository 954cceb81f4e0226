"""The WebSocket transport on the wire, by both of its channels."""

import asyncio
import base64
import socket

import aiohttp
import msgspec
import pytest
import uvloop
from aiohttp import web

from localcloud.signalr.connections import Connections
from localcloud.signalr.limits import Limits
from localcloud.signalr.transports.websocket import QueuedWebSocketChannel, WebSocketChannel

HANDSHAKE = '{"protocol":"json","version":1}\x1e'
TEXT, BINARY, PONG = aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.PONG


@pytest.fixture(params=[WebSocketChannel, QueuedWebSocketChannel])
async def service(request, start_service):
    return await start_service(websocket_channel=request.param)


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


@pytest.mark.slow
async def test_pings_keep_a_client_and_silence_ends_it(start_service) -> None:
    service = await start_service(limits={"ping_seconds": 0.05, "client_timeout_seconds": 0.2, "sweep_seconds": 0.01})
    client = await service.websocket()
    for _ in range(6):
        assert await client.receive() == {"type": 6}
        await client.socket.send_str('{"type":6}\x1e')
    while await client.receive() == {"type": 6}:
        pass
    assert service.server.counters.timed_out == 1


async def test_a_client_that_never_shakes_hands_is_disconnected(start_service) -> None:
    service = await start_service(limits={"handshake_seconds": 0.05, "sweep_seconds": 0.01})
    socket = await service.session.ws_connect(service.client_url, headers=service.as_client())
    assert (await socket.receive(timeout=5)).type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}


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


def test_a_transport_that_has_just_closed_is_no_fault_of_the_message() -> None:
    """Between a socket's end and its handler's next turn; a fault would keep the message from the viewers after it."""

    async def write_after_the_end() -> tuple[bool, bool]:
        ours, theirs = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        connection = Connections(Limits(), lambda: 0.0, lambda _seconds, _call: None).negotiate("chat", None)
        channel = WebSocketChannel(connection, web.WebSocketResponse(), transport, Limits())
        with theirs:
            before = channel.write(b"x")
            assert theirs.recv(1) == b"x"
        transport.abort()
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            transport.write(b"x")
        return before, channel.write(b"x")

    assert uvloop.run(write_after_the_end()) == (True, True)

"""The WebSocket transport: JSON in text frames, MessagePack in binary ones.

A message's frame is the same for every client, because a server does not mask: so it is built once and written straight
to the transport, without a coroutine per client. That needs frames without compression, and aiohttp to write its own
control frames whole and at once; a test pins both.
"""

import asyncio
import contextlib
from collections.abc import Mapping

from aiohttp import WSMsgType, web

from localcloud.signalr.connections import Connection
from localcloud.signalr.limits import Limits
from localcloud.signalr.protocol import Encoder, HubProtocol, Message, json_record, messagepack_record
from localcloud.signalr.transports import abort_later

FINAL = 0x80
TEXT, BINARY = FINAL | WSMsgType.TEXT, FINAL | WSMsgType.BINARY
SHORT, LONG = 126, 65_536
LENGTH_16, LENGTH_64 = 126, 127


def frame(first_byte: int, payload: bytes) -> bytes:
    """Build an unmasked, uncompressed WebSocket frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < SHORT:
        return bytes((first_byte, size)) + payload
    if size < LONG:
        return bytes((first_byte, LENGTH_16)) + size.to_bytes(2) + payload
    return bytes((first_byte, LENGTH_64)) + size.to_bytes(8) + payload


def text_frame(message: Message) -> bytes:
    """Encode a message as JSON in a text frame; the official client fails on a binary one."""
    return frame(TEXT, message.encoded(json_record))


def binary_frame(message: Message) -> bytes:
    """Encode a message as MessagePack in a binary frame."""
    return frame(BINARY, message.encoded(messagepack_record))


class WebSocketChannel:
    """The channel of a WebSocket."""

    encoders: Mapping[HubProtocol, Encoder] = {HubProtocol.JSON: text_frame, HubProtocol.MESSAGEPACK: binary_frame}
    needs_pings = True

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport, limits: Limits) -> None:
        self._socket = socket
        self._transport = transport
        self._max_unsent = limits.max_unsent
        self._close_seconds = limits.close_seconds
        self._closing: asyncio.Task[None] | None = None

    def shows_life(self) -> bool:
        """Clients ping."""
        return False

    def write(self, data: bytes) -> bool:
        """Write a frame; what the socket does not take at once stays in the transport's buffer."""
        if self._transport.get_write_buffer_size() > self._max_unsent:
            return False
        self._transport.write(data)
        return True

    def close(self) -> None:
        """Shake hands for the end of the WebSocket, or abort where the client does not."""
        self._closing = asyncio.get_running_loop().create_task(self._close())
        abort_later(self._transport, self._close_seconds)

    def abort(self) -> None:
        """Reset the connection."""
        self._transport.abort()

    async def _close(self) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):  # gone, or not even prepared
            await self._socket.close()


async def serve_websocket(request: web.Request, connection: Connection, limits: Limits) -> web.StreamResponse:
    """Be a connection's WebSocket until it ends. Raises AlreadyConnectedError."""
    socket = web.WebSocketResponse(max_msg_size=limits.max_client_message, compress=False, timeout=limits.close_seconds)
    transport = request.transport
    assert transport is not None
    connection.attach(WebSocketChannel(socket, transport, limits))
    try:
        await socket.prepare(request)
        async for received in socket:
            if received.type is WSMsgType.TEXT:
                connection.receive(received.data.encode())
            elif received.type is WSMsgType.BINARY:
                connection.receive(received.data)
    finally:
        connection.end()
        abort_later(transport, limits.close_seconds)
    return socket

"""SignalR's hub protocol, version 1, from client to server: bytes in, what they say out, without sockets or clocks.

The rules (HubProtocol.md in dotnet/aspnetcore; Azure SignalR Service in serverless mode):
1. The first record is the handshake, JSON in either protocol, ended by 0x1E.
2. A record may arrive in any slices, and several at once.
3. Clients of a serverless hub listen only: a ping keeps them, a close ends them, anything else breaks the protocol.
"""

import enum
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from localcloud.signalr.protocol import (
    CLOSE,
    PING,
    RECORD_SEPARATOR,
    VARINT_BITS,
    VARINT_CONTINUES,
    VERSION,
    HubProtocol,
)

MAX_VARINT_BYTES = 5

Record = TypeVar("Record")


class ProtocolError(Exception):
    """The client broke the protocol; the sentence may be sent to it."""


class Said(enum.Enum):
    """What a client said that someone must act on; pings are not among it."""

    HANDSHAKE = enum.auto()
    CLOSE = enum.auto()


class Conversation:
    """What one client says: first its handshake, then its messages. `protocol` is None before the handshake."""

    __slots__ = ("_buffer", "_max_record_bytes", "protocol")

    def __init__(self, max_record_bytes: int) -> None:
        self.protocol: HubProtocol | None = None
        self._buffer = b""
        self._max_record_bytes = max_record_bytes

    def feed(self, data: bytes) -> Iterator[Said]:
        """Take bytes in and yield what they say. Raises ProtocolError; the conversation is over then."""
        received, position = self._buffer + data, 0
        self._buffer = b""
        while (found := self._next_record(received, position)) is not None:
            record, position = found
            said = self._understand(record)
            if said is not None:
                yield said
        self._buffer = received[position:]
        self._require_size(len(self._buffer))

    def _next_record(self, received: bytes, position: int) -> tuple[bytes, int] | None:
        """Return the record at a position and where the next one starts; None where it has not arrived wholly."""
        if self.protocol is HubProtocol.MESSAGEPACK:
            return self._next_messagepack_record(received, position)
        end = received.find(RECORD_SEPARATOR, position)
        return None if end < 0 else (received[position:end], end + len(RECORD_SEPARATOR))

    def _next_messagepack_record(self, received: bytes, position: int) -> tuple[bytes, int] | None:
        prefix = _read_varint(received[position : position + MAX_VARINT_BYTES])
        if prefix is None:
            return None
        length_bytes, length = prefix
        self._require_size(length)
        start = position + length_bytes
        end = start + length
        return None if len(received) < end else (received[start:end], end)

    def _understand(self, record: bytes) -> Said | None:
        if self.protocol is None:
            self.protocol = _handshake(record)
            return Said.HANDSHAKE
        kind = _json_type(record) if self.protocol is HubProtocol.JSON else _messagepack_type(record)
        if kind == PING:
            return None
        if kind == CLOSE:
            return Said.CLOSE
        raise ProtocolError("clients of a serverless hub listen only; they may not send messages")

    def _require_size(self, size: int) -> None:
        if size > self._max_record_bytes:
            raise ProtocolError(f"a message is longer than {self._max_record_bytes} bytes")


class _Handshake(msgspec.Struct):
    protocol: str
    version: int


class _Typed(msgspec.Struct):
    type: int


def _handshake(record: bytes) -> HubProtocol:
    handshake = _decode_json(record, _Handshake)
    if handshake.version != VERSION:
        raise ProtocolError(f"the server speaks version {VERSION} of the hub protocol")
    try:
        return HubProtocol(handshake.protocol)
    except ValueError:
        raise ProtocolError("the server speaks the protocols json and messagepack") from None


def _json_type(record: bytes) -> int:
    return _decode_json(record, _Typed).type


def _messagepack_type(record: bytes) -> int:
    try:
        fields = msgspec.msgpack.decode(record, type=list[Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ProtocolError("a message is not MessagePack of the hub protocol") from None
    if not fields or not isinstance(fields[0], int):
        raise ProtocolError("a message is not MessagePack of the hub protocol")
    return fields[0]


def _decode_json(record: bytes, kind: type[Record]) -> Record:
    try:
        return msgspec.json.decode(record, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ProtocolError("a message is not JSON of the hub protocol") from None


def _read_varint(buffer: bytes) -> tuple[int, int] | None:
    """Return where the record starts and its length; None where the length has not arrived wholly."""
    length = 0
    for index, byte in enumerate(buffer):
        length |= (byte % VARINT_CONTINUES) << (VARINT_BITS * index)
        if byte < VARINT_CONTINUES:
            return index + 1, length
    if len(buffer) >= MAX_VARINT_BYTES:
        raise ProtocolError("a message's length is no VarInt")
    return None

"""SignalR's hub protocol, version 1, from server to client: messages and their encodings, without sockets or clocks.

The rules (HubProtocol.md in dotnet/aspnetcore):
1. The handshake's answer is JSON in either protocol and ends with 0x1E.
2. JSON records end with 0x1E; MessagePack records begin with their length as a VarInt.
3. A message for many clients is encoded once per wire format, whatever their number. JSON arguments that come as JSON
   go out as they came; they are decoded for MessagePack alone.
"""

import enum
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

RECORD_SEPARATOR = b"\x1e"
VERSION = 1
PING, CLOSE = 6, 7
VARINT_BITS, VARINT_CONTINUES = 7, 0x80
SMALLEST_INTEGER, BIGGEST_INTEGER = -(2**63), 2**64 - 1


class HubProtocol(enum.Enum):
    """The encodings that a client may ask for."""

    JSON = "json"
    MESSAGEPACK = "messagepack"


class Invocation(msgspec.Struct, frozen=True, tag_field="type", tag=1):
    """A call of the clients' method `target`; the arguments as values, or as the text of a JSON array."""

    target: str
    arguments: Sequence[Any] | msgspec.Raw

    def values(self) -> Any:
        """Return the arguments as values."""
        if not isinstance(self.arguments, msgspec.Raw):
            return self.arguments
        try:
            return msgspec.json.decode(self.arguments)
        except msgspec.ValidationError:  # a number beyond all doubles is infinite, as it is to JavaScript
            return json.loads(bytes(self.arguments))

    def to_messagepack(self) -> bytes:
        """Encode as clients expect it: headers are a map, never nil (the official client dies of nil)."""
        values = self.values()
        try:
            return msgspec.msgpack.encode([1, {}, None, self.target, values, []])
        except OverflowError:
            return msgspec.msgpack.encode([1, {}, None, self.target, _within_64_bits(values), []])


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag=PING):
    """A sign of life."""

    def to_messagepack(self) -> bytes:
        """Encode as an array."""
        return msgspec.msgpack.encode([PING])


class Close(msgspec.Struct, frozen=True, tag_field="type", tag=CLOSE, omit_defaults=True, rename="camel"):
    """The end of a connection. Clients reconnect by themselves only where `allow_reconnect` says so."""

    error: str | None = None
    allow_reconnect: bool = False

    def to_messagepack(self) -> bytes:
        """Encode as an array."""
        return msgspec.msgpack.encode([CLOSE, self.error, self.allow_reconnect])


class HandshakeResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a handshake: `{}`, or what was wrong with it."""

    error: str | None = None


Content = Invocation | Ping | Close | HandshakeResponse
Encoder = Callable[["Message"], bytes]


class Outgoing:
    """What is on its way to any number of clients, encoded at most once per encoder."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes: dict[Encoder, bytes] = {}

    def encoded(self, encoder: Encoder) -> bytes:
        """Return the encoder's bytes."""
        data = self._bytes.get(encoder)
        if data is None:
            data = self._bytes[encoder] = self._encode(encoder)
        return data

    def _encode(self, encoder: Encoder) -> bytes:
        raise NotImplementedError


class Message(Outgoing):
    """One message."""

    __slots__ = ("content",)

    def __init__(self, content: Content) -> None:
        super().__init__()
        self.content = content

    def _encode(self, encoder: Encoder) -> bytes:
        return encoder(self)


class Joined(Outgoing):
    """Messages that go to the same clients one after the other, as one write to each."""

    __slots__ = ("_messages",)

    def __init__(self, messages: Sequence[Message]) -> None:
        super().__init__()
        self._messages = messages

    def _encode(self, encoder: Encoder) -> bytes:
        return b"".join([message.encoded(encoder) for message in self._messages])


def json_record(message: Message) -> bytes:
    """Encode a message as a record of the JSON protocol; it holds no line break and no other 0x1E."""
    return msgspec.json.encode(message.content) + RECORD_SEPARATOR


def messagepack_record(message: Message) -> bytes:
    """Encode a message as a record of the MessagePack protocol; a handshake's answer stays JSON (rule 1)."""
    if isinstance(message.content, HandshakeResponse):
        return json_record(message)
    body = message.content.to_messagepack()
    return _varint(len(body)) + body


class _Payload(msgspec.Struct):
    target: str
    arguments: msgspec.Raw = msgspec.Raw(b"[]")


_decode_payload = msgspec.json.Decoder(_Payload).decode


def parse_payload(body: bytes) -> Invocation:
    """Read the body of a REST send, `{target, arguments}`. Raises ValueError, which names the rule."""
    try:
        body.decode()  # nothing else looks into the arguments
        if b"\n" in body or b"\r" in body:  # a line break would end an event of an event stream
            body = msgspec.json.format(body, indent=-1)
        payload = _decode_payload(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the body is not JSON of the form {{target, arguments}}: {error}") from None
    except RecursionError:
        raise ValueError("the body nests too deeply") from None
    if bytes(memoryview(payload.arguments)[:1]) != b"[":
        raise ValueError("the body is not JSON of the form {target, arguments}: the arguments are no array")
    return Invocation(payload.target, payload.arguments)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= VARINT_CONTINUES:
        encoded.append(number % VARINT_CONTINUES | VARINT_CONTINUES)
        number >>= VARINT_BITS
    encoded.append(number)
    return bytes(encoded)


def _within_64_bits(value: Any) -> Any:
    """MessagePack has no larger integers; to JavaScript they are doubles anyway."""
    if isinstance(value, list):
        return [_within_64_bits(item) for item in value]
    if isinstance(value, dict):
        return {key: _within_64_bits(item) for key, item in value.items()}
    if isinstance(value, int) and not SMALLEST_INTEGER <= value <= BIGGEST_INTEGER:
        return float(value)
    return value

"""MQTT 3.1.1 as a server speaks it: bytes -> packets, packets -> bytes, nothing else.

Rules:
1. Any division of a stream into reads gives the same packets.
2. Nothing a peer sends raises. What breaks the protocol becomes one `Malformed`, the last packet of its stream.
3. No more than one packet of `max_packet_bytes` is held; a longer one is refused at its header, unread.
   What follows a CONNECT stays bytes until it is asked for: it may be much, and nobody knows yet whose it is.
4. A PUBLISH stays bytes: it is the hot path, and its topic is a cache's key. Those at QoS 1 that follow one another on
   one topic come together, as one `Publishes` (measured: 0.4 us each; one by one, session included, 3 us).

Section numbers in comments are those of the standard (OASIS, MQTT Version 3.1.1).
"""

import struct
from collections.abc import Callable, Sequence

import msgspec

ACCEPTED, BAD_VERSION, UNAVAILABLE, BAD_CREDENTIALS, NOT_AUTHORIZED = 0, 1, 3, 4, 5
SUBSCRIPTION_REFUSED = 0x80
PINGRESP = b"\xd0\x00"

TURN = 256
"""So many packets other than PUBLISH are decoded at once: a read of 256 KiB holds 131,072 pings, 0.8 s of work."""
_PROTOCOL_LEVEL = 4
_CONNECT = 0x10
_CONTINUES = 0x80
_STEADY = 0x32  # the first byte of a PUBLISH at QoS 1, neither retained nor repeated
_PUBACK_HEADER = 0x4002_0000  # a PUBACK is one big-endian 32-bit number: this header and the packet id
# first byte -> QoS, retain. DUP needs a QoS above 0 (3.3.1-2), QoS 3 does not exist (3.3.1-4).
_PUBLISH = {
    0x30 | duplicate << 3 | qos << 1 | retain: (qos, bool(retain))
    for qos in (0, 1, 2)
    for duplicate in (0, 1)
    for retain in (0, 1)
    if qos or not duplicate
}


class Will(msgspec.Struct, frozen=True):
    """What to publish for a client that leaves without DISCONNECT."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool


class Connect(msgspec.Struct, frozen=True):
    """CONNECT of protocol level 4; keepalive in seconds, 0 for none."""

    client_id: str
    clean_session: bool
    keepalive: int
    username: str | None
    password: str | None
    will: Will | None

    def __repr__(self) -> str:
        """Return a repr without the password, so that no log or traceback shows it."""
        return f"Connect(client_id={self.client_id!r}, username={self.username!r})"


class OtherVersion(msgspec.Struct, frozen=True):
    """CONNECT of a protocol that is not 3.1.1; to be answered with BAD_VERSION (3.1.2-2)."""

    level: int


class Publish(msgspec.Struct, frozen=True, gc=False):
    """PUBLISH as sent; the topic is neither decoded nor checked, packet_id is 0 at QoS 0."""

    topic: bytes
    payload: bytes
    qos: int
    packet_id: int
    retain: bool


class Publishes(msgspec.Struct, frozen=True, gc=False):
    """PUBLISHes at QoS 1 on one topic, neither retained nor repeated, in order; both columns are of one length."""

    topic: bytes
    payloads: list[bytes]
    packet_ids: list[int]

    def singly(self) -> list[Publish]:
        """Return the same one by one."""
        return [
            Publish(self.topic, payload, 1, packet_id, retain=False)
            for payload, packet_id in zip(self.payloads, self.packet_ids, strict=True)
        ]


class PubAck(msgspec.Struct, frozen=True):
    """PUBACK of something the server published."""

    packet_id: int


class Subscribe(msgspec.Struct, frozen=True):
    """SUBSCRIBE: filters with the QoS asked for, in order."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


class Unsubscribe(msgspec.Struct, frozen=True):
    """UNSUBSCRIBE."""

    packet_id: int
    filters: tuple[str, ...]


class PingReq(msgspec.Struct, frozen=True):
    """PINGREQ."""


class Disconnect(msgspec.Struct, frozen=True):
    """DISCONNECT: the client leaves in order, its will is void."""


class Malformed(msgspec.Struct, frozen=True):
    """The end of a stream that broke the protocol; the reason is for the operator's log."""

    reason: str
    oversized: bool = False


Packet = (
    Connect | OtherVersion | Publish | Publishes | PubAck | Subscribe | Unsubscribe | PingReq | Disconnect | Malformed
)


class Decoder:
    """Turns the reads of one connection into packets. `max_packet_bytes` and `turn_bytes` may be changed between reads.

    `held_bytes` tells how much was read of what is not a packet yet.
    """

    __slots__ = ("_buffer", "_dead", "_needed", "_topic", "has_more", "max_packet_bytes", "turn_bytes")

    def __init__(self, max_packet_bytes: int) -> None:
        self.max_packet_bytes = max_packet_bytes
        self.turn_bytes = 1 << 30
        self._buffer: bytearray | bytes = b""  # a bytearray, 56 bytes, only while something is unfinished
        self._needed = 0
        self._dead = False
        self.has_more = False
        self._topic = b""  # of the last PUBLISH that a run could begin with, its length before it; b"" for none

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that the read completes, in order. After a Malformed there are no more.

        A CONNECT is the last one returned, and so is the last of TURN packets other than PUBLISH and the one that
        reaches `turn_bytes`: where `has_more` says so, `feed(b"")` goes on behind it.
        """
        self.has_more = False
        if self._dead:
            return []
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            data = bytes(self._buffer)
            self._buffer = b""
        packets: list[Packet] = []
        try:
            end = self._decode(data, packets.append)
        except _MalformedError as error:
            self._dead = True
            packets.append(error.packet)
        else:
            if end < len(data):
                self._buffer = bytearray(data[end:])
        return packets

    def keep(self, data: bytes) -> None:
        """Hold a read back for the next `feed`."""
        self._buffer = bytearray(self._buffer + data)

    def drop(self) -> None:
        """Forget what is held: the stream is over."""
        self._buffer = b""
        self._dead = True

    @property
    def held_bytes(self) -> int:
        """Return how many bytes wait for the rest of their packet."""
        return len(self._buffer)

    def _decode(self, data: bytes, found: Callable[[Packet], None]) -> int:
        """Give every whole packet to `found`; return where the first unfinished one starts."""
        position, end, others = 0, len(data), 0
        turn_end = min(end, self.turn_bytes)
        while position < turn_end and end - position >= 2:  # noqa: PLR2004 - the least packet: type and length
            first, length, start = data[position], data[position + 1], position + 2
            if length >= _CONTINUES:
                length, start = _long_length(data, position + 1)
                if not start:
                    break
            stop = start + length
            if stop - position > self.max_packet_bytes:
                raise _MalformedError(f"a packet of {stop - position} bytes", oversized=True)
            if stop > end:
                _expect_known(first)  # now, and not when its body is here: much garbage looks like a long packet
                self._needed = stop - position
                return position
            header = _PUBLISH.get(first)
            if header is None:
                position = stop
                found(_decode_other(first, data[start:stop]))
                others += 1
                if first == _CONNECT or others == TURN:
                    turn_end = position
                continue
            is_steady = first == _STEADY and self._topic and data.startswith(self._topic, start)
            if is_steady and stop < turn_end and (run := self._run(data, position, turn_end)):
                publishes, position = run
                found(publishes)
                continue
            publish = _decode_publish(header, data, start, stop)
            if not is_steady:
                self._topic = len(publish.topic).to_bytes(2, "big") + publish.topic if first == _STEADY else b""
            found(publish)
            position = stop
        self.has_more = turn_end <= position < end
        self._needed = 0
        return position

    def _run(self, data: bytes, position: int, turn_end: int) -> tuple[Publishes, int] | None:
        """Decode the whole PUBLISHes of the steady topic in a row; return them and where they end, or None.

        Whatever is not plainly one more of them ends the run, and the general decoder has the word on it.
        """
        topic, size, end, most = self._topic, len(self._topic), len(data), self.max_packet_bytes
        payloads: list[bytes] = []
        packet_ids: list[int] = []
        while position < turn_end and end - position > 3 and data[position] == _STEADY:  # noqa: PLR2004 - type, length and more
            length, start = data[position + 1], position + 2
            if length >= _CONTINUES:
                high = data[start]
                if high >= _CONTINUES:
                    break
                length, start = (length & 0x7F) | high << 7, start + 1
            stop, fields = start + length, start + size
            if stop > end or stop - position > most or fields + 2 > stop or not data.startswith(topic, start):
                break
            packet_id = data[fields] << 8 | data[fields + 1]
            if not packet_id:
                break
            packet_ids.append(packet_id)
            payloads.append(data[fields + 2 : stop])
            position = stop
        return (Publishes(topic[2:], payloads, packet_ids), position) if packet_ids else None


def encode_connack(code: int, *, session_present: bool = False) -> bytes:
    """Return a CONNACK."""
    return bytes((0x20, 2, session_present, code))


def encode_pubacks(packet_ids: Sequence[int]) -> bytes:
    """Return the PUBACKs of these ids, joined, in order."""
    if len(packet_ids) == 1:
        return (_PUBACK_HEADER | packet_ids[0]).to_bytes(4, "big")
    return struct.pack(f">{len(packet_ids)}I", *[_PUBACK_HEADER | packet_id for packet_id in packet_ids])


def encode_suback(packet_id: int, codes: Sequence[int]) -> bytes:
    """Return a SUBACK: per filter the granted QoS or SUBSCRIPTION_REFUSED."""
    return _encode(0x90, packet_id.to_bytes(2, "big") + bytes(codes))


def encode_unsuback(packet_id: int) -> bytes:
    """Return an UNSUBACK."""
    return _encode(0xB0, packet_id.to_bytes(2, "big"))


def encode_publish(topic: str, payload: bytes) -> bytes:
    """Return a PUBLISH at QoS 0."""
    name = topic.encode()
    return _encode(0x30, len(name).to_bytes(2, "big") + name + payload)


class _MalformedError(Exception):
    def __init__(self, reason: str, *, oversized: bool = False) -> None:
        super().__init__(reason)
        self.packet = Malformed(reason, oversized)


def _encode(first: int, body: bytes) -> bytes:
    length, header = len(body), bytearray((first,))
    while length >= _CONTINUES:
        header.append(length & 0x7F | _CONTINUES)
        length >>= 7
    header.append(length)
    return bytes(header) + body


def _long_length(data: bytes, position: int) -> tuple[int, int]:
    """Decode a remaining length of more than one byte (2.2.3); (0, 0) where it is not complete yet."""
    length = 0
    for place, byte in enumerate(data[position : position + 4]):
        length |= (byte & 0x7F) << (7 * place)
        if byte < _CONTINUES:
            return length, position + place + 1
    if len(data) - position >= 4:  # noqa: PLR2004
        raise _MalformedError("a remaining length of more than four bytes")
    return 0, 0


def _decode_publish(header: tuple[int, bool], data: bytes, start: int, stop: int) -> Publish:
    qos, retain = header
    topic = start + 2
    if topic >= stop:
        raise _MalformedError("PUBLISH without a topic")
    topic_end = topic + (data[start] << 8 | data[start + 1])
    payload, packet_id = topic_end, 0
    if qos:
        payload += 2
    if payload > stop:
        raise _MalformedError("PUBLISH ends too early")
    if qos:
        packet_id = data[topic_end] << 8 | data[topic_end + 1]
        if not packet_id:
            raise _MalformedError("PUBLISH with packet id 0")
    return Publish(data[topic:topic_end], data[payload:stop], qos, packet_id, retain)


def _expect_known(first: int) -> None:
    if first not in _PUBLISH and first not in _DECODERS:
        raise _MalformedError(f"packet type 0x{first:02x}")


def _decode_other(first: int, body: bytes) -> Packet:
    if first == _PINGREQ and not body:
        return _PING
    _expect_known(first)
    reader = _Reader(body)
    packet = _DECODERS[first](reader)
    reader.expect_end()
    return packet


class _Reader:
    """Reads the fields of one packet's body. Raises _MalformedError at its end."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    def has_more(self) -> bool:
        return self._position < len(self._body)

    def take(self, count: int) -> bytes:
        taken = self._body[self._position : self._position + count]
        if len(taken) < count:
            raise _MalformedError("a packet ends too early")
        self._position += count
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def packet_id(self) -> int:
        number = self.number()
        if not number:
            raise _MalformedError("packet id 0")
        return number

    def binary(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        try:
            text = self.binary().decode()
        except UnicodeDecodeError:
            raise _MalformedError("a text that is not UTF-8") from None
        if "\0" in text:
            raise _MalformedError("a text that holds U+0000")
        return text

    def skip_rest(self) -> None:
        self._position = len(self._body)

    def expect_end(self) -> None:
        if self.has_more():
            raise _MalformedError("a packet is longer than its fields")


def _connect(reader: _Reader) -> Connect | OtherVersion:
    name, level = reader.binary(), reader.byte()
    if (name, level) != (b"MQTT", _PROTOCOL_LEVEL):
        if name not in (b"MQTT", b"MQIsdp"):
            raise _MalformedError("CONNECT of another protocol")
        reader.skip_rest()
        return OtherVersion(level)
    flags, keepalive, client_id = reader.byte(), reader.number(), reader.text()
    has_will, will_qos, has_username, has_password = flags & 4, flags >> 3 & 3, flags & 0x80, flags & 0x40
    if flags & 1 or will_qos > 2 or (not has_will and flags & 0x38) or (has_password and not has_username):  # noqa: PLR2004
        raise _MalformedError("CONNECT flags that exclude each other")
    will = Will(reader.binary(), reader.binary(), will_qos, bool(flags & 0x20)) if has_will else None
    username = reader.text() if has_username else None
    password = reader.text() if has_password else None
    return Connect(client_id, bool(flags & 2), keepalive, username, password, will)


def _subscribe(reader: _Reader) -> Subscribe:
    packet_id = reader.packet_id()
    filters: list[tuple[str, int]] = []
    while reader.has_more() or not filters:  # at least one (3.8.3-3)
        name, qos = reader.text(), reader.byte()
        if not name or qos > 2:  # noqa: PLR2004
            raise _MalformedError("SUBSCRIBE of an empty filter or an unknown QoS")
        filters.append((name, qos))
    return Subscribe(packet_id, tuple(filters))


def _unsubscribe(reader: _Reader) -> Unsubscribe:
    packet_id = reader.packet_id()
    filters: list[str] = []
    while reader.has_more() or not filters:
        filters.append(reader.text())
    return Unsubscribe(packet_id, tuple(filters))


_PINGREQ, _PING = 0xC0, PingReq()
_DECODERS: dict[int, Callable[[_Reader], Packet]] = {
    _CONNECT: _connect,
    0x40: lambda reader: PubAck(reader.packet_id()),
    0x82: _subscribe,
    0xA2: _unsubscribe,
    _PINGREQ: lambda _: _PING,
    0xE0: lambda _: Disconnect(),
}

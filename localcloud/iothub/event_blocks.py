"""What the event log holds, as values and as bytes. Pure.

Rules of the format (a published one never changes; a new one gets a new first byte in the row's data):
1. A block is a run of events of one partition that became durable together, so they share one enqueued time.
2. A block holds columns, not rows: the distinct envelopes (by identity), each event's index into them, the bodies.
3. An event's offset counts the bytes before it in its partition; it grows with every event and is no sequence number.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, repeat

import msgspec
import zstandard

EVENT_OVERHEAD_BYTES = 64  # what an event counts beyond its body, so that empty bodies move the offset too
MAX_BLOCK_EVENTS = 4096
MAX_BLOCK_BYTES = 1 << 20
_MAX_RAW_BYTES = 256 << 20  # above any block (4,096 envelopes of 16 KiB); what a damaged length may make us allocate
_COMPRESSION_LEVEL = 1
_REMEMBERED_ENVELOPES = 1024  # 2.6 kB each
_FORMAT = b"\x01"
# What nearly every block says, given to the compressor beforehand: a block of one event, all there is at a low rate,
# takes 119 bytes instead of 294 (measured). Part of format 1: not a byte of it may change.
_DICTIONARY = (
    b"message-id\xaecorrelation-id\xa7user-id\xaccontent-type\xb0application/json\xb0content-encoding\xa5utf-8"
    b'\xbciothub-creation-time-utc{"timestamp":"2026-01-01T00:00:00Z","deviceId":"sim-1","messageId":1,"geo":"",'
    b'"humidity":50.1,"pressure":1013.2,"light":300,"temperature":21.5}\x92\x84\xbeiothub-connection-device-id\xa5sim-1'
    b'\xbdiothub-connection-auth-method\xd9W{"scope":"device","type":"sas","issuer":"iothub",'
    b'"acceptingIpFilterRule":null}\xd9$iothub-connection-auth-generation-id\xb2638000000000000000'
    b"\xb5iothub-message-source\xa9Telemetry\x80"
)


class Envelope(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What many messages of one device share; kept and stored once per identity, so pass the same object again."""

    system_properties: dict[str, str]
    properties: dict[str, str]


class Event(msgspec.Struct, frozen=True, gc=False):
    """A message as the hub accepted it, before it has a place in the log."""

    envelope: Envelope
    body: bytes


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """A durable message: its place in its partition, and the Unix time in ms at which it got there."""

    sequence_number: int
    offset: int
    enqueued_time: int
    envelope: Envelope
    body: bytes


class CorruptBlockError(Exception):
    """A stored block cannot be read: the disk's or another program's fault, for the operator to act on."""


def partition_of(device_id: str, partitions: int) -> int:
    """Tell a device's partition: the same for the same number of partitions, whatever the process or version."""
    return zlib.crc32(device_id.encode()) % partitions


class Block(msgspec.Struct, frozen=True, gc=False):
    """A run of events at consecutive sequence numbers from `first`, as columns of equal length."""

    first: int
    offset: int
    enqueued_time: int
    envelopes: Sequence[Envelope]
    bodies: Sequence[bytes]

    @property
    def end(self) -> int:
        """Return the sequence number after the last event."""
        return self.first + len(self.bodies)

    @property
    def size(self) -> int:
        """Return by how much the block moves its partition's offset, in bytes."""
        return sum(map(len, self.bodies)) + EVENT_OVERHEAD_BYTES * len(self.bodies)

    def stored(self, start: int, limit: int) -> Iterable[StoredEvent]:
        """Return at most `limit` events from sequence number `start` on; nothing before the block's first."""
        skip = max(start - self.first, 0)
        sizes = (len(body) + EVENT_OVERHEAD_BYTES for body in self.bodies[: skip + limit])
        offsets = list(accumulate(sizes, initial=self.offset))
        return map(
            StoredEvent,
            range(self.first + skip, min(self.first + skip + limit, self.end)),
            offsets[skip:],
            repeat(self.enqueued_time),
            self.envelopes[skip:],
            self.bodies[skip:],
        )


def split(events: Sequence[Event], first: int, offset: int, enqueued_time: int) -> Iterator[Block]:
    """Lay events out as blocks within MAX_BLOCK_EVENTS and MAX_BLOCK_BYTES (a larger event gets a block of its own)."""
    start = size = 0
    for index, event in enumerate(events):
        if index > start and (index - start == MAX_BLOCK_EVENTS or size + len(event.body) > MAX_BLOCK_BYTES):
            block = _block(events[start:index], first, offset, enqueued_time)
            yield block
            first, offset, start, size = block.end, offset + block.size, index, 0
        size += len(event.body)
    if events:
        yield _block(events[start:], first, offset, enqueued_time)


def _block(events: Sequence[Event], first: int, offset: int, enqueued_time: int) -> Block:
    return Block(first, offset, enqueued_time, [e.envelope for e in events], [e.body for e in events])


class _Columns(msgspec.Struct, array_like=True, gc=False):
    distinct: list[msgspec.Raw]
    indexes: list[int]
    bodies: list[bytes]


class BlockCodec:
    """Blocks to bytes and back. Holds compression contexts, so one codec serves one thread."""

    def __init__(self) -> None:
        dictionary = zstandard.ZstdCompressionDict(_DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        self._compressor = zstandard.ZstdCompressor(_COMPRESSION_LEVEL, dict_data=dictionary, write_checksum=True)
        self._decompressor = zstandard.ZstdDecompressor(dict_data=dictionary)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(_Columns)
        self._envelope_decoder = msgspec.msgpack.Decoder(Envelope)
        self._envelopes: dict[bytes, Envelope] = {}

    def encode(self, block: Block) -> bytes:
        """Return the block's envelopes and bodies; its place and time are the row's business."""
        distinct = {id(envelope): envelope for envelope in block.envelopes}
        index = dict(zip(distinct, range(len(distinct)), strict=True))
        columns = (list(distinct.values()), [index[id(envelope)] for envelope in block.envelopes], block.bodies)
        return _FORMAT + self._compressor.compress(self._encoder.encode(columns))

    def decode(self, data: bytes, *, first: int, offset: int, enqueued_time: int) -> Block:
        """Return the block whose bytes these are. Raises CorruptBlockError."""
        try:
            if data[:1] != _FORMAT:
                raise CorruptBlockError(f"unknown block format {data[:1]!r}")
            frame = memoryview(data)[1:]
            if zstandard.frame_content_size(frame) > _MAX_RAW_BYTES:
                raise CorruptBlockError("it claims to be larger than any block")
            columns = self._decoder.decode(self._decompressor.decompress(frame))
            distinct = [self._envelope(bytes(raw)) for raw in columns.distinct]
            envelopes = [distinct[index] for index in columns.indexes]
        except (zstandard.ZstdError, msgspec.MsgspecError, IndexError) as error:
            raise CorruptBlockError(str(error)) from error
        return Block(first, offset, enqueued_time, envelopes, columns.bodies)

    def _envelope(self, raw: bytes) -> Envelope:
        """Return the same object for the same bytes, as far back as is remembered: block after block repeats them."""
        found = self._envelopes.get(raw)
        if found is None:
            if len(self._envelopes) >= _REMEMBERED_ENVELOPES:
                self._envelopes.clear()
            found = self._envelopes[raw] = self._envelope_decoder.decode(raw)
        return found

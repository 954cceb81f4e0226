import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.iothub import event_blocks
from localcloud.iothub.event_blocks import (
    EVENT_OVERHEAD_BYTES,
    MAX_BLOCK_BYTES,
    MAX_BLOCK_EVENTS,
    BlockCodec,
    CorruptBlockError,
    Envelope,
    Event,
    partition_of,
    split,
)

ENVELOPE = Envelope({"iothub-connection-device-id": "kitchen"}, {"room": "süd"})
texts = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
envelopes = st.lists(st.builds(Envelope, texts, texts), min_size=1, max_size=4)
runs = envelopes.flatmap(
    lambda known: st.lists(st.builds(Event, st.sampled_from(known), st.binary(max_size=40)), min_size=1, max_size=30)
)


def one_block(events, first=0, offset=0, enqueued_time=0):
    (block,) = split(events, first, offset, enqueued_time)
    return block


@given(runs, st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(0, 1 << 42))
def test_a_block_comes_back_from_its_bytes(events, first, offset, enqueued_time):
    codec = BlockCodec()
    block = one_block(events, first, offset, enqueued_time)
    data = codec.encode(block)
    assert codec.decode(data, first=first, offset=offset, enqueued_time=enqueued_time) == block


@given(runs, st.integers(0, 40), st.integers(1, 40))
def test_a_read_inside_a_block_yields_the_same_events_as_a_read_of_all(events, start, limit):
    block = one_block(events, first=5, offset=1000)
    every = list(block.stored(0, len(events)))
    assert [e.sequence_number for e in every] == list(range(5, 5 + len(events)))
    assert [(e.envelope, e.body) for e in every] == [(e.envelope, e.body) for e in events]
    assert list(block.stored(start, limit)) == [e for e in every if e.sequence_number >= start][:limit]


@given(runs)
def test_each_offset_is_the_bytes_before_it(events):
    block = one_block(events, offset=7)
    expected = 7
    for stored in block.stored(0, len(events)):
        assert stored.offset == expected
        expected += len(stored.body) + EVENT_OVERHEAD_BYTES
    assert expected == block.offset + block.size


def test_a_long_run_is_split_by_count_without_a_gap():
    events = [Event(ENVELOPE, b"%d" % number) for number in range(2 * MAX_BLOCK_EVENTS + 1)]
    blocks = list(split(events, 10, 0, 0))
    assert [len(block.bodies) for block in blocks] == [MAX_BLOCK_EVENTS, MAX_BLOCK_EVENTS, 1]
    assert [event for block in blocks for event in block.stored(0, len(events))] == list(
        event_blocks._block(events, 10, 0, 0).stored(0, len(events))
    )


def test_a_long_run_is_split_by_bytes_and_a_giant_stands_alone():
    bodies = [bytes(MAX_BLOCK_BYTES // 2), bytes(MAX_BLOCK_BYTES // 2), b"x", bytes(MAX_BLOCK_BYTES + 1), b"y"]
    blocks = list(split([Event(ENVELOPE, body) for body in bodies], 0, 0, 0))
    assert [[len(body) for body in block.bodies] for block in blocks] == [
        [MAX_BLOCK_BYTES // 2, MAX_BLOCK_BYTES // 2],
        [1],
        [MAX_BLOCK_BYTES + 1],
        [1],
    ]


def test_an_envelope_shared_by_many_events_is_stored_and_restored_once():
    codec = BlockCodec()
    block = one_block([Event(ENVELOPE, b"a"), Event(ENVELOPE, b"b")])
    restored = codec.decode(codec.encode(block), first=0, offset=0, enqueued_time=0)
    assert restored.envelopes[0] is restored.envelopes[1]


def test_a_typical_single_event_is_small_thanks_to_the_dictionary():
    method = '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}'
    system = {"iothub-connection-device-id": "hall-3", "iothub-connection-auth-method": method}
    body = b'{"messageId":7,"deviceId":"hall-3","temperature":21.37,"humidity":45.2,"pressure":1013.25,"light":312}'
    assert len(BlockCodec().encode(one_block([Event(Envelope(system, {}), body)]))) < 130


def test_format_1_can_be_read_for_ever():
    data = bytes.fromhex(
        "0128b52ffd244f8d0100440293919281bb2d6964a76b69746368656e81a4726f6f6da473c3bc6492000092c4147bc4000300f16c72b81d00e8052d8bc478e6"
    )
    block = BlockCodec().decode(data, first=3, offset=0, enqueued_time=0)
    assert [(e.sequence_number, e.envelope, e.body) for e in block.stored(0, 9)] == [
        (3, ENVELOPE, b'{"temperature":21.5}'),
        (4, ENVELOPE, b""),
    ]


def test_a_damaged_length_does_not_make_us_allocate_it():
    header = bytes.fromhex("28b52ffde0") + (1 << 40).to_bytes(8, "little")  # a zstd frame of a tebibyte
    with pytest.raises(CorruptBlockError, match="larger than any block"):
        BlockCodec().decode(b"\x01" + header, first=0, offset=0, enqueued_time=0)


@given(st.data())
def test_damaged_bytes_are_reported_never_misread(data):
    codec = BlockCodec()
    block = one_block([Event(ENVELOPE, b"one"), Event(ENVELOPE, b"two")])
    stored = bytearray(codec.encode(block))
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(CorruptBlockError):  # else it was a flag that means nothing
        assert codec.decode(bytes(stored), first=0, offset=0, enqueued_time=0) == block


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x02abc"])
def test_bytes_that_are_no_block_are_reported(data):
    with pytest.raises(CorruptBlockError):
        BlockCodec().decode(data, first=0, offset=0, enqueued_time=0)


def test_a_device_is_always_in_the_same_partition():
    assert [partition_of(device, 4) for device in ("kitchen", "hall-3", "sim-1", "ü")] == [0, 3, 1, 1]

import struct
import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from localcloud.iothub import packets
from localcloud.iothub.packets import (
    Connect,
    Decoder,
    Disconnect,
    Malformed,
    OtherVersion,
    Packet,
    PingReq,
    PubAck,
    Publish,
    Publishes,
    Subscribe,
    Unsubscribe,
    Will,
)
from tests.localcloud.iothub import mqtt

LIMIT = 1 << 20
EXAMPLES: list[tuple[bytes, Packet]] = [
    (mqtt.connect("d1", "user", "word"), Connect("d1", False, 60, "user", "word", None)),
    (mqtt.connect("", clean=True, keepalive=0), Connect("", True, 0, None, None, None)),
    (mqtt.connect(will=("t", b"\0", 1, True)), Connect("d1", False, 60, None, None, Will(b"t", b"\0", 1, True))),
    (mqtt.publish("a/b", b"body", 7), Publish(b"a/b", b"body", 1, 7, False)),
    (mqtt.publish("a/b", b"body", 7, flags=0b1001), Publish(b"a/b", b"body", 1, 7, True)),
    (mqtt.publish("a/b", b""), Publish(b"a/b", b"", 0, 0, False)),
    (mqtt.publish("a", b"x" * 200, 65535), Publish(b"a", b"x" * 200, 1, 65535, False)),
    (mqtt.publish("a", b"x" * 20000, 1, qos=2), Publish(b"a", b"x" * 20000, 2, 1, False)),
    (mqtt.subscribe(3, ("a/#", 1), ("ö", 2)), Subscribe(3, (("a/#", 1), ("ö", 2)))),
    (mqtt.unsubscribe(4, "a/#", "b"), Unsubscribe(4, ("a/#", "b"))),
    (b"\x40\x02\x01\x02", PubAck(258)),
    (mqtt.PINGREQ, PingReq()),
    (mqtt.DISCONNECT, Disconnect()),
    (mqtt.packet(0x10, mqtt.text("MQTT") + b"\x05\x02\0\0\0anything"), OtherVersion(5)),
    (mqtt.packet(0x10, mqtt.text("MQIsdp") + b"\x03\x02\0\0\0\x01a"), OtherVersion(3)),
]
STREAM = b"".join(data for data, _ in EXAMPLES)


def decode(data: bytes, *cuts: int, limit: int = LIMIT) -> list[Packet]:
    """Return the packets one by one, however many of them came together."""
    decoder, edges = Decoder(limit), [0, *sorted(cuts), len(data)]
    return [packet for start, stop in pairwise(edges) for packet in fed(decoder, data[start:stop])]


def fed(decoder: Decoder, data: bytes) -> list[Packet]:
    """Go on behind every CONNECT and at every turn, as a connection does."""
    found = decoder.feed(data)
    while decoder.has_more:
        found += decoder.feed(b"")
    return [one for packet in found for one in (packet.singly() if isinstance(packet, Publishes) else [packet])]


@pytest.mark.parametrize(("data", "packet"), EXAMPLES)
def test_each_packet_is_read_as_sent(data: bytes, packet: Packet) -> None:
    assert decode(data) == [packet]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_any_division_into_reads_gives_the_same_packets(cuts: list[int]) -> None:
    assert decode(STREAM, *cuts) == [packet for _, packet in EXAMPLES]


def test_publishes_of_one_topic_in_a_row_come_together() -> None:
    one, two, three = (mqtt.publish("a/b", b"x" * 200, number) for number in (1, 2, 3))
    others = [mqtt.publish("a/b", b"", 4, flags=0b1001), mqtt.publish("a/c", b"", 5), mqtt.publish("a/b", b"", 6)]
    decoder = Decoder(LIMIT)
    assert decoder.feed(one + two[:50]) == [Publish(b"a/b", b"x" * 200, 1, 1, False)]
    assert decoder.feed(two[50:] + three + b"".join(others)) == [
        Publishes(b"a/b", [b"x" * 200] * 2, [2, 3]),
        Publish(b"a/b", b"", 1, 4, True),
        Publish(b"a/c", b"", 1, 5, False),
        Publish(b"a/b", b"", 1, 6, False),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        mqtt.publish("a", b"x" * 96, 3),
        b"\x32\x04\x00\x01a\x00",
        b"\x32\x05\x00\x01a\x00\x00",
        b"\x32\xff\xff\xff\xff\x7f",
    ],
    ids=["too long", "without a packet id", "packet id 0", "a length of five bytes"],
)
def test_a_run_ends_where_a_packet_breaks_the_protocol(bad: bytes) -> None:
    good = b"".join(mqtt.publish("a", b"", number) for number in (1, 2))
    found = decode(good + bad + good, limit=100)
    assert [type(packet) for packet in found] == [Publish, Publish, Malformed]


def test_one_byte_at_a_time_gives_the_same_packets() -> None:
    assert decode(STREAM, *range(len(STREAM))) == [packet for _, packet in EXAMPLES]


@given(st.lists(st.sampled_from([data for data, _ in EXAMPLES[3:]]), max_size=4), st.binary(max_size=80), st.data())
@example([], b"\x10\xff\xff\xff\xff", None)
def test_garbage_never_raises_and_its_end_does_not_depend_on_the_reads(
    valid: list[bytes], garbage: bytes, data: st.DataObject | None
) -> None:
    stream = b"".join(valid) + garbage
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6)) if data else [3]
    whole = decode(stream, limit=30000)
    assert decode(stream, *cuts, limit=30000) == whole
    assert not any(isinstance(packet, Malformed) for packet in whole[:-1])


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_damaged_packet_is_read_or_refused(example: tuple[bytes, Packet], data: st.DataObject) -> None:
    damaged = bytearray(example[0])
    damaged[data.draw(st.integers(0, min(len(damaged), 40) - 1))] = data.draw(st.integers(0, 255))
    for packet in decode(bytes(damaged) * 2):
        assert isinstance(packet, Packet)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x00\x00", "packet type 0x00"),
        (b"\xf0\x00", "packet type 0xf0"),
        (b"\x20\x02\0\0", "packet type 0x20"),
        (b"\x62\x02\0\1", "packet type 0x62"),
        (b"\x80\x05\0\1\0\1a", "packet type 0x80"),
        (b"\x36\x05\0\1a\0\1", "packet type 0x36"),
        (b"\x38\x03\0\1a", "packet type 0x38"),
        (b"\xc0\x80\x80\x80\x80\x01", "more than four bytes"),
        (b"\xc0\x01\0", "longer than its fields"),
        (b"\x30\x02\0\0", "without a topic"),
        (b"\x30\x00", "without a topic"),
        (b"\x30\x03\0\2a", "ends too early"),
        (b"\x32\x04\0\1a\1", "ends too early"),
        (b"\x32\x05\0\1a\0\0", "packet id 0"),
        (b"\x40\x02\0\0", "packet id 0"),
        (b"\x40\x01\1", "ends too early"),
        (b"\x82\x02\0\1", "ends too early"),
        (b"\x82\x06\0\1\0\1a\3", "unknown QoS"),
        (b"\x82\x05\0\1\0\0\1", "empty filter"),
        (b"\x82\x06\0\1\0\1\xff\1", "not UTF-8"),
        (b"\x82\x06\0\1\0\1\0\1", "U+0000"),
        (b"\xa2\x02\0\1", "ends too early"),
        (mqtt.packet(0x10, mqtt.text("HTTP") + b"\x04\x02\0\0\0\0"), "another protocol"),
        (mqtt.packet(0x10, mqtt.text("MQTT") + b"\x04\x03\0\0\0\0"), "exclude each other"),
        (mqtt.packet(0x10, mqtt.text("MQTT") + b"\x04\x40\0\0\0\0\0\0"), "exclude each other"),
        (mqtt.packet(0x10, mqtt.text("MQTT") + b"\x04\x20\0\0\0\0"), "exclude each other"),
        (mqtt.packet(0x10, mqtt.text("MQTT") + b"\x04\x1c\0\0\0\0\0\0\0\0"), "exclude each other"),
        (mqtt.connect("d1", "u", "p") + mqtt.packet(0x10, mqtt.text("MQTT") + b"\x04"), "ends too early"),
    ],
)
def test_what_breaks_the_protocol_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    malformed = decode(data + mqtt.PINGREQ)[-1]
    assert isinstance(malformed, Malformed)
    assert reason in malformed.reason
    assert not malformed.oversized


def test_a_read_of_many_small_packets_is_decoded_in_turns() -> None:
    decoder = Decoder(LIMIT)
    assert len(decoder.feed(mqtt.PINGREQ * 1000 + mqtt.publish("t", b""))) == packets.TURN
    assert decoder.has_more
    assert len(fed(decoder, b"")) == 1001 - packets.TURN
    assert not decoder.has_more
    assert len(decoder.feed(mqtt.publish("t", b"") * 1000)) == 1000
    decoder.turn_bytes = 12
    assert len(decoder.feed(mqtt.publish("t", b"") * 1000)) == 3
    assert decoder.has_more
    assert len(fed(decoder, b"")) == 997


def test_a_longer_packet_is_refused_at_its_header() -> None:
    decoder = Decoder(100)
    largest = mqtt.publish("t", b"x" * (100 - 5))
    assert len(largest) == 100
    assert len(decoder.feed(largest)) == 1
    (refused,) = decoder.feed(mqtt.publish("t", b"x" * 96)[:2])
    assert refused == Malformed("a packet of 101 bytes", oversized=True)
    assert decoder.feed(mqtt.PINGREQ) == []


def test_a_large_packet_in_small_reads_costs_linear_time() -> None:
    decoder, data = Decoder(1 << 28), mqtt.publish("t", b"x" * (8 << 20), 1)
    start = time.process_time()
    found = [packet for at in range(0, len(data), 512) for packet in decoder.feed(data[at : at + 512])]
    assert len(found) == 1
    assert time.process_time() - start < 2


def test_answers_are_encoded_as_the_standard_says() -> None:
    assert packets.encode_connack(0, session_present=True) == b"\x20\x02\x01\x00"
    assert packets.encode_connack(packets.NOT_AUTHORIZED) == b"\x20\x02\x00\x05"
    assert packets.encode_pubacks([1, 65535]) == b"\x40\x02\x00\x01\x40\x02\xff\xff"
    assert packets.encode_pubacks([]) == b""
    assert packets.encode_suback(258, [1, 0x80]) == b"\x90\x04\x01\x02\x01\x80"
    assert packets.encode_unsuback(258) == b"\xb0\x02\x01\x02"


@given(st.text(min_size=1, max_size=300), st.binary(max_size=20000))
def test_what_is_published_reads_back(topic: str, payload: bytes) -> None:
    assert decode(packets.encode_publish(topic, payload)) == [Publish(topic.encode(), payload, 0, 0, False)]


def test_no_repr_shows_a_password() -> None:
    assert "hunter2" not in repr(decode(mqtt.connect("d1", "u", "hunter2")))


def test_every_valid_publish_header_is_known() -> None:
    valid = {first for first in range(0x30, 0x40) if (first >> 1) & 3 != 3 and (first & 6 or not first & 8)}
    decoded = {
        first for first in valid if isinstance(decode(bytes((first, 6)) + struct.pack(">H", 1) + b"a\0\1z")[0], Publish)
    }
    assert decoded == valid

"""What the server sends, byte by byte."""

import msgspec
import pytest

from localcloud.signalr.protocol import (
    Close,
    HandshakeResponse,
    Invocation,
    Message,
    Ping,
    json_record,
    messagepack_record,
    parse_payload,
)

DEEP = b"[" * 100_000 + b"]" * 100_000


def test_an_invocation_in_json_ends_with_the_record_separator() -> None:
    record = json_record(Message(Invocation("newMessage", [{"temperature": 0.0}])))
    assert record == b'{"type":1,"target":"newMessage","arguments":[{"temperature":0.0}]}\x1e'


def test_a_json_record_holds_no_separator_and_no_line_break_of_its_own() -> None:
    record = json_record(Message(Invocation("t", ["a\x1eb\r\nc"])))
    assert record.count(b"\x1e") == 1
    assert b"\n" not in record
    assert b"\r" not in record


def test_an_invocation_in_messagepack_has_a_length_and_a_map_of_headers() -> None:
    record = messagepack_record(Message(Invocation("t", ["x"])))
    assert record[0] == len(record) - 1
    assert msgspec.msgpack.decode(record[1:]) == [1, {}, None, "t", ["x"], []]


@pytest.mark.parametrize(("size", "prefix"), [(100, 1), (200, 2), (20_000, 3), (2_100_000, 4)])
def test_a_messagepack_records_length_is_a_varint(size: int, prefix: int) -> None:
    record = messagepack_record(Message(Invocation("t", ["x" * size])))
    length = sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(record[:prefix]))
    assert length == len(record) - prefix
    assert msgspec.msgpack.decode(record[prefix:])[4] == ["x" * size]


def test_a_ping_and_a_close_are_what_the_specification_says() -> None:
    assert messagepack_record(Message(Ping())) == b"\x02\x91\x06"
    assert json_record(Message(Ping())) == b'{"type":6}\x1e'
    assert json_record(Message(Close(allow_reconnect=True))) == b'{"type":7,"allowReconnect":true}\x1e'
    assert msgspec.msgpack.decode(messagepack_record(Message(Close(error="e")))[1:]) == [7, "e", False]


@pytest.mark.parametrize("encoder", [json_record, messagepack_record])
def test_a_handshake_is_answered_in_json_in_either_protocol(encoder) -> None:
    assert encoder(Message(HandshakeResponse())) == b"{}\x1e"
    assert encoder(Message(HandshakeResponse(error="no"))) == b'{"error":"no"}\x1e'


def test_a_message_is_encoded_once_per_encoder() -> None:
    calls = []

    def encoder(message: Message) -> bytes:
        calls.append(message)
        return b"x"

    message = Message(Ping())
    assert [message.encoded(encoder) for _ in range(3)] == [b"x"] * 3
    assert calls == [message]


def test_an_integer_beyond_64_bits_becomes_a_double_in_messagepack() -> None:
    record = messagepack_record(Message(Invocation("t", [{"a": [2**70, -(2**64), 2**64 - 1, True]}])))
    assert msgspec.msgpack.decode(record[1:])[4] == [{"a": [float(2**70), float(-(2**64)), 2**64 - 1, True]}]


def test_a_payload_is_a_target_with_or_without_arguments() -> None:
    for body, values in (
        (b'{"target":"t","arguments":[1,null]}', [1, None]),
        (b'{"target":"t","arguments":\n[1,\r\n null]}', [1, None]),
        (b'{"target":"t","other":1}', []),
    ):
        invocation = parse_payload(body)
        assert (invocation.target, list(invocation.values())) == ("t", values)
        record = json_record(Message(invocation))
        assert not {*b"\r\n"} & {*record}
        assert msgspec.json.decode(record[:-1]) == {"type": 1, "target": "t", "arguments": values}
        assert msgspec.msgpack.decode(messagepack_record(Message(invocation))[1:])[4] == values


def test_numbers_reach_clients_as_they_were_written() -> None:
    invocation = parse_payload(b'{"target":"t","arguments":[0.10,12345678901234567890123,1e999]}')
    assert b"[0.10,12345678901234567890123,1e999]" in json_record(Message(invocation))
    assert msgspec.msgpack.decode(messagepack_record(Message(invocation))[1:])[4] == [
        0.1,
        12345678901234567890123.0,
        float("inf"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"arguments":[]}',
        b'{"target":1}',
        b'{"target":"t","arguments":{}}',
        b'{"target":"\xff"}',
        b'{"target":"t","arguments":["\xff"]}',
        b'{"target":"t","arguments":["a\x1eb"]}',
        b'{"target":"t","arguments":[01]}',
        b'{"target":"t","arguments":null}',
        b'{"target":"t","arguments":[NaN]}',
        b'{"target":"t","arguments":%s}' % DEEP,
    ],
)
def test_a_payload_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="the body"):
        parse_payload(body)

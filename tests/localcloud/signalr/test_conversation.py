"""What clients send, in any slices."""

import contextlib
import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.signalr.conversation import Conversation, ProtocolError, Said
from localcloud.signalr.protocol import HubProtocol

JSON = b'{"protocol":"json","version":1}\x1e'
MESSAGEPACK = b'{"protocol":"messagepack","version":1}\x1e'
TALKS = {
    HubProtocol.JSON: JSON + b'{"type":6}\x1e' * 3 + b'{"type":7}\x1e',
    HubProtocol.MESSAGEPACK: MESSAGEPACK + b"\x02\x91\x06" * 3 + b"\x02\x91\x07",
}


def said(data: bytes, conversation: Conversation | None = None) -> list[Said]:
    return list((conversation or Conversation(1024)).feed(data))


@given(st.sampled_from(list(HubProtocol)), st.lists(st.integers(0, 80), max_size=20))
def test_slices_do_not_matter(protocol: HubProtocol, cuts: list[int]) -> None:
    conversation, talk = Conversation(1024), TALKS[protocol]
    edges = [0, *sorted(cuts), len(talk)]
    heard = [word for start, end in itertools.pairwise(edges) for word in said(talk[start:end], conversation)]
    assert heard == [Said.HANDSHAKE, Said.CLOSE]
    assert conversation.protocol is protocol


def test_a_handshake_may_arrive_byte_by_byte() -> None:
    conversation = Conversation(1024)
    heard = [word for byte in JSON for word in said(bytes([byte]), conversation)]
    assert heard == [Said.HANDSHAKE]


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{}",
        b"GET / HTTP/1.1",
        b'{"protocol":"json"}',
        b'{"protocol":"json","version":"1"}',
        b'{"protocol":"\xff","version":1}',
        b'{"protocol":"xml","version":1}',
        b'{"protocol":"json","version":2}',
        b"[" * 900 + b"]" * 900,
    ],
)
def test_a_handshake_that_is_none_breaks_the_protocol(record: bytes) -> None:
    with pytest.raises(ProtocolError):
        said(record + b"\x1e", Conversation(4096))


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 8, 9, 99])
def test_a_client_may_not_send_messages(kind: int) -> None:
    with pytest.raises(ProtocolError, match="listen only"):
        said(JSON + b'{"type":%d}\x1e' % kind)
    body = msgspec.msgpack.encode([kind, {}, None, "t", []])
    with pytest.raises(ProtocolError, match="listen only"):
        said(MESSAGEPACK + bytes([len(body)]) + body)


@pytest.mark.parametrize("record", [b"", b"6", b"[6]", b"{}", b'{"type":"6"}', b"\xff", b'{"type":6'])
def test_a_json_message_that_is_none_breaks_the_protocol(record: bytes) -> None:
    with pytest.raises(ProtocolError, match="not JSON"):
        said(JSON + record + b"\x1e")


@pytest.mark.parametrize("body", [b"", b"\x06", b"\x90", b"\x91\xa16", b"\xc1", b"\x91\x06\x06", b"\x91\xa1\xff"])
def test_a_messagepack_message_that_is_none_breaks_the_protocol(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="not MessagePack"):
        said(MESSAGEPACK + bytes([len(body)]) + body)


def test_a_length_that_never_ends_breaks_the_protocol() -> None:
    with pytest.raises(ProtocolError, match="VarInt"):
        said(MESSAGEPACK + b"\x80" * 5)


def test_a_message_beyond_the_limit_is_refused_before_it_has_arrived() -> None:
    with pytest.raises(ProtocolError, match="longer than 64 bytes"):
        said(b"x" * 65, Conversation(64))
    with pytest.raises(ProtocolError, match="longer than 64 bytes"):
        said(MESSAGEPACK + b"\x41", Conversation(64))


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_but_protocol_errors(data: bytes) -> None:
    for talk in (data, JSON + data, MESSAGEPACK + data):
        with contextlib.suppress(ProtocolError):
            said(talk)

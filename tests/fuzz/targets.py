"""What is fuzzed, once for hypothesis (CI) and for atheris (`scripts/fuzz`): functions of bytes that raise on a defect.

A target states invariants: only the protocol's own errors; what was encoded decodes to itself; reads may be divided
anywhere; and a bound on work, counted in steps that do not depend on the machine.
"""

import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from urllib.parse import parse_qs

from enviromon.telemetry import MAX_ITEMS, REASONS, Rejection, TelemetryReader
from localcloud.functions.access import cors_rules, host_name, origin_host
from localcloud.iothub import auth, packets, sas
from localcloud.iothub.event_log import Envelope
from localcloud.iothub.limits import HubLimits
from localcloud.iothub.packets import Connect, Decoder, Malformed, OtherVersion, Packet, Publishes
from localcloud.iothub.session import Action, Close, Commit, Judge, Save, Send, Session
from localcloud.iothub.topics import DeviceTopics, ForeignTopicError, MethodResponse, TwinRequest
from localcloud.logs import printable
from localcloud.signalr.conversation import Conversation, ProtocolError
from localcloud.signalr.protocol import Message, json_record, messagepack_record, parse_payload
from localcloud.signalr.tokens import InvalidTokenError, verify_token

Target = Callable[[bytes], None]

LIMITS = HubLimits()
SMALL = HubLimits(message_bytes=2000, topic_bytes=500, connect_bytes=600)
MESSAGE_LIMIT = 32_768
PREFIX = b"devices/d1/messages/events/"
TOPICS = DeviceTopics("d1", "1", "{}", LIMITS)
READER = TelemetryReader()
ENQUEUED, LEAD = 1_800_000_000_000, 300_000
KEY = "fuzz-fuzz-fuzz-fuzz-fuzz-fuzz-fuzz"
TARGETS: dict[str, Target] = {}


def target(function: Target) -> Target:
    TARGETS[function.__name__] = function
    return function


def divided(data: bytes) -> tuple[bytes, list[bytes]]:
    """Let the first bytes say where to cut the rest; return the rest, whole and in pieces."""
    count = data[0] % 8 if data else 0
    rest = data[1 + count :]
    cuts = sorted(byte * len(rest) // 255 for byte in data[1 : 1 + count])
    return rest, [rest[start:stop] for start, stop in pairwise([0, *cuts, len(rest)])]


def _decoded(reads: Sequence[bytes], limit: int) -> list[Packet]:
    decoder, found = Decoder(limit), []
    for read in reads:
        found += decoder.feed(read)
        while decoder.has_more:
            found += decoder.feed(b"")
        assert decoder.held_bytes <= limit
    return [single for packet in found for single in (packet.singly() if isinstance(packet, Publishes) else [packet])]


@target
def mqtt_packets(data: bytes) -> None:
    whole, reads = divided(data)
    found = _decoded([whole], 2000)
    assert _decoded(reads, 2000) == found
    assert not any(isinstance(packet, Malformed) for packet in found[:-1])
    assert len(found) <= len(whole) // 2 + 1
    for packet in found:
        assert "hunter2" not in repr(packet) or not isinstance(packet, Connect | OtherVersion)
        _reencode(packet)


def _reencode(packet: Packet) -> None:
    """What the hub itself can encode of this reads back as it was."""
    if isinstance(packet, packets.Publish) and not packet.qos and not packet.retain:
        try:
            topic = packet.topic.decode()
        except UnicodeDecodeError:
            return
        assert _decoded([packets.encode_publish(topic, packet.payload)], 1 << 20) == [packet]
    elif isinstance(packet, packets.PubAck):
        assert _decoded([packets.encode_pubacks([packet.packet_id])], 100) == [packet]


def _play(reads: Sequence[bytes], turn_bytes: int) -> tuple[list[bytes], bytes, bytes, list[Action]]:
    """Run a session as a connection does and return what it stored, acknowledged, answered, and how it ended."""
    session, actions = Session(SMALL), list[Action]()

    def perform(found: list[Action]) -> None:
        for action in found:
            actions.append(action)
            if isinstance(action, Judge):
                accepted = action.connect.client_id != "no"
                perform(session.accept(TOPICS, None) if accepted else session.refuse(5, "no"))

    for read in reads:
        perform(session.receive(read, turn_bytes))
        while session.has_more:
            perform(session.receive(b"", turn_bytes))
        assert session.held_bytes <= SMALL.message_bytes + SMALL.topic_bytes
    closes = [action for action in actions if isinstance(action, Close)]
    assert len(closes) <= 1
    assert not closes or actions[-1] is closes[0]
    commits = [action for action in actions if isinstance(action, Commit)]
    events = [event for commit in commits for event in commit.events]
    for event in events:
        assert event.envelope.system_properties["iothub-connection-device-id"] == "d1"
        assert len(event.envelope.properties) <= SMALL.properties + 2
    answers = [a.data if isinstance(a, Send) else a.answer for a in actions if isinstance(a, Send | Save)]
    pubacks = b"".join(commit.pubacks for commit in commits)
    return [event.body for event in events], pubacks, b"".join(answers), list(closes)


@target
def mqtt_session(data: bytes) -> None:
    whole, reads = divided(data)
    played = _play([whole], 1 << 30)
    assert _play(reads, 1 << 30) == played
    assert _play(reads, 1) == played


def _check_size(error: Exception) -> None:
    """An error's sentence goes to the log: a peer must not choose its length."""
    assert len(str(error)) < 1000


@target
def topics_and_bags(data: bytes) -> None:
    for topic in (data, PREFIX + data):
        try:
            meaning = TOPICS.resolve(topic, retain=bool(data) and data[0] & 1 == 1)
        except ForeignTopicError as error:
            _check_size(error)
            continue
        assert isinstance(meaning, Envelope | TwinRequest | MethodResponse)
        if isinstance(meaning, Envelope):
            assert meaning.system_properties["iothub-connection-device-id"] == "d1"
            assert meaning.system_properties["iothub-message-source"] == "Telemetry"
            assert len(meaning.properties) <= LIMITS.properties + 1


@target
def telemetry(data: bytes) -> None:
    items = READER.read(data)
    assert 1 <= len(items) <= MAX_ITEMS
    for item in items:
        verdict = item
        if not isinstance(item, Rejection):
            created = data[:30].decode(errors="replace")
            verdict = READER.judge(item, ENQUEUED, created, LEAD, None)
        if isinstance(verdict, Rejection):
            assert verdict.reason in REASONS
            assert len(verdict.detail) < 2000
        else:
            assert all(math.isfinite(value) for value in verdict.values.values())
            assert verdict.event_time <= ENQUEUED + LEAD
    try:
        is_array = data.lstrip()[:1] == b"[" and isinstance(parsed := json.loads(data), list)
    except (ValueError, RecursionError):
        return
    if is_array and 0 < len(parsed) <= MAX_ITEMS:
        assert len(items) == len(parsed)


@target
def sas_tokens(data: bytes) -> None:
    text = data.decode(errors="replace")
    for given in (text, f"{sas.SCHEME}{text}"):
        try:
            token = sas.parse_token(given)
        except sas.InvalidTokenError:
            continue
        assert "signature" not in repr(token).replace(token.resource, "")
        for key in ((b"k" * 32,), ()):
            try:
                sas.verify(token, key, now=0)
            except sas.InvalidTokenError:
                continue
            raise AssertionError("a token was forged")
    connect = Connect(text[:5], False, 60, text[5:200], text[200:], None)
    try:
        login = auth.read_login(connect, {"localhost"})
        auth.judge(login, None, hostnames={"localhost"}, policies={}, now=0)
    except auth.RefusedError:
        pass
    else:
        raise AssertionError("nobody was let in")


@target
def jwts(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    for given in (text, f"eyJhbGciOiJIUzI1NiJ9.{text}", f"eyJhbGciOiJIUzI1NiJ9.{text}.AAAA"):
        try:
            verify_token(given, KEY, now=0)
        except InvalidTokenError:
            continue
        raise AssertionError("a token was forged")


def _heard(reads: Sequence[bytes]) -> tuple[list[object], str | None]:
    conversation, heard = Conversation(MESSAGE_LIMIT), list[object]()
    try:
        for read in reads:
            heard += conversation.feed(read)
    except ProtocolError as error:
        return heard, str(error)
    return heard, None


@target
def signalr_frames(data: bytes) -> None:
    whole, reads = divided(data)
    for handshake in (b"", b'{"protocol":"json","version":1}\x1e', b'{"protocol":"messagepack","version":1}\x1e'):
        heard, error = _heard([handshake + whole])
        in_pieces, error_in_pieces = _heard([handshake, *reads])
        assert in_pieces == heard
        assert (error is None) == (error_in_pieces is None)


@target
def signalr_payloads(data: bytes) -> None:
    try:
        message = Message(parse_payload(data))
    except ValueError:
        return
    assert json_record(message).count(b"\x1e") == 1
    messagepack_record(message)


@target
def http_headers(data: bytes) -> None:
    text = data.decode("latin-1")
    for header in (text, data.decode(errors="surrogateescape")):
        for name in (host_name(header), origin_host(header), origin_host(f"http://{header}")):
            assert name is None or name == name.lower()
        rules = cors_rules({"localhost"}, None, credentials=True)
        if rules.allows_host(header):
            assert host_name(header) == "localhost"
        rules.allows_origin(header, "localhost:7071")
    printable(text).encode("ascii" if text.isascii() else "utf-8")
    parse_qs(text[:100])

"""One device's MQTT session, without a socket: bytes in, actions out.

States: WAITING (nothing before CONNECT) -> JUDGING (what follows a CONNECT waits for the verdict) -> OPEN -> CLOSED.
Every CONNECT but the first, every QoS 2, every foreign topic and every broken packet closes (as IoT Hub does). The
shell carries out actions in their order; after a Close there are no more.

**Acknowledgement**: the PUBACKs of a read are in its one Commit, to be written when its events are durable and after
those of earlier Commits (4.6.0-2). Nothing else writes a PUBACK.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from itertools import chain, repeat
from typing import Any, ClassVar, cast

import msgspec

from localcloud.iothub import packets
from localcloud.iothub.event_log import Envelope, Event
from localcloud.iothub.limits import HubLimits
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
)
from localcloud.iothub.topics import TWIN_RESPONSE_FILTER, DeviceTopics, ForeignTopicError, TwinRequest, twin_response

_NOT_IMPLEMENTED = 501
_NO_SUBSCRIPTIONS: Mapping[str, int] = {}
_NO_ENVELOPES: dict[bytes, Envelope] = {}
# Measured in CPython 3.11 (tracemalloc): 290 bytes without properties, 140 for each beside its text, which may take
# four bytes a character.
_ENVELOPE_BYTES, _PROPERTY_BYTES, _CHARACTER_BYTES = 300, 150, 4


class Reason(Enum):
    """Why a connection ends; each has a counter."""

    DISCONNECTED = "disconnected"
    LOST = "lost"
    MALFORMED = "malformed"
    OVERSIZED = "oversized"
    FOREIGN_TOPIC = "foreign_topic"
    UNSUPPORTED = "unsupported"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"
    REVOKED = "revoked"
    TAKEN_OVER = "taken_over"
    STALLED = "stalled"
    UNFINISHED = "unfinished"
    THROTTLED = "throttled"
    STOPPED = "stopped"


class Judge(msgspec.Struct, frozen=True):
    """Decide on a CONNECT, then call `accept` or `refuse`."""

    connect: Connect


class Send(msgspec.Struct, frozen=True):
    """Write this at once."""

    data: bytes


class Commit(msgspec.Struct, frozen=True):
    """Make the events durable, then write the PUBACKs. `size` is what they hold in memory, in bytes."""

    events: list[Event]
    pubacks: bytes
    size: int


class Save(msgspec.Struct, frozen=True):
    """Store the session's subscriptions, then write the answer."""

    subscriptions: Mapping[str, int]
    answer: bytes


class Close(msgspec.Struct, frozen=True):
    """Flush what was written and end the connection; the detail is for the operator's log."""

    reason: Reason
    detail: str


Action = Judge | Send | Commit | Save | Close


class _State(Enum):
    WAITING = auto()
    JUDGING = auto()
    OPEN = auto()
    CLOSED = auto()


class Session:
    """The state of one connection. Once `accept`ed it belongs to one device."""

    __slots__ = (
        "_cached_bytes",
        "_connect",
        "_decoder",
        "_envelope",
        "_envelopes",
        "_is_kept",
        "_limits",
        "_state",
        "_subscriptions",
        "_topic",
        "_topics",
        "_will",
    )

    def __init__(self, limits: HubLimits) -> None:
        self._limits = limits
        self._decoder = Decoder(limits.connect_bytes)
        self._state = _State.WAITING
        self._connect: Connect | None = None
        self._topics: DeviceTopics
        self._subscriptions: Mapping[str, int] = _NO_SUBSCRIPTIONS
        self._is_kept = False
        self._will: Event | None = None
        self._topic: bytes | None = None  # the first one and its envelope: most devices have no other
        self._envelope: Envelope
        self._envelopes = _NO_ENVELOPES
        self._cached_bytes = 0

    def receive(self, data: bytes, turn_bytes: int = 1 << 30) -> list[Action]:
        """Take one read, or so much of it that reaches `turn_bytes`: `has_more` tells."""
        if self._state is _State.CLOSED:
            return []
        if self._state is _State.JUDGING:
            self._decoder.keep(data)
            return []
        self._decoder.turn_bytes = turn_bytes
        return self._run(self._decoder.feed(data))

    @property
    def has_more(self) -> bool:
        """Say whether packets wait for the connection's next turn: then `receive(b"")` takes them."""
        return self._decoder.has_more and self._state is _State.OPEN

    @property
    def held_bytes(self) -> int:
        """Return how much was read of a packet that is not whole yet."""
        return self._decoder.held_bytes

    def accept(self, topics: DeviceTopics, stored: Mapping[str, int] | None) -> list[Action]:
        """Answer the CONNECT with success; `stored` are the subscriptions of the device's kept session, if any.

        The caller forgets the stored session where the CONNECT asks for a clean one.
        """
        connect = self._judged()
        try:
            self._will = _will_of(connect, topics)
        except ForeignTopicError as error:
            return self._close(Reason.FOREIGN_TOPIC, str(error))
        self._state, self._topics, self._is_kept = _State.OPEN, topics, not connect.clean_session
        self._decoder.max_packet_bytes = self._limits.message_bytes + self._limits.topic_bytes
        actions: list[Action] = []
        present = self._is_kept and stored is not None
        if present:
            self._subscriptions = dict(stored or {})
        elif self._is_kept:
            actions.append(Save({}, b""))
        actions.append(Send(packets.encode_connack(packets.ACCEPTED, session_present=present)))
        return actions + self._run(self._decoder.feed(b""))

    def refuse(self, code: int, detail: str) -> list[Action]:
        """Answer the CONNECT with a CONNACK code and end."""
        self._judged()
        return [Send(packets.encode_connack(code)), *self._close(Reason.REFUSED, detail)]

    def take_will(self) -> Event | None:
        """Return, once, what to publish for a device that is gone; None where it left in order or has no will."""
        self._state = _State.CLOSED
        self._decoder.drop()
        will, self._will = self._will, None
        return will

    def _judged(self) -> Connect:
        assert self._state is _State.JUDGING
        assert self._connect is not None
        connect, self._connect = self._connect, None
        return connect

    def _run(self, received: Sequence[Packet]) -> list[Action]:
        """Take packets in order. PUBLISH, the hot path, is handled here; all its events go into one Commit."""
        actions: list[Action] = []
        events: list[Event] = []
        pubacks: list[int] = []
        size, limit = 0, self._limits.message_bytes
        # A message by itself, which is all that a device with one in flight sends, is spared what unrolling costs.
        is_single = len(received) == 1 and type(received[0]) is Publish
        for packet in received if is_single else chain.from_iterable(map(self._unrolled, received)):
            if type(packet) is Publishes:
                events += map(Event, repeat(cast("Envelope", self._known(packet.topic))), packet.payloads)
                pubacks += packet.packet_ids
                size += sum(map(len, packet.payloads)) + len(packet.topic) * len(packet.payloads)
            elif type(packet) is not Publish or packet.qos > 1 or self._state is not _State.OPEN:
                actions += self._handle(packet)
            else:
                weight = len(packet.payload) + len(packet.topic)
                known = None if packet.retain or weight > limit else self._known(packet.topic)
                meaning = known or self._resolve(packet, weight)
                if type(meaning) is Envelope and known is None:
                    size += _bytes_of(packet.topic, meaning)
                if type(meaning) is Envelope:
                    events.append(Event(meaning, packet.payload))
                    size += weight
                else:
                    actions += cast("list[Action]", meaning)
                if packet.qos and self._state is _State.OPEN:
                    pubacks.append(packet.packet_id)
            if self._state is _State.CLOSED:
                break
        if events or pubacks:
            # In front of a Close, so that what came before the fault is kept.
            actions.insert(0, Commit(events, packets.encode_pubacks(pubacks), size))
        return actions

    def _unrolled(self, packet: Packet) -> Sequence[Packet]:
        """Return the packet, or its PUBLISHes one by one where the cache does not know them or one may be too large."""
        if type(packet) is not Publishes or (
            self._state is _State.OPEN
            and self._known(packet.topic) is not None
            and max(map(len, packet.payloads)) + len(packet.topic) <= self._limits.message_bytes
        ):
            return (packet,)
        return packet.singly()

    def _resolve(self, packet: Publish, weight: int) -> Envelope | list[Action]:
        """Find out what a PUBLISH means that the cache does not know."""
        size = weight - len(self._topics.prefix)
        if size > self._limits.message_bytes:
            return self._close(Reason.OVERSIZED, f"a message of {size} bytes")
        try:
            meaning = self._topics.resolve(packet.topic, retain=packet.retain)
        except ForeignTopicError as error:
            return self._close(Reason.FOREIGN_TOPIC, str(error))
        if isinstance(meaning, Envelope):
            if not packet.retain:
                self._cache(packet.topic, meaning)
            return meaning
        if isinstance(meaning, TwinRequest) and TWIN_RESPONSE_FILTER in self._subscriptions:
            return [Send(packets.encode_publish(twin_response(_NOT_IMPLEMENTED, meaning.request_id), b""))]
        return []

    def _known(self, topic: bytes) -> Envelope | None:
        return self._envelope if topic == self._topic else self._envelopes.get(topic)

    def _cache(self, topic: bytes, envelope: Envelope) -> None:
        size = _bytes_of(topic, envelope)
        if self._cached_bytes + size > self._limits.cached_topic_bytes:
            self._topic, self._envelopes, self._cached_bytes = None, _NO_ENVELOPES, 0
        if size > self._limits.cached_topic_bytes:
            return
        self._cached_bytes += size
        if self._topic is None:
            self._topic, self._envelope = topic, envelope
        elif self._envelopes is _NO_ENVELOPES:
            self._envelopes = {topic: envelope}
        else:
            self._envelopes[topic] = envelope

    def _handle(self, packet: Packet) -> list[Action]:
        if isinstance(packet, Malformed):
            return self._close(Reason.OVERSIZED if packet.oversized else Reason.MALFORMED, packet.reason)
        if self._state is _State.WAITING:
            return self._first(packet)
        return self._WHEN_OPEN[type(packet)](self, packet)

    def _first(self, packet: Packet) -> list[Action]:
        if isinstance(packet, OtherVersion):
            refusal = Send(packets.encode_connack(packets.BAD_VERSION))
            return [refusal, *self._close(Reason.REFUSED, f"MQTT protocol level {packet.level}, not 4")]
        if not isinstance(packet, Connect):
            return self._close(Reason.MALFORMED, f"{type(packet).__name__} before CONNECT")
        self._state, self._connect = _State.JUDGING, packet
        return [Judge(packet)]

    def _disconnect(self, _: Disconnect) -> list[Action]:
        self._will = None
        return self._close(Reason.DISCONNECTED, "the device disconnected")

    def _subscribe(self, packet: Subscribe) -> list[Action]:
        if len(packet.filters) > self._limits.filters:
            return self._close(Reason.UNSUPPORTED, f"{len(packet.filters)} filters in one SUBSCRIBE")
        codes = [
            min(qos, 1) if self._topics.may_subscribe(name) else packets.SUBSCRIPTION_REFUSED
            for name, qos in packet.filters
        ]
        granted = {name: code for (name, _), code in zip(packet.filters, codes, strict=True) if code in (0, 1)}
        return self._change({**self._subscriptions, **granted}, packets.encode_suback(packet.packet_id, codes))

    def _unsubscribe(self, packet: Unsubscribe) -> list[Action]:
        if len(packet.filters) > self._limits.filters:
            return self._close(Reason.UNSUPPORTED, f"{len(packet.filters)} filters in one UNSUBSCRIBE")
        left = {name: qos for name, qos in self._subscriptions.items() if name not in packet.filters}
        return self._change(left, packets.encode_unsuback(packet.packet_id))

    def _change(self, subscriptions: dict[str, int], answer: bytes) -> list[Action]:
        if subscriptions == self._subscriptions or not self._is_kept:
            self._subscriptions = subscriptions
            return [Send(answer)]
        self._subscriptions = subscriptions
        return [Save(subscriptions, answer)]

    def _qos_two(self, _: Publish) -> list[Action]:
        return self._close(Reason.UNSUPPORTED, "a publish at QoS 2")

    def _second_connect(self, _: Connect | OtherVersion) -> list[Action]:
        return self._close(Reason.MALFORMED, "a second CONNECT")

    def _ping(self, _: PingReq) -> list[Action]:
        return [Send(packets.PINGRESP)]

    def _ignore(self, _: PubAck) -> list[Action]:
        return []  # the hub publishes at QoS 0 only

    def _close(self, reason: Reason, detail: str) -> list[Action]:
        self._state = _State.CLOSED
        return [Close(reason, detail)]

    _WHEN_OPEN: ClassVar[dict[type[Packet], Callable[["Session", Any], list[Action]]]] = {
        Connect: _second_connect,
        OtherVersion: _second_connect,
        Publish: _qos_two,
        PubAck: _ignore,
        Subscribe: _subscribe,
        Unsubscribe: _unsubscribe,
        PingReq: _ping,
        Disconnect: _disconnect,
    }


def _bytes_of(topic: bytes, envelope: Envelope) -> int:
    """Say what a topic and its envelope hold in memory at most: a bag of 500 bytes can make 14 kB of properties."""
    return _ENVELOPE_BYTES + _PROPERTY_BYTES * len(envelope.properties) + _CHARACTER_BYTES * len(topic)


def _will_of(connect: Connect, topics: DeviceTopics) -> Event | None:
    if connect.will is None:
        return None
    if connect.will.qos > 1:
        raise ForeignTopicError("a will at QoS 2")
    return Event(topics.will(connect.will.topic, retain=connect.will.retain), connect.will.payload)

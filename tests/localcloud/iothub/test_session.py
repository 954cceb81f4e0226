"""The session without a socket; what it does on the wire is in test_server.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.iothub.event_log import Envelope
from localcloud.iothub.limits import HubLimits
from localcloud.iothub.session import Action, Close, Commit, Judge, Reason, Save, Send, Session, _bytes_of
from localcloud.iothub.topics import DeviceTopics, ForeignTopicError, MethodResponse, TwinRequest
from tests.localcloud.iothub import mqtt

EVENTS = "devices/d1/messages/events/"
LIMITS = HubLimits(cached_topic_bytes=1300)
TOPICS = DeviceTopics("d1", "1", "{}", LIMITS)
CONNACK = b"\x20\x02\x00\x00"


def opened(**options: bool) -> Session:
    session = Session(LIMITS)
    session.receive(mqtt.connect(**options))
    session.accept(TOPICS, None)
    return session


def test_a_connect_waits_for_its_verdict_and_what_follows_for_the_connect() -> None:
    session = Session(LIMITS)
    actions = session.receive(mqtt.connect() + mqtt.publish(EVENTS, b"1", 1) + mqtt.PINGREQ)
    assert [type(action) for action in actions] == [Judge]
    assert session.receive(mqtt.publish(EVENTS, b"2", 2)) == []
    saved, connack, commit, pong = session.accept(TOPICS, None)
    assert (saved, connack, pong) == (Save({}, b""), Send(CONNACK), Send(b"\xd0\x00"))
    assert isinstance(commit, Commit)
    assert [event.body for event in commit.events] == [b"1", b"2"]
    assert commit.pubacks == b"\x40\x02\x00\x01\x40\x02\x00\x02"


def test_garbage_behind_a_connect_ends_a_session_that_is_accepted_or_refused() -> None:
    for judge in (lambda session: session.accept(TOPICS, None), lambda session: session.refuse(5, "no")):
        session = Session(LIMITS)
        assert [type(action) for action in session.receive(mqtt.connect() + b"\0\0")] == [Judge]
        assert isinstance(judge(session)[-1], Close)


def test_the_events_of_a_read_are_one_commit_in_front_of_what_ends_the_connection() -> None:
    data = mqtt.publish(EVENTS, b"1", 1) + mqtt.publish(EVENTS, b"2") + mqtt.publish("foreign", b"3", 3) + mqtt.PINGREQ
    commit, close = opened().receive(data)
    assert isinstance(commit, Commit)
    assert isinstance(close, Close)
    assert ([event.body for event in commit.events], commit.pubacks) == ([b"1", b"2"], b"\x40\x02\x00\x01")
    assert commit.size == 2 * (len(EVENTS) + 1) + _bytes_of(EVENTS.encode(), commit.events[0].envelope)
    assert close.reason is Reason.FOREIGN_TOPIC


def test_a_run_of_publishes_is_what_it_is_one_by_one() -> None:
    """Messages of one topic in a row come in one go; a too large one among them closes as it would alone."""
    large = b"x" * (LIMITS.message_bytes + 1)
    bodies = [b"1", b"2", b"3", large, b"5"]
    stream = [mqtt.publish(EVENTS, content, number + 1) for number, content in enumerate(bodies)]
    one_go, singly = opened(), opened()
    first = one_go.receive(stream[0]) + one_go.receive(b"".join(stream[1:]))
    second = [action for packet in stream for action in singly.receive(packet)]
    for actions in (first, second):
        commits = [action for action in actions if isinstance(action, Commit)]
        assert [event.body for commit in commits for event in commit.events] == bodies[:3]
        assert b"".join(commit.pubacks for commit in commits) == b"".join(
            b"\x40\x02" + number.to_bytes(2, "big") for number in (1, 2, 3)
        )
        assert isinstance(actions[-1], Close)
        assert actions[-1].reason is Reason.OVERSIZED
    sizes = [sum(action.size for action in actions if isinstance(action, Commit)) for actions in (first, second)]
    assert sizes[0] == sizes[1] > 3 * len(EVENTS)


def test_requests_to_one_topic_in_a_row_are_each_answered() -> None:
    session = opened()
    session.receive(mqtt.subscribe(1, ("$iothub/twin/res/#", 0)))
    request = mqtt.publish("$iothub/twin/GET/?$rid=1", b"", 2)
    answers = session.receive(request * 3)
    assert [type(action) for action in answers] == [Commit, Send, Send, Send]


def test_messages_to_one_topic_share_one_envelope_and_the_cache_is_bounded() -> None:
    session = opened()
    topics = [EVENTS, EVENTS + "a=1", EVENTS, EVENTS + "a=2", EVENTS + "a=3"]
    (commit,) = session.receive(b"".join(mqtt.publish(topic, b"") for topic in topics))
    assert isinstance(commit, Commit)
    envelopes = [event.envelope for event in commit.events]
    assert envelopes[0] is envelopes[2]
    assert [envelope.properties for envelope in envelopes] == [{}, {"a": "1"}, {}, {"a": "2"}, {"a": "3"}]
    assert len(cached_topics(session)) == 2
    session.receive(mqtt.publish(EVENTS + "&".join(f"name{n}=1" for n in range(50)), b""))
    assert all(len(topic) < 100 for topic in cached_topics(session))


def cached_topics(session: Session) -> list[bytes]:
    return [*([] if session._topic is None else [session._topic]), *session._envelopes]


def test_what_devices_of_one_kind_say_alike_is_kept_once() -> None:
    alike = []
    for _ in range(2):
        (commit,) = opened().receive(mqtt.publish(EVENTS + "%24.ct=application%2Fjson&%24.ce=utf-8", b""))
        assert isinstance(commit, Commit)
        alike.append(commit.events[0].envelope)
    first, second = (envelope.system_properties for envelope in alike)
    assert first["content-type"] is second["content-type"]
    assert first["content-encoding"] is second["content-encoding"]
    assert alike[0].properties is alike[1].properties


def test_a_subscription_is_saved_only_where_it_changes_a_kept_session() -> None:
    subscribe = mqtt.subscribe(1, ("$iothub/twin/res/#", 1))
    kept, clean = opened(), opened(clean=True)
    assert [type(action) for action in kept.receive(subscribe) + kept.receive(subscribe)] == [Save, Send]
    assert [type(action) for action in clean.receive(subscribe)] == [Send]
    assert [type(action) for action in kept.receive(mqtt.unsubscribe(2, "$iothub/twin/res/#"))] == [Save]


def test_a_will_is_taken_once_and_not_after_a_disconnect() -> None:
    will = (EVENTS, b"bye", 0, True)
    gone, left = opened(will=will), opened(will=will)  # type: ignore[arg-type]
    left.receive(mqtt.DISCONNECT)
    event = gone.take_will()
    assert event is not None
    assert event.envelope.properties == {"mqtt-retain": "true", "iothub-MessageType": "Will"}
    assert (gone.take_will(), left.take_will()) == (None, None)


PIECES = st.sampled_from(
    [
        mqtt.publish(EVENTS, b"x", 1),
        mqtt.publish(EVENTS + "%24.mid=1", b"x"),
        mqtt.publish("$iothub/twin/GET/?$rid=1", b"", 2),
        mqtt.publish("foreign", b"x"),
        mqtt.publish(EVENTS, b"x", 1, qos=2),
        mqtt.subscribe(1, ("$iothub/twin/res/#", 1), ("#", 0)),
        mqtt.unsubscribe(1, "#"),
        mqtt.connect(),
        mqtt.PINGREQ,
        mqtt.DISCONNECT,
        b"\x40\x02\x00\x01",
    ]
)


@given(st.lists(st.one_of(PIECES, st.binary(max_size=12)), max_size=8), st.booleans(), st.data())
def test_whatever_a_peer_sends_ends_in_at_most_one_close_whatever_the_reads(
    pieces: list[bytes], accepted: bool, data: st.DataObject
) -> None:
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    whole = play([stream], accepted=accepted)
    assert (
        play([stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)], accepted=accepted) == whole
    )


def play(reads: list[bytes], *, accepted: bool) -> tuple[list[bytes], bytes, bytes, list[Action]]:
    session = opened() if accepted else Session(LIMITS)
    actions = [action for read in reads for action in session.receive(read)]
    commits = [action for action in actions if isinstance(action, Commit)]
    closes = [action for action in actions if isinstance(action, Close)]
    assert len(closes) <= 1
    assert not closes or actions[-1] is closes[0]
    answers = [a.data if isinstance(a, Send) else a.answer for a in actions if isinstance(a, Send | Save)]
    bodies = [event.body for commit in commits for event in commit.events]
    return bodies, b"".join(commit.pubacks for commit in commits), b"".join(answers), list(closes)


@pytest.mark.parametrize(
    ("bag", "properties"),
    [
        ("", {}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a=b/c&&d=%2F%26", {"a": "b/c", "d": "/&"}),
        ("a=1&a=2", {"a": "2"}),
        ("%61=+%zz%ff", {"a": "+%zz\ufffd"}),
        ("iothub-connection-device-id=d2", {"iothub-connection-device-id": "d2"}),
        ("$.unknown=1", {"$.unknown": "1"}),
    ],
)
def test_a_property_bag_is_read_leniently_and_never_sets_what_the_hub_sets(
    bag: str, properties: dict[str, str]
) -> None:
    envelope = TOPICS.resolve((EVENTS + bag).encode())
    assert isinstance(envelope, Envelope)
    assert envelope.properties == properties
    assert envelope.system_properties["iothub-connection-device-id"] == "d1"


def test_topics_beside_telemetry_are_told_apart() -> None:
    assert isinstance(TOPICS.resolve(b"devices/d1/messages/events"), Envelope)
    assert TOPICS.resolve(b"$iothub/twin/PATCH/properties/reported/?x=1&$rid=7") == TwinRequest("7")
    assert TOPICS.resolve(b"$iothub/methods/res/200/?$rid=1") == MethodResponse()
    for foreign in (
        b"$iothub/twin/GET/?",
        b"$iothub/other",
        b"devices/d1/messages",
        b"",
        b"devices/d10/messages/events/",
    ):
        with pytest.raises(ForeignTopicError):
            TOPICS.resolve(foreign)

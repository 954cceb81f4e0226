from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from enviromon.device_state import (
    STREAMS_REMEMBERED,
    UNIDENTIFIED,
    Arrival,
    DeviceState,
    Outcome,
    Position,
    Reading,
    advance,
    fold,
    is_device_id,
    is_visible,
    removed,
    shown_again,
)
from tests.enviromon.world import STREAM, T0

NEW = DeviceState("d1")


def arrival(sequence, event_time=None, index=0, enqueued=None, labels=None, **values):
    """A reading of `values`, or a rejected one where there are none."""
    enqueued = T0 + sequence if enqueued is None else enqueued
    event_time = enqueued if event_time is None else event_time
    reading = Reading(event_time, values, values, labels or {}) if values or labels else None
    return Arrival(Position(sequence, index, enqueued), reading, b"")


def run(*arrivals, state=NEW, stream=STREAM):
    outcomes = []
    for one in arrivals:
        state, outcome = advance(state, stream, one)
        outcomes.append(outcome)
    return state, outcomes


def shown(state):
    return {name: measurement.value for name, measurement in state.metrics.items()}


def test_a_redelivered_suffix_is_counted_once():
    """The vector of Microsoft's guide to Event Hubs and functions."""
    state, _ = run(*(arrival(sequence, light=float(sequence)) for sequence in [1, 2, 1, 2, 3, 1, 2, 3, 4]))
    assert (state.ledger.accepted, state.ledger.duplicate, state.ledger.received) == (4, 5, 9)
    assert shown(state) == {"light": 4.0}


def test_a_duplicate_changes_nothing_but_its_counter():
    before, _ = run(arrival(1, light=1.0))
    after, (outcome,) = run(arrival(1, light=9.0), state=before)
    assert outcome is Outcome.DUPLICATE
    assert structs.replace(after, ledger=before.ledger, revision=before.revision) == before


def test_items_of_one_event_are_told_apart_by_their_index():
    state, outcomes = run(*(arrival(5, index=index, light=float(index)) for index in [0, 1, 2, 1, 2, 3]))
    assert Counter(outcomes) == {Outcome.ACCEPTED: 4, Outcome.DUPLICATE: 2}
    assert shown(state) == {"light": 3.0}


def test_a_hub_that_was_made_anew_and_counts_from_0_is_heard():
    old, _ = run(arrival(500, enqueued=T0, light=1.0))
    state, outcomes = run(
        arrival(0, enqueued=T0 + 9000, light=2.0),
        arrival(1, enqueued=T0 + 9000, light=3.0),
        arrival(0, enqueued=T0 + 9000, light=2.0),
        state=old,
    )
    assert outcomes == [Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.DUPLICATE]
    assert shown(state) == {"light": 3.0}


def test_another_stream_has_its_own_positions():
    state, _ = run(arrival(100, light=1.0))
    state, outcomes = run(arrival(3, light=2.0), arrival(3, light=2.0), state=state, stream="other/hub/1")
    assert outcomes == [Outcome.LATE, Outcome.DUPLICATE]
    _, outcomes = run(arrival(100, light=1.0), arrival(101, light=1.0), state=state)
    assert outcomes[0] is Outcome.DUPLICATE


def test_only_so_many_streams_are_remembered_and_the_one_silent_longest_goes():
    state = NEW
    for number in range(STREAMS_REMEMBERED + 1):
        state, _ = run(arrival(number, light=1.0), state=state, stream=f"hub/{number}")
    assert len(state.positions) == STREAMS_REMEMBERED
    assert "hub/0" not in state.positions


def test_an_older_reading_is_late_and_never_shown_as_newer():
    state, outcomes = run(arrival(1, T0 + 10, light=1.0), arrival(2, T0 + 5, light=2.0))
    assert outcomes == [Outcome.ACCEPTED, Outcome.LATE]
    assert shown(state) == {"light": 1.0}
    assert state.event_time == T0 + 10


def test_each_metric_shows_its_own_newest_reading():
    state, _ = run(
        arrival(1, T0 + 10, light=1.0, temperature=20.0),
        arrival(2, T0 + 20, light=2.0),
        arrival(3, T0 + 15, temperature=25.0, light=9.0),
    )
    assert shown(state) == {"light": 2.0, "temperature": 25.0}
    assert state.metrics["temperature"].at.event_time == T0 + 15


def test_of_readings_of_one_time_the_later_sent_is_shown():
    state, outcomes = run(arrival(1, T0, light=1.0), arrival(2, T0, light=2.0), arrival(2, T0, index=1, light=3.0))
    assert outcomes == [Outcome.ACCEPTED] * 3
    assert shown(state) == {"light": 3.0}


def test_a_rejected_reading_is_counted_once_and_changes_nothing_shown():
    state, outcomes = run(arrival(1, light=1.0), arrival(2), arrival(2))
    assert outcomes == [Outcome.ACCEPTED, Outcome.REJECTED, Outcome.DUPLICATE]
    assert (shown(state), state.event_time) == ({"light": 1.0}, T0 + 1)


def test_zero_is_a_value():
    state, _ = run(arrival(1, temperature=21.0), arrival(2, temperature=0.0))
    assert shown(state) == {"temperature": 0.0}


def test_names_and_places_follow_the_newest_reading_that_carries_them():
    state, _ = run(
        arrival(1, T0 + 10, labels={"name": "new", "messageId": 5}, light=1.0),
        arrival(2, T0 + 5, labels={"name": "old", "geo": "Here"}, light=1.0),
    )
    assert {name: label.value for name, label in state.labels.items()} == {"name": "new", "messageId": 5, "geo": "Here"}


def test_folding_leaves_the_given_state_alone():
    before, _ = run(arrival(1, light=1.0))
    copy = msgspec.json.encode(before)
    run(arrival(2, light=2.0), arrival(3, labels={"name": "x"}, humidity=3.0), state=before)
    assert msgspec.json.encode(before) == copy


def test_a_fold_is_the_same_as_its_steps_but_for_the_revision():
    arrivals = [arrival(1, light=1.0), arrival(2), arrival(1, light=1.0), arrival(3, T0, light=0.0)]
    folded = fold(NEW, STREAM, arrivals)
    stepped, _ = run(*arrivals)
    assert folded.state == structs.replace(stepped, revision=1)
    assert folded.counted == folded.state.ledger


def test_a_reading_that_cannot_be_folded_is_counted_rejected_and_told():
    broken = Arrival(Position(2, 0, T0 + 2), Reading(T0 + 2, {"light": 1.0}, {}, {}), b"")
    folded = fold(NEW, STREAM, [arrival(1, light=1.0), broken, arrival(3, light=3.0)])
    assert [(failed, type(error)) for failed, error in folded.failures] == [(broken, KeyError)]
    assert (folded.counted.accepted, folded.counted.rejected) == (2, 1)


def test_a_baseline_is_counted_and_the_ledger_knows_nothing_of_it():
    state, _ = run(arrival(1, light=1.0), arrival(2), state=structs.replace(NEW, baseline=100))
    assert (state.count, state.ledger.received) == (101, 2)


def test_a_reading_that_is_shown_again_counts_by_its_time_and_moves_no_position():
    before, _ = run(arrival(5, T0 + 50, light=5.0), arrival(6, T0 + 60))
    shown_late = (Position(4, 0, T0 + 4), Reading(T0 + 40, {"humidity": 4.0}, {"humidity": 4.0}, {}))
    shown_new = (Position(6, 0, T0 + 6), Reading(T0 + 60, {"light": 6.0}, {"light": 6.0}, {}))
    broken = (Position(6, 0, T0 + 6), Reading(T0 + 60, {"light": 6.0}, {}, {}))
    after, outcomes = shown_again(before, [shown_late, broken, shown_new])
    assert [outcomes[0], type(outcomes[1]), outcomes[2]] == [Outcome.LATE, KeyError, Outcome.ACCEPTED]
    assert shown(after) == {"light": 6.0, "humidity": 4.0}
    assert (after.positions, after.rejections) == (before.positions, before.rejections)
    assert (after.ledger.accepted, after.ledger.late, after.ledger.rejected) == (2, 1, 1)


def test_a_removed_device_is_hidden_and_its_ledger_stays():
    state, _ = run(arrival(1, light=1.0), arrival(2))
    gone = removed(state, now=T0 + 100)
    assert not is_visible(gone)
    assert gone.ledger == state.ledger
    assert gone.metrics == {}


def test_what_was_under_way_at_a_removal_is_counted_but_only_what_is_sent_after_it_shows_the_device_again():
    gone = removed(run(arrival(1, light=1.0))[0], now=T0 + 100)
    still_gone, _ = run(arrival(2, light=2.0), state=gone)
    assert (is_visible(still_gone), still_gone.ledger.accepted) == (False, 2)
    back, _ = run(arrival(200, light=3.0), state=still_gone)
    assert (is_visible(back), back.ledger.accepted) == (True, 3)


def test_what_names_no_device_is_never_shown():
    assert not is_device_id(UNIDENTIFIED)
    assert not is_visible(DeviceState(UNIDENTIFIED))


readings = st.lists(
    st.tuples(
        st.integers(0, 20),
        st.dictionaries(st.sampled_from(["temperature", "light"]), st.floats(0, 50), max_size=2),
        st.sampled_from([{}, {"name": "a"}, {"name": "b", "geo": "c"}]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=settings.default.max_examples * 3)
@given(readings, st.data())
def test_no_order_of_event_times_no_batching_and_no_replay_changes_what_is_shown(items, data):
    """Every order of the same readings, cut anywhere, with any suffix delivered again, comes to the same."""
    moments = [T0 + 100 * number + time for number, (time, _, _) in enumerate(items)]
    contents = list(zip(moments, items, strict=True))

    def deliver(order, cuts):
        state, received = NEW, 0
        log = [
            arrival(sequence, moment, enqueued=T0 + 10_000 + sequence, labels=labels, **values)
            for sequence, (moment, (_, values, labels)) in enumerate(order)
        ]
        position = 0
        for back, forward in [*cuts, (0, len(log))]:
            start, position = max(0, position - back), min(len(log), position + forward)
            received += position - start
            state = fold(state, STREAM, log[start:position]).state
        return state, received

    cuts = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), max_size=8)
    plain, _ = deliver(contents, [])
    other, received = deliver(data.draw(st.permutations(contents)), data.draw(cuts))
    assert shown(other) == shown(plain)
    assert {n: x.value for n, x in other.labels.items()} == {n: x.value for n, x in plain.labels.items()}
    assert other.ledger.count == plain.ledger.count
    assert other.ledger.rejected == plain.ledger.rejected
    assert other.ledger.received == received
    assert other.event_time == plain.event_time

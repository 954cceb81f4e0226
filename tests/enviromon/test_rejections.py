from hypothesis import given
from hypothesis import strategies as st

from enviromon.device_state import Arrival, DeviceState, Position, Reading, fold
from enviromon.rejections import LIMIT_BYTES, Place, Refused, Run, from_runs, horizon, limited, runs_of, with_refused
from tests.enviromon.world import STREAM, T0


def place(sequence, index=0, time=None) -> Place:
    return sequence, index, T0 + sequence if time is None else time


def fed(verdicts, state=None, start=0):
    """Fold a reading per verdict, believed or not, in any batches."""
    state = DeviceState("d1") if state is None else state
    arrivals = [
        Arrival(
            Position(start + number, 0, T0 + start + number),
            Reading(T0 + start + number, {"light": 1.0}, {"light": 1.0}, {}) if believed else None,
            b"",
        )
        for number, believed in enumerate(verdicts)
    ]
    return fold(state, STREAM, arrivals).state


def holds(state, sought, stream=STREAM):
    return sum(run.holds(sought) for run in runs_of(state.rejections[stream]))


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 7))
def test_what_was_rejected_is_in_one_run_and_what_was_not_is_in_none(verdicts, size):
    state = DeviceState("d1")
    for start in range(0, len(verdicts), size):
        state = fed(verdicts[start : start + size], state, start)
    if all(verdicts):
        assert state.rejections == {}
    else:
        assert [holds(state, place(number)) for number in range(len(verdicts))] == [not one for one in verdicts]


def test_a_sensor_that_fails_for_long_costs_one_run():
    state = DeviceState("d1")
    for start in range(0, 100_000, 10_000):
        state = fed([False] * 10_000, state, start)
    assert runs_of(state.rejections[STREAM]) == [Run(0, 0, 99_999, 0, T0, T0 + 99_999)]


def test_a_duplicate_is_not_remembered_again():
    state = fed([False, True, False])
    again = fed([False, True, False], state)
    assert again.rejections == state.rejections


def test_a_hub_that_was_made_anew_has_runs_of_its_own():
    old = fed([False] * 3)
    arrivals = [Arrival(Position(number, 0, T0 + 9000 + number), None, b"") for number in range(2)]
    state = fold(old, STREAM, arrivals).state
    assert [holds(state, place(number)) for number in range(3)] == [1, 1, 1]
    assert [holds(state, place(number, time=T0 + 9000 + number)) for number in range(3)] == [1, 1, 0]


def test_a_time_that_goes_back_keeps_readings_in_their_run():
    times = [T0 + 10, T0 + 5, T0 + 20]
    state = fold(
        DeviceState("d1"), STREAM, [Arrival(Position(n, 0, time), None, b"") for n, time in enumerate(times)]
    ).state
    assert [holds(state, place(n, time=time)) for n, time in enumerate(times)] == [1, 1, 1]


runs_strategy = st.lists(
    st.builds(Run, *[st.integers(0, 2**63 - 1), st.integers(0, 999)] * 2, *[st.integers(0, 2**43)] * 2), max_size=30
)


@given(runs_strategy)
def test_runs_come_back_as_they_were_written(runs):
    assert runs_of(from_runs(place(0), runs, ())) == runs


def test_beyond_the_limit_the_oldest_are_forgotten_and_it_is_known_from_where_on_all_is_told():
    rejections = {}
    for number in range(0, 12_000, 2):
        before, after = Position(number - 1, 0, T0 + number - 1), Position(number, 0, T0 + number)
        rejections = with_refused(rejections, STREAM, [Refused(before, after, after.enqueued_time)])
    known = rejections[STREAM]
    runs = runs_of(known)
    assert len(known.earlier) <= LIMIT_BYTES
    assert 2000 < len(runs) < 6000
    assert runs[-1].last_sequence == 11_998
    assert [run.first_sequence for run in runs] == list(range(runs[0].first_sequence, 12_000, 2))
    assert horizon(known) == place(runs[0].first_sequence)


def test_all_streams_of_a_device_share_the_limit():
    runs = [Run(n, 0, n, 0, T0 + n, T0 + n) for n in range(0, 8000, 2)]
    rejections = limited({f"s/{n}": from_runs(place(0), runs, ()) for n in range(8)})
    assert sum(len(known.earlier) for known in rejections.values()) <= LIMIT_BYTES
    assert all(known.is_cut and runs_of(known)[-1] == runs[-1] for known in rejections.values())


def test_a_stream_whose_position_is_forgotten_takes_its_runs_along():
    state = DeviceState("d1")
    for number in range(9):
        state = fold(state, f"s/{number}", [Arrival(Position(0, 0, T0 + number), None, b"")]).state
    assert state.rejections.keys() == state.positions.keys() == {f"s/{number}" for number in range(1, 9)}

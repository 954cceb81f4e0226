"""The rules of a replay, without any store."""

from bisect import insort
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from enviromon.calibration import Calibration, Line, Version
from enviromon.device_state import UNIDENTIFIED, Arrival, DeviceState, Ledger, Position, Reading, fold
from enviromon.replay import Fate, Rules, judge, place_of, replay
from enviromon.stores import DeadLetter
from enviromon.telemetry import Rejection, TelemetryReader
from tests.enviromon.world import STREAM, T0, body

RULES = Rules(TelemetryReader(), 300_000, frozenset())


def letter(sequence, content=b"junk", index=0, **fields):
    made = {
        "reason": "range",
        "detail": "",
        "device_id": "d1",
        "stream": STREAM,
        "sequence": sequence,
        "index": index,
        "enqueued_time": T0 + sequence,
        "body": content,
    }
    return DeadLetter(**(made | fields))


def state_of(*rejected, accepted=(), state=None):
    """A state that read these sequences in order."""
    arrivals = [
        Arrival(
            Position(sequence, 0, T0 + sequence),
            Reading(T0 + sequence, {"light": 0.0}, {"light": 0.0}, {}) if sequence in accepted else None,
            b"",
        )
        for sequence in sorted({*rejected, *accepted})
    ]
    return fold(DeviceState("d1") if state is None else state, STREAM, arrivals).state


def reading(sequence, **values):
    return Reading(T0 + sequence, values, values, {})


def believing(*sequences):
    """A judge that believes these and finds the value of the others wrong."""

    def judged(letter):
        if letter.sequence in sequences:
            return [reading(letter.sequence, light=float(letter.sequence))]
        return [Rejection("value", "still wrong", letter.body)]

    return judged


def places(*letters):
    found = defaultdict(list)
    for one in letters:
        insort(found[one.stream], place_of(one))
    return found


def fates(done):
    return [fate for _, fate in done.fates]


def test_a_success_moves_from_rejected_to_accepted_or_late():
    state = state_of(1, 3, accepted=[2])
    letters = [letter(3), letter(1)]
    done = replay(state, letters, places(*letters), believing(1, 3))
    assert fates(done) == [Fate.REPLAYED, Fate.REPLAYED]
    assert done.counted == Ledger(accepted=1, late=1, rejected=-2)
    assert done.state.ledger == Ledger(accepted=2, late=1, rejected=0)
    assert done.state.metrics["light"].value == 3.0
    assert (done.state.revision, done.state.positions) == (state.revision + 1, state.positions)
    assert done.removed == [letter(1), letter(3)]


def test_what_is_replayed_again_is_settled_and_counted_once():
    state = state_of(1, 2)
    letters = [letter(1)]
    done = replay(state, letters, places(*letters), believing(1))
    again = replay(done.state, letters, places(*letters), believing(1))
    assert (fates(again), again.state, again.counted, again.removed) == ([Fate.SETTLED], None, Ledger(), letters)


def test_a_letter_whose_reading_was_accepted_elsewhere_counts_nothing():
    """Kept before its batch was cut off; when it came again, the calibration had changed."""
    state = state_of(1, accepted=[2, 3])
    done = replay(state, [letter(2)], places(letter(2)), believing(2))
    assert (fates(done), done.state, done.removed) == ([Fate.SETTLED], None, [letter(2)])


def test_a_letter_whose_reading_is_not_counted_yet_waits():
    state = state_of(1)
    done = replay(state, [letter(2)], places(letter(2)), believing(2))
    assert (fates(done), done.state, done.removed) == ([Fate.PENDING], None, [])
    assert fates(replay(DeviceState("d1"), [letter(2)], {}, believing(2))) == [Fate.PENDING]


def test_what_a_state_of_an_older_program_does_not_tell_is_left_alone():
    state = structs.replace(state_of(1, 2), rejections={})
    done = replay(state, [letter(1)], places(letter(1)), believing(1))
    assert (fates(done), done.state, done.removed) == ([Fate.FORGOTTEN], None, [])
    later = state_of(5, state=state)
    assert fates(replay(later, [letter(1), letter(5)], places(letter(1), letter(5)), believing(1, 5))) == [
        Fate.FORGOTTEN, Fate.REPLAYED
    ]  # fmt: skip


def test_what_fails_again_stays_under_its_new_reason():
    state = state_of(1)
    done = replay(state, [letter(1)], places(letter(1)), believing())
    relabelled = letter(1, reason="value", detail="still wrong")
    assert (fates(done), done.added, done.removed, done.state) == ([Fate.FAILED], [relabelled], [letter(1)], None)
    again = replay(state, [relabelled], places(relabelled), believing())
    assert (again.added, again.removed, again.state) == ([], [], None)


def test_two_letters_of_one_reading_count_once():
    state = state_of(1)
    both = [letter(1), letter(1, reason="json")]
    done = replay(state, both, places(*both), believing(1))
    assert sorted(fates(done)) == sorted([Fate.REPLAYED, Fate.SETTLED])
    assert done.state.ledger == Ledger(accepted=1)


def test_letters_of_a_hub_that_was_made_anew_are_told_from_those_of_the_old_one():
    old = state_of(*range(0, 100, 2), accepted=range(1, 100, 2))
    again = [Arrival(Position(n, 0, T0 + 9000 + n), None, b"") for n in range(0, 40, 10)]
    state = fold(old, STREAM, again).state
    letters = [letter(n) for n in range(0, 100, 2)]
    letters += [letter(n, enqueued_time=T0 + 9000 + n) for n in range(0, 40, 10)]
    done = replay(state, letters, places(*letters), believing(*range(0, 100, 4)))
    assert done.counted.rejected == -25 - 2
    again = replay(done.state, letters, places(*letters), believing(*range(100)))
    assert again.state.ledger.rejected == 0


def test_a_long_run_is_replayed_without_leaving_pieces():
    state = state_of(*range(0, 3000, 3))
    letters = [letter(sequence) for sequence in range(0, 3000, 3)]
    for start in range(0, 900, 100):
        part = letters[start : start + 100]
        state = replay(state, part, places(*letters), believing(*range(3000))).state
    assert len(state.rejections[STREAM].earlier) == 0
    assert state.ledger == Ledger(accepted=900, rejected=100)


def test_what_was_rejected_after_the_letters_were_listed_is_left_for_the_next_replay():
    state = state_of(1, 2)
    listed = [letter(1), letter(2)]
    state = state_of(3, 4, state=state)
    done = replay(state, listed, places(*listed), believing(1, 2))
    later = [letter(3), letter(4)]
    assert fates(replay(done.state, later, places(*later), believing(3, 4))) == [Fate.REPLAYED] * 2
    without = replay(state, listed, places(*listed), believing(1)).state
    everything = [letter(2), *later]
    assert fates(replay(without, everything, places(*everything), believing(2, 3, 4))) == [Fate.REPLAYED] * 3


def whole(sequence, content):
    return letter(sequence, content, reason="items")


def test_a_body_that_splits_is_counted_as_what_it_holds():
    content = b"[" + b",".join([body(light=1), body(light="x"), body(light=3)]) + b"]"
    state = state_of(5)
    done = replay(state, [whole(5, content)], places(whole(5, content)), lambda one: judge(one, RULES, None))
    assert done.counted == Ledger(accepted=2, rejected=0)
    assert done.state.ledger.received == 3
    (item,) = done.added
    assert (item.index, item.reason, item.body) == (1, "value", body(light="x"))
    assert done.state.positions[STREAM].index == 2, "a redelivery finds all of it read"
    everything = [item, whole(5, content)]
    again = replay(done.state, everything, places(*everything), lambda one: judge(one, RULES, None))
    assert (again.counted, again.removed) == (Ledger(), [whole(5, content)])


def test_a_body_that_splits_but_whose_first_reading_fails_is_split_once():
    content = b"[" + b",".join([body(temperature=200), body(light=2), body(light=3)]) + b"]"
    state = state_of(5, 6)
    original = whole(5, content)
    done = replay(state, [original], places(original), lambda one: judge(one, RULES, None))
    assert (fates(done), done.state.ledger) == ([Fate.FAILED], Ledger(accepted=2, rejected=2))
    (kept,) = done.added
    assert (kept.index, kept.reason, kept.body) == (0, "range", content)
    for left in (original, kept):  # the first one is still there where the replay was cut off
        again = replay(done.state, [left], places(left), lambda one: judge(one, RULES, None))
        assert again.state is None
    cooler = Calibration((Version(0, {"temperature": Line(0.1)}),))
    last = replay(done.state, [kept], places(kept), lambda one: judge(one, RULES, cooler))
    assert last.state.ledger == Ledger(accepted=2, late=0, rejected=1) + Ledger(accepted=1)
    assert last.state.rejections[STREAM].split == ()


def test_an_item_that_is_an_array_is_no_body():
    nested = letter(1, b'[{"light":1},{"light":2}]', reason="shape")
    (verdict,) = judge(nested, RULES, None)
    assert (verdict.reason, verdict.body) == ("shape", nested.body)
    (verdict,) = judge(structs.replace(nested, index=3, reason="json"), RULES, None)
    assert verdict.reason == "shape"


def test_a_letter_is_judged_by_the_time_its_message_was_given_and_the_calibration_of_then():
    created = letter(9, body(temperature=50), created="2026-11-23T00:00:00Z")
    hot = Calibration((Version(T0 - 1, {"temperature": Line(2.0)}),))
    (verdict,) = judge(created, RULES, hot)
    assert (verdict.event_time, verdict.values) == (T0 - 86_400_000, {"temperature": 50.0})
    (verdict,) = judge(structs.replace(created, created=None), RULES, hot)
    assert verdict.reason == "range"


def test_a_reading_that_belongs_to_another_device_stays_where_it_was_counted():
    trusting = Rules(TelemetryReader(), 300_000, frozenset({"gateway"}))
    at_gateway = letter(1, body(deviceId="d7", light=1), device_id="gateway")
    (verdict,) = judge(at_gateway, trusting, None)
    assert (verdict.reason, "d7" in verdict.detail) == ("identity", True)
    (verdict,) = judge(structs.replace(at_gateway, device_id="d7"), trusting, None)
    assert isinstance(verdict, Reading)
    (verdict,) = judge(structs.replace(at_gateway, device_id=UNIDENTIFIED), RULES, None)
    assert verdict.reason == "identity"


STREAMS = ["a/0", "b/1"]


def key(one):
    return (one.reason, one.stream, *place_of(one))


class Model:
    """A device, its letters, and beside them what should be true: which readings count as rejected."""

    def __init__(self):
        self.state = DeviceState("d1")
        self.letters, self.ever = {}, []
        self.rejected, self.believed = set(), set()
        self.ends = dict.fromkeys(STREAMS, 0)

    def ingest(self, stream, verdicts):
        arrivals = []
        for is_believed in verdicts:
            sequence = self.ends[stream]
            self.ends[stream] += 1
            position = Position(sequence, 0, T0 + sequence)
            arrivals.append(Arrival(position, reading(sequence, light=1.0) if is_believed else None, b""))
            (self.believed if is_believed else self.rejected).add((stream, sequence))
            if not is_believed or sequence % 3 == 0:  # another worker judged it otherwise, and had its letter kept
                self.ever.append(letter(sequence, stream=stream))
                self.letters[key(self.ever[-1])] = self.ever[-1]
        self.state = fold(self.state, stream, arrivals).state

    def redeliver(self, number):
        if self.ever:
            one = self.ever[number % len(self.ever)]
            self.letters.setdefault(key(one), one)

    def replay(self, stream, good, portion, cut, meanwhile):
        wanted = [one for one in self.letters.values() if stream in {None, one.stream}]
        listed = places(*self.letters.values())
        self.ingest(STREAMS[0], meanwhile)
        for start in range(0, len(wanted), portion):
            done = replay(self.state, wanted[start : start + portion], listed, believing(*good))
            self.letters |= {key(one): one for one in done.added}
            if cut == "before the state":
                return
            self.state = done.state or self.state
            counted = {(one.stream, one.sequence) for one, fate in done.fates if fate is Fate.REPLAYED}
            assert counted <= self.rejected
            self.rejected -= counted
            self.believed |= counted
            if cut == "before the removal":
                return
            for one in done.removed:
                self.letters.pop(key(one), None)

    def check(self):
        ledger = self.state.ledger
        assert (ledger.rejected, ledger.count) == (len(self.rejected), len(self.believed))
        assert {(one.stream, one.sequence) for one in self.letters.values()} >= self.rejected


moves = st.lists(
    st.one_of(
        st.tuples(st.just(Model.ingest), st.sampled_from(STREAMS), st.lists(st.booleans(), min_size=1, max_size=6)),
        st.tuples(
            st.just(Model.replay),
            st.sampled_from([None, *STREAMS]),
            st.sets(st.integers(0, 40)),
            st.integers(1, 5),
            st.sampled_from(["nowhere", "before the state", "before the removal"]),
            st.lists(st.booleans(), max_size=3),
        ),
        st.tuples(st.just(Model.redeliver), st.integers(0, 10**6)),
    ),
    max_size=14,
)


@settings(max_examples=settings.default.max_examples * 4)
@given(moves)
def test_however_replays_are_filtered_and_cut_each_reading_is_counted_once_and_none_is_out_of_reach(steps):
    model = Model()
    for move, *arguments in steps:
        move(model, *arguments)
        model.check()
    model.replay(None, range(1000), 1000, "nowhere", [])
    model.check()
    assert model.rejected == set()

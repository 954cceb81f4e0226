"""Dead letters judged once more, and what that makes of a device's state. Pure: the shell is dead_letter_replay.

Rules:
1. Only a reading that the state counts as rejected is counted anew, and the same write takes it out of the rejected. So
   nothing is counted twice, whatever happens to its letter, how often a replay runs, or what else runs beside it.
2. What succeeds is counted accepted, or late where the device has said something newer; its place in the order of
   readings is the one it always had. No stream's position goes back.
3. What fails stays a dead letter, under its new reason where that has changed.
4. A body that could not be read whole and now holds several readings is counted as those. If the first of them fails
   again, the letter of the whole body stays and speaks for that one alone (`Rejections.split`).
5. A letter whose reading is counted otherwise, by an earlier replay or another worker, is done with and goes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate
from typing import Final

from msgspec import Struct, structs

from enviromon.calibration import Calibration
from enviromon.device_state import (
    UNIDENTIFIED,
    DeviceState,
    Ledger,
    Position,
    Reading,
    is_device_id,
    shown_again,
)
from enviromon.rejections import SPLIT_LIMIT, Place, Rejections, Run, from_runs, horizon, limited, runs_of
from enviromon.stores import DeadLetter
from enviromon.telemetry import Rejection, TelemetryReader

_WHOLE_INDEX: Final = 0
_GREATEST_INDEX: Final = 1 << 20
"""Beyond any item's."""


class Fate(StrEnum):
    """What a replay comes to for one letter."""

    REPLAYED = "replayed"
    FAILED = "still rejected"
    SETTLED = "settled before"
    """Its reading is not counted as rejected (any more); the letter goes."""
    PENDING = "not counted yet"
    """The batch that brought it is still under way, or comes again."""
    FORGOTTEN = "too old to tell"
    """Whether its reading is still counted as rejected is not known any more: it stays."""


class Rules(Struct, frozen=True):
    """By what a letter is judged; a device's time may be `lead` ms after the hub's."""

    reader: TelemetryReader
    lead: int
    gateways: frozenset[str]


class Replayed(Struct, frozen=True):
    """The outcome for one device: what to write, in the order of the fields, and the fate of each letter.

    `state` is None where nothing is counted anew; `counted` is by how much the ledger changes.
    """

    added: list[DeadLetter]
    state: DeviceState | None
    removed: list[DeadLetter]
    counted: Ledger
    fates: list[tuple[DeadLetter, Fate]]


Judge = Callable[[DeadLetter], Sequence[Reading | Rejection]]


def judge(letter: DeadLetter, rules: Rules, calibration: Calibration | None) -> list[Reading | Rejection]:
    """Read and judge a letter's body as if it came today; at least one verdict, several where it is a whole array."""
    # An item of an array that is itself an array must not pass for a body.
    is_body = letter.index == _WHOLE_INDEX and letter.reason != "shape"
    items = rules.reader.read(letter.body if is_body else b"[" + letter.body + b"]")
    verdicts: list[Reading | Rejection] = []
    for item in items:
        verdict: Reading | Rejection
        if isinstance(item, Rejection):
            verdict = item
        elif (stranger := _stranger(letter.device_id, item.labels.get("name"), rules.gateways)) is not None:
            verdict = Rejection("identity", stranger, item.body)
        else:
            verdict = rules.reader.judge(item, letter.enqueued_time, letter.created, rules.lead, calibration)
        verdicts.append(verdict)
    if len(verdicts) == 1 and isinstance(verdicts[0], Rejection):
        return [structs.replace(verdicts[0], body=letter.body)]
    return verdicts


def _stranger(device_id: str, name: str | int | None, gateways: Collection[str]) -> str | None:
    """Say why a reading is not that device's; None where it is."""
    if name is not None and ("*" in gateways or device_id in gateways) and str(name) != device_id:
        if not is_device_id(str(name)):
            return "the deviceId in the body is not one that IoT Hub allows"
        return f"by its body it is a reading of {name}, and it was counted as rejected at {device_id}"
    return "neither the hub nor a trusted body says which device it is" if device_id == UNIDENTIFIED else None


def place_of(letter: DeadLetter) -> Place:
    """Return where the letter's reading stands in its stream."""
    return letter.sequence, letter.index, letter.enqueued_time


def replay(
    state: DeviceState, letters: Iterable[DeadLetter], places: Mapping[str, Sequence[Place]], judge: Judge
) -> Replayed:
    """Replay letters of one device, by rising enqueued time.

    `places` has by stream, sorted, the places of all letters that the device had at some time before the state was
    read, these ones among them: between two of them nothing is left to replay.
    """
    replaying = _Replaying(state, places, judge)
    for letter in sorted(letters, key=lambda letter: (letter.enqueued_time, letter.sequence, letter.index)):
        replaying.take(letter)
    return replaying.result()


class _Replaying:
    def __init__(self, state: DeviceState, places: Mapping[str, Sequence[Place]], judge: Judge) -> None:
        self._before = state
        self._state = state
        self._judge = judge
        self._places = places
        self._books = {stream: _Book(known) for stream, known in state.rejections.items()}
        self._added: list[DeadLetter] = []
        self._removed: list[DeadLetter] = []
        self._fates: list[tuple[DeadLetter, Fate]] = []
        self._is_changed = False

    def take(self, letter: DeadLetter) -> None:
        book = self._books.get(letter.stream)
        if book is not None and book.holds(place_of(letter)):
            fate = self._replay(letter, book)
        else:
            fate = self._fate_of_the_rest(letter, book)
            if fate is Fate.SETTLED:
                self._removed.append(letter)
        self._fates.append((letter, fate))

    def _fate_of_the_rest(self, letter: DeadLetter, book: "_Book | None") -> Fate:
        place = place_of(letter)
        last = self._state.positions.get(letter.stream)
        if last is None or not last.covers(Position(*place)):
            return Fate.PENDING
        if book is None or place[:2] < book.horizon[:2] or letter.enqueued_time < book.horizon[2]:
            return Fate.FORGOTTEN
        return Fate.SETTLED

    def _replay(self, letter: DeadLetter, book: "_Book") -> Fate:
        verdicts = self._judge(letter)
        body = (letter.sequence, letter.enqueued_time)
        is_one_of_many = letter.index == _WHOLE_INDEX and body in book.split
        if is_one_of_many:
            verdicts = verdicts[:1]
        shown, verdicts = _shown(self._state, letter, verdicts)
        failed = [(index, verdict) for index, verdict in enumerate(verdicts) if isinstance(verdict, Rejection)]
        is_first_failed = bool(failed) and failed[0][0] == 0
        is_split = len(verdicts) > 1
        if is_first_failed:
            self._relabel(letter, failed[0][1], is_body=is_split or is_one_of_many)
        if len(failed) == len(verdicts) or (is_first_failed and len(book.split) >= SPLIT_LIMIT):
            return Fate.FAILED
        ledger = structs.replace(shown.ledger, rejected=shown.ledger.rejected - 1 + len(failed))
        self._state = structs.replace(shown, ledger=ledger)
        self._is_changed = True
        for index, verdict in enumerate(verdicts):
            self._write_down(letter, book, index if is_split else letter.index, verdict)
        if is_split:
            self._read_up_to(letter, len(verdicts) - 1)
        if is_first_failed:
            book.split.append(body)
            return Fate.FAILED
        if is_one_of_many:
            book.split.remove(body)
        self._removed.append(letter)
        return Fate.REPLAYED

    def _write_down(self, letter: DeadLetter, book: "_Book", index: int, verdict: Reading | Rejection) -> None:
        if isinstance(verdict, Reading):
            book.take((letter.sequence, index, letter.enqueued_time))
        elif index != letter.index:
            item = structs.replace(letter, reason=verdict.reason, detail=verdict.detail, index=index, body=verdict.body)
            self._added.append(item)
            book.add(place_of(item))

    def _relabel(self, letter: DeadLetter, rejection: Rejection, *, is_body: bool) -> None:
        # A whole body must not pass for an item: `judge` tells them apart by that reason.
        if rejection.reason != letter.reason and not (is_body and rejection.reason == "shape"):
            self._added.append(structs.replace(letter, reason=rejection.reason, detail=rejection.detail))
            self._removed.append(letter)

    def _read_up_to(self, letter: DeadLetter, index: int) -> None:
        """Count all readings of the stream's last body as read, so that a redelivery does not add any."""
        last = self._state.positions[letter.stream]
        if last.sequence == letter.sequence and last.index < index:
            positions = {**self._state.positions, letter.stream: structs.replace(last, index=index)}
            self._state = structs.replace(self._state, positions=positions)

    def result(self) -> Replayed:
        state, before = self._state, self._before
        counted = Ledger(
            accepted=state.ledger.accepted - before.ledger.accepted,
            late=state.ledger.late - before.ledger.late,
            rejected=state.ledger.rejected - before.ledger.rejected,
        )
        if not self._is_changed:
            return Replayed(self._added, None, self._removed, counted, self._fates)
        rejections = {stream: book.written(self._places.get(stream, ())) for stream, book in self._books.items()}
        after = structs.replace(state, rejections=limited(rejections), revision=before.revision + 1)
        return Replayed(self._added, after, self._removed, counted, self._fates)


def _shown(
    state: DeviceState, letter: DeadLetter, verdicts: Sequence[Reading | Rejection]
) -> tuple[DeviceState, list[Reading | Rejection]]:
    """Show what succeeded; what this program fails to show becomes a rejection."""
    is_split = len(verdicts) > 1
    readings = [
        (Position(letter.sequence, index if is_split else letter.index, letter.enqueued_time), verdict)
        for index, verdict in enumerate(verdicts)
        if isinstance(verdict, Reading)
    ]
    shown, outcomes = shown_again(state, readings)
    remaining = iter(outcomes)
    after: list[Reading | Rejection] = []
    for verdict in verdicts:
        if isinstance(verdict, Reading) and isinstance(error := next(remaining), Exception):
            after.append(Rejection("internal", f"{type(error).__name__}: a fault of this program", letter.body))
        else:
            after.append(verdict)
    return shown, after


class _Book:
    """The runs of one stream while readings are taken out of them."""

    def __init__(self, known: Rejections) -> None:
        self._known = known
        self._runs = runs_of(known)
        self._by_place = sorted(self._runs)
        self._reach = list(accumulate(((run.last_sequence, run.last_index) for run in self._by_place), max))
        """How far the runs up to each one reach: those of a hub that was made anew lie among the others."""
        self._taken: set[Place] = set()
        self._new: set[Place] = set()
        self.horizon = horizon(known)
        self.split = list(known.split)

    def holds(self, place: Place) -> bool:
        """Tell whether the reading there is counted as rejected."""
        return place not in self._taken and (place in self._new or self._was_held(place))

    def _was_held(self, place: Place) -> bool:
        here = place[:2]
        number = bisect_right(self._by_place, here, key=lambda run: (run.first_sequence, run.first_index))
        while number and self._reach[number - 1] >= here:
            number -= 1
            if self._by_place[number].holds(place):
                return True
        return False

    def add(self, place: Place) -> None:
        """Count another reading as rejected."""
        self._new.add(place)

    def take(self, place: Place) -> None:
        """Count that reading as rejected no longer."""
        self._taken.add(place)
        self._new.discard(place)

    def written(self, places: Sequence[Place]) -> Rejections:
        """Write the runs; between two neighbours of `places` nothing is left to replay."""
        if not self._taken and not self._new:
            return self._known
        # Readings of a split body have runs of their own: another replay may not know of their letters.
        apart = self._taken | self._new
        listed = sorted({*places, *apart})
        runs: list[Run] = []
        for run in self._runs:
            inside = [place for place in _between(listed, run) if run.holds(place)]
            runs += [run] if apart.isdisjoint(inside) else _pieces(run, inside, apart)
        runs += [Run(sequence, index, sequence, index, time, time) for sequence, index, time in sorted(self._new)]
        return from_runs(self.horizon, runs, tuple(self.split))


def _between(places: list[Place], run: Run) -> list[Place]:
    first = bisect_left(places, (run.first_sequence, run.first_index), key=lambda place: place[:2])
    return places[first : bisect_right(places, (run.last_sequence, run.last_index), key=lambda place: place[:2])]


def _pieces(run: Run, inside: list[Place], taken: Collection[Place]) -> list[Run]:
    """Cut the taken places out of a run. What lies before the first or behind the last of `inside` stays."""
    pieces: list[Run] = []
    start: tuple[int, int] | None = (run.first_sequence, run.first_index)
    end: tuple[int, int] | None = None
    times = [run.first_time, run.last_time]
    for place in inside:
        here = place[:2]
        if place not in taken:
            if start is None:
                start, times = here, []
            end = here
            times.append(place[2])
            continue
        if start is not None and start < here:
            pieces.append(Run(*start, *(end or _just_before(here)), min(times), max(times)))
        start = end = None
    last = (run.last_sequence, run.last_index)
    if start is not None:
        pieces.append(Run(*start, *last, min(run.first_time, *times), run.last_time))
    elif (following := (inside[-1][0], inside[-1][1] + 1)) <= last:
        pieces.append(Run(*following, *last, run.first_time, run.last_time))
    return pieces


def _just_before(place: tuple[int, int]) -> tuple[int, int]:
    sequence, index = place
    return (sequence, index - 1) if index else (sequence - 1, _GREATEST_INDEX)

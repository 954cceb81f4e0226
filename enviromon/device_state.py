"""What is known of one device, and how one more reading changes it.

Rules:
1. A reading is counted once: `positions` remembers, per stream, the last reading folded in. At or below it is a
   duplicate, unless it was enqueued later than anything folded: then the hub was made anew and counts from 0.
2. Each metric and label shows its newest reading by event time, ties by sequence, then index. What a reading does not
   carry is left as it is.
3. A reading older than the device's newest is late: counted, and shown only where nothing newer is.
4. received = accepted + duplicate + late + rejected, and a duplicate changes nothing but its counter.
5. Which readings are counted as rejected is remembered: only those may a replay of dead letters count otherwise.

Times are integers, milliseconds since 1970 in UTC.
"""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct, structs

from enviromon.rejections import Refused, Rejections, with_refused

STREAMS_REMEMBERED: Final = 8
"""A device that moved through more streams (hubs, partitions, gateways) forgets those it was heard on longest ago."""

UNIDENTIFIED: Final = "<unidentified>"
"""Counts what names no device. No device can have this id: IoT Hub allows no angle brackets."""


_DEVICE_ID: Final = re.compile(r"[A-Za-z0-9\-.%_#*?!(),:=@$'+]{1,128}")
"""https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-identity-registry#device-identity-properties"""

_NO_REJECTIONS: Final[dict[str, Rejections]] = {}  # one for all: an empty one is 64 bytes, and most states have none


class Outcome(StrEnum):
    """What became of a reading; the ledger counts each."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    LATE = "late"
    REJECTED = "rejected"


class Moment(Struct, frozen=True, gc=False, order=True, array_like=True):
    """The order of readings: by event time (ms), then by sequence, then by index within the event."""

    event_time: int
    sequence: int
    index: int


class Measurement(Struct, frozen=True, gc=False):
    """A metric's newest value, calibrated and as the device sent it."""

    value: float
    raw: float
    at: Moment


class Label(Struct, frozen=True, gc=False):
    """A newest name, place or message id."""

    value: str | int
    at: Moment


class Position(Struct, frozen=True, gc=False, array_like=True):
    """Where a stream was read up to; `enqueued_time` is the greatest one folded."""

    sequence: int
    index: int
    enqueued_time: int

    def covers(self, other: "Position") -> bool:
        """Tell whether `other` was folded before (rule 1)."""
        return other.enqueued_time <= self.enqueued_time and (
            other.sequence < self.sequence or (other.sequence == self.sequence and other.index <= self.index)
        )


class Ledger(Struct, frozen=True, gc=False):
    """Readings counted by their outcome; accepted, late and rejected are exact, duplicate counts deliveries."""

    accepted: int = 0
    duplicate: int = 0
    late: int = 0
    rejected: int = 0

    @property
    def received(self) -> int:
        """All readings that arrived."""
        return self.accepted + self.duplicate + self.late + self.rejected

    @property
    def count(self) -> int:
        """The readings that were believed, each once."""
        return self.accepted + self.late

    def __add__(self, other: "Ledger") -> "Ledger":
        return Ledger(
            self.accepted + other.accepted,
            self.duplicate + other.duplicate,
            self.late + other.late,
            self.rejected + other.rejected,
        )


def total(ledgers: Iterable[Ledger]) -> Ledger:
    """Add up many ledgers."""
    columns = [*zip(*map(structs.astuple, ledgers), strict=True)]
    return Ledger(*map(sum, columns))


class Reading(Struct, frozen=True, gc=False):
    """What a device said and what is believed of it, ready to be folded in.

    `values` are calibrated, `raw` as sent, by metric name; `labels` holds name, geo and messageId where they were sent.
    """

    event_time: int
    values: dict[str, float]
    raw: dict[str, float]
    labels: dict[str, str | int]


class Arrival(Struct, frozen=True, gc=False):
    """One reading at its place in its stream, and as it was sent; `reading` is None where it was rejected.

    `created` is the creation time that the device gave its message, as text.
    """

    position: Position
    reading: Reading | None
    body: bytes
    created: str | None = None


class DeviceState(Struct, frozen=True, gc=False):
    """All that is kept of one device; a new one has said nothing.

    `revision` counts the successful compare-and-sets. `event_time` is the newest accepted. `removed_at` is set once the
    device was removed: it is hidden then, its ledger stays, and only what is enqueued later makes it visible again.
    `rejections` tells by stream which readings are counted as rejected. `baseline` is what another system had counted
    before this one took the device on; the ledger knows nothing of it.
    """

    device_id: str
    labels: dict[str, Label] = {}
    metrics: dict[str, Measurement] = {}
    positions: dict[str, Position] = {}
    ledger: Ledger = Ledger()
    event_time: int | None = None
    enqueued_time: int | None = None
    revision: int = 0
    removed_at: int | None = None
    rejections: dict[str, Rejections] = {}
    baseline: int = 0

    @property
    def count(self) -> int:
        """The readings that were ever believed, those of the system before this one included."""
        return self.baseline + self.ledger.count


class Folded(Struct, frozen=True, gc=False):
    """A state with arrivals folded in, what they came to, and those that this program failed to fold, counted rejected.

    The revision is the next one, as the next compare-and-set writes it.
    """

    state: DeviceState
    counted: Ledger
    failures: list[tuple[Arrival, Exception]]


def fold(state: DeviceState, stream: str, arrivals: Iterable[Arrival]) -> Folded:
    """Fold arrivals of one stream, in their order, into the state; the given state stays as it is."""
    folding = _Folding(state, stream)
    for arrival in arrivals:
        folding.add(arrival)
    return folding.result()


def advance(state: DeviceState, stream: str, arrival: Arrival) -> tuple[DeviceState, Outcome]:
    """Fold one arrival."""
    folding = _Folding(state, stream)
    outcome = folding.add(arrival)
    return folding.result().state, outcome


class _Folding:
    """The one place where a device's state changes: copies what it touches once, however many arrivals there are."""

    def __init__(self, state: DeviceState, stream: str) -> None:
        self._state = state
        self._stream = stream
        self._labels = state.labels.copy()
        self._metrics = state.metrics.copy()
        self._last = state.positions.get(stream)
        self._event_time = state.event_time
        self._accepted = self._duplicate = self._late = self._rejected = 0
        self._failures: list[tuple[Arrival, Exception]] = []
        self._refused: list[Refused] = []

    def add(self, arrival: Arrival) -> Outcome:
        position, last = arrival.position, self._last
        if last is not None:
            if last.covers(position):
                self._duplicate += 1
                return Outcome.DUPLICATE
            if last.enqueued_time > position.enqueued_time:
                position = Position(position.sequence, position.index, last.enqueued_time)
        self._last = position
        if arrival.reading is not None:
            try:
                return self.show(arrival.reading, position)
            except Exception as error:  # noqa: BLE001  # a fault of ours costs this reading, not its neighbours
                self._failures.append((arrival, error))
        self._rejected += 1
        self._refused.append(Refused(last, position, arrival.position.enqueued_time))
        return Outcome.REJECTED

    def show(self, reading: Reading, position: Position) -> Outcome:
        """Count a believable reading and show what it tells, wherever the stream stands."""
        event_time, newest = reading.event_time, self._event_time
        at = Moment(event_time, position.sequence, position.index)
        leads = newest is None or event_time > newest
        metrics, labels, raw = self._metrics, self._labels, reading.raw
        for name, value in reading.values.items():
            if leads or name not in metrics or metrics[name].at <= at:
                metrics[name] = Measurement(value, raw[name], at)
        for name, text in reading.labels.items():
            if leads or name not in labels or labels[name].at <= at:
                labels[name] = Label(text, at)
        if newest is not None and event_time < newest:
            self._late += 1
            return Outcome.LATE
        self._event_time = event_time
        self._accepted += 1
        return Outcome.ACCEPTED

    def result(self) -> Folded:
        counted = Ledger(self._accepted, self._duplicate, self._late, self._rejected)
        after = succeed(
            self._state,
            self._stream,
            self._last,
            counted,
            self._metrics,
            self._labels,
            self._event_time,
            refused=self._refused,
        )
        return Folded(after, counted, self._failures)


def succeed(
    state: DeviceState,
    stream: str,
    position: Position | None,
    counted: Ledger,
    metrics: dict[str, Measurement],
    labels: dict[str, Label],
    event_time: int | None,
    *,
    refused: Sequence[Refused] = (),
) -> DeviceState:
    """Return the next state: with what it shows now, having read the stream up to `position` and counted so many."""
    positions, enqueued_time, removed_at = state.positions, state.enqueued_time, state.removed_at
    rejections = with_refused(state.rejections, stream, refused) if refused else state.rejections or _NO_REJECTIONS
    if position is not None:
        positions = _remembered({**positions, stream: position})
        if rejections:
            rejections = {name: known for name, known in rejections.items() if name in positions}
        last = position.enqueued_time
        enqueued_time = last if enqueued_time is None else max(enqueued_time, last)
        if removed_at is not None and last > removed_at:
            removed_at = None
    return DeviceState(
        state.device_id,
        labels,
        metrics,
        positions,
        state.ledger + counted,
        event_time,
        enqueued_time,
        state.revision + 1,
        removed_at,
        rejections,
        state.baseline,
    )


def _remembered(positions: dict[str, Position]) -> dict[str, Position]:
    if len(positions) > STREAMS_REMEMBERED:
        del positions[min(positions, key=lambda stream: positions[stream].enqueued_time)]
    return positions


def shown_again(
    state: DeviceState, readings: Iterable[tuple[Position, Reading]]
) -> tuple[DeviceState, list[Outcome | Exception]]:
    """Count and show readings that were folded before as rejected; the positions of their streams stay.

    An exception among the outcomes is a fault of this program: that reading is not counted. The ledger's rejected stays
    as it is.
    """
    folding = _Folding(state, "")
    outcomes: list[Outcome | Exception] = []
    for position, reading in readings:
        try:
            outcomes.append(folding.show(reading, position))
        except Exception as error:  # noqa: BLE001  # a fault of ours costs this reading, not its neighbours
            outcomes.append(error)
    return folding.result().state, outcomes


def removed(state: DeviceState, now: int) -> DeviceState:
    """Return the state of a device that was removed at `now`: nothing shown, everything counted."""
    return structs.replace(state, labels={}, metrics={}, event_time=None, removed_at=now, revision=state.revision + 1)


def is_device_id(text: str) -> bool:
    """Tell whether IoT Hub would allow it as a device id."""
    return _DEVICE_ID.fullmatch(text) is not None


def is_visible(state: DeviceState) -> bool:
    """Tell whether viewers see the device."""
    return state.removed_at is None and state.device_id != UNIDENTIFIED

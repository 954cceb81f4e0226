"""What is known of one device, and how one more reading changes it.

Rules:
1. A reading is counted once: `positions` remembers, per stream, the last reading folded in. At or below it is a
   duplicate, unless it was enqueued later than anything folded: then the hub was made anew and counts from 0.
2. Each metric and label shows its newest reading by event time, ties by sequence, then index. What a reading does not
   carry is left as it is.
3. A reading older than the device's newest is late: counted, and shown only where nothing newer is.
4. received = accepted + duplicate + late + rejected, and a duplicate changes nothing but its counter.

Times are integers, milliseconds since 1970 in UTC.
"""

import re
from enum import StrEnum
from typing import Final

from msgspec import Struct, structs

STREAMS_REMEMBERED: Final = 8
"""A device that moved through more streams (hubs, partitions, gateways) forgets those it was heard on longest ago."""

UNIDENTIFIED: Final = "<unidentified>"
"""Counts what names no device. No device can have this id: IoT Hub allows no angle brackets."""


_DEVICE_ID: Final = re.compile(r"[A-Za-z0-9\-.%_#*?!(),:=@$'+]{1,128}")
"""https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-identity-registry#device-identity-properties"""


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

    def counting(self, outcome: Outcome) -> "Ledger":
        """Return the ledger with one reading more."""
        return structs.replace(self, **{outcome.value: getattr(self, outcome.value) + 1})


class Reading(Struct, frozen=True, gc=False):
    """What a device said and what is believed of it, ready to be folded in.

    `values` are calibrated, `raw` as sent, by metric name; `labels` holds name, geo and messageId where they were sent.
    """

    event_time: int
    values: dict[str, float]
    raw: dict[str, float]
    labels: dict[str, str | int]


class Arrival(Struct, frozen=True, gc=False):
    """One reading at its place in its stream, and as it was sent; `reading` is None where it was rejected."""

    position: Position
    reading: Reading | None
    body: bytes


class DeviceState(Struct, frozen=True, gc=False):
    """All that is kept of one device; a new one has said nothing.

    `revision` counts the successful compare-and-sets. `event_time` is the newest accepted. `removed_at` is set once the
    device was removed: it is hidden then, its ledger stays, and only what is enqueued later makes it visible again.
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


def advance(state: DeviceState, stream: str, arrival: Arrival) -> tuple[DeviceState, Outcome]:
    """Fold one arrival into the state; the revision changes when it is written, not here."""
    position = arrival.position
    last = state.positions.get(stream)
    if last is not None and last.covers(position):
        return structs.replace(state, ledger=state.ledger.counting(Outcome.DUPLICATE)), Outcome.DUPLICATE
    reading = arrival.reading
    if reading is None:
        outcome = Outcome.REJECTED
    elif state.event_time is not None and reading.event_time < state.event_time:
        outcome = Outcome.LATE
    else:
        outcome = Outcome.ACCEPTED
    enqueued_time = max(position.enqueued_time, state.enqueued_time or 0)
    gone = state.removed_at is not None and position.enqueued_time <= state.removed_at
    return (
        DeviceState(
            state.device_id,
            state.labels if reading is None else _newer_labels(state.labels, reading, position),
            state.metrics if reading is None else _newer_metrics(state.metrics, reading, position),
            _moved(state.positions, stream, position, last),
            state.ledger.counting(outcome),
            reading.event_time if reading is not None and outcome is Outcome.ACCEPTED else state.event_time,
            enqueued_time,
            state.revision,
            state.removed_at if gone else None,
        ),
        outcome,
    )


def revised(state: DeviceState) -> DeviceState:
    """Return the state as the next compare-and-set writes it."""
    return structs.replace(state, revision=state.revision + 1)


def removed(state: DeviceState, now: int) -> DeviceState:
    """Return the state of a device that was removed at `now`: nothing shown, everything counted."""
    return structs.replace(state, labels={}, metrics={}, event_time=None, removed_at=now)


def is_device_id(text: str) -> bool:
    """Tell whether IoT Hub would allow it as a device id."""
    return _DEVICE_ID.fullmatch(text) is not None


def is_visible(state: DeviceState) -> bool:
    """Tell whether viewers see the device."""
    return state.removed_at is None and state.device_id != UNIDENTIFIED


def _newer_metrics(shown: dict[str, Measurement], reading: Reading, position: Position) -> dict[str, Measurement]:
    at = Moment(reading.event_time, position.sequence, position.index)
    raw = reading.raw
    newer = {
        name: Measurement(value, raw[name], at)
        for name, value in reading.values.items()
        if name not in shown or shown[name].at <= at
    }
    return shown | newer


def _newer_labels(shown: dict[str, Label], reading: Reading, position: Position) -> dict[str, Label]:
    at = Moment(reading.event_time, position.sequence, position.index)
    newer = {
        name: Label(value, at) for name, value in reading.labels.items() if name not in shown or shown[name].at <= at
    }
    return shown | newer


def _moved(
    positions: dict[str, Position], stream: str, position: Position, last: Position | None
) -> dict[str, Position]:
    if last is not None and last.enqueued_time > position.enqueued_time:
        position = Position(position.sequence, position.index, last.enqueued_time)
    moved = positions | {stream: position}
    if len(moved) > STREAMS_REMEMBERED:
        del moved[min(moved, key=lambda name: moved[name].enqueued_time)]
    return moved

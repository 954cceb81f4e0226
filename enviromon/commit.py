"""Folding readings into states under optimistic concurrency.

Rules:
1. A change that loses (another etag, a neighbour's failure, a lost answer) is read again and folded again, after a wait
   of random(base, min(cap, base * 2 ** attempt)) ms. Positions in the state make that exact.
2. When the attempts run out, ContentionError: the batch as a whole comes again.
3. A reading that this program fails to fold becomes a dead letter `internal`, is counted, and harms no neighbour.
4. A state that the store can never take is not tried again: its new readings become dead letters `refused`, and are
   counted as rejected. Where the store refuses even the counters, the dead letters are all that is kept.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct, structs

from enviromon.device_state import Arrival, DeviceState, Folded, Ledger, Position, fold, total
from enviromon.errors import ContentionError
from enviromon.settings import Settings
from enviromon.stores import Change, DeadLetter, DeadLetterStore, Result, Stored, WriteOutcome
from enviromon.telemetry import Rejection

_log = logging.getLogger(__name__)
_REFUSED: Final = "the store can never take the state that this reading makes"


class States(Protocol):
    """The part of DeviceStore that this needs."""

    async def load(self, device_ids: Iterable[str]) -> dict[str, Stored]:
        """Read the states of those devices that have one."""

    async def compare_and_set(self, changes: Sequence[Change]) -> list[Result]:
        """Write each change wholly or not at all."""


class Arrivals(Protocol):
    """Readings of one device and stream in their order: a Run, or OneByOne."""

    def fold(self, state: DeviceState, stream: str) -> Folded:
        """Fold all of them into the state, which stays as it is."""

    def fold_singly(self, state: DeviceState, stream: str) -> Folded:
        """Do the same reading by reading, so that a fault of this program costs one reading."""

    def is_covered_by(self, position: Position) -> bool:
        """Tell whether all of them were folded before."""

    def arrivals(self) -> list[Arrival]:
        """Return them reading by reading."""


class OneByOne(Struct, frozen=True, gc=False):
    """Arrivals that are folded one by one."""

    each: list[Arrival]

    def fold(self, state: DeviceState, stream: str) -> Folded:
        """See Arrivals."""
        return fold(state, stream, self.each)

    fold_singly = fold

    def is_covered_by(self, position: Position) -> bool:
        """See Arrivals."""
        return all(position.covers(arrival.position) for arrival in self.each)

    def arrivals(self) -> list[Arrival]:
        """See Arrivals."""
        return self.each


class Ingested(Struct, frozen=True):
    """What a batch came to: the states after it of the devices it touched, and its readings by their outcome."""

    states: list[DeviceState]
    counted: Ledger


class Commit:
    """Brings arrivals into the stored states, exactly once."""

    def __init__(
        self,
        states: States,
        dead_letters: DeadLetterStore,
        settings: Settings,
        *,
        sleep: Callable[[float], Awaitable[None]],
        uniform: Callable[[float, float], float],
    ) -> None:
        self._states = states
        self._dead_letters = dead_letters
        self._settings = settings
        self._sleep = sleep
        self._uniform = uniform

    async def __call__(self, stream: str, arrivals: Mapping[str, Arrivals]) -> Ingested:
        """Fold and write the arrivals of each device. Raises StorageError, ContentionError among it."""
        done: dict[str, Folded] = {}
        unsure: dict[str, Folded] = {}
        waiting = dict(arrivals)
        for attempt in range(1, self._settings.occ_attempts + 1):
            if attempt > 1:
                await self._sleep(backoff(attempt - 1, self._settings, self._uniform))
            stored = await self._states.load(waiting)
            for name, folded in unsure.items():
                if name in stored and _is_covered(stored[name].state, stream, waiting[name]):
                    done[name] = Folded(stored[name].state, folded.counted, [])
                    del waiting[name]
            tried = {
                name: _folded(found, stored[name].state if name in stored else DeviceState(name), stream)
                for name, found in waiting.items()
            }
            outcomes = await self._write(stream, tried, stored)
            if not done and all(outcome is WriteOutcome.APPLIED for outcome in outcomes.values()):
                return _ingested(tried)  # nearly always
            done |= {name: tried[name] for name, outcome in outcomes.items() if outcome is WriteOutcome.APPLIED}
            unsure = {name: tried[name] for name, outcome in outcomes.items() if outcome is WriteOutcome.UNKNOWN}
            refused = {name: waiting[name] for name, outcome in outcomes.items() if outcome is WriteOutcome.REFUSED}
            left = {**waiting, **(await self._refused(stream, refused, stored) if refused else {})}
            waiting = {name: found for name, found in left.items() if found is not None and name not in done}
            if not waiting:
                return _ingested(done)
        raise ContentionError(f"{stream}: {len(waiting)} devices lost {self._settings.occ_attempts} attempts each")

    async def _refused(
        self, stream: str, arrivals: Mapping[str, Arrivals], stored: Mapping[str, Stored]
    ) -> dict[str, Arrivals | None]:
        """Make dead letters of the new readings; return what is left to count, None where that was refused too."""
        letters = []
        left: dict[str, Arrivals | None] = {}
        for name, found in arrivals.items():
            position = stored[name].state.positions.get(stream) if name in stored else None
            each = found.arrivals()
            new = [x for x in each if x.reading is not None and not (position and position.covers(x.position))]
            letters += [
                dead_letter(Rejection("refused", _REFUSED, x.body), stream, name, x.position, x.created) for x in new
            ]
            left[name] = OneByOne([structs.replace(x, reading=None) for x in each]) if new else None
            _log.error(
                "%s: the store refuses the state of %s; %d readings rejected",
                *(stream, name, len(new)),
                extra={"device": name, "partition": stream.rpartition("/")[2], "sequence": each[0].position.sequence},
            )
        if letters:
            await self._dead_letters.add(letters)
        return left

    async def _write(
        self, stream: str, tried: Mapping[str, Folded], stored: Mapping[str, Stored]
    ) -> dict[str, WriteOutcome]:
        letters = [
            dead_letter(internal(error, arrival.body), stream, name, arrival.position, arrival.created)
            for name, folded in tried.items()
            for arrival, error in folded.failures
        ]
        if letters:
            await self._dead_letters.add(letters)
        results = await self._states.compare_and_set(
            [Change(folded.state, stored[name].etag if name in stored else None) for name, folded in tried.items()]
        )
        return {name: result.outcome for name, result in zip(tried, results, strict=True)}


def _ingested(done: Mapping[str, Folded]) -> Ingested:
    return Ingested([folded.state for folded in done.values()], total(folded.counted for folded in done.values()))


def backoff(attempt: int, settings: Settings, uniform: Callable[[float, float], float]) -> float:
    """Return the seconds to wait after the attempt of that number, counted from 1."""
    longest = min(settings.occ_cap_ms, settings.occ_base_ms * 2**attempt)
    return uniform(settings.occ_base_ms, max(settings.occ_base_ms, longest)) / 1000


def dead_letter(
    rejection: Rejection, stream: str, device_id: str, position: Position, created: str | None
) -> DeadLetter:
    """Address a rejection."""
    return DeadLetter(
        reason=rejection.reason,
        detail=rejection.detail,
        device_id=device_id,
        stream=stream,
        sequence=position.sequence,
        index=position.index,
        enqueued_time=position.enqueued_time,
        body=rejection.body,
        created=created,
    )


def internal(error: Exception, body: bytes) -> Rejection:
    """Turn a fault of this program into a rejection, and tell the log."""
    _log.error("a reading could not be processed; it becomes a dead letter", exc_info=error)
    return Rejection("internal", f"{type(error).__name__}: a fault of this program, its log says more", body)


def _folded(arrivals: Arrivals, state: DeviceState, stream: str) -> Folded:
    try:
        return arrivals.fold(state, stream)
    except Exception:  # noqa: BLE001  # a fault of ours must not hold up the stream
        _log.exception(
            "the readings of %s could not be folded at once; they are folded one by one",
            state.device_id,
            extra={"device": state.device_id, "partition": stream.rpartition("/")[2]},
        )
        return arrivals.fold_singly(state, stream)


def _is_covered(state: DeviceState, stream: str, arrivals: Arrivals) -> bool:
    position = state.positions.get(stream)
    return position is not None and arrivals.is_covered_by(position)

"""Folding readings into states under optimistic concurrency.

Rules:
1. A change that loses (another etag, a neighbour's failure, a lost answer) is read again and folded again, after a wait
   of random(base, min(cap, base * 2 ** attempt)) ms. Positions in the state make that exact.
2. When the attempts run out, ContentionError: the batch as a whole comes again.
3. A reading that this program fails to fold becomes a dead letter `internal`, is counted, and harms no neighbour.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from enviromon.device_state import Arrival, DeviceState, Outcome, Position, advance, revised
from enviromon.errors import ContentionError
from enviromon.settings import Settings
from enviromon.stores import Change, DeadLetter, DeadLetterStore, Result, Stored, WriteOutcome
from enviromon.telemetry import Rejection

_log = logging.getLogger(__name__)


class States(Protocol):
    """The part of DeviceStore that this needs."""

    async def load(self, device_ids: Iterable[str]) -> dict[str, Stored]:
        """Read the states of those devices that have one."""

    async def compare_and_set(self, changes: Sequence[Change]) -> list[Result]:
        """Write each change wholly or not at all."""


class Ingested(Struct, frozen=True):
    """What a batch came to: the states after it of the devices it touched, and each reading's outcome."""

    states: list[DeviceState]
    outcomes: list[Outcome]

    @property
    def all_duplicates(self) -> bool:
        """Tell whether nothing in the batch was new."""
        return all(outcome is Outcome.DUPLICATE for outcome in self.outcomes)


class _Folded(Struct, frozen=True, gc=False):
    state: DeviceState
    outcomes: list[Outcome]


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

    async def __call__(self, stream: str, arrivals: Mapping[str, list[Arrival]]) -> Ingested:
        """Fold and write the arrivals of each device. Raises StorageError, ContentionError among it."""
        done: dict[str, _Folded] = {}
        waiting, unsure = dict(arrivals), dict[str, _Folded]()
        for attempt in range(1, self._settings.occ_attempts + 1):
            if attempt > 1:
                await self._sleep(backoff(attempt - 1, self._settings, self._uniform))
            stored = await self._states.load(waiting)
            for device_id, folded in unsure.items():
                if device_id in stored and _covers(stored[device_id].state, stream, waiting[device_id]):
                    done[device_id] = _Folded(stored[device_id].state, folded.outcomes)
                    del waiting[device_id]
            results, tried = await self._try(stream, waiting, stored)
            done |= {name: tried[name] for name, outcome in results.items() if outcome is WriteOutcome.APPLIED}
            unsure = {name: tried[name] for name, outcome in results.items() if outcome is WriteOutcome.UNKNOWN}
            waiting = {name: found for name, found in waiting.items() if name not in done}
            if not waiting:
                return Ingested(
                    [folded.state for folded in done.values()],
                    [outcome for folded in done.values() for outcome in folded.outcomes],
                )
        raise ContentionError(f"{stream}: {len(waiting)} devices lost {self._settings.occ_attempts} attempts each")

    async def _try(
        self, stream: str, waiting: Mapping[str, list[Arrival]], stored: Mapping[str, Stored]
    ) -> tuple[dict[str, WriteOutcome], dict[str, _Folded]]:
        letters: list[DeadLetter] = []
        tried = {
            device_id: _fold(
                stored[device_id].state if device_id in stored else DeviceState(device_id), stream, found, letters
            )
            for device_id, found in waiting.items()
        }
        if letters:
            await self._dead_letters.add(letters)
        results = await self._states.compare_and_set(
            [Change(folded.state, stored[name].etag if name in stored else None) for name, folded in tried.items()]
        )
        return {name: result.outcome for name, result in zip(tried, results, strict=True)}, tried


def backoff(attempt: int, settings: Settings, uniform: Callable[[float, float], float]) -> float:
    """Return the seconds to wait after the attempt of that number, counted from 1."""
    longest = min(settings.occ_cap_ms, settings.occ_base_ms * 2**attempt)
    return uniform(settings.occ_base_ms, max(settings.occ_base_ms, longest)) / 1000


def dead_letter(rejection: Rejection, stream: str, device_id: str, position: Position) -> DeadLetter:
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
    )


def internal(error: Exception, body: bytes) -> Rejection:
    """Turn a fault of this program into a rejection, and tell the log."""
    _log.error("a reading could not be processed; it becomes a dead letter", exc_info=error)
    return Rejection("internal", f"{type(error).__name__}: a fault of this program, its log says more", body)


def _fold(state: DeviceState, stream: str, arrivals: list[Arrival], letters: list[DeadLetter]) -> _Folded:
    outcomes = []
    for arrival in arrivals:
        try:
            state, outcome = advance(state, stream, arrival)
        except Exception as error:  # noqa: BLE001  # rule 3
            letters.append(dead_letter(internal(error, arrival.body), stream, state.device_id, arrival.position))
            state, outcome = advance(state, stream, Arrival(arrival.position, None, arrival.body))
        outcomes.append(outcome)
    return _Folded(revised(state), outcomes)


def _covers(state: DeviceState, stream: str, arrivals: list[Arrival]) -> bool:
    position = state.positions.get(stream)
    return position is not None and all(position.covers(arrival.position) for arrival in arrivals)

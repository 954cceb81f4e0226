"""What a worker keeps in memory so that a steady stream reads no store.

Staleness is harmless by construction: a state's etag finds it out at the write, a calibration is read again after its
time to live.
"""

from collections.abc import Callable, Iterable, Sequence

from enviromon.calibration import Calibration
from enviromon.stores import CalibrationStore, Change, DeviceStore, Result, Stored, WriteOutcome


class CachedStates:
    """States as this worker last wrote them, at most `size`; those unused for longest go first."""

    def __init__(self, store: DeviceStore, size: int) -> None:
        self._store = store
        self._size = size
        self._cached: dict[str, Stored] = {}

    async def load(self, device_ids: Iterable[str]) -> dict[str, Stored]:
        """Return the states of those devices that have one, from the store where they are not at hand."""
        found = {}
        missing = []
        for device_id in device_ids:
            if (stored := self._cached.get(device_id)) is not None:
                found[device_id] = stored
            else:
                missing.append(device_id)
        return found | await self._store.load(missing) if missing else found

    async def compare_and_set(self, changes: Sequence[Change]) -> list[Result]:
        """Write through; whatever was not surely applied is read anew the next time."""
        for change in changes:
            self._cached.pop(change.state.device_id, None)
        results = await self._store.compare_and_set(changes)
        for change, result in zip(changes, results, strict=True):
            if result.outcome is WriteOutcome.APPLIED and result.etag is not None:
                self._cached[change.state.device_id] = Stored(change.state, result.etag)
        while len(self._cached) > self._size:
            del self._cached[next(iter(self._cached))]
        return results


class CachedCalibrations:
    """Calibrations for `ttl` seconds each, at most `size`; "none" is kept too, when the store said so."""

    def __init__(self, store: CalibrationStore, *, size: int, ttl: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._size = size
        self._ttl = ttl
        self._clock = clock
        self._cached: dict[str, tuple[float, Calibration | None]] = {}

    async def load(self, device_ids: Iterable[str]) -> dict[str, Calibration | None]:
        """Return each device's calibration. Raises StorageError, and keeps nothing then."""
        now = self._clock()
        found: dict[str, Calibration | None] = {}
        missing = []
        for device_id in device_ids:
            entry = self._cached.get(device_id)
            if entry is not None and now < entry[0]:
                found[device_id] = entry[1]
            else:
                missing.append(device_id)
        if missing:
            read = await self._store.load(missing)
            until = now + self._ttl
            none = until, None  # one entry for all that have none, as most devices do
            for device_id in missing:
                calibration = found[device_id] = read.get(device_id)
                self._cached.pop(device_id, None)
                self._cached[device_id] = none if calibration is None else (until, calibration)
            while len(self._cached) > self._size:
                del self._cached[next(iter(self._cached))]
        return found

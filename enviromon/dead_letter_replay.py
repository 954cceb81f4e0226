"""Replays the dead letters of a store: reads, lets `replay` decide, and writes in an order that survives any cut.

The order of writes for each device: letters under a new reason first, then the state by compare-and-set, then what is
done with goes. After a cut the next replay finds the state as it is and does what is left.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final

from msgspec import Struct, field

from enviromon.commit import backoff, internal
from enviromon.device_state import DeviceState, Ledger, Reading
from enviromon.errors import ContentionError
from enviromon.metrics import METRICS, Metric
from enviromon.rejections import Place
from enviromon.replay import Fate, Replayed, Rules, judge, place_of, replay
from enviromon.settings import Settings
from enviromon.stores import PAGE_SIZE, Change, DeadLetter, Stores, WriteOutcome, each
from enviromon.telemetry import Rejection, TelemetryReader

PORTION_BYTES: Final = 4 << 20

_Places = dict[str, dict[str, list[Place]]]
"""By device and stream."""


class Report(Struct):
    """What a replay came to: letters by their fate, by how much the ledger changed, and reasons of what still fails."""

    fates: Counter[Fate] = field(default_factory=Counter)
    counted: Ledger = Ledger()
    reasons: Counter[str] = field(default_factory=Counter)


async def replay_dead_letters(
    stores: Stores,
    settings: Settings,
    *,
    device_id: str | None = None,
    reason: str | None = None,
    is_dry_run: bool = False,
    metrics: Iterable[Metric] = METRICS,
    page_size: int = PAGE_SIZE,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> Report:
    """Judge dead letters once more, those of one device or one reason where it is given, and count what succeeds.

    A dry run writes nothing. Raises StorageError; what was done until then stays, and another replay does the rest.
    """
    replayer = _Replayer(stores, settings, metrics, is_dry_run=is_dry_run, sleep=sleep, uniform=uniform)
    read = partial(stores.dead_letters.page, limit=page_size)
    known = _Index()
    count = 0
    async for letter in each(read):
        count += 1
        if device_id in {None, letter.device_id}:
            known.add(letter)
    async for letters in _portions(each(read), count, page_size):
        devices: dict[str, list[DeadLetter]] = defaultdict(list)
        for letter in letters:
            if device_id in {None, letter.device_id} and reason in {None, letter.reason}:
                devices[letter.device_id].append(letter)
        for device, of_device in devices.items():
            await replayer.replay(device, of_device, known.places(device))
    return replayer.report


async def _portions(letters: AsyncIterator[DeadLetter], count: int, portion: int) -> AsyncIterator[list[DeadLetter]]:
    """Yield the first `count` letters a portion at a time; what comes later is for another replay: this one ends."""
    waiting: list[DeadLetter] = []
    size = seen = 0
    async for letter in letters:
        waiting.append(letter)
        size += len(letter.body)
        seen += 1
        if len(waiting) == portion or size >= PORTION_BYTES:
            yield waiting
            waiting, size = [], 0
        if seen == count:
            break
    if waiting:
        yield waiting


class _Index:
    """Where the letters of each device stand; some 100 bytes a letter."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, set[Place]]] = {}
        self._sorted: _Places = {}

    def add(self, letter: DeadLetter) -> None:
        """Note where a letter stands."""
        self._found.setdefault(letter.device_id, {}).setdefault(letter.stream, set()).add(place_of(letter))

    def places(self, device_id: str) -> dict[str, list[Place]]:
        """Return the device's places by stream, sorted."""
        if (found := self._found.pop(device_id, None)) is not None:
            self._sorted[device_id] = {stream: sorted(places) for stream, places in found.items()}
        return self._sorted.get(device_id, {})


class _Replayer:
    def __init__(
        self,
        stores: Stores,
        settings: Settings,
        metrics: Iterable[Metric],
        *,
        is_dry_run: bool,
        sleep: Callable[[float], Awaitable[None]],
        uniform: Callable[[float, float], float],
    ) -> None:
        self.report = Report()
        self._stores = stores
        self._settings = settings
        self._rules = Rules(TelemetryReader(metrics), settings.timestamp_lead_seconds * 1000, settings.trusted_gateways)
        self._is_dry_run = is_dry_run
        self._sleep = sleep
        self._uniform = uniform

    async def replay(self, device_id: str, letters: Sequence[DeadLetter], places: dict[str, list[Place]]) -> None:
        """Replay some letters of one device, all of them in one compare-and-set. Raises StorageError."""
        for attempt in range(1, self._settings.occ_attempts + 1):
            if attempt > 1:
                await self._sleep(backoff(attempt - 1, self._settings, self._uniform))
            stored = (await self._stores.devices.load([device_id])).get(device_id)
            state = DeviceState(device_id) if stored is None else stored.state
            done = await self._replayed(state, letters, places)
            if self._is_dry_run or await self._write(done, None if stored is None else stored.etag):
                self._note(done)
                return
        raise ContentionError(f"{device_id} lost {self._settings.occ_attempts} attempts: others write it all the time")

    async def _replayed(
        self, state: DeviceState, letters: Sequence[DeadLetter], places: dict[str, list[Place]]
    ) -> Replayed:
        calibration = (await self._stores.calibrations.load([state.device_id])).get(state.device_id)

        def judged(letter: DeadLetter) -> Sequence[Reading | Rejection]:
            try:
                return judge(letter, self._rules, calibration)
            except Exception as error:  # noqa: BLE001  # one reading's misfortune must not hold up the others
                return [internal(error, letter.body)]

        return replay(state, letters, places, judged)

    async def _write(self, done: Replayed, etag: str | None) -> bool:
        """Write what was decided; tell whether it stands."""
        if done.added:
            await self._stores.dead_letters.add(done.added)
        if done.state is not None:
            (result,) = await self._stores.devices.compare_and_set([Change(done.state, etag)])
            if result.outcome is not WriteOutcome.APPLIED:
                return False  # an unknown outcome as well: the next attempt finds in the state what was counted
        if done.removed:
            await self._stores.dead_letters.remove(done.removed)
        return True

    def _note(self, done: Replayed) -> None:
        report = self.report
        report.counted += done.counted
        for letter, fate in done.fates:
            report.fates[fate] += 1
            if fate is Fate.FAILED:
                report.reasons[letter.reason] += 1

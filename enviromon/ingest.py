"""One batch of a stream: read, judge, dead letters, then fold and compare-and-set.

The order of writes is the order of safety: dead letters first (their keys make them idempotent), then each device's
state with its ledger. Whatever is cut off in between is healed by the redelivery of the batch. Only a store's failure
leaves `ingest` as an exception (StorageError); what a device sends, and what this program does with it, never does.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final

from enviromon.caches import CachedCalibrations, CachedStates
from enviromon.calibration import Calibration
from enviromon.commit import Arrivals, Commit, Ingested, OneByOne, dead_letter, internal
from enviromon.device_state import UNIDENTIFIED, Arrival, Position, Reading, is_device_id, total
from enviromon.events import Batch, Delivery
from enviromon.metrics import METRICS, Metric
from enviromon.runs import Run, RunReader
from enviromon.settings import Settings
from enviromon.stores import DeadLetter, Stores
from enviromon.telemetry import Rejection, Telemetry, TelemetryReader

_log = logging.getLogger(__name__)
PART_READINGS: Final = 2000
"""A batch may hold a million readings (arrays of 1,000): it is worked off in parts, each committed before the next."""

_Items = dict[str, list["_Item"]]
_Item = tuple[Position, str | None, Telemetry | Rejection]
"""Where it stands in the stream, its message's creation time, and what was read."""


class Ingest:
    """Takes batches, several at once if they come from different partitions."""

    def __init__(
        self,
        stores: Stores,
        settings: Settings,
        *,
        metrics: Iterable[Metric] = METRICS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._lead = settings.timestamp_lead_seconds * 1000
        self._reader = TelemetryReader(metrics)
        self._runs = RunReader(metrics, lead=self._lead)
        self._gateways = settings.trusted_gateways
        self._calibrations = CachedCalibrations(
            stores.calibrations, size=settings.cached_devices, ttl=settings.calibration_ttl_seconds, clock=clock
        )
        self._dead_letters = stores.dead_letters
        self._commit = Commit(
            CachedStates(stores.devices, settings.cached_devices),
            stores.dead_letters,
            settings,
            sleep=sleep,
            uniform=uniform,
        )

    async def ingest(self, batch: Batch) -> Ingested:
        """Count, keep and remember the batch. Raises StorageError; the batch must come again then."""
        done = [await self._commit(batch.stream, part) async for part in self._parts(batch)]
        if len(done) == 1:
            return done[0]
        states = {state.device_id: state for part in done for state in part.states}  # the last one of each device
        return Ingested(list(states.values()), total(part.counted for part in done))

    async def _parts(self, batch: Batch) -> AsyncIterator[dict[str, Arrivals]]:
        """Read and judge the batch, with its dead letters kept; the runs are in the first part."""
        runs: dict[str, Arrivals] = {}
        others: Sequence[Delivery] = batch.deliveries
        if not self._gateways:  # of a gateway's messages the bodies say, one by one, whose they are
            runs, others = await self._find_runs(batch.deliveries)
        for items in self._cut(others):
            yield {**runs, **await self._judge(batch.stream, items)}
            runs = {}
        if runs:
            yield runs

    async def _find_runs(self, deliveries: Sequence[Delivery]) -> tuple[dict[str, Arrivals], list[Delivery]]:
        """Return the runs by device, and what is left for a closer look."""
        devices: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            devices.setdefault(delivery.device_id or UNIDENTIFIED, []).append(delivery)
        others = devices.pop(UNIDENTIFIED, [])
        several = {device_id: found for device_id, found in devices.items() if len(found) > 1}
        others += [found[0] for found in devices.values() if len(found) == 1]
        calibrations = await self._calibrations.load(several)
        runs: dict[str, Arrivals] = {}
        for device_id, found in several.items():
            run = self._run(found, calibrations[device_id])
            if run is None:
                others += found
            else:
                runs[device_id] = run
        return runs, others

    def _run(self, deliveries: list[Delivery], calibration: Calibration | None) -> Run | None:
        try:
            return self._runs.read(deliveries, calibration)
        except Exception:  # noqa: BLE001  # the same
            _log.exception("messages could not be read as a run; they are read one by one")
            return None

    def _cut(self, deliveries: Iterable[Delivery]) -> Iterator[_Items]:
        """Read the bodies and cut where they hold many readings: a part is what is in memory at once."""
        devices: _Items = {}
        size = 0
        for delivery in deliveries:
            items = self._read(delivery.body)
            for index, read in enumerate(items):
                device_id, item = self._identify(delivery, read)
                position = Position(delivery.sequence, index, delivery.enqueued_time)
                devices.setdefault(device_id, []).append((position, delivery.created, item))
            size += len(items)
            if size >= PART_READINGS:
                yield devices
                devices, size = {}, 0
        if devices:
            yield devices

    async def _judge(self, stream: str, devices: _Items) -> dict[str, Arrivals]:
        calibrations = await self._calibrations.load(devices)
        letters: list[DeadLetter] = []
        arrivals: dict[str, Arrivals] = {
            device_id: OneByOne(
                [self._arrival(stream, device_id, item, calibrations[device_id], letters) for item in items]
            )
            for device_id, items in devices.items()
        }
        if letters:
            letters.sort(key=lambda letter: (letter.sequence, letter.index))
            first = letters[0]
            _log.warning(
                "%s: %d readings rejected, the first: %s",
                *(stream, len(letters), first.detail),
                extra={"device": first.device_id, "partition": first.partition, "sequence": first.sequence},
            )
            await self._dead_letters.add(letters)
        return arrivals

    def _read(self, body: bytes) -> list[Telemetry | Rejection]:
        try:
            return self._reader.read(body)
        except Exception as error:  # noqa: BLE001  # one reading's misfortune must not hold up the stream
            return [internal(error, body)]

    def _identify(self, delivery: Delivery, item: Telemetry | Rejection) -> tuple[str, Telemetry | Rejection]:
        """Choose whose reading it is: the hub's word, or the body's where its sender is a trusted gateway."""
        sender = delivery.device_id
        if sender and not self._gateways:
            return sender, item
        if isinstance(item, Telemetry) and self._gateways and ("*" in self._gateways or sender in self._gateways):
            name = item.labels.get("name")
            if name is not None and not is_device_id(str(name)):
                item = Rejection("identity", "the deviceId in the body is not one that IoT Hub allows", item.body)
            elif name is not None:
                return str(name), item
        if sender:
            return sender, item
        if isinstance(item, Telemetry):
            item = Rejection("identity", "neither the hub nor a trusted body says which device it is", item.body)
        return UNIDENTIFIED, item

    def _arrival(
        self, stream: str, device_id: str, item: _Item, calibration: Calibration | None, letters: list[DeadLetter]
    ) -> Arrival:
        position, created, judged = item
        body = judged.body
        if isinstance(judged, Telemetry):
            try:
                reading = self._reader.judge(judged, position.enqueued_time, created, self._lead, calibration)
            except Exception as error:  # noqa: BLE001  # the same
                reading = internal(error, body)
            if isinstance(reading, Reading):
                return Arrival(position, reading, body, created)
            judged = reading
        letters.append(dead_letter(judged, stream, device_id, position, created))
        return Arrival(position, None, body)

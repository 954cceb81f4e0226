"""One batch of a stream: read, judge, dead letters, fold, compare-and-set.

The order of writes is the order of safety: dead letters first (their keys make them idempotent), then each device's
state with its ledger. Whatever is cut off in between is healed by the redelivery of the batch. Only a store's failure
leaves `ingest` as an exception (StorageError); what a device sends, and what this program does with it, never does.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable

from enviromon.caches import CachedCalibrations, CachedStates
from enviromon.calibration import Calibration
from enviromon.commit import Commit, Ingested, dead_letter, internal
from enviromon.device_state import UNIDENTIFIED, Arrival, Position, Reading, is_device_id
from enviromon.events import Batch, Delivery
from enviromon.metrics import METRICS, Metric
from enviromon.settings import Settings
from enviromon.stores import DeadLetter, Stores
from enviromon.telemetry import Rejection, Telemetry, TelemetryReader

_log = logging.getLogger(__name__)
_Item = tuple[Position, Delivery, Telemetry | Rejection]


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
        self._reader = TelemetryReader(metrics)
        self._settings = settings
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
        items = self._read(batch)
        calibrations = await self._calibrations.load(items)
        letters: list[DeadLetter] = []
        arrivals = {
            device_id: [self._judge(batch.stream, device_id, item, calibrations[device_id], letters) for item in found]
            for device_id, found in items.items()
        }
        if letters:
            letters.sort(key=lambda letter: (letter.sequence, letter.index))
            _log.warning("%s: %d readings rejected, the first: %s", batch.stream, len(letters), letters[0].detail)
            await self._dead_letters.add(letters)
        return await self._commit(batch.stream, arrivals)

    def _read(self, batch: Batch) -> dict[str, list[_Item]]:
        devices: dict[str, list[_Item]] = {}
        for delivery in batch.deliveries:
            for index, read in enumerate(self._read_body(delivery.body)):
                device_id, item = self._identify(delivery, read)
                position = Position(delivery.sequence, index, delivery.enqueued_time)
                devices.setdefault(device_id, []).append((position, delivery, item))
        return devices

    def _read_body(self, body: bytes) -> list[Telemetry | Rejection]:
        try:
            return self._reader.read(body)
        except Exception as error:  # noqa: BLE001  # one reading's misfortune must not hold up the stream
            return [internal(error, body)]

    def _identify(self, delivery: Delivery, item: Telemetry | Rejection) -> tuple[str, Telemetry | Rejection]:
        """Choose whose reading it is: the hub's word, or the body's where its sender is a trusted gateway."""
        sender = delivery.device_id
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

    def _judge(
        self, stream: str, device_id: str, item: _Item, calibration: Calibration | None, letters: list[DeadLetter]
    ) -> Arrival:
        position, delivery, found = item
        judged = found if isinstance(found, Rejection) else self._judge_item(found, delivery, calibration)
        if isinstance(judged, Rejection):
            letters.append(dead_letter(judged, stream, device_id, position))
            return Arrival(position, None, judged.body)
        return Arrival(position, judged, found.body)

    def _judge_item(self, item: Telemetry, delivery: Delivery, calibration: Calibration | None) -> Reading | Rejection:
        try:
            return self._reader.judge(
                item,
                enqueued_time=delivery.enqueued_time,
                created=delivery.created,
                lead=self._settings.timestamp_lead_seconds * 1000,
                calibration=calibration,
            )
        except Exception as error:  # noqa: BLE001  # the same
            return internal(error, item.body)

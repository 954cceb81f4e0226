"""What the tests of the solution share: messages, batches, a real store, and stores that fail on purpose."""

import json
from collections import Counter

from enviromon.device_state import DeviceState, Ledger
from enviromon.errors import StorageError
from enviromon.events import Batch, Delivery
from enviromon.ingest import Ingest
from enviromon.settings import Settings
from enviromon.stores import Result, Stores, WriteOutcome, each

T0 = 1_795_478_400_000
"""2026-11-24T00:00:00Z, in ms."""
STREAM = "namespace/hub/0"


def body(**fields):
    return json.dumps(fields).encode()


def delivery(sequence, content=None, *, device="d1", enqueued=None, created=None):
    """A message whose event time is its enqueued time, one second per sequence, unless its body says otherwise."""
    content = body(temperature=20.0 + sequence % 50) if content is None else content
    return Delivery(device, sequence, T0 + sequence * 1000 if enqueued is None else enqueued, created, content)


def batch(*deliveries, stream=STREAM):
    return Batch(stream, list(deliveries))


class World:
    """Stores, and a worker on them."""

    def __init__(self, stores, **settings):
        self.stores = stores
        self.settings = Settings(**({"occ_base_ms": 0, "occ_cap_ms": 1} | settings))
        self.now = 0.0
        self.ingest = self.worker()

    def worker(self, **fakes):
        return Ingest(self.stores, self.settings, clock=lambda: self.now, **fakes)

    async def send(self, *deliveries, stream=STREAM):
        return await self.ingest.ingest(batch(*deliveries, stream=stream))

    async def state(self, device="d1") -> DeviceState:
        return (await self.stores.devices.load([device]))[device].state

    async def letters(self):
        return [letter async for letter in each(self.stores.dead_letters.page)]

    async def reasons(self):
        return [letter.reason for letter in await self.letters()]

    async def total(self) -> Ledger:
        return sum([stored.state.ledger async for stored in each(self.stores.devices.page)], Ledger())


class Troubled:
    """A device store whose next writes go as `troubles` say: "lost" applies and answers unknown, "crash" applies and
    raises, "outage" raises, "conflict" and "neighbour" refuse without applying; then it works again.
    """

    def __init__(self, store, *troubles):
        self._store = store
        self._troubles = list(troubles)
        self.calls = Counter()

    async def load(self, device_ids):
        self.calls["load"] += 1
        return await self._store.load(device_ids)

    async def page(self, after=None, limit=1000):
        return await self._store.page(after, limit)

    async def compare_and_set(self, changes):
        self.calls["compare_and_set"] += 1
        trouble = self._troubles.pop(0) if self._troubles else None
        if trouble == "outage":
            raise StorageError("no store")
        if trouble in {"conflict", "neighbour"}:
            outcome = WriteOutcome.CONFLICT if trouble == "conflict" else WriteOutcome.NOT_APPLIED
            return [Result(outcome) for _ in changes]
        results = await self._store.compare_and_set(changes)
        if trouble == "crash":
            raise StorageError("the answer never came")
        return [Result(WriteOutcome.UNKNOWN) for _ in changes] if trouble == "lost" else results


def with_devices(stores, devices) -> Stores:
    return Stores(devices, stores.calibrations, stores.dead_letters, stores.close)

"""What the tests of the solution share: messages, batches, a real store, and stores that fail on purpose."""

import datetime as dt
import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import azure.functions as func
from azure.functions.meta import Datum

from enviromon.application import application
from enviromon.device_state import DeviceState, Ledger
from enviromon.errors import StorageError
from enviromon.events import Batch, Delivery
from enviromon.ingest import Ingest
from enviromon.settings import Settings
from enviromon.stores import Result, Stores, WriteOutcome, each

T0 = 1_795_478_400_000
"""2026-11-24T00:00:00Z, in ms."""
STREAM = "namespace/hub/0"
AZURE_T0 = dt.datetime.fromtimestamp(T0 / 1000, dt.UTC).replace(tzinfo=None)


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


def event(sequence, content=None, *, device="d1", enqueued=None, partition="0"):
    """One of a trigger's events, as Azure's worker makes it: times are naive, metadata is shared and typed."""
    return func.EventHubEvent(
        body=body(temperature=20.0 + sequence % 50) if content is None else content,
        trigger_metadata={
            "PartitionContext": Datum(
                json.dumps(
                    {
                        "FullyQualifiedNamespace": "namespace",
                        "EventHubName": "hub",
                        "ConsumerGroup": "enviromon",
                        "PartitionId": partition,
                    }
                ),
                "json",
            )
        },
        enqueued_time=AZURE_T0 + dt.timedelta(seconds=sequence if enqueued is None else enqueued),
        sequence_number=sequence,
        offset=sequence * 100,
        iothub_metadata={"connection-device-id": device, "message-source": "Telemetry"},
    )


class FunctionApp:
    """function_app.py as a host has it: indexed once, its user functions called with real arguments."""

    def __init__(self):
        path = Path(__file__).parents[2] / "function_app.py"
        spec = importlib.util.spec_from_file_location("function_app_under_test", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.functions = {function.get_function_name(): function for function in module.app.get_functions()}
        application.cache_clear()

    async def close(self):
        await application().stores.close()
        application.cache_clear()

    async def telemetry(self, *events, retries=0):
        """Return what the invocation publishes: views by message."""
        out = Out()
        context = SimpleNamespace(retry_context=SimpleNamespace(retry_count=retries))
        await self.functions["telemetry"].get_user_function()(list(events), out, context)
        return json.loads(out.value) if out.value else []

    async def http(self, name, method="GET", content=None, *, headers=None, params=None, route=None, **bound):
        request = func.HttpRequest(
            method, f"/api/{name}", headers=headers or {}, params=params or {}, route_params=route or {},
            body=b"" if content is None else content if isinstance(content, bytes) else json.dumps(content).encode(),
        )  # fmt: skip
        return await self.functions[name].get_user_function()(request, **bound)


class Out:
    """An output binding."""

    value = None

    def set(self, value):
        assert isinstance(value, str)
        self.value = value


def content_of(response):
    return json.loads(response.get_body())

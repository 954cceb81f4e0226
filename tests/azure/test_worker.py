"""Azure's own worker (azure-functions-runtime, Python 3.13) takes the package and makes of it what our host makes."""

import json
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from enviromon.calibration import Line, Version
from enviromon.device_state import Ledger
from enviromon.stores import each, open_stores
from localcloud.functions.app import load_app
from localcloud.iothub.event_log import Envelope, Event, SqliteEventLog
from scripts.package import ROOT, shipped
from tests.azure.hosts import EVENT_HUB, VIEWER, WorkerError, azure_worker, heard_by_viewers, our_host
from tests.localcloud.functions.event_fields import FIELDS
from tests.localcloud.functions.failing_apps import FAILING_OTHERWISE, HEAD, REFUSED

pytestmark = pytest.mark.slow
SITE = "town"
NOW = int(time.time() * 1000)


def envelope(device, **system):
    properties = {"iothub-message-source": "Telemetry", **system}
    if device:
        properties["iothub-connection-device-id"] = device
    return Envelope(properties, {"batch": "7"})


ROOF, CELLAR, NOBODY = envelope("roof"), envelope("cellar", **{"message-id": "m1"}), envelope(None)
DATED = envelope("roof", **{"iothub-creation-time-utc": "2020-01-01T00:00:00.5Z"})
EVENTS = {
    0: [
        (ROOF, {"deviceId": "Roof", "geo": "north", "temperature": 21.5, "humidity": 40, "Id": 1}),
        (ROOF, {"Celsius": 21.75, "hPa": 1013.25, "timestamp": NOW - 5_000}),
        (ROOF, {"temperature": 21, "timestamp": NOW - 3_600_000}),
        (ROOF, {"temperature": 21, "timestamp": NOW + 3_600_000_000}),
        (DATED, {"light": 300}),
        (ROOF, b"not JSON"),
        (ROOF, b""),
        (ROOF, b'{"temperature": 20, "x": "\xff"}'),
        (ROOF, [{"temperature": 22}, {"temperature": "22"}, {"temperature": 23, "messageId": "last"}]),
    ],
    1: [
        (CELLAR, {"temperature": 8.5, "pressure": 900}),
        (NOBODY, {"deviceId": "cellar", "temperature": 8.5}),
        (CELLAR, {"temperature": 70}),
        (CELLAR, {"deviceId": "cellar"}),
        (CELLAR, []),
        (CELLAR, {"temperature": 9, "unknown": {"deep": [1, 2, 3]}}),
    ],
}
TOTAL = Ledger(accepted=5, late=3, rejected=9)
"""Of the roof's 11 readings 3 are in order, 3 are late and 5 are bad; of the other 6, 2 are in order and 4 are bad."""


@pytest.fixture(params=["sqlite", "azure tables"])
def store_urls(request, tmp_path):
    """A store for our host, and one of the same kind for the worker."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/ours.db", f"sqlite://{tmp_path}/theirs.db"
    url = request.getfixturevalue("tables_url")
    return f"{url}ours", f"{url}theirs"


@pytest.fixture
async def log_directory(tmp_path):
    """An event log with the events in two partitions, two to a block."""
    directory = tmp_path / "log"
    directory.mkdir()
    log = await SqliteEventLog.open(directory, partitions=2)
    numbers = count()
    for partition, events in EVENTS.items():
        run = [Event(about, body if isinstance(body, bytes) else json.dumps(body).encode()) for about, body in events]
        for start in range(0, len(run), 2):
            await log.append(next(numbers).to_bytes(16), {partition: run[start : start + 2]})
    await log.close()
    return directory


@pytest.fixture
def settings(monkeypatch):
    """Give the app its settings: our host runs in this process, where the app reads the environment."""

    def give(url):
        values = {"STORE_URL": url, "PartitionKey": SITE, "READ_ACCESS": "open"}
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        return values | {name: os.environ[name] for name in ["AZURITE"] if name in os.environ}

    return give


@pytest.fixture(autouse=True)
def _import_state(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("function_app", None)


async def calibrate(url):
    stores = open_stores(url, SITE)
    await stores.calibrations.put("cellar", Version(0, {"temperature": Line(2.0, -1.0)}))
    await stores.close()


async def kept(url):
    """Everything that a store holds: states and dead letters."""
    stores = open_stores(url, SITE)
    states = [stored.state async for stored in each(stores.devices.page)]
    letters = [letter async for letter in each(stores.dead_letters.page)]
    await stores.close()
    return states, letters


@asynccontextmanager
async def opened(directory):
    """The log, and its batches by partition."""
    log = await SqliteEventLog.open(directory)
    yield log, {partition: await log.read(partition, -1, 1000) for partition in EVENTS}
    await log.close()


def comparable(answer, headers):
    """An answer without what the clock says, and without what the HTTP server adds to the app's headers."""
    content = {name: value for name, value in answer.content.items() if name != "serverTime"}
    return answer.status, {name: answer.headers.get(name) for name in headers}, content


async def compare_answers(ours, worker):
    theirs, _ = await worker.http("GET", "/api/devices", function="devices")
    assert comparable(await ours.http("GET", "/api/devices"), theirs.headers) == comparable(theirs, theirs.headers)

    info = await ours.http("POST", "/api/negotiate")
    theirs, _ = await worker.http(
        "POST", "/api/negotiate", function="negotiate", inputs={"info": ("string", info.body.decode())}
    )
    assert comparable(info, theirs.headers) == comparable(theirs, theirs.headers)

    body = json.dumps({"viewer": VIEWER}).encode()
    theirs, shown = await worker.http("POST", "/api/getdevicestate", body, function="getdevicestate")
    answer = await ours.http("POST", "/api/getdevicestate", body)
    assert (answer.status, answer.body) == (theirs.status, theirs.body) == (202, b"")
    assert await ours.heard(len(shown)) == heard_by_viewers(shown) != []
    assert {one["userId"] for one in shown} == {VIEWER}


async def test_the_same_events_become_the_same_messages_answers_and_states(
    package, worker_python, store_urls, log_directory, settings, tmp_path
):
    our_url, their_url = store_urls
    for url in store_urls:
        await calibrate(url)
    for delivery, total in (("first", TOTAL), ("again", TOTAL + Ledger(duplicate=TOTAL.received))):
        async with (
            opened(log_directory) as (log, batches),
            azure_worker(worker_python, package, tmp_path, settings(their_url)) as worker,
        ):
            published = []
            for partition, batch in batches.items():
                published += await worker.telemetry(batch, partition, shorter=delivery == "again")
            async with our_host(package, log, settings(our_url)) as ours:
                heard = await ours.heard(len(published))
                assert sorted(heard, key=str) == sorted(heard_by_viewers(published), key=str) != []
                await compare_answers(ours, worker)
        states, letters = await kept(our_url)
        assert (states, letters) == await kept(their_url)
        assert sum((state.ledger for state in states), Ledger()) == total
        assert len(letters) == total.rejected
        (log_directory / "checkpoints.db").unlink()  # so everything comes again
    assert sorted(path.relative_to(package) for path in package.rglob("*") if path.is_file()) == shipped()


async def test_from_the_third_retry_on_the_worker_publishes_no_batch_without_news(
    package, worker_python, log_directory, settings, tmp_path
):
    url = f"sqlite://{tmp_path}/state.db"
    async with (
        opened(log_directory) as (_, batches),
        azure_worker(worker_python, package, tmp_path, settings(url)) as worker,
    ):
        assert await worker.telemetry(batches[0], 0, retry=3) != []
        assert await worker.telemetry(batches[0], 0, retry=2) != []
        assert await worker.telemetry(batches[0], 0, retry=3) == []


async def test_what_the_store_does_not_keep_fails_the_invocation_so_that_the_host_retries(
    package, worker_python, log_directory, settings, tmp_path
):
    url = f"sqlite://{log_directory}/events.db/state.db"  # a file is no directory
    async with (
        opened(log_directory) as (_, batches),
        azure_worker(worker_python, package, tmp_path, settings(url)) as worker,
    ):
        with pytest.raises(WorkerError, match=r"^StorageError: "):
            await worker.telemetry(batches[0], 0)


async def test_the_worker_and_our_host_index_the_same_functions(package, worker_python, settings, tmp_path):
    own = {function.name: function for function in load_app(package, {"IoTHubEventHubName": EVENT_HUB})}
    async with azure_worker(worker_python, package, tmp_path, settings("sqlite::memory:")) as worker:
        theirs = worker.functions
    assert theirs.keys() == own.keys()
    for name, function in own.items():
        bindings = [function.trigger, *function.inputs, *function.outputs]
        raw = {binding["name"]: binding for binding in map(json.loads, theirs[name]["raw_bindings"])}
        assert {binding.name: binding.type for binding in bindings} == {key: one["type"] for key, one in raw.items()}
        assert theirs[name]["script_file"] == "function_app.py"
    retry, policy = theirs["telemetry"]["retry_options"], own["telemetry"].retry
    assert (retry["max_retry_count"], retry["retry_strategy"]) == (policy.max_retries, "exponential_backoff")
    assert (retry["minimum_interval"], retry["maximum_interval"]) == (policy.minimum, policy.maximum)


@pytest.mark.parametrize(
    ("source", "words"),
    [(source, f"FunctionLoadError: {message}") for source, message in REFUSED]
    + [(source, message) for source, _, message in FAILING_OTHERWISE],
)
async def test_the_worker_refuses_an_app_in_the_words_that_our_host_uses(worker_python, tmp_path, source, words):
    (tmp_path / "function_app.py").write_text(HEAD + source)
    with pytest.raises(WorkerError) as caught:
        async with azure_worker(worker_python, tmp_path, tmp_path, {}):
            pass
    told = str(caught.value)
    assert told == words if words.startswith("FunctionLoadError") else words in told


def test_our_events_equal_the_converters_of_the_release_for_3_13_too(worker_python):
    script = Path(__file__).parents[1] / "localcloud/functions/event_fields.py"
    done = subprocess.run(
        [worker_python, "-P", "-B", script], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["azure-functions"].startswith("2.")
    assert told["compared"] > 0
    assert told["different"] == []
    assert set(FIELDS) <= set(told["fields"])

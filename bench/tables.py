"""State in Azure Tables, against the algorithm this project grew from, on an Azurite of its own, in one sitting.

    python bench/tables.py [--messages 20000] [--runs 3] [--json]

"enviromon" goes the real way: EventHubEvents are read, judged, folded, compared and set. "seed" does with each message
what the seed's function did: read the row, calibrate, validate, merge under the row's etag; then, for each device of
the batch, post the row to another function (here a server that only answers). Each run has fresh tables; the first
batches, which insert the rows, are not measured. Azurite slows down as its tables fill, and its own work is in every
figure: read them as ratios. "calls" are requests to the table service for each message, "posts" those to the other
function.
"""

import argparse
import gc
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import azure.functions as func
import requests
import uvloop
from azure.core import MatchConditions
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient, TableServiceClient, UpdateMode
from ingest import batches
from rich.console import Console
from rich.table import Table

from enviromon.events import to_batch
from enviromon.ingest import Ingest
from enviromon.reports import ledger_report
from enviromon.settings import Settings
from enviromon.stores import open_stores

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.azurite.server import Azurite

LOADS = ((100, 100), (100, 1000))
SEED_SHARE = 20
"""The seed is given a twentieth of the messages: it takes its time."""
SITE = "bench"

_prefixes = itertools.count(1)
Events = list[list[func.EventHubEvent]]


class Sink(BaseHTTPRequestHandler):
    """The function that passes rows on to SignalR, without SignalR."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def serve(server: ThreadingHTTPServer) -> None:
    server.serve_forever()


class Seed:
    """The seed's function, from its description: a read and a merge for each message, a post for each device."""

    def __init__(self, service: TableServiceClient, prefix: str, sink: str) -> None:
        self._states: TableClient = service.create_table(f"{prefix}DeviceState")
        self._calibrations: TableClient = service.create_table(f"{prefix}Calibration")
        self._known: dict[str, Any] = {}
        self._sink = sink
        self.calls = self.posts = 0

    def take(self, events: Sequence[func.EventHubEvent]) -> None:
        """Take a batch."""
        touched = {}
        for event in events:
            telemetry = json.loads(event.get_body())
            if (entity := self._update(telemetry)) is not None:
                touched[telemetry["deviceId"]] = entity
        for entity in touched.values():
            self.posts += 1
            requests.post(self._sink, json=dict(entity), timeout=10)

    def _update(self, telemetry: dict[str, Any]) -> dict[str, Any] | None:
        device = telemetry["deviceId"]
        for _ in range(10):
            self.calls += 2
            etag = None
            try:
                entity: Any = self._states.get_entity(SITE, device)
                etag = entity.metadata["etag"]
            except ResourceNotFoundError:
                entity = {"PartitionKey": SITE, "RowKey": device, "DeviceId": device, "Count": 0}
            entity |= {
                "Count": entity["Count"] + 1, "Id": telemetry["messageId"], "Celsius": telemetry["temperature"],
                "Humidity": telemetry["humidity"], "hPa": telemetry["pressure"], "Light": telemetry["light"],
            }  # fmt: skip
            self._calibrate(device, entity)
            if not (-40 <= entity["Celsius"] <= 80 and 600 <= entity["hPa"] <= 1600 and 0 <= entity["Humidity"] <= 100):
                return None
            if etag is None:
                self._states.create_entity(entity)
            else:
                self._states.update_entity(
                    entity, UpdateMode.MERGE, etag=etag, match_condition=MatchConditions.IfNotModified
                )
            return dict(entity)
        return None

    def _calibrate(self, device: str, entity: dict[str, Any]) -> None:
        if device not in self._known:
            self.calls += 1
            try:
                self._known[device] = self._calibrations.get_entity(SITE, device)
            except ResourceNotFoundError:
                self._known[device] = None
        if (line := self._known[device]) is not None:
            entity["Celsius"] = entity["Celsius"] * line["TemperatureSlope"] + line["TemperatureYIntercept"]


def measure_seed(azurite: Azurite, sink: str, made: Events, warm_up: int) -> dict[str, float]:
    """Return messages per second, and calls per message."""
    with TableServiceClient.from_connection_string(azurite.connection_string()) as service:
        seed = Seed(service, f"seed{next(_prefixes)}", sink)
        for events in made[:warm_up]:
            seed.take(events)
        seed.calls = seed.posts = 0
        start = time.perf_counter()
        for events in made[warm_up:]:
            seed.take(events)
        seconds = time.perf_counter() - start
    messages = sum(map(len, made[warm_up:]))
    return {"msg/s": messages / seconds, "calls": seed.calls / messages, "posts": seed.posts / messages}


class Requests:
    """Counts whatever aiohttp sends."""

    def __init__(self) -> None:
        self.count = 0
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(self._sent)
        session = aiohttp.ClientSession.__init__

        def traced(*arguments: Any, **options: Any) -> None:
            session(*arguments, trace_configs=[trace], **options)

        aiohttp.ClientSession.__init__ = traced  # type: ignore[method-assign]

    async def _sent(self, *_: object) -> None:
        self.count += 1


async def measure(azurite: Azurite, sent: Requests, made: Events, warm_up: int) -> dict[str, float]:
    """Return messages per second, and calls per message."""
    environment = {"AZURITE": azurite.connection_string()}
    stores = open_stores(f"azure-tables:AZURITE/own{next(_prefixes)}", SITE, environment=environment)
    ingest = Ingest(stores, Settings())
    for events in made[:warm_up]:
        await ingest.ingest(to_batch(events))
    gc.freeze()
    sent.count = 0
    start, cpu = time.perf_counter(), time.process_time()
    for events in made[warm_up:]:
        await ingest.ingest(to_batch(events))
    seconds, cpu, calls = time.perf_counter() - start, time.process_time() - cpu, sent.count
    report = await ledger_report(stores.devices)
    await stores.close()
    total = sum(map(len, made))
    if (report["accepted"], report["received"]) != (total, total):
        raise AssertionError(f"{total} messages sent, the ledger says {report}")
    messages = sum(map(len, made[warm_up:]))
    own = cpu / (len(made) - warm_up) * 1000
    return {"msg/s": messages / seconds, "calls": calls / messages, "posts": 0.0, "own CPU ms/batch": own}


def main() -> None:
    parser = argparse.ArgumentParser(description="State in Azure Tables against the seed's algorithm.")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    sink = multiprocessing.get_context("fork").Process(target=serve, args=(server,), daemon=True)
    sink.start()
    sent = Requests()
    results = {}
    with tempfile.TemporaryDirectory() as directory:
        azurite = Azurite(Path(directory))
        azurite.start()
        try:
            for devices, size in LOADS:
                runs: dict[str, list[dict[str, float]]] = {"seed": [], "enviromon": []}
                warm_up = max(1, devices // size)
                for _ in range(arguments.runs):
                    few = batches(devices, size, warm_up + max(1, arguments.messages // SEED_SHARE // size))
                    runs["seed"].append(measure_seed(azurite, f"http://127.0.0.1:{server.server_port}/", few, warm_up))
                    many = batches(devices, size, warm_up + max(1, arguments.messages // size))
                    runs["enviromon"].append(uvloop.run(measure(azurite, sent, many, warm_up)))
                found = {
                    who: {name: median(run[name] for run in taken) for name in taken[0]} for who, taken in runs.items()
                }
                found["enviromon"]["times the seed"] = found["enviromon"]["msg/s"] / found["seed"]["msg/s"]
                results[f"{devices} devices, batch {size}"] = found
        finally:
            azurite.stop()
            sink.terminate()
    if arguments.json:
        print(json.dumps({"cores": os.cpu_count(), **results}, indent=2))
        return
    table = Table(title=f"state in Azure Tables (Azurite), {os.cpu_count()} cores")
    columns = ("msg/s", "times the seed", "calls", "posts", "own CPU ms/batch")
    for column in ("load", "", *columns):
        table.add_column(column, justify="left" if column in {"load", ""} else "right")
    for load, found in results.items():
        for who, result in found.items():
            shown = [f"{result[name]:,.{0 if name == 'msg/s' else 3}f}" if name in result else "" for name in columns]
            table.add_row(load, who, *shown)
    Console().print(table)


if __name__ == "__main__":
    main()

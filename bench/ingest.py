"""The solution by itself: batches of an Event Hub trigger into device state, without hub, host or SignalR.

    python bench/ingest.py [--messages 60000] [--runs 3] [--json]

Each batch goes the real way, with real EventHubEvents: read, judged, folded, compared and set in SQLite (WAL,
synchronous=FULL, one transaction a batch), and the message to the viewers written. "ingest" stops before that message.
The first batches, which insert the devices, are not measured. The state must hold every message once, or it fails.
"""

import argparse
import datetime as dt
import gc
import json
import tempfile
import time
from itertools import islice
from statistics import median

import azure.functions as func
import uvloop
from azure.functions.meta import Datum
from readings import EPOCH_MS, bodies
from rich.console import Console
from rich.table import Table

from enviromon.events import to_batch
from enviromon.ingest import Ingest
from enviromon.reports import ledger_report
from enviromon.settings import Settings
from enviromon.stores import open_stores
from enviromon.updates import messages

LOADS = ((100, 1000), (100, 100), (10_000, 1000), (10_000, 100))
CONTEXT = {"FullyQualifiedNamespace": "bench", "EventHubName": "bench", "ConsumerGroup": "bench", "PartitionId": "0"}
START = dt.datetime.fromtimestamp(EPOCH_MS / 1000, dt.UTC).replace(tzinfo=None) + dt.timedelta(days=1)


def batches(devices: int, size: int, count: int) -> list[list[func.EventHubEvent]]:
    """Make `count` batches in which the devices take turns."""
    metadata = {"PartitionContext": Datum(json.dumps(CONTEXT), "json")}
    hub = [{"connection-device-id": f"device-{number}", "message-source": "Telemetry"} for number in range(devices)]
    streams = [bodies(f"device-{number}", number) for number in range(devices)]
    events = [
        func.EventHubEvent(
            body=next(streams[number % devices]),
            trigger_metadata=metadata,
            enqueued_time=START + dt.timedelta(milliseconds=number),
            sequence_number=number,
            iothub_metadata=hub[number % devices],
        )
        for number in range(size * count)
    ]
    return [list(islice(events, start, start + size)) for start in range(0, len(events), size)]


async def measure(devices: int, size: int, total: int) -> dict[str, float]:
    """Return messages per second for one load."""
    warm_up = max(1, devices // size)
    made = batches(devices, size, warm_up + max(1, total // size))
    with tempfile.TemporaryDirectory() as directory:
        stores = open_stores(f"sqlite://{directory}/state.db", "bench")
        ingest = Ingest(stores, Settings())
        gc.freeze()
        ingesting = publishing = 0.0
        for number, events in enumerate(made):
            start = time.perf_counter()
            done = await ingest.ingest(to_batch(events))
            between = time.perf_counter()
            messages(done.states)
            if number >= warm_up:
                ingesting += between - start
                publishing += time.perf_counter() - between
        report = await ledger_report(stores.devices)
        await stores.close()
    sent = size * len(made)
    if (report["accepted"], report["received"]) != (sent, sent):
        raise AssertionError(f"{sent} messages sent, the ledger says {report}")
    measured = size * (len(made) - warm_up)
    return {"ingest": measured / ingesting, "ingest and message": measured / (ingesting + publishing)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Ingest by itself.")
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {}
    for devices, size in LOADS:
        runs = [uvloop.run(measure(devices, size, arguments.messages)) for _ in range(arguments.runs)]
        results[f"{devices} devices, batch {size}"] = {name: median(run[name] for run in runs) for name in runs[0]}
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    table = Table(title="ingest, SQLite synchronous=FULL, messages per second")
    table.add_column("load")
    for name in next(iter(results.values())):
        table.add_column(name, justify="right")
    for load, result in results.items():
        table.add_row(load, *[f"{value:,.0f}" for value in result.values()])
    Console().print(table)


if __name__ == "__main__":
    main()

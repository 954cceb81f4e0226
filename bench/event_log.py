"""The event log by itself: what appending, committing and reading cost, without sockets.

    python bench/event_log.py [--seconds 4] [--devices 100] [--window 20] [--json]

Devices submit `window` events at a time and the next ones once those are durable, as a hub's connections do; one
consumer per partition reads, checks that no sequence number is missing, and checkpoints. Disk bytes are the file's
used pages after the run. The slow part has each device send one event a second, so that most blocks hold one event.
"""

import argparse
import asyncio
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import uvloop
from readings import bodies
from rich.console import Console
from rich.table import Table

from localcloud.iothub.event_log import Envelope, Event, SqliteEventLog, partition_of
from localcloud.iothub.group_commit import GroupCommit

GROUP = "bench"


def envelope(device: str) -> Envelope:
    """What the hub says about each message of a device."""
    method = '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}'
    return Envelope(
        {
            "iothub-connection-device-id": device,
            "iothub-connection-auth-method": method,
            "iothub-connection-auth-generation-id": f"{abs(hash(device)) % 10**18:018d}",
            "iothub-message-source": "Telemetry",
        },
        {},
    )


class Devices:
    """The senders: each has one submission under way, and counts what is durable."""

    def __init__(self, count: int, window: int, log: SqliteEventLog) -> None:
        self.durable = 0
        self.commits = GroupCommit(log, on_full=lambda: None, on_room=lambda: None)
        self._window = window
        self._stopped = False
        self._senders = [self._sender(f"device-{number}", number, log.partitions) for number in range(count)]

    def _sender(self, device: str, seed: int, partitions: int) -> Callable[[], None]:
        shared = envelope(device)
        prepared = [Event(shared, body) for body in islice(bodies(device, seed), 2000)]
        runs = [prepared[start : start + self._window] for start in range(0, len(prepared), self._window)]
        partition = partition_of(device, partitions)
        turn = 0

        def send() -> None:
            nonlocal turn
            run = runs[turn % len(runs)]
            turn += 1
            self.commits.submit(partition, run, sum(len(event.body) for event in run), lambda: durable(len(run)))

        def durable(count: int) -> None:
            self.durable += count
            if not self._stopped:
                send()

        return send

    def start(self) -> None:
        for send in self._senders:
            send()

    def stop(self) -> None:
        self._stopped = True

    async def trickle(self, seconds: float) -> None:
        """Let each device send once a second, spread evenly."""
        self.stop()
        for _ in range(int(seconds)):
            for send in self._senders:
                send()
                await asyncio.sleep(1 / len(self._senders))


async def consume(log: SqliteEventLog, partition: int, lags: list[float]) -> None:
    done = -1
    while True:
        events = await log.read(partition, done, 1000)
        if not events:
            await log.wait(partition, done)
            continue
        numbers = [event.sequence_number for event in events]
        if numbers != list(range(done + 1, done + 1 + len(numbers))):
            raise AssertionError(f"a gap in partition {partition} after {done}")
        done = numbers[-1]
        lags.append(time.time() * 1000 - events[-1].enqueued_time)
        await log.commit(GROUP, partition, done)


async def measure(arguments: argparse.Namespace, *, slow: bool) -> dict[str, float]:
    """Return the figures of `devices`, `window` and `seconds`."""
    with tempfile.TemporaryDirectory() as directory:
        log = await SqliteEventLog.open(Path(directory))
        await log.register(GROUP)
        devices = Devices(arguments.devices, 1 if slow else arguments.window, log)
        committing = asyncio.create_task(devices.commits.run())
        lags: list[float] = []
        consumers = [asyncio.create_task(consume(log, partition, lags)) for partition in range(log.partitions)]
        started, cpu = time.perf_counter(), time.process_time()
        if slow:
            await devices.trickle(arguments.seconds)
        else:
            devices.start()
            await asyncio.sleep(arguments.seconds)
            devices.stop()
        await devices.commits.close()
        await committing
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        await caught_up(log, devices.durable)
        for consumer in consumers:
            consumer.cancel()
        await asyncio.gather(*consumers, return_exceptions=True)
        await log.close()
        return {
            "events": devices.durable,
            "events_per_second": devices.durable / seconds,
            "cpu_us_per_event": cpu * 1e6 / devices.durable,
            "lag_ms_p50": sorted(lags)[len(lags) // 2],
            "lag_ms_p99": sorted(lags)[len(lags) * 99 // 100],
            **file_figures(Path(directory) / "events.db", devices.durable),
        }


async def caught_up(log: SqliteEventLog, events: int, *, group: str = GROUP, seconds: float = 30) -> None:
    """Wait until the checkpoints add up to what is durable. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            checkpoints = [await log.checkpoint(group, partition) for partition in range(log.partitions)]
            if sum(checkpoint + 1 for checkpoint in checkpoints) == events:
                return
            await asyncio.sleep(0.01)


def file_figures(path: Path, events: int) -> dict[str, float]:
    connection = sqlite3.connect(path)
    ((blocks, stored),) = connection.execute("SELECT count(*), sum(count) FROM blocks").fetchall()
    ((pages, page_size),) = connection.execute("SELECT * FROM pragma_page_count(), pragma_page_size()").fetchall()
    connection.close()
    if stored != events:
        raise AssertionError(f"{stored} events stored of {events}")
    return {"events_per_block": stored / blocks, "bytes_per_event": pages * page_size / stored}


def main() -> None:
    parser = argparse.ArgumentParser(description="The event log by itself.")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--window", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {
        name: uvloop.run(measure(arguments, slow=slow))
        for name, slow in (("as fast as it goes", False), ("slow", True))
    }
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    table = Table(title=f"event log, synchronous=FULL, {arguments.devices} devices, window {arguments.window}")
    table.add_column("")
    for name in results:
        table.add_column(name, justify="right")
    for figure in results["slow"]:
        table.add_row(figure.replace("_", " "), *[f"{result[figure]:,.2f}" for result in results.values()])
    Console().print(table)


if __name__ == "__main__":
    main()

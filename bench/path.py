"""The whole path: devices -> MQTT -> event log -> function -> device state -> SignalR -> a viewer. Prints one table.

    python bench/path.py [--devices 100] [--window 20] [--seconds 5] [--runs 3] [--workers 0] [--json]

Starts `enviromon up` with a data directory of its own; the load comes from bench/load.py in another process, the viewer
is a SignalR client in this one. All of them share the machine's processors.
A run counts only if its numbers add up: what was acknowledged = what the log stored = what the ledger received
= accepted + duplicate + late + rejected, and the viewer was shown every reading's effect.
acknowledged/s: to the last PUBACK. stored/s: what the log's file holds, over the same time. broadcast/s: to the moment
when the viewer's counts are complete. Latency: from the device's write to the viewer's receipt of a state that
contains the message, at 1,000 messages a second over all devices.
Processor time is the system's, from the first publish until the viewer has seen the last; connecting is in no figure.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from load import TOPIC, Device, Result, alone, connect_all, paced
from processes import allow_many_files
from rich.console import Console
from rich.table import Table
from system import System, register
from viewer import Viewer, watching

CATCH_UP_SECONDS = 120.0
LATENCY_RATE = 1000
IDLE_SECONDS = 2.0
OUTCOMES = ("accepted", "duplicate", "late", "rejected")


class Run(msgspec.Struct, frozen=True):
    """One throughput run, its numbers verified."""

    acknowledged_per_second: float
    stored_per_second: float
    broadcast_per_second: float
    messages: int
    broadcasts: int
    system_cpu_us: float
    system_rss_mb: float


class Load(msgspec.Struct, frozen=True):
    """What the generator does: `window` messages in flight on the connection of each device, for so many seconds."""

    devices: int
    window: int
    seconds: float


async def generate(
    devices_file: Path,
    port: int,
    load: Load,
    *,
    ca_file: Path | None = None,
    topic: str = TOPIC,
    at_start: Callable[[], None] = lambda: None,
) -> Result:
    """Run bench/load.py; `at_start` is called when all devices are connected. Raises RuntimeError where it fails."""
    command = [
        *(sys.executable, Path(__file__).with_name("load.py"), "--json", "--hold", "--port", port, "--topic", topic),
        *("--devices", devices_file, "--window", load.window, "--seconds", load.seconds),
        *(("--ca", ca_file) if ca_file else ()),
    ]
    pipe = asyncio.subprocess.PIPE
    generator = await asyncio.create_subprocess_exec(*map(str, command), stdin=pipe, stdout=pipe)
    assert generator.stdout is not None
    if await generator.stdout.readline():
        at_start()
    output, _ = await generator.communicate(b"go\n")
    if generator.returncode:
        raise RuntimeError(f"the load generator failed with {generator.returncode}")
    return msgspec.json.decode(output, type=Result)


async def throughput(
    system: System, viewer: Viewer, devices_file: Path, load: Load, *, tls: bool = False, unread: int = 0
) -> Run:
    """Load for a while, let the viewer catch up, and check the sums.

    `unread` events were in the log before the system, and counted as finished.
    """
    before = (system.stored(), viewer.total, viewer.messages)
    used = []
    result = await generate(
        devices_file,
        system.ports["mqtt" if tls else "mqtt-plain"],
        load,
        ca_file=system.ca_file if tls else None,
        at_start=lambda: used.append(system.cpu_seconds()),
    )
    stored = system.stored() - before[0]
    await viewer.until(before[1] + result.acknowledged, CATCH_UP_SECONDS)
    broadcast_seconds = viewer.last_news - result.started
    cpu = system.cpu_seconds() - used[0]
    check(system, viewer, stored=stored, acknowledged=result.acknowledged, unread=unread)
    return Run(
        acknowledged_per_second=result.per_second,
        stored_per_second=stored / result.seconds,
        broadcast_per_second=result.acknowledged / broadcast_seconds,
        messages=result.acknowledged,
        broadcasts=viewer.messages - before[2],
        system_cpu_us=cpu * 1e6 / result.acknowledged,
        system_rss_mb=system.rss() / 1e6,
    )


def check(system: System, viewer: Viewer, *, stored: int, acknowledged: int, unread: int = 0) -> None:
    """Raise AssertionError unless every count says the same."""
    ledger = system.ledger()
    counts = {
        "acknowledged and stored in this run": (acknowledged, stored),
        "stored and received in all": (system.stored() - unread, ledger["received"]),
        "received and the sum of its outcomes": (ledger["received"], sum(ledger[outcome] for outcome in OUTCOMES)),
        "accepted and shown": (ledger["accepted"] + ledger["late"], viewer.total),
    }
    for what, (one, other) in counts.items():
        if one != other:
            raise AssertionError(f"{what}: {one} != {other}; the ledger: {ledger}")


async def latency(system: System, viewer: Viewer, devices: list[Device], seconds: float) -> dict[str, float]:
    """Measure each message's way to the viewer in ms, and the share of a processor that the system takes meanwhile."""
    senders = await connect_all(devices, system.ports["mqtt-plain"], None, readings=numbered)
    before, cpu = viewer.total, system.cpu_seconds()
    viewer.marks.clear()
    viewer.marking = True
    sent = await paced(senders, LATENCY_RATE, seconds)
    cpu = system.cpu_seconds() - cpu
    await viewer.until(before + sum(map(len, sent)), CATCH_UP_SECONDS)
    viewer.marking = False
    for sender in senders:
        sender.close()
    ways = sorted(
        (shown - at) * 1000
        for device, times in zip(devices, sent, strict=True)
        for at, shown in zip(times, arrivals(len(times), viewer.marks[device.device_id]), strict=True)
    )
    return {
        "p50": ways[len(ways) // 2],
        "p99": ways[len(ways) * 99 // 100],
        "max": ways[-1],
        "messages": len(ways),
        "system_cpu_percent": 100 * cpu / seconds,
    }


def numbered(device: Device, _: int) -> Iterator[bytes]:
    """Yield readings of which `light` tells the number."""
    for number in count():
        yield json.dumps(
            {"deviceId": device.device_id, "temperature": 21.5, "humidity": 45.0, "light": number}
        ).encode()


def arrivals(messages: int, marks: Iterable[tuple[float, float]]) -> Iterator[float]:
    """Yield when each message of a device was first contained in what the viewer saw."""
    number = 0
    for light, at in marks:
        while number <= light and number < messages:
            yield at
            number += 1


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    load = Load(options.devices, options.window, options.seconds)
    workers = f"--workers={options.workers}"
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        with System(data, workers) as system:
            first_start = system.ready_seconds
        devices, devices_file = register(data, load.devices)
        with System(data, workers) as system:
            await asyncio.sleep(IDLE_SECONDS)
            idle = system.rss()
            async with watching(system.url) as viewer:
                ways = await latency(system, viewer, devices, options.seconds)
                runs = {
                    name: [await throughput(system, viewer, devices_file, load, tls=tls) for _ in range(options.runs)]
                    for name, tls in (("plain", False), ("TLS", True))
                }
    return {
        "throughput": {name: msgspec.structs.asdict(median(some)) for name, some in runs.items()},
        "latency_ms": ways,
        "idle_rss_mb": idle / 1e6,
        "start_seconds": {"first": first_start, "again": system.ready_seconds},
    }


def median(runs: list[Run]) -> Run:
    """Return the run in the middle by what was broadcast."""
    middle = statistics.median_low(run.broadcast_per_second for run in runs)
    return next(run for run in runs if run.broadcast_per_second == middle)


def show(results: dict[str, Any], options: argparse.Namespace) -> None:
    table = Table(title=f"{options.devices} devices, window {options.window}, QoS 1, median of {options.runs}")
    table.add_column("")
    for name in results["throughput"]:
        table.add_column(name, justify="right")
    for figure in Run.__struct_fields__:
        row = [results["throughput"][name][figure] for name in results["throughput"]]
        table.add_row(figure.replace("_per_second", "/s").replace("_", " "), *[f"{value:,.1f}" for value in row])
    table.add_section()
    ways, start = results["latency_ms"], results["start_seconds"]
    table.add_row(f"latency at {LATENCY_RATE:,}/s, p50 / p99, ms", f"{ways['p50']:.1f} / {ways['p99']:.1f}", "")
    table.add_row(f"processor at {LATENCY_RATE:,}/s, %", f"{ways['system_cpu_percent']:.0f}", "")
    table.add_row("idle RSS, MB", f"{results['idle_rss_mb']:.0f}", "")
    table.add_row("start, first / again, s", f"{start['first']:.2f} / {start['again']:.2f}", "")
    table.add_row("generator alone, messages/s", f"{results['generator_alone_per_second']:,.0f}", "")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="The whole path, from a device to a viewer.")
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--window", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="processes of their own for the function")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    allow_many_files()
    generator = alone(options.devices, options.window, 2.0).per_second
    results = {**uvloop.run(measure(options)), "generator_alone_per_second": generator}
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        show(results, options)


if __name__ == "__main__":
    main()

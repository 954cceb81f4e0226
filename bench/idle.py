"""What idle devices cost: connects many to a system of its own and compares its memory before and after.

    python bench/idle.py [--connections N] [--tls] [--json]

The system is `enviromon up` with its usual limits. Every device has its own key and token, and gets its CONNACK; then
nobody says anything for a while. RSS is of all the system's processes, read from /proc.
"""

import argparse
import asyncio
import json
import ssl
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop
from load import Device, connect_all
from processes import allow_many_files
from system import System, register

SETTLE_SECONDS = 3.0


class Result(msgspec.Struct, frozen=True):
    """Bytes are resident memory; `lost` are connections that did not last."""

    connections: int
    tls: bool
    seconds: float
    lost: int
    before_mb: float
    after_mb: float
    growth_mb: float
    growth_kb_per_connection: float


def nothing(_device: Device, _number: int) -> list[bytes]:
    return []


def settled_rss(system: System) -> int:
    """Return the memory once it has stood still for a moment."""
    time.sleep(SETTLE_SECONDS)
    return system.rss()


async def measure(system: System, devices: list[Device], *, tls: bool) -> Result:
    context = ssl.create_default_context(cafile=system.ca_file) if tls else None
    before = await asyncio.to_thread(settled_rss, system)
    started = time.perf_counter()
    idlers = await connect_all(devices, system.ports["mqtt" if tls else "mqtt-plain"], context, readings=nothing)
    seconds = time.perf_counter() - started
    after = await asyncio.to_thread(settled_rss, system)
    lost = sum(idler.settled.done() for idler in idlers)
    for idler in idlers:
        idler.close()
    growth = after - before
    return Result(
        connections=len(idlers),
        tls=tls,
        seconds=round(seconds, 2),
        lost=lost,
        before_mb=round(before / 1e6, 1),
        after_mb=round(after / 1e6, 1),
        growth_mb=round(growth / 1e6, 1),
        growth_kb_per_connection=round(growth / 1e3 / len(idlers), 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    allow_many_files()
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        devices, _ = register(data, options.connections)
        with System(data) as system:
            result = uvloop.run(measure(system, devices, tls=options.tls))
    if options.json:
        print(json.dumps(msgspec.to_builtins(result)))
    else:
        kind = "over TLS" if result.tls else "plain"
        print(
            f"{result.connections:,} idle connections, {kind}: {result.growth_mb} MB more "
            f"({result.growth_kb_per_connection} kB each), connected in {result.seconds} s, {result.lost} lost"
        )


if __name__ == "__main__":
    main()

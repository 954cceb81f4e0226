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
from typing import Any

import msgspec
import uvloop
from load import CONNACK_ACCEPTED, Device, connect
from system import System, register

AT_ONCE = 200
SETTLE_SECONDS = 3.0
ADDRESSES = 4
"""Client addresses: one has 28,000 ports for one address of the server, some of them still in TIME_WAIT."""


class Idler(asyncio.Protocol):
    """One device that connects and says nothing more."""

    def __init__(self, device: Device) -> None:
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._device = device
        self._transport: Any = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(connect(self._device))

    def data_received(self, data: bytes) -> None:
        if self.connected.done():
            return
        if data in CONNACK_ACCEPTED:
            self.connected.set_result(None)
        else:
            self.connected.set_exception(RuntimeError(f"CONNACK {data!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.connected.done():
            self.connected.set_exception(exc or RuntimeError("turned away"))

    def close(self) -> None:
        self._transport.abort()


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


async def connect_all(devices: list[Device], port: int, tls: ssl.SSLContext | None) -> list[Idler]:
    """Connect them, so many at once."""
    loop, turn = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)

    async def one(number: int, device: Device) -> Idler:
        async with turn:
            _, idler = await loop.create_connection(
                lambda: Idler(device),
                "127.0.0.1",
                port,
                ssl=tls,
                server_hostname="localhost" if tls else None,
                local_addr=(f"127.0.0.{2 + number % ADDRESSES}", 0),
            )
            await idler.connected
            return idler

    return list(await asyncio.gather(*(one(number, device) for number, device in enumerate(devices))))


def settled_rss(system: System) -> int:
    """Return the memory once it has stood still for a moment."""
    time.sleep(SETTLE_SECONDS)
    return system.rss()


async def measure(system: System, devices: list[Device], *, tls: bool) -> Result:
    context = ssl.create_default_context(cafile=system.ca_file) if tls else None
    before = await asyncio.to_thread(settled_rss, system)
    started = time.perf_counter()
    idlers = await connect_all(devices, system.ports["mqtt" if tls else "mqtt-plain"], context)
    seconds = time.perf_counter() - started
    after = await asyncio.to_thread(settled_rss, system)
    lost = sum(idler.lost for idler in idlers)
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


def raise_descriptor_limit(wanted: int) -> None:
    import resource  # noqa: PLC0415 - not there on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    raise_descriptor_limit(options.connections + 100)
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        data.mkdir()
        devices = register(data, options.connections)
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

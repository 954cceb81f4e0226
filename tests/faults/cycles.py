"""Cycles of faults: devices send, something dies, the system starts again, and everything must add up.

A cycle starts the system with faults of its own, kills what its kind says, starts it again and settles: devices send
again what was not acknowledged, and stop. Then the books are compared (book.py), and the viewer's screen with the API.
The data directory, the devices and the viewer stay the same through all cycles.
"""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self, get_args

import aiohttp
import msgspec

from enviromon.device_client import HubAddress
from enviromon.stores import open_stores
from localcloud.faults.injector import EXIT_STATUS
from localcloud.faults.plan import Point
from tests.faults.book import Book
from tests.faults.fleet import OwnDevice, SdkDevice, Tap
from tests.faults.screen import Screen, devices
from tests.system.systems import System, workers_of

POINTS = get_args(Point)
WORKER_POINTS = tuple(point for point in POINTS if not point.startswith("append."))
KINDS = (
    *("kill -9", "SIGTERM"),
    *(f"exit at {point}" for point in POINTS),
    *("kill -9", "kill one worker", "kill all workers"),
)
SETTLE_SECONDS = 45.0
GENTLE = """
seed = {seed}
[[fault]]
point = "read.begins"
action = "redeliver"
events = {events}
probability = 0.05
[[fault]]
point = "append.begins"
action = "duplicate"
probability = 0.01
[[fault]]
point = "append.begins"
action = "delay"
seconds = 0.02
probability = 0.05
[[fault]]
point = "append.ended"
action = "fail"
probability = 0.02
[[fault]]
point = "function.begins"
action = "delay"
seconds = 0.02
probability = 0.02
[app_settings]
STORE_FAULTS = "devices.compare_and_set=lose_answer:0.03 {more}"
STORE_FAULTS_SEED = "{seed}"
STORE_FAULTS_UNLOCK = "this store fails on purpose"
"""
ROUGH_STORES = "devices.compare_and_set=full:0.005:2 dead_letters.add=lose_answer:0.05"
ROUGH = """
[[fault]]
point = "{point}"
action = "{action}"
function = "telemetry"
seconds = 0.1
skip = {skip}
times = 1
"""
EXIT = """
[[fault]]
point = "{point}"
action = "delay"
seconds = {seconds}
skip = {skip}
{function}
[[fault]]
point = "{point}"
action = "exit"
skip = {skip}
{function}
"""
"""It dwells there first: what must not have happened by then has time to happen."""


class Report(msgspec.Struct):
    """One cycle in figures."""

    number: int
    kind: str
    seed: int
    workers: int
    is_rough: bool
    acknowledged: int = 0
    repeated: int = 0
    events: int = 0
    bad: int = 0
    deaths: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        how = f"{self.workers} workers" if self.workers else "one process"
        return (
            f"{self.number:4}  {self.kind:26}  {how:11} {'rough ' if self.is_rough else '      '} seed {self.seed:<11}"
            f"{self.acknowledged:6} acknowledged {self.repeated:4} sent again {self.events:6} events {self.bad:4} bad"
            f" {self.deaths:3} deaths {self.seconds:5.1f} s  exact"
        )


class Rig:
    """The system with its devices, its viewer and its books."""

    def __init__(self, directory: Path, *, own: int, sdk: int, seed: int) -> None:
        self.system = System(directory / "data", directory / "up.log")
        self.book = Book(self.system.data)
        self.screen = Screen()
        self.tap = Tap()
        self.devices: list[OwnDevice | SdkDevice] = []
        self._plan = directory / "faults.toml"
        self._own, self._sdk = own, sdk
        self._random = random.Random(seed)
        self._stores = open_stores(f"sqlite://{self.system.data}/state.db", "enviromon")
        self._tasks: list[asyncio.Task[None]] = []
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Register the devices and start them and the viewer; the system runs within."""
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    def acknowledged(self) -> list[tuple[str, int]]:
        """Return up to which message each device is acknowledged."""
        return [(device.device_id, device.acknowledged) for device in self.devices]

    async def _open(self) -> None:
        await asyncio.to_thread(self.system.start)
        ready = self.system.ready
        ids = [f"own-{n}" for n in range(self._own)] + [f"sdk-{n}" for n in range(self._sdk)]
        added = [await asyncio.to_thread(self.system.device, device_id) for device_id in ids]
        hub = HubAddress(
            self.system.address, ready["ports"]["mqtt"], ssl.create_default_context(cafile=ready["caFile"])
        )
        for device in added:
            name = device["deviceId"]
            if name.startswith("own"):
                self.devices.append(OwnDevice(name, device["primaryKey"], hub, self.tap))
            else:
                self.devices.append(SdkDevice(name, device["connectionString"], Path(ready["caFile"]), self.tap))
        self.screen.url = self.system.url
        self._tasks = [asyncio.create_task(device.run()) for device in self.devices]
        self._watch = asyncio.create_task(self.screen.run())

    async def _close(self) -> None:
        self.tap.is_open, self.tap.is_broken = False, True
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            _, stuck = await asyncio.wait(self._tasks, timeout=15)
            for task in stuck:  # a device waits for ever where a hub takes nothing
                task.cancel()
        await self._stores.close()
        if self.system.process is not None:
            await asyncio.to_thread(self.system.stop)

    async def cycle(self, number: int, kind: str, *, workers: int, is_rough: bool) -> Report:
        """Raises AssertionError where anything does not add up."""
        started = time.monotonic()
        report = Report(number, kind, self._random.randrange(1 << 32), workers, is_rough)
        chance = random.Random(report.seed)
        before = self._totals()
        if self.system.process is not None:
            # Nothing is under way: an idle system dies as well now and then.
            await asyncio.to_thread(self.system.stop, chance.choice([signal.SIGTERM, signal.SIGKILL]))
        await self._start(chance, kind, workers, is_rough=is_rough)
        self.tap.is_open = True
        await self._die(chance, kind, workers, report)
        if chance.random() < 0.5:
            self.tap.is_open = False  # half of the restarts find devices that only send again
        held = self.acknowledged()
        await self._start(chance, "", workers if chance.random() < 0.5 else 0, is_rough=False)
        await asyncio.sleep(0.2)
        self.tap.is_open = False
        await self.settle(held)
        after = self._totals()
        report.acknowledged, report.repeated, report.events, report.bad = (
            new - old for new, old in zip(after, before, strict=True)
        )
        report.seconds = time.monotonic() - started
        return report

    def _totals(self) -> tuple[int, int, int, int]:
        return (
            sum(device.acknowledged for device in self.devices),
            sum(device.repeated for device in self.devices),
            self.book.events,
            len(self.book.bad_events),
        )

    async def _start(self, chance: random.Random, kind: str, workers: int, *, is_rough: bool) -> None:
        text = GENTLE.format(
            seed=chance.randrange(1000), events=chance.randint(1, 60), more=ROUGH_STORES if is_rough else ""
        )
        faults = ""
        if is_rough:
            point, action = chance.choice(
                [("function.returned", "fail"), ("output.begins", "time_out"), ("output.sent", "fail")]
            )
            faults += ROUGH.format(point=point, action=action, skip=chance.randint(0, 20))
        if kind.startswith("exit at "):
            point = kind.removeprefix("exit at ")
            function = 'function = "telemetry"' if point.startswith(("function.", "output.")) else ""
            faults += EXIT.format(
                point=point, skip=chance.randint(0, 30), function=function, seconds=chance.choice([0, 0.05])
            )
        table = text.index("[app_settings]")
        self._plan.write_text(text[:table] + faults + text[table:])
        await asyncio.to_thread(self.system.start, "--faults", self._plan, "--workers", str(workers))

    async def _die(self, chance: random.Random, kind: str, workers: int, report: Report) -> None:
        system, point = self.system, kind.removeprefix("exit at ")
        assert system.process is not None
        if kind.startswith("exit at ") and not (workers and point in WORKER_POINTS):
            status = await asyncio.to_thread(system.process.wait, 20)
            assert status == EXIT_STATUS, f"ended with {status} instead of {EXIT_STATUS} at {point}"
            assert system.process.stdout is not None
            system.process.stdout.close()
            system.process = None
            report.deaths += 1
            return
        if kind.startswith("exit at "):
            report.deaths += await self._deaths_of_workers(1, seconds=20)
        elif "worker" in kind:
            for _ in range(2):
                await asyncio.sleep(chance.uniform(0.1, 0.5))
                found = workers_of(system.process)
                for pid in found if "all" in kind else found[:1]:
                    os.kill(pid, signal.SIGKILL)
                    report.deaths += 1
        await asyncio.sleep(chance.uniform(0.1, 0.9))
        await asyncio.to_thread(system.stop, signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL)
        report.deaths += 1

    async def _deaths_of_workers(self, wanted: int, seconds: float) -> int:
        """Wait until so many workers have died at the point; tell how many did."""
        assert self.system.process is not None
        seen, gone = set(workers_of(self.system.process)), set[int]()
        deadline = time.monotonic() + seconds
        while len(gone) < wanted:
            assert time.monotonic() < deadline, "no worker ever came to the point"
            await asyncio.sleep(0.02)
            live = set(workers_of(self.system.process))
            gone |= seen - live
            seen |= live
        return len(gone)

    async def settle(self, held: list[tuple[str, int]]) -> None:
        """Wait until everything is acknowledged, counted and shown; then compare. `held` was acknowledged before."""
        for task in (*self._tasks, self._watch):
            if task.done():
                task.result()
        await _until(self._is_acknowledged, "acknowledged")
        await self.book.read()
        self.book.holds(held)
        self.book.holds((device.device_id, device.sent) for device in self.devices)
        await _until(lambda: self.book.is_counted(self._stores), "counted")
        await self.book.has_its_dead_letters(self._stores)
        try:
            await _until(self._is_shown, "shown to the viewer")
        except AssertionError as error:
            raise AssertionError(f"{error}: {await self._difference()}") from None

    async def _is_acknowledged(self) -> bool:
        return all(device.is_drained for device in self.devices)

    async def _is_shown(self) -> bool:
        try:
            stored = {view["deviceId"]: view for view in await devices(self.system.url)}
        except (aiohttp.ClientError, OSError):
            return False
        # By the log, not by the fleet: a device may have been cut off before its first message.
        return stored.keys() == self.book.accounts.keys() and self.screen.rows == stored

    async def _difference(self) -> str:
        stored, shown = {view["deviceId"]: view for view in await devices(self.system.url)}, self.screen.rows
        differing = {
            name: (stored.get(name), shown.get(name))
            for name in sorted({*stored, *shown, *self.book.accounts})
            if name not in stored or stored[name] != shown.get(name)
        }
        return f"the viewer {self.screen.doing}; stored and shown are {differing or 'the same'}"


async def _until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while not await holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not everything is {what} within {SETTLE_SECONDS:g} s")
        await asyncio.sleep(0.03)


def schedule(seed: int) -> Iterator[tuple[int, str, int, bool]]:
    """Number, kind, workers and roughness of cycle after cycle: each kind in turn, half of them with workers."""
    chance = random.Random(seed)
    offset = chance.randrange(len(KINDS))
    for number in itertools.count(1):
        kind = KINDS[(number + offset) % len(KINDS)]
        laps = (number - 1) // len(KINDS)
        with_workers = "worker" in kind or (number + laps) % 2 == 0
        yield number, kind, 2 if with_workers else 0, number % 4 == 0

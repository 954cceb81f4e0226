"""The rows of scripts/bench: how each figure is measured, and what is equal and what is not between it and its peers.

A measurement takes turns with its peers run by run, so that all of them see the same machine. Each yields one row or
more. `quick` shrinks every load until it proves only that the program works.
"""

import argparse
import asyncio
import json
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import fanout
import growth
import msgspec
from brokers import BROKERS, TOPIC, Broker, packages_here, subscribe
from figures import Promise, Row, Target, row
from load import Device, Sender, connect_all, paced, ring_length
from path import CATCH_UP_SECONDS, IDLE_SECONDS, Load, generate, latency, throughput
from readings import bodies
from system import System, register
from viewer import watching

from localcloud.certificates import Certificates, ensure_certificates

SECONDS = 5.0
FRAME_BYTES = 2048
READINGS_BEFORE_MEMORY = 5
LEDGER_SECONDS = 0.2
BROADCASTS_UNDER_WAY = 4
FED_EVENTS = 400_000
TABLES_MESSAGES = 20_000
COST = "CPU us/message"
FLEETS = {"1k": 1000, "10k": 10_000, "100k": 100_000}
LOGS = {"1m": 1_000_000, "10m": 10_000_000, "100m": 100_000_000}


class Effort(msgspec.Struct, frozen=True):
    """How much is done: so many runs, small loads where `quick`, and with `peers` those that are installed."""

    runs: int
    quick: bool
    peers: bool

    def load(self, devices: int, window: int) -> Load:
        """Return a load of this size, or a tiny one."""
        return Load(min(devices, 10), min(window, 5), 0.2) if self.quick else Load(devices, window, SECONDS)


class Measurement(msgspec.Struct, frozen=True):
    """A program for some rows. Those of `growth` are measured only when asked for."""

    rows: Mapping[str, Promise]
    measure: Callable[[Effort], Coroutine[Any, Any, list[Row]]]
    growth: bool = False


@contextmanager
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


class Contest(msgspec.Struct, frozen=True):
    """One row of the whole path against brokers."""

    name: str
    devices: int
    window: int
    workers: int
    brokers: Sequence[Broker] = ()
    tls: bool = False


async def path(effort: Effort, contest: Contest) -> list[Row]:
    """Messages/s that are acknowledged, stored, judged, counted and broadcast; each run's sums are checked.

    Equal: the generator, its devices, window, bodies and connections, MQTT 3.1.1 at QoS 1, the machine, and one client
    that watches; a run lasts until the client has everything that was acknowledged. Not equal: brokers get a shorter
    topic, any credentials will do, they forward each message as it is and promise less (bench/brokers.py says what
    each does); the client is sent every message there, and each device's newest state here.
    """
    load = effort.load(contest.devices, contest.window)
    brokers = [broker for broker in contest.brokers if effort.peers and broker.here()]
    with directory() as place:
        data = place / "data"
        _, devices_file = register(data, load.devices)
        with System(data, f"--workers={contest.workers}") as system, ExitStack() as serving:
            certificates = ensure_certificates(place / "certificates", ()) if contest.tls else None
            ports = {broker.name: serving.enter_context(broker.serving(place, certificates)) for broker in brokers}
            ours: list[float] = []
            theirs: dict[str, list[float]] = {name: [] for name in ports}
            async with watching(system.url) as viewer:
                for _ in range(effort.runs):
                    run = await throughput(system, viewer, devices_file, load, tls=contest.tls)
                    ours.append(run.broadcast_per_second)
                    for name, port in ports.items():
                        theirs[name].append(await forwarded(port, devices_file, load, certificates))
    return [row(contest.name, "messages/s", ours, theirs)]


async def forwarded(port: int, devices_file: Path, load: Load, certificates: Certificates | None) -> float:
    """Return the messages/s that a broker acknowledged and its subscriber received, all of them."""
    ca_file = certificates.ca_file if certificates else None
    subscriber = await subscribe(port, ssl.create_default_context(cafile=ca_file) if ca_file else None)
    try:
        result = await generate(devices_file, port, load, ca_file=ca_file, topic=TOPIC)
        await subscriber.until(result.acknowledged, CATCH_UP_SECONDS)
    finally:
        subscriber.close()
    if subscriber.received != result.acknowledged:
        raise AssertionError(f"acknowledged {result.acknowledged}, received {subscriber.received}")
    return result.acknowledged / (subscriber.last_receipt - result.started)


async def latencies(effort: Effort) -> list[Row]:
    """Measure from a device's write to the viewer's receipt of a state that holds it, ms.

    100 devices send 1,000 messages/s together, plain MQTT, to the default single process; devices and viewer share
    this program's process.
    """
    seconds = 0.5 if effort.quick else SECONDS
    with directory() as place:
        devices, _ = register(place / "data", 100)
        with System(place / "data") as system:
            async with watching(system.url) as viewer:
                found = [await latency(system, viewer, devices, seconds) for _ in range(effort.runs)]
    return [row(f"latency_{cut}_ms", "ms", [ways[cut] for ways in found]) for cut in ("p50", "p99")]


async def start(effort: Effort) -> list[Row]:
    """Measure a first start, in an empty directory with certificates to make, and the memory 2 s later."""
    ready, idle = [], []
    for _ in range(effort.runs):
        with directory() as place, System(place / "data") as system:
            ready.append(system.ready_seconds)
            await asyncio.sleep(IDLE_SECONDS)
            idle.append(system.rss() / 1e6)
    return [row("ready_s", "s", ready), row("idle_mb", "MB", idle)]


async def memory(effort: Effort) -> list[Row]:
    """Measure the memory of the default process with 10,000 devices connected, each of which has sent five readings."""
    found = []
    for _ in range(effort.runs):
        async with fleet_of(20 if effort.quick else 10_000) as (system, senders):
            await send_each(system, senders, READINGS_BEFORE_MEMORY, window=1)
            await asyncio.sleep(IDLE_SECONDS)
            found.append(system.rss() / 1e6)
    return [row("memory_10k_devices_mb", "MB", found)]


async def log_bytes(effort: Effort) -> list[Row]:
    """Measure the event log's file by reading, of values that drift as a sensor's do (bench/readings.py).

    100 devices send 500 readings each as fast as it goes; and, `_slow`, 1,000 send one a second: commits of few events.
    """
    fast, slow = [], []
    for _ in range(effort.runs):
        async with fleet_of(10 if effort.quick else 100) as (system, senders):
            await send_each(system, senders, ring_length(len(senders)), window=20)
            fast.append(system.log_bytes() / system.stored())
        async with fleet_of(10 if effort.quick else 1000) as (system, senders):
            sent = await paced(senders, len(senders), 1.0 if effort.quick else SECONDS)
            await counted(system, sum(map(len, sent)))
            slow.append(system.log_bytes() / system.stored())
    return [row("log_bytes_per_reading", "bytes", fast), row("log_bytes_per_reading_slow", "bytes", slow)]


@asynccontextmanager
async def fleet_of(devices: int) -> AsyncIterator[tuple[System, list[Sender]]]:
    """Run the default process with so many devices connected, without TLS."""
    with directory() as place:
        registered, _ = register(place / "data", devices)
        with System(place / "data") as system:
            senders = await connect_all(registered, system.ports["mqtt-plain"], None, readings=stamped)
            yield system, senders
            for sender in senders:
                sender.close()


def stamped(device: Device, number: int) -> Iterator[bytes]:
    """Return readings that carry their own time."""
    return bodies(device.device_id, number)


async def send_each(system: System, senders: Sequence[Sender], readings: int, *, window: int) -> None:
    """Let each device send so many readings, and wait until all are acknowledged, stored and counted."""
    for sender in senders:
        sender.allow(readings, window)
    await asyncio.gather(*(sender.settled for sender in senders))
    await counted(system, readings * len(senders))


async def counted(system: System, messages: int) -> None:
    """Wait until the ledger has received them. Raises TimeoutError, AssertionError where the log holds others."""
    async with asyncio.timeout(CATCH_UP_SECONDS):
        while (await asyncio.to_thread(system.ledger))["received"] < messages:  # noqa: ASYNC110 - asks a process
            await asyncio.sleep(LEDGER_SECONDS)
    assert system.stored() == messages, (system.stored(), messages)


async def viewers(effort: Effort, count: int) -> list[Row]:
    """Deliveries/s of a 2 KB update to so many viewers, of servers and clients that are processes of their own.

    Equal: the clients (raw sockets that count bytes), the frames' size, one HTTP POST per broadcast, four broadcasts
    under way, no compression. Not equal: enviromon checks a token with each broadcast and each connection; ws and
    socket.io hold what a viewer does not read without a bound, enviromon drops that viewer at 1 MiB.
    The row `_stalled` is enviromon's with one viewer more, which reads nothing; its ratio is to the row without.
    """
    clients, seconds = (20, 0.3) if effort.quick else (count, SECONDS)
    peers = fanout.PEERS if effort.peers and packages_here() else ()
    found: dict[str, list[float]] = {name: [] for name in ("enviromon", "stalled", *peers)}
    for _ in range(effort.runs):
        for name, runs in found.items():
            server = "enviromon" if name == "stalled" else name
            options = argparse.Namespace(
                server=server,
                clients=clients,
                size=FRAME_BYTES,
                seconds=seconds,
                window=BROADCASTS_UNDER_WAY,
                protocol="json",
                stalled=name == "stalled",
            )
            async with fanout.Bench(options) as bench:
                runs.append((await fanout.throughput(bench))["deliveriesPerSecond"])
    ours, stalled = found.pop("enviromon"), row(f"fanout_{count}_stalled", "deliveries/s", found.pop("stalled"))
    plain = row(f"fanout_{count}", "deliveries/s", ours, found)
    return [plain, msgspec.structs.replace(stalled, ratio=stalled.value / plain.value)]


async def tables(effort: Effort) -> list[Row]:
    """State in Azure Tables, by Azurite, in batches of 100 and 1,000 of 100 devices, against the seed's algorithm.

    bench/tables.py says what both do. `tables_ratio` is the one to the seed at batch 100, by the messages/s of the
    rows after it; `tables_calls` are requests to the table service for each message after the first batches.
    """
    program = [sys.executable, str(Path(__file__).with_name("tables.py")), "--json", "--runs", "1"]
    program += ["--messages", str(1000 if effort.quick else TABLES_MESSAGES)]
    sittings = []
    for _ in range(effort.runs):
        process = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"bench/tables.py failed with {process.returncode}")
        sittings.append(json.loads(output))

    def figures(who: str, size: int, figure: str) -> list[float]:
        return [sitting[f"100 devices, batch {size}"][who][figure] for sitting in sittings]

    rates = [
        row(
            f"tables_batch_{size}",
            "messages/s",
            figures("enviromon", size, "msg/s"),
            {"seed": figures("seed", size, "msg/s")},
        )
        for size in (100, 1000)
    ]
    times = figures("enviromon", 100, "times the seed")
    return [
        Row("tables_ratio", median(times), "times the seed", times, {"seed": 1.0}, median(times)),
        *rates,
        row(
            "tables_calls", "calls/message", figures("enviromon", 100, "calls"), {"seed": figures("seed", 100, "calls")}
        ),
    ]


async def growth_over_sockets(effort: Effort) -> list[Row]:
    """CPU us per message of the path with a worker, at 1,000 and at 10,000 devices that publish as in `path`."""
    rows = []
    for name in ("1k", "10k"):
        load = effort.load(FLEETS[name], 20)
        with directory() as place:
            costs = await growth.socket_cost(place, load, effort.runs)
        rows.append(row(f"growth_{name}_devices", COST, costs))
    return against_first(rows)


async def growth_from_the_log(effort: Effort) -> list[Row]:
    """CPU us per message that was in the log at the start: without MQTT, for 100,000 devices as well. One run."""
    rows = []
    for name, devices in FLEETS.items():
        size, events = (devices // 1000, 2000) if effort.quick else (devices, FED_EVENTS)
        with directory() as place:
            rows.append(row(f"growth_{name}_devices_fed", COST, [await growth.fed_cost(place, size, events)]))
    return against_first(rows)


async def growth_of_the_log(effort: Effort) -> list[Row]:
    """CPU us per message of the path, 100 devices, on a log that holds 1, 10 or 100 million events already."""
    rows = []
    for name, events in LOGS.items():
        already = events // 10 if effort.quick else events
        with directory() as place:
            costs = await growth.socket_cost(place, effort.load(100, 20), effort.runs, already=already)
        rows.append(row(f"growth_{name}_events", COST, costs))
    return against_first(rows)


def against_first(rows: Sequence[Row]) -> list[Row]:
    """Give each row its ratio to the first; none where the first is too small to be measured."""
    first = rows[0].value
    return [msgspec.structs.replace(each, ratio=each.value / first if first > 0 else None) for each in rows]


def below(limit: float, *, of_ratio: bool = False) -> Promise:
    return Promise(Target(limit, most=True, of_ratio=of_ratio))


def against(given: Contest, target: Target) -> Measurement:
    peers = tuple(broker.name for broker in given.brokers)
    return Measurement({given.name: Promise(target, peers)}, partial(path, contest=given))


FLAT = below(1.2, of_ratio=True)
MOSQUITTO = BROKERS[:1]
MEASUREMENTS = (
    against(Contest("path", devices=100, window=20, workers=1, brokers=BROKERS), Target(150_000)),
    against(Contest("path_one_process", devices=100, window=20, workers=0), Target(80_000)),
    against(Contest("path_10k_devices", devices=10_000, window=20, workers=1, brokers=MOSQUITTO), Target(70_000)),
    against(Contest("path_tls", devices=100, window=20, workers=1, brokers=BROKERS, tls=True), Target(100_000)),
    against(
        Contest("window_1", devices=500, window=1, workers=1, brokers=MOSQUITTO),
        Target(0.75, of_ratio=True),
    ),
    Measurement(
        {
            "tables_ratio": Promise(Target(40), ("seed",)),
            "tables_batch_100": Promise(peers=("seed",)),
            "tables_batch_1000": Promise(peers=("seed",)),
            "tables_calls": Promise(Target(0.011, most=True), ("seed",)),
        },
        tables,
    ),
    *(
        Measurement(
            {
                f"fanout_{count}": Promise(Target(1.4, of_ratio=True), fanout.PEERS),
                f"fanout_{count}_stalled": Promise(Target(0.9, of_ratio=True)),
            },
            partial(viewers, count=count),
        )
        for count in (1000, 5000)
    ),
    Measurement({"latency_p50_ms": below(10), "latency_p99_ms": below(30)}, latencies),
    Measurement({"ready_s": below(0.8), "idle_mb": below(80)}, start),
    Measurement({"memory_10k_devices_mb": below(150)}, memory),
    Measurement({"log_bytes_per_reading": below(60), "log_bytes_per_reading_slow": below(60)}, log_bytes),
    Measurement({f"growth_{name}_devices": FLAT for name in ("1k", "10k")}, growth_over_sockets, growth=True),
    Measurement({f"growth_{name}_devices_fed": FLAT for name in FLEETS}, growth_from_the_log, growth=True),
    Measurement({f"growth_{name}_events": FLAT for name in LOGS}, growth_of_the_log, growth=True),
)

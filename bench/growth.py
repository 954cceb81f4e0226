"""How the path's cost grows with the fleet and with what the log holds: the system's processor time for each message.

Through sockets, devices publish as in bench/path.py. A fleet of 100,000 is more than one machine's generator and the
hub's bound on connections let in, so its events are put into the event log directly, before the system starts. That
cost is what reads the log, judges, stores and broadcasts; the hub's MQTT is not in it. Smaller fleets are measured that
way too, to compare like with like. Devices take turns there with four readings each, so that a batch of 1,000 touches
250 devices whatever the fleet; each device has a state already; and the processor time of a start with nothing to do is
taken off.

A log that holds millions of events is made of one block per partition, written by the log itself and copied by SQL
within its schema: 4,096 readings of one device, which compress so well that 100 million fit into the log's limit of
2 GiB. They count as finished.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from itertools import cycle, islice
from pathlib import Path

from event_log import caught_up, envelope
from path import Load, throughput
from readings import bodies
from system import System, register
from viewer import watching

from localcloud.iothub.event_blocks import EVENT_OVERHEAD_BYTES, MAX_BLOCK_EVENTS, Event, partition_of
from localcloud.iothub.event_log import SqliteEventLog

GROUP = "enviromon"
DISTINCT_BODIES = MAX_BLOCK_EVENTS
READINGS_IN_A_ROW = 4
EVENTS_PER_APPEND = 16_384
COPIES_PER_STATEMENT = 500
CATCH_UP_SECONDS = 300.0
IDLE_SECONDS = 2.0
COPY = """
INSERT INTO blocks
WITH RECURSIVE turns(turn) AS (SELECT :first UNION ALL SELECT turn + 1 FROM turns WHERE turn < :last)
SELECT id + turn * count, count, turn * :size, enqueued_time, randomblob(16), data FROM blocks, turns WHERE offset = 0
"""


@asynccontextmanager
async def event_log(data: Path) -> AsyncIterator[SqliteEventLog]:
    """Open the log of a data directory, to write while no system does."""
    log = await SqliteEventLog.open(data)
    await log.register(GROUP)
    try:
        yield log
    finally:
        await log.close()


async def feed(log: SqliteEventLog, devices: int, events: int) -> None:
    """Append events, each device READINGS_IN_A_ROW in its turn."""
    senders = [(partition_of(f"device-{n}", log.partitions), envelope(f"device-{n}")) for n in range(devices)]
    in_turn = [sender for sender in senders for _ in range(READINGS_IN_A_ROW)]
    turns = zip(cycle(in_turn), cycle(some_bodies()), strict=False)
    while events > 0:
        batch: dict[int, list[Event]] = {}
        for (partition, shared), body in islice(turns, min(events, EVENTS_PER_APPEND)):
            batch.setdefault(partition, []).append(Event(shared, body))
        await log.append(os.urandom(16), batch)
        events -= EVENTS_PER_APPEND


def some_bodies() -> list[bytes]:
    return list(islice(bodies("device", 1, timestamps=False), DISTINCT_BODIES))


async def fed_cost(directory: Path, devices: int, events: int) -> float:
    """Return CPU us per event of a fleet whose events are in the log at the start."""
    data = directory / "data"
    used = [await consume(data, devices, count) for count in (devices * READINGS_IN_A_ROW, events, 0)]
    _, cost, nothing = used
    return (cost - nothing) * 1e6 / events


async def consume(data: Path, devices: int, events: int) -> float:
    """Feed events, and return the CPU seconds of a system from its start until they are finished."""
    async with event_log(data) as log:
        await feed(log, devices, events)
        total = sum(log.ends)
    with System(data, "--workers=1") as system:
        log = await SqliteEventLog.open(data, read_only=True)
        await asyncio.sleep(IDLE_SECONDS)
        await caught_up(log, total, group=GROUP, seconds=CATCH_UP_SECONDS)
        await log.close()
        cpu = system.cpu_seconds()
        received = system.ledger()["received"]
    if received != total:
        raise AssertionError(f"{total} events in the log, the ledger received {received}")
    return cpu


async def socket_cost(directory: Path, load: Load, runs: int, *, already: int = 0) -> list[float]:
    """Return each run's CPU us per message of the path, on a log that holds so many events `already`."""
    data = directory / "data"
    unread = await fill(data, already) if already else 0
    _, devices_file = register(data, load.devices)
    with System(data, "--workers=1") as system:
        async with watching(system.url) as viewer:
            return [
                (await throughput(system, viewer, devices_file, load, unread=unread)).system_cpu_us for _ in range(runs)
            ]


async def fill(data: Path, events: int) -> int:
    """Fill a log with about so many events that count as finished; return how many."""
    async with event_log(data) as log:
        shared = envelope("device-0")
        run = [Event(shared, body) for body in islice(cycle(some_bodies()), MAX_BLOCK_EVENTS)]
        await log.append(os.urandom(16), dict.fromkeys(range(log.partitions), run))
        size = sum(len(event.body) + EVENT_OVERHEAD_BYTES for event in run)
        copies = events // (log.partitions * MAX_BLOCK_EVENTS) - 1
    with closing(sqlite3.connect(data / "events.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        for first in range(1, copies + 1, COPIES_PER_STATEMENT):
            last = min(first + COPIES_PER_STATEMENT - 1, copies)
            connection.execute(COPY, {"first": first, "last": last, "size": size})
    async with event_log(data) as log:
        for partition, end in enumerate(log.ends):
            await log.commit(GROUP, partition, end - 1)
        return sum(log.ends)

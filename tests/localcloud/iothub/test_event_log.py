import asyncio
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.iothub.event_log import (
    Envelope,
    Event,
    EventLogFullError,
    EventLogInUseError,
    SqliteEventLog,
)
from localcloud.sqlite import DatabaseFaultError

ENVELOPE = Envelope({"iothub-connection-device-id": "kitchen"}, {})
DAY = 86400.0


class Clock:
    def __init__(self, now=1_800_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


def events(*bodies):
    return [Event(ENVELOPE, body) for body in bodies]


def batch_id(number):
    return number.to_bytes(16)


def bodies(stored):
    return [event.body for event in stored]


async def read_all(log, partition, after=-1):
    found = []
    while part := await log.read(partition, found[-1].sequence_number if found else after, 7):
        found += part
    return found


@pytest.fixture
async def log(tmp_path):
    log = await SqliteEventLog.open(tmp_path)
    yield log
    await log.close()


async def test_events_are_read_back_in_order_numbered_from_0(log):
    await log.append(b"1", {2: events(b"a", b"b")})
    await log.append(b"2", {2: events(b"c"), 0: events(b"x")})
    stored = await log.read(2, -1, 10)
    assert [(event.sequence_number, event.body, event.envelope) for event in stored] == [
        (0, b"a", ENVELOPE),
        (1, b"b", ENVELOPE),
        (2, b"c", ENVELOPE),
    ]
    assert bodies(await log.read(0, -1, 10)) == [b"x"]
    assert await log.read(1, -1, 10) == []


@settings(max_examples=settings.default.max_examples // 4)
@given(
    st.lists(st.lists(st.binary(max_size=9), min_size=1, max_size=9), min_size=1, max_size=9),
    st.integers(-1, 90),
    st.integers(1, 20),
)
def test_a_read_from_anywhere_yields_what_follows_from_memory_and_from_the_file(batches, after, limit):
    async def check(directory):
        log = await SqliteEventLog.open(directory)
        for number, batch in enumerate(batches):
            await log.append(batch_id(number), {1: events(*batch)})
        fresh = await log.read(1, after, limit)
        await log.close()
        log = await SqliteEventLog.open(directory)
        assert await log.read(1, after, limit) == fresh
        every = await read_all(log, 1)
        await log.close()
        assert bodies(every) == [body for batch in batches for body in batch]
        assert fresh == every[after + 1 :][: len(fresh)]
        assert len(fresh) == min(limit, max(len(every) - after - 1, 0))

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(check(Path(directory)))


async def test_a_batch_is_stored_once_whatever_partitions_it_touches_and_across_restarts(tmp_path):
    for _ in range(2):
        log = await SqliteEventLog.open(tmp_path)
        for _ in range(2):
            await log.append(b"same", {0: events(b"a"), 3: events(b"b")})
        assert bodies(await log.read(0, -1, 10)) == [b"a"]
        assert bodies(await log.read(3, -1, 10)) == [b"b"]
        await log.close()


async def test_numbers_offsets_and_times_continue_after_a_restart_with_the_clock_set_back(tmp_path):
    clock = Clock()
    stored = []
    for _ in range(3):
        log = await SqliteEventLog.open(tmp_path, clock=clock)
        await log.append(os.urandom(16), {1: events(b"a", b"bb")})
        clock.now -= 3600
        await log.append(os.urandom(16), {1: events(b"ccc")})
        await log.close()
    log = await SqliteEventLog.open(tmp_path, clock=clock)
    stored = await read_all(log, 1)
    await log.close()
    assert [event.sequence_number for event in stored] == list(range(9))
    assert {event.enqueued_time for event in stored} == {1_800_000_000_000}
    assert [b.offset - a.offset for a, b in itertools.pairwise(stored)] == [65, 66, 67, 65, 66, 67, 65, 66]


async def test_waiting_ends_with_an_append_to_that_partition_and_not_before(log):
    waiter = asyncio.create_task(log.wait(1, -1))
    await log.append(b"1", {0: events(b"other")})
    assert not waiter.done()
    await log.append(b"2", {1: events(b"mine")})
    await asyncio.wait_for(waiter, 1)
    await asyncio.wait_for(log.wait(1, -1), 1)


async def test_a_checkpoint_starts_before_the_first_event_only_grows_and_survives_a_restart(tmp_path):
    log = await SqliteEventLog.open(tmp_path)
    await log.register("one")
    assert await log.checkpoint("one", 0) == -1
    await log.commit("one", 0, 7)
    await log.commit("one", 0, 3)
    await log.close()
    log = await SqliteEventLog.open(tmp_path)
    await log.register("one")
    await log.register("two")
    assert [await log.checkpoint(group, 0) for group in ("one", "two")] == [7, -1]
    assert await log.checkpoint("one", 1) == -1
    await log.close()


async def test_a_log_that_was_deleted_starts_its_groups_anew(tmp_path):
    log = await SqliteEventLog.open(tmp_path)
    await log.register("one")
    await log.commit("one", 0, 500)
    await log.close()
    for file in tmp_path.glob("events.db*"):
        file.unlink()
    log = await SqliteEventLog.open(tmp_path)
    await log.register("one")
    assert await log.checkpoint("one", 0) == -1
    await log.close()


async def test_an_existing_log_keeps_its_number_of_partitions(tmp_path):
    await (await SqliteEventLog.open(tmp_path, partitions=2)).close()
    log = await SqliteEventLog.open(tmp_path, partitions=8)
    assert log.partitions == 2
    await log.close()


async def test_old_events_go_once_every_group_has_finished_them(tmp_path):
    clock = Clock()
    log = await SqliteEventLog.open(tmp_path, retention_days=1, clock=clock)
    await log.register("fast")
    await log.register("slow")
    for number in range(4):
        await log.append(batch_id(number), {0: events(b"%d" % number)})
    await log.commit("fast", 0, 3)
    await log.commit("slow", 0, 1)
    clock.now += DAY + 100
    await log.append(b"later", {0: events(b"4")})
    await log.close()
    log = await SqliteEventLog.open(tmp_path, clock=clock)
    assert bodies(await log.read(0, -1, 10)) == [b"2", b"3", b"4"]
    await log.close()


async def test_young_events_stay_while_there_is_room(tmp_path):
    clock = Clock()
    log = await SqliteEventLog.open(tmp_path, retention_days=1, clock=clock)
    for number in range(3):
        await log.append(batch_id(number), {0: events(b"%d" % number)})
        clock.now += DAY / 3
    assert bodies(await log.read(0, -1, 10)) == [b"0", b"1", b"2"]
    await log.close()


async def test_numbers_continue_after_retention_removed_all_but_the_newest_block(tmp_path):
    clock = Clock()
    log = await SqliteEventLog.open(tmp_path, retention_days=1, clock=clock)
    for number in range(5):
        await log.append(batch_id(number), {0: events(b"%d" % number)})
    clock.now += 2 * DAY
    await log.append(b"elsewhere", {1: events(b"x")})
    await log.close()
    log = await SqliteEventLog.open(tmp_path, clock=clock)
    assert bodies(await log.read(0, -1, 10)) == [b"4"]
    await log.append(b"next", {0: events(b"5")})
    assert [event.sequence_number for event in await log.read(0, -1, 10)] == [4, 5]
    await log.close()


async def test_a_full_log_refuses_until_the_slowest_group_catches_up_and_then_drops_the_oldest(tmp_path):
    log = await SqliteEventLog.open(tmp_path, max_bytes=1 << 20)
    await log.register("slow")
    for number in range(11):
        await log.append(batch_id(number), {number % 4: events(os.urandom(100_000))})
    for _ in range(2):
        with pytest.raises(EventLogFullError, match="'slow' has not finished"):
            await log.append(b"more", {0: events(b"more")})
    await log.commit("slow", 0, 0)
    await log.append(b"more", {0: events(b"more")})
    await log.close()
    log = await SqliteEventLog.open(tmp_path)
    assert [event.sequence_number for event in await log.read(0, -1, 1)] == [1]
    assert [event.sequence_number for event in await log.read(1, -1, 1)] == [0]
    await log.close()


async def test_a_log_at_its_size_goes_on_for_ever_when_its_groups_keep_up(tmp_path):
    log = await SqliteEventLog.open(tmp_path, max_bytes=1 << 20)
    await log.register("fast")
    for number in range(60):
        await log.append(batch_id(number), {number % 4: events(os.urandom(100_000))})
        await log.commit("fast", number % 4, number // 4)
    await log.close()
    assert (tmp_path / "events.db").stat().st_size < 2 << 20


async def test_only_one_log_object_may_write(log, tmp_path):
    with pytest.raises(EventLogInUseError, match="another process writes"):
        await SqliteEventLog.open(tmp_path)
    reader = await SqliteEventLog.open(tmp_path, read_only=True)
    with pytest.raises(EventLogInUseError, match="reading only"):
        await reader.append(b"1", {0: events(b"a")})
    await reader.close()


async def test_readers_of_several_groups_see_the_same_while_it_is_written(log):
    async def consume(group):
        await log.register(group)
        seen = []
        while len(seen) < 200:
            await log.wait(0, len(seen) - 1)
            seen += await log.read(0, len(seen) - 1, 13)
            await log.commit(group, 0, len(seen) - 1)
        return bodies(seen)

    consumers = [asyncio.create_task(consume(group)) for group in ("a", "b", "c")]
    expected = [b"%d" % number for number in range(200)]
    for start in range(0, 200, 4):
        await log.append(batch_id(start), {0: events(*expected[start : start + 4])})
    assert await asyncio.gather(*consumers) == [expected] * 3


async def test_a_reader_that_is_behind_reads_each_block_of_the_file_once_and_it_does_not_stay(log, monkeypatch):
    """Also while another keeps up: a block may hold 4,096 events, of which a small batch takes a hundred."""
    await log.append(batch_id(0), {0: events(*[b"old"] * 400)})
    for number in range(1, 101):  # more than are remembered
        await log.append(batch_id(number), {0: events(b"newer")})
    from_file = log._reader.blocks
    reads = []

    def blocks(partition, start, limit):
        reads.append(start)
        return from_file(partition, start, limit)

    monkeypatch.setattr(log._reader, "blocks", blocks)
    behind, newest = -1, 499
    while behind < 399:
        behind = (await log.read(0, behind, 50))[-1].sequence_number
        assert bodies(await log.read(0, newest - 1, 50)) == [b"newer"]
    assert behind == 399
    assert reads == [0]
    assert log._recent[0].from_file == []


async def test_a_cancelled_append_makes_no_gap_for_readers(log):
    await log.append(b"1", {0: events(b"a")})
    cancelled = asyncio.create_task(log.append(b"2", {0: events(b"b")}))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    await log.append(b"2", {0: events(b"b")})
    await log.append(b"3", {0: events(b"c")})
    assert bodies(await log.read(0, -1, 10)) == [b"a", b"b", b"c"]
    assert bodies(await log.read(0, 0, 10)) == [b"b", b"c"]


async def test_a_reader_that_stops_in_the_middle_leaves_no_select_open(log, tmp_path):
    for number in range(300):
        await log.append(batch_id(number), {0: events(os.urandom(20_000))})
        await log.read(0, -1, 1)
    assert (tmp_path / "events.db-wal").stat().st_size < 6 << 20


async def test_a_damaged_block_is_reported_with_its_place(tmp_path):
    log = await SqliteEventLog.open(tmp_path)
    await log.append(b"1", {1: events(b"a")})
    await log.close()
    damage = sqlite3.connect(tmp_path / "events.db", isolation_level=None)
    damage.execute("UPDATE blocks SET data = x'01ff'")
    damage.close()
    with pytest.raises(DatabaseFaultError, match="partition 1, sequence number 0"):
        await SqliteEventLog.open(tmp_path)


WRITER = """
import asyncio, sys
from pathlib import Path
from localcloud.iothub.event_log import Envelope, Event, SqliteEventLog

async def main():
    log = await SqliteEventLog.open(Path(sys.argv[1]))
    first = sum([len(await log.read(p, -1, 10**6)) for p in range(4)])
    number = 0
    while True:
        run = [Event(Envelope({}, {}), b"%d-%d" % (number, item)) for item in range(50)]
        await log.append(first.to_bytes(8) + number.to_bytes(8), {p: run for p in range(4)})
        number += 1
        print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_it_had_committed_and_leaves_no_half_batch(tmp_path):
    acknowledged = 0
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE) as writer:
            for _ in range(20):
                last = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            acknowledged += int((writer.stdout.read().split() or [last])[-1])

    async def counts():
        log = await SqliteEventLog.open(tmp_path)
        stored = [await read_all(log, partition) for partition in range(4)]
        await log.close()
        assert all([e.sequence_number for e in run] == list(range(len(run))) for run in stored)
        return {len(run) for run in stored}

    (stored,) = asyncio.run(counts())
    assert stored % 50 == 0
    assert acknowledged <= stored // 50 <= acknowledged + 3


@pytest.mark.slow
async def test_a_reader_in_another_process_sees_what_is_appended(tmp_path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, tmp_path, stdout=asyncio.subprocess.PIPE
    )
    await process.stdout.readline()
    log = await SqliteEventLog.open(tmp_path, read_only=True)
    seen = -1
    while seen < 500:
        await asyncio.wait_for(log.wait(0, seen), 10)
        for event in await log.read(0, seen, 100):
            assert event.sequence_number == seen + 1
            seen = event.sequence_number
    process.kill()
    await process.communicate()
    await log.close()

import asyncio
import contextlib
import gc
import sqlite3
import weakref
from functools import partial

import pytest

from localcloud.iothub import group_commit
from localcloud.iothub.event_log import Envelope, Event, SqliteEventLog
from localcloud.iothub.group_commit import GroupCommit
from tests.waiting import until

ENVELOPE = Envelope({"iothub-connection-device-id": "kitchen"}, {})


class FailingLog:
    """The real log on a disk that fails: `before` appends do nothing, `after` appends are stored and then fail."""

    def __init__(self, log, *, before=0, after=0):
        self._log = log
        self.before = before
        self.after = after
        self.batch_ids = []

    async def append(self, batch_id, events):
        self.batch_ids.append(batch_id)
        if self.before:
            self.before -= 1
            raise sqlite3.OperationalError("disk I/O error")
        await self._log.append(batch_id, events)
        if self.after:
            self.after -= 1
            raise sqlite3.OperationalError("disk I/O error")


def submit(commits, partition, submitted, on_durable):
    commits.submit(partition, submitted, sum(len(event.body) for event in submitted), on_durable)


@pytest.fixture
async def log(tmp_path):
    log = await SqliteEventLog.open(tmp_path, max_bytes=1 << 20)
    yield log
    await log.close()


@contextlib.asynccontextmanager
async def committing(log, **options):
    commits = GroupCommit(log, **{"on_full": lambda: None, "on_room": lambda: None} | options)
    running = asyncio.create_task(commits.run())
    yield commits
    await commits.close()
    await running


def events(*bodies):
    return [Event(ENVELOPE, body) for body in bodies]


async def bodies(log, partition):
    return [event.body for event in await log.read(partition, -1, 100_000)]


@pytest.fixture
def quick_retries(monkeypatch):
    monkeypatch.setattr(group_commit, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(group_commit, "LAST_RETRY_SECONDS", 0.01)


async def test_submissions_are_acknowledged_in_order_after_they_can_be_read(log):
    acknowledged = []

    def durable(number):
        acknowledged.append((number, log._ends[0] > number))

    async with committing(log) as commits:
        for number in range(50):
            submit(commits, 0, events(b"%d" % number), partial(durable, number))
            if number % 9 == 0:
                await asyncio.sleep(0)
    assert acknowledged == [(number, True) for number in range(50)]
    assert await bodies(log, 0) == [b"%d" % number for number in range(50)]


async def test_what_queues_during_a_commit_becomes_one_commit_over_all_partitions(log):
    disk = FailingLog(log)
    async with committing(disk) as commits:
        submit(commits, 0, events(b"first"), lambda: None)
        await until(lambda: disk.batch_ids)
        for number in range(40):
            submit(commits, number % 4, events(b"%d" % number), lambda: None)
    assert len(disk.batch_ids) == 2
    assert [len(await bodies(log, partition)) for partition in range(4)] == [11, 10, 10, 10]


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("faults", [{"before": 3}, {"after": 3}, {"before": 2, "after": 2}])
async def test_a_failing_disk_delays_the_acknowledgement_and_stores_the_batch_once(log, caplog, faults):
    disk = FailingLog(log, **faults)
    acknowledged = []
    async with committing(disk) as commits:
        submit(commits, 1, events(b"a"), lambda: acknowledged.append((disk.before, disk.after)))
    assert acknowledged == [(0, 0)]
    assert await bodies(log, 1) == [b"a"]
    assert len(set(disk.batch_ids)) == 1
    assert caplog.text.count("nothing is acknowledged") == 1, "a lasting fault is told once in a while"
    assert caplog.text.count("takes messages again") == 1


@pytest.mark.usefixtures("quick_retries")
async def test_a_full_queue_says_stop_and_says_go_when_half_of_it_is_stored(log):
    disk = FailingLog(log, before=1 << 30)
    calls = []
    async with committing(
        disk, max_pending_bytes=10_000, on_full=partial(calls.append, "full"), on_room=partial(calls.append, "room")
    ) as commits:
        for _ in range(11):
            submit(commits, 0, events(bytes(1000)), lambda: calls.append("durable"))
        assert calls == ["full"]
        await until(lambda: len(disk.batch_ids) > 3)
        assert calls == ["full"]
        disk.before = 0
        await until(lambda: "room" in calls)
    assert calls == ["full", *["durable"] * 11, "room"]


@pytest.mark.usefixtures("quick_retries")
async def test_a_full_log_acknowledges_nothing_until_its_consumers_catch_up(log, caplog):
    await log.register("slow")
    acknowledged = []
    async with committing(log) as commits:
        for number in range(11):
            submit(commits, 0, events(bytes(100_000) + number.to_bytes(1)), partial(acknowledged.append, number))
            submit(commits, 0, events(group_commit.os.urandom(100_000)), lambda: None)
            await until(lambda number=number: number in acknowledged or "'slow'" in caplog.text)
        stuck = list(acknowledged)
        await asyncio.sleep(0.05)
        assert acknowledged == stuck
        await log.commit("slow", 0, 100)
    assert acknowledged == list(range(11))


async def test_an_acknowledgement_that_fails_harms_no_other(log, caplog):
    acknowledged = []
    async with committing(log) as commits:
        submit(commits, 0, events(b"a"), lambda: 1 / 0)
        submit(commits, 0, events(b"b"), partial(acknowledged.append, "b"))
    assert acknowledged == ["b"]
    assert "ZeroDivisionError" in caplog.text


async def test_closing_stores_what_was_submitted_before(log):
    acknowledged = []
    async with committing(log) as commits:
        submit(commits, 0, events(b"a"), partial(acknowledged.append, "a"))
    assert acknowledged == ["a"]


async def test_nothing_holds_a_batch_that_is_durable(log):
    """Ten thousand devices' last messages would stay in memory until the next one comes."""

    class OnDurable:
        is_called = False

        def __call__(self):
            type(self).is_called = True

    on_durable = OnDurable()
    alive = weakref.ref(on_durable)
    async with committing(log) as commits:
        submit(commits, 0, events(b"a"), on_durable)
        del on_durable
        await until(lambda: OnDurable.is_called)
        await asyncio.sleep(0)
        gc.collect()
        assert alive() is None

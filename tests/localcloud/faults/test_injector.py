"""Each fault against the real event log and real function apps."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from localcloud.faults.injector import EXIT_STATUS, FaultCounts, FaultInjector, InjectedFaultError
from localcloud.faults.plan import Fault, FaultPlan, parse_plan
from localcloud.iothub.event_log import Envelope, Event, EventLog, SqliteEventLog

ENVELOPE = Envelope({}, {"iothub-connection-device-id": "d"})


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteEventLog]:
    log = await SqliteEventLog.open(tmp_path, partitions=1)
    yield log
    await log.close()


@pytest.fixture
def counts() -> Iterator[dict[str, int]]:
    counting = FaultCounts()
    yield counting.counts
    counting.close()


def injector(*faults: Fault, seed: int = 0) -> FaultInjector:
    return FaultInjector(FaultPlan(seed=seed, fault=list(faults)))


async def send(log: EventLog, *bodies: bytes, batch_id: bytes = b"1") -> None:
    await log.append(batch_id, {0: [Event(ENVELOPE, body) for body in bodies]})


async def numbers(log: EventLog, after: int, limit: int) -> list[int]:
    return [event.sequence_number for event in await log.read(0, after, limit)]


async def bodies(log: SqliteEventLog) -> list[bytes]:
    return [event.body for event in await log.read(0, -1, 1000)]


def test_without_faults_everything_is_handed_back_as_it_came(log: SqliteEventLog) -> None:
    none = injector()
    sink = AsyncMock()
    assert none.event_log(log) is log
    assert none.output("f", sink) is sink
    assert injector(Fault(point="output.sent", action="fail", function="other")).output("f", sink) is sink


async def test_an_append_that_fails_stores_nothing(log: SqliteEventLog, counts: dict[str, int]) -> None:
    faulty = injector(Fault(point="append.begins", action="fail", times=1)).event_log(log)
    with pytest.raises(InjectedFaultError, match=r"append\.begins failed on purpose"):
        await send(faulty, b"a")
    assert await bodies(log) == []
    await send(faulty, b"a")
    assert await bodies(log) == [b"a"]
    assert counts == {"append.begins fail": 1}


async def test_an_append_whose_answer_is_lost_is_stored_once_however_often_it_comes(log: SqliteEventLog) -> None:
    faulty = injector(Fault(point="append.ended", action="fail", times=2)).event_log(log)
    for _ in range(2):
        with pytest.raises(InjectedFaultError):
            await send(faulty, b"a")
    await send(faulty, b"a")
    assert await bodies(log) == [b"a"]


async def test_a_duplicate_is_stored_twice_as_two_events(log: SqliteEventLog) -> None:
    faulty = injector(Fault(point="append.begins", action="duplicate", times=1)).event_log(log)
    await send(faulty, b"a", b"b")
    assert await bodies(log) == [b"a", b"b", b"a", b"b"]


async def test_a_redelivery_gives_the_last_events_again(log: SqliteEventLog) -> None:
    await send(log, *(b"%d" % number for number in range(20)))
    faulty = injector(Fault(point="read.begins", action="redeliver", events=5, skip=1)).event_log(log)
    assert await numbers(faulty, 4, 5) == [5, 6, 7, 8, 9]
    assert await numbers(faulty, 9, 100) == list(range(5, 20))


async def test_a_reader_of_redeliveries_gets_ahead_and_waits_where_there_is_nothing_new(log: SqliteEventLog) -> None:
    await send(log, *(b"%d" % number for number in range(20)))
    faulty = injector(Fault(point="read.begins", action="redeliver", events=5)).event_log(log)
    assert await numbers(faulty, 9, 3) == [5, 6, 7]
    assert await numbers(faulty, 7, 3) == [8, 9, 10]
    assert await numbers(faulty, 10, 3) == [6, 7, 8]
    assert await numbers(faulty, 19, 3) == []


async def test_a_checkpoint_that_fails_before_or_after_it_was_written(log: SqliteEventLog) -> None:
    await log.register("g")
    await send(log, b"a", b"b")
    before = injector(Fault(point="checkpoint.begins", action="fail")).event_log(log)
    after = injector(Fault(point="checkpoint.ended", action="fail")).event_log(log)
    with pytest.raises(InjectedFaultError):
        await before.commit("g", 0, 0)
    assert await log.checkpoint("g", 0) == -1
    with pytest.raises(InjectedFaultError):
        await after.commit("g", 0, 1)
    assert await log.checkpoint("g", 0) == 1


async def test_a_time_out_takes_its_time_and_fails(log: SqliteEventLog) -> None:
    faulty = injector(Fault(point="append.begins", action="time_out", seconds=0.05)).event_log(log)
    started = asyncio.get_running_loop().time()
    with pytest.raises(InjectedFaultError, match=r"did not answer within 0\.05 s"):
        await send(faulty, b"a")
    assert asyncio.get_running_loop().time() - started >= 0.05


async def test_an_output_fails_before_or_after_it_was_sent() -> None:
    sent: list[object] = []

    async def sink(output: object) -> None:
        sent.append(output)

    for point, expected in (("output.begins", []), ("output.sent", ["news"])):
        plan = parse_plan(f'[[fault]]\npoint = "{point}"\naction = "fail"', "f")
        with pytest.raises(InjectedFaultError):
            await FaultInjector(plan).output("f", sink)("news")
        assert sent == expected


def test_an_exit_ends_the_process_at_once_with_its_own_status_and_a_line() -> None:
    program = (
        "import asyncio, logging; logging.basicConfig()\n"
        "from localcloud.faults.injector import FaultInjector\n"
        "from localcloud.faults.plan import Fault, FaultPlan\n"
        "async def sink(_): print('sent', flush=True)\n"
        "plan = FaultPlan(fault=[Fault(point='output.sent', action='exit')])\n"
        "try: asyncio.run(FaultInjector(plan).output('f', sink)(1))\n"
        "finally: print('unwound')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (EXIT_STATUS, "sent\n")
    assert "on purpose, fault 1: output.sent exit" in done.stderr


def test_an_apps_own_faults_are_counted_with_the_others(counts: dict[str, int]) -> None:
    logging.getLogger("faults.mine").warning("on purpose", extra={"fault": "store fail"})
    assert counts == {"store fail": 1}

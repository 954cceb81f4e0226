"""Delivery: batches in order, checkpoints after the function's end, retries, stops."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from localcloud.functions import eventhub_trigger
from localcloud.functions.host import DuplicateConsumerGroupError
from localcloud.iothub.event_log import SqliteEventLog
from tests.localcloud.functions.shop import MakeShop, Shop
from tests.waiting import until

HUB = (
    "import asyncio, time\nfrom typing import List\nimport azure.functions as func\napp = func.FunctionApp()\n"
    'seen, running, most = [], 0, 0\n@app.event_hub_message_trigger(arg_name="events", connection="OrdersConnection", '
    'event_hub_name="orders", cardinality="many", data_type="binary"{more})\n'
)
LARGE_BATCHES = '{"version": "2.0", "extensions": {"eventHubs": {"maxEventBatchSize": 1000}}}'


def write_app(directory: Path, body: str, *, more: str = "", host: str = '{"version": "2.0"}') -> Path:
    (directory / "function_app.py").write_text(HUB.format(more=more) + body)
    (directory / "host.json").write_text(host)
    return directory


async def test_a_batch_reaches_the_function_in_order_and_is_checkpointed(shop: Shop, log: SqliteEventLog) -> None:
    await shop.send(b"one", b"two", b"three")
    await until(lambda: shop.of("bill"))
    bodies = [entry["body"] for entry in shop.app.seen if "body" in entry]
    assert bodies == ["one", "two", "three"]
    (invocation,) = shop.of("bill")
    assert (invocation.partition, invocation.first_sequence, invocation.last_sequence) == (0, 0, 2)
    assert (invocation.count, invocation.outcome) == (3, "ok")
    await until_checkpoint(log, "billing", 2)


async def test_checkpoints_are_written_at_most_so_often_and_at_a_stop(
    shop: Shop, log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a thousand small batches a second each checkpoint would cost as much as the batch."""
    monkeypatch.setattr(eventhub_trigger, "CHECKPOINT_SECONDS", 3600.0)
    await shop.send(b"one")
    await until_checkpoint(log, "billing", 0)
    for number in (2, 3):
        await shop.send(b"more")
        await until(lambda number=number: len(shop.of("bill")) == number)
    assert await log.checkpoint("billing", 0) == 0
    await shop.host.stop()
    assert await log.checkpoint("billing", 0) == 2


async def test_a_checkpoint_that_waits_is_written_when_its_time_has_come(
    shop: Shop, log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventhub_trigger, "CHECKPOINT_SECONDS", 0.2)
    await shop.send(b"one")
    await until_checkpoint(log, "billing", 0)
    await shop.send(b"two")
    await until_checkpoint(log, "billing", 1)


async def test_a_batch_is_no_larger_than_host_json_says(shop: Shop) -> None:
    await shop.send(*(b"%d" % number for number in range(20)))
    await until(lambda: sum(invocation.count for invocation in shop.of("bill")) == 20)
    assert max(invocation.count for invocation in shop.of("bill")) <= 8


async def test_cardinality_one_gives_event_by_event(shop: Shop) -> None:
    await shop.send(b"one", b"two")
    await until(lambda: len(shop.of("audit")) == 2)
    assert [entry for entry in shop.app.seen if "audit" in entry] == [
        {"audit": "one", "offset": "0"},
        {"audit": "two", "offset": "67"},
    ]


async def test_a_failure_is_retried_with_the_same_batch(shop: Shop) -> None:
    await shop.send(b"flaky", b"fine")
    await until(lambda: len(shop.of("bill")) == 2)
    assert [invocation.outcome for invocation in shop.of("bill")] == ["failed", "ok"]
    assert [(entry["body"], entry["retry"]) for entry in shop.app.seen if "body" in entry] == [
        ("flaky", 0), ("fine", 0), ("flaky", 1), ("fine", 1),
    ]  # fmt: skip
    assert shop.host.counters["bill"].retries == 1


async def test_after_the_last_retry_the_batch_is_checkpointed_loudly(
    shop: Shop, log: SqliteEventLog, caplog: pytest.LogCaptureFixture
) -> None:
    await shop.send(b"poison")
    await until_checkpoint(log, "billing", 0)
    assert len(shop.of("bill")) == 3
    assert "bill failed for good: partition 0, sequence numbers 0 to 0 are checkpointed" in caplog.text
    await shop.send(b"fine")
    await until(lambda: shop.of("bill")[-1].outcome == "ok")


async def test_unlimited_retries_do_not_end(tmp_path: Path, make_shop: MakeShop, log: SqliteEventLog) -> None:
    policy = '@app.retry(strategy="exponential_backoff", max_retry_count="-1", minimum_interval="00:00:00", '
    body = policy + 'maximum_interval="00:00:01")\nasync def f(events: List[func.EventHubEvent]): raise ValueError'
    shop = await make_shop(write_app(tmp_path, body))
    await shop.send(b"x")
    await until(lambda: len(shop.of("f")) > 20)
    assert await log.checkpoint("$Default", 0) == -1
    assert shop.of("f")[20].retry == 20


async def test_partitions_run_in_parallel_and_each_one_batch_at_a_time(tmp_path: Path, make_shop: MakeShop) -> None:
    body = (
        "async def f(events: List[func.EventHubEvent]):\n    global running, most\n    running += 1\n"
        "    most = max(most, running)\n    seen.append(len(events))\n    await asyncio.sleep(0.05)\n    running -= 1\n"
    )
    host = '{"version": "2.0", "extensions": {"eventHubs": {"maxEventBatchSize": 1}}}'
    shop = await make_shop(write_app(tmp_path, body, host=host))
    await shop.send(b"1", b"2", partition=0)
    await shop.send(b"1", b"2", partition=1)
    await until(lambda: len(shop.of("f")) == 4)
    assert shop.app.most == 2


@pytest.mark.slow
async def test_a_batch_waits_for_the_minimum_but_not_longer_than_the_wait(tmp_path: Path, make_shop: MakeShop) -> None:
    host = '{"version": "2.0", "extensions": {"eventHubs": {"minEventBatchSize": 3, "maxWaitTime": "00:00:01"}}}'
    body = "async def f(events: List[func.EventHubEvent]): seen.append(len(events))"
    shop = await make_shop(write_app(tmp_path, body, host=host))
    await shop.send(b"1")
    await shop.send(b"2")
    await asyncio.sleep(0.05)
    assert shop.app.seen == []
    await shop.send(b"3")
    await until(lambda: shop.app.seen == [3])
    await shop.send(b"4")
    await until(lambda: shop.app.seen == [3, 1])


def test_it_rests_after_a_large_batch_that_was_not_full() -> None:
    rest, many, longest = eventhub_trigger.rest, eventhub_trigger.MANY_EVENTS, eventhub_trigger.LONGEST_REST_SECONDS
    assert rest(many - 1, 1000, 0.01) == 0
    assert rest(many, 1000, 0.01) == 0.01
    assert rest(999, 1000, 5.0) == longest
    assert rest(1000, 1000, 0.01) == 0, "more are waiting than one batch holds"


async def test_what_comes_while_it_rests_is_one_batch(
    tmp_path: Path, make_shop: MakeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventhub_trigger, "LONGEST_REST_SECONDS", 60.0)
    body = "async def f(events: List[func.EventHubEvent]): await asyncio.sleep(1 if len(events) > 1 else 0)"
    shop = await make_shop(write_app(tmp_path, body, host=LARGE_BATCHES))
    await shop.send(*[b"x"] * eventhub_trigger.MANY_EVENTS)
    await until(lambda: len(shop.of("f")) == 1)
    for _ in range(3):
        await shop.send(b"y")
    await until(lambda: len(shop.of("f")) == 2)
    assert [invocation.count for invocation in shop.of("f")] == [eventhub_trigger.MANY_EVENTS, 3]


@pytest.mark.parametrize("when", ["it rests", "its function runs"])
async def test_a_stop_does_not_wait_for_a_rest(
    tmp_path: Path, make_shop: MakeShop, log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    resting = asyncio.Event()

    def rest(*_: object) -> float:
        resting.set()
        return 60.0

    monkeypatch.setattr(eventhub_trigger, "rest", rest)
    body = (
        "async def f(events: List[func.EventHubEvent]):\n    seen.append(0)\n    await gate.wait()\n"
        "gate = asyncio.Event()\n"
    )
    shop = await make_shop(write_app(tmp_path, body, host=LARGE_BATCHES))
    await shop.send(b"x")
    await until(lambda: shop.app.seen)
    async with asyncio.timeout(30):
        if when == "it rests":
            shop.app.gate.set()
            await resting.wait()
        stop = asyncio.create_task(shop.host._event_hubs[0].stop(grace=60))
        await asyncio.sleep(0)
        shop.app.gate.set()
        await stop
    assert await log.checkpoint("$Default", 0) == 0


async def test_a_restarted_host_goes_on_after_the_checkpoint(make_shop: MakeShop, log: SqliteEventLog) -> None:
    first = await make_shop()
    await first.send(b"one")
    await until_checkpoint(log, "billing", 0)
    await first.host.stop()
    second = await make_shop()
    second._batches = 10
    await second.send(b"two")
    await until(lambda: second.of("bill"))
    assert second.of("bill")[0].first_sequence == 1


async def test_stop_lets_a_running_batch_end_and_checkpoints_it(
    tmp_path: Path, make_shop: MakeShop, log: SqliteEventLog
) -> None:
    body = "async def f(events: List[func.EventHubEvent]):\n    seen.append(0)\n    await asyncio.sleep(0.2)"
    shop = await make_shop(write_app(tmp_path, body))
    await shop.send(b"x")
    await until(lambda: shop.app.seen)
    await shop.host.stop()
    assert await log.checkpoint("$Default", 0) == 0


@pytest.mark.slow
async def test_stop_cancels_a_batch_that_does_not_end_and_does_not_checkpoint_it(
    tmp_path: Path, make_shop: MakeShop, log: SqliteEventLog
) -> None:
    body = "async def f(events: List[func.EventHubEvent]):\n    seen.append(0)\n    await asyncio.sleep(60)"
    shop = await make_shop(write_app(tmp_path, body))
    await shop.send(b"x")
    await until(lambda: shop.app.seen)
    started = time.monotonic()
    await shop.host.stop()
    assert time.monotonic() - started < 2.0
    assert await log.checkpoint("$Default", 0) == -1
    assert [invocation.outcome for invocation in shop.of("f")] == ["cancelled"]


@pytest.mark.slow
async def test_a_fault_of_the_log_is_retried_and_skips_nothing(
    make_shop: MakeShop, log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commit, faults = log.commit, [OSError("the disk is away")]

    async def failing(group: str, partition: int, sequence_number: int) -> None:
        if faults and group == "billing":
            raise faults.pop()
        await commit(group, partition, sequence_number)

    monkeypatch.setattr(log, "commit", failing)
    shop = await make_shop()
    await shop.send(b"one")
    await until_checkpoint(log, "billing", 0)
    assert len(shop.of("bill")) == 2
    assert "trying again in 0.5 s: the event log failed" in caplog.text


async def test_a_plain_function_may_block_without_stopping_the_loop(tmp_path: Path, make_shop: MakeShop) -> None:
    """The function waits for what only the loop can do: a blocked loop would never do it."""
    body = (
        "def f(events: List[func.EventHubEvent]):\n"
        "    seen.append('begun')\n    seen.append('let go' if gate.wait(10) else 'never')\n"
    )
    shop = await make_shop(write_app(tmp_path, body))
    shop.app.gate = threading.Event()
    await shop.send(b"x")
    await until(lambda: shop.app.seen)
    assert shop.app.seen == ["begun"]
    shop.app.gate.set()
    await until(lambda: len(shop.app.seen) == 2)
    assert shop.app.seen[1] == "let go"


async def test_two_functions_on_one_consumer_group_are_refused(tmp_path: Path, make_shop: MakeShop) -> None:
    again = HUB.partition("@app")[2].format(more="")
    body = f"def f(events: List[func.EventHubEvent]): pass\n@app{again}def g(events: List[func.EventHubEvent]): pass"
    with pytest.raises(DuplicateConsumerGroupError, match="f and g read the event hub orders with the same consumer"):
        await make_shop(write_app(tmp_path, body))


async def until_checkpoint(log: SqliteEventLog, group: str, sequence_number: int) -> None:
    async with asyncio.timeout(5):
        while await log.checkpoint(group, 0) != sequence_number:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

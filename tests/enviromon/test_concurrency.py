import asyncio
import random

import pytest

from enviromon.commit import backoff
from enviromon.device_state import Ledger
from enviromon.errors import ContentionError, StorageError
from enviromon.settings import Settings
from enviromon.stores import open_stores
from tests.enviromon.world import Troubled, World, batch, body, delivery, with_devices


def troubled(stores, *troubles, **settings):
    devices = Troubled(stores.devices, *troubles)
    return World(with_devices(stores, devices), **settings), devices


async def test_workers_on_one_file_that_are_given_the_same_batches_count_exactly(tmp_path):
    """The worst that rebalancing can do: every partition owned by four workers at once, all of them slow to notice."""
    opened = [open_stores(f"sqlite://{tmp_path}/state.db", "site") for _ in range(4)]
    worlds = [World(stores, occ_attempts=100) for stores in opened]
    batches = [[delivery(10 * number + i, device=f"d{i % 5}") for i in range(10)] for number in range(12)]

    async def work(world):
        for sent in batches:
            await world.send(*sent)

    await asyncio.gather(*(work(world) for world in worlds))
    total = await worlds[0].total()
    assert (total.accepted, total.late, total.rejected) == (120, 0, 0)
    assert total.received == 4 * 120
    await asyncio.gather(*(stores.close() for stores in opened))


async def test_workers_of_different_partitions_that_share_devices_lose_no_update(tmp_path):
    opened = [open_stores(f"sqlite://{tmp_path}/state.db", "site") for _ in range(4)]
    worlds = [World(stores, occ_attempts=100, trust_gateways="gateway") for stores in opened]

    async def work(world, partition):
        for number in range(15):
            sent = [delivery(number, body(deviceId=f"d{i}", light=1), device="gateway") for i in range(3)]
            await world.ingest.ingest(batch(*sent, stream=f"namespace/hub/{partition}"))

    await asyncio.gather(*(work(world, partition) for partition, world in enumerate(worlds)))
    assert (await worlds[0].total()).count == 4 * 15 * 3
    await asyncio.gather(*(stores.close() for stores in opened))


@pytest.mark.parametrize("trouble", ["lost", "conflict", "neighbour"])
async def test_a_change_without_a_sure_answer_is_tried_again_and_counted_once(stores, trouble):
    world, _ = troubled(stores, trouble, trouble)
    ingested = await world.send(delivery(1), delivery(2))
    assert ingested.counted == await world.total() == Ledger(accepted=2)
    assert ingested.states == [await world.state()]


async def test_a_lost_answer_is_found_out_even_when_others_wrote_since(stores):
    world, devices = troubled(stores, "lost")
    other = World(stores)
    real_load, first = devices.load, True

    async def load(device_ids):
        nonlocal first
        if not first:
            await other.send(delivery(3))
        first = False
        return await real_load(device_ids)

    devices.load = load
    await world.send(delivery(1), delivery(2))
    assert await world.total() == Ledger(accepted=3)


async def test_a_write_that_was_applied_before_the_store_died_is_not_counted_again(stores):
    world, _ = troubled(stores, "crash")
    with pytest.raises(StorageError):
        await world.send(delivery(1), delivery(2))
    ingested = await world.send(delivery(1), delivery(2), delivery(3))
    assert ingested.counted == Ledger(accepted=1, duplicate=2)
    assert (await world.total()).count == 3


async def test_an_outage_fails_the_batch_and_loses_nothing(stores):
    world, _ = troubled(stores, "outage", "outage")
    for _ in range(2):
        with pytest.raises(StorageError):
            await world.send(delivery(1), delivery(2))
    assert (await world.send(delivery(1), delivery(2))).counted == Ledger(accepted=2)


async def test_when_the_attempts_run_out_the_batch_fails_and_nothing_is_counted(stores):
    world, devices = troubled(stores, *["conflict"] * 10)
    with pytest.raises(ContentionError):
        await world.send(delivery(1))
    assert devices.calls["compare_and_set"] == 10
    assert await world.total() == Ledger()


async def test_only_a_conflict_reads_the_store_again(stores):
    world, devices = troubled(stores, None, None, "conflict")
    for sequence in range(3):
        await world.send(delivery(sequence))
    assert devices.calls["load"] == 2


async def test_between_attempts_it_waits_by_the_formula(stores):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    world, _ = troubled(stores, *["conflict"] * 6, occ_base_ms=40, occ_cap_ms=1000)
    world.ingest = world.worker(sleep=sleep, uniform=lambda low, high: high)
    await world.send(delivery(1))
    assert waits == [0.08, 0.16, 0.32, 0.64, 1.0, 1.0]


@pytest.mark.parametrize("attempt", range(1, 11))
def test_a_wait_lies_between_the_base_and_the_cap(attempt):
    uniform = random.Random(attempt).uniform
    assert all(0.04 <= backoff(attempt, Settings(), uniform) <= 1.0 for _ in range(100))


def test_a_base_above_the_cap_is_the_wait():
    assert backoff(3, Settings(occ_base_ms=50, occ_cap_ms=10), lambda low, high: high) == 0.05

"""The contract of DeviceStore."""

import asyncio

import pytest
from msgspec import structs

from enviromon.device_state import DeviceState, Label, Ledger, Measurement, Moment, Position
from enviromon.rejections import Rejections, Run
from enviromon.stores import Change, WriteOutcome, each

AT = Moment(1_795_478_400_000, 2**40, 7)
FULL = DeviceState(
    device_id="a%'()*-.:=@_$,!?#",
    labels={"name": Label("Straße 雪", AT), "messageId": Label(2**63 - 1, AT)},
    metrics={"temperature": Measurement(0.0, -0.1, AT), "light": Measurement(1e300, 5e-324, AT)},
    positions={"namespace/hub/0": Position(2**53, 999, 1_795_478_400_000)},
    ledger=Ledger(1, 2, 3, 4),
    event_time=1_795_478_400_000,
    enqueued_time=1_795_478_400_001,
    revision=1,
    removed_at=None,
    rejections={"namespace/hub/0": Rejections((1, 2, 3), Run(9, 0, 9, 1, 4, 5), b"\x00\xff", True, ((1, 2),))},
    baseline=2**40,
)


def new(device_id="d1", **fields):
    return structs.replace(DeviceState(device_id, revision=1), **fields)


def next_of(stored):
    return Change(structs.replace(stored.state, revision=stored.state.revision + 1), stored.etag)


async def test_a_state_comes_back_as_it_was_written(stores):
    await stores.devices.compare_and_set([Change(FULL, None)])
    assert (await stores.devices.load([FULL.device_id]))[FULL.device_id].state == FULL


async def test_unknown_devices_are_left_out(stores):
    await stores.devices.compare_and_set([Change(new("here"), None)])
    assert set(await stores.devices.load(["here", "not here"])) == {"here"}
    assert await stores.devices.load([]) == {}


async def test_the_etag_of_an_applied_change_writes_the_next_one(stores):
    (result,) = await stores.devices.compare_and_set([Change(new(), None)])
    (again,) = await stores.devices.compare_and_set([Change(new(revision=2), result.etag)])
    assert (result.outcome, again.outcome) == (WriteOutcome.APPLIED, WriteOutcome.APPLIED)
    assert (await stores.devices.load(["d1"]))["d1"].etag == again.etag


async def test_a_stale_etag_is_a_conflict_and_changes_nothing(stores):
    (first,) = await stores.devices.compare_and_set([Change(new(), None)])
    await stores.devices.compare_and_set([Change(new(revision=2), first.etag)])
    (result,) = await stores.devices.compare_and_set([Change(new(revision=2, event_time=1), first.etag)])
    assert result.outcome is WriteOutcome.CONFLICT
    assert (await stores.devices.load(["d1"]))["d1"].state == new(revision=2)


async def test_inserting_a_row_that_exists_is_a_conflict(stores):
    await stores.devices.compare_and_set([Change(new(), None)])
    (result,) = await stores.devices.compare_and_set([Change(new(event_time=1), None)])
    assert result.outcome is WriteOutcome.CONFLICT
    assert (await stores.devices.load(["d1"]))["d1"].state == new()


async def test_an_etag_for_a_row_that_is_gone_is_a_conflict(stores):
    (first,) = await stores.devices.compare_and_set([Change(new("other"), None)])
    (result,) = await stores.devices.compare_and_set([Change(new(), first.etag)])
    assert result.outcome is WriteOutcome.CONFLICT


async def test_each_change_is_applied_or_not_and_says_which(stores):
    await stores.devices.compare_and_set([Change(new("taken"), None)])
    changes = [Change(new("a", revision=1), None), Change(new("taken"), None), Change(new("b"), None)]
    results = await stores.devices.compare_and_set(changes)
    assert results[1].outcome is WriteOutcome.CONFLICT
    found = await stores.devices.load(["a", "b"])
    for name, result in zip("ab", (results[0], results[2]), strict=True):
        assert (result.outcome is WriteOutcome.APPLIED) == (name in found)
        assert result.outcome in {WriteOutcome.APPLIED, WriteOutcome.NOT_APPLIED}


async def test_more_changes_than_a_transaction_of_azure_tables_holds_are_written(stores):
    results = await stores.devices.compare_and_set([Change(new(f"d{number}"), None) for number in range(250)])
    assert {result.outcome for result in results} == {WriteOutcome.APPLIED}
    assert len(await stores.devices.load([f"d{number}" for number in range(250)])) == 250


async def test_nothing_to_write_is_no_error(stores):
    assert await stores.devices.compare_and_set([]) == []


async def test_of_concurrent_writers_with_one_etag_exactly_one_wins(stores):
    await stores.devices.compare_and_set([Change(new(), None)])
    stored = (await stores.devices.load(["d1"]))["d1"]
    results = await asyncio.gather(*(stores.devices.compare_and_set([next_of(stored)]) for _ in range(8)))
    assert sorted(result.outcome for (result,) in results) == [WriteOutcome.APPLIED] + [WriteOutcome.CONFLICT] * 7


@pytest.mark.parametrize("count", [0, 1, 4, 5, 9, 10, 11])
async def test_pages_tell_every_device_once_in_order(stores, count):
    names = [f"d{number:02}" for number in range(count)]
    await stores.devices.compare_and_set([Change(new(name), None) for name in reversed(names)])
    found = [stored.state.device_id async for stored in each(lambda after: stores.devices.page(after, 5))]
    assert found == names


async def test_a_page_holds_at_most_what_is_asked_for(stores):
    await stores.devices.compare_and_set([Change(new(f"d{number}"), None) for number in range(3)])
    page = await stores.devices.page(None, 2)
    assert [stored.state.device_id for stored in page.items] == ["d0", "d1"]
    assert page.next is not None
    assert [stored.state.device_id for stored in (await stores.devices.page(page.next, 2)).items] == ["d2"]

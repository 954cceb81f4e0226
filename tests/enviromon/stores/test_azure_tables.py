"""What is true of the Azure Tables adapter alone, on a real Azurite."""

import asyncio
from collections import Counter

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.data.tables.aio import TableServiceClient
from msgspec import structs

from enviromon.calibration import Line, Version
from enviromon.device_state import DeviceState, Label, Measurement, Moment
from enviromon.errors import SettingsError, StorageError
from enviromon.stores import Change, DeadLetter, WriteOutcome, each, open_stores
from tests.enviromon.world import World, delivery, with_devices

pytestmark = pytest.mark.slow
AT = Moment(1, 1, 0)
TOO_LONG = "x" * 40_000
"""A property holds 32 Ki UTF-16 units."""


@pytest.fixture
async def tables(tables_url):
    opened = open_stores(tables_url, "site")
    yield opened
    await opened.close()


@pytest.fixture
async def account(azurite):
    async with TableServiceClient.from_connection_string(azurite.connection_string()) as client:
        yield client


def count_calls(stores):
    """Count what goes over the wire from now on, by what it is."""
    calls = Counter()
    account = stores.devices._account
    for name in ("transact", "query"):
        setattr(account, name, _counted(name, getattr(account, name), calls))
    return calls


def _counted(name, call, calls):
    def counted(*arguments, **options):
        calls[name] += 1
        return call(*arguments, **options)

    return counted


def fleet(count):
    return [DeviceState(f"d{number:05}", revision=1) for number in range(count)]


async def insert(stores, states):
    results = await stores.devices.compare_and_set([Change(state, None) for state in states])
    assert {result.outcome for result in results} <= {WriteOutcome.APPLIED}
    return results


async def test_a_row_reads_as_people_know_it(tables, account, table_prefix):
    state = DeviceState(
        "d#1", labels={"geo": Label("Perth", AT)}, metrics={"temperature": Measurement(0.0, 1.0, AT)}, revision=5
    )
    await insert(tables, [state])
    row = await account.get_table_client(f"{table_prefix}DeviceState").get_entity("site", "d~231")
    assert (row["DeviceId"], row["Geo"], row["Celsius"], row["Schema"]) == ("d#1", "Perth", 0.0, 1)
    assert (row["Count"].value, row["Revision"].value) == (0, 5)


@pytest.mark.parametrize("site", ["O'Hara & søn 100%+", "雪", "x" * 128])
async def test_any_site_is_its_own(tables_url, site):
    one, other = open_stores(tables_url, site), open_stores(tables_url, "other")
    await insert(one, [DeviceState("d1", revision=1)])
    await one.calibrations.put("d1", Version(0, {"light": Line(2.0)}))
    assert set(await one.devices.load(["d1"])) == set(await one.calibrations.load(["d1"])) == {"d1"}
    assert await other.devices.load(["d1"]) == await other.calibrations.load(["d1"]) == {}
    assert (await other.devices.page()).items == []
    await asyncio.gather(one.close(), other.close())


async def test_a_fleet_in_buckets_is_found_and_paged_whole(tables_url):
    stores = open_stores(tables_url, "site", buckets=3)
    states = fleet(250)
    await insert(stores, states)
    assert len(await stores.devices.load([state.device_id for state in states])) == 250
    found = [stored.state.device_id async for stored in each(lambda after: stores.devices.page(after, 40))]
    assert sorted(found) == [state.device_id for state in states]
    await stores.close()


async def test_another_number_of_buckets_is_refused(tables_url):
    begun, changed = open_stores(tables_url, "site", buckets=2), open_stores(tables_url, "site", buckets=3)
    await insert(begun, fleet(1))
    for call in (changed.devices.load(["d"]), changed.devices.page(), changed.devices.compare_and_set([])):
        with pytest.raises(SettingsError, match="STATE_BUCKETS is 3, but the site 'site' was begun with 2"):
            await call
    await asyncio.gather(begun.close(), changed.close())


async def test_many_workers_begin_a_site_together(tables_url):
    opened = [open_stores(tables_url, "site") for _ in range(6)]
    results = await asyncio.gather(*(stores.devices.compare_and_set([Change(fleet(1)[0], None)]) for stores in opened))
    outcomes = sorted(result.outcome for (result,) in results)
    assert outcomes == [WriteOutcome.APPLIED] + [WriteOutcome.CONFLICT] * 5
    await asyncio.gather(*(stores.close() for stores in opened))


async def test_a_batch_of_known_devices_costs_one_call(tables):
    world = World(tables)
    await world.send(*(delivery(number, device=f"d{number}") for number in range(100)))
    calls = count_calls(tables)
    for start in range(100, 600, 100):
        await world.send(*(delivery(start + number, device=f"d{number}") for number in range(100)))
    assert calls == {"transact": 5}


async def test_a_miss_reads_neighbours_together(tables):
    states = fleet(300)
    await insert(tables, states)
    calls = count_calls(tables)
    assert len(await tables.devices.load([state.device_id for state in states])) == 300
    assert calls == {"query": 1}


async def test_a_miss_of_a_few_far_apart_reads_no_crowd(tables):
    await insert(tables, fleet(600))
    calls = count_calls(tables)
    wanted = ["d00000", "d00300", "d00599", "unknown"]
    assert set(await tables.devices.load(wanted)) == set(wanted[:3])
    assert calls["query"] <= 1 + len(wanted)


@pytest.mark.parametrize("every", [1, 2, 3, 7, 50])
async def test_a_miss_finds_what_there_is_however_it_lies(tables, every):
    states = fleet(420)
    await insert(tables, states[::2])
    wanted = {state.device_id for state in states[::every]}
    assert set(await tables.devices.load(wanted)) == wanted & {state.device_id for state in states[::2]}


async def test_calibrations_of_many_devices_are_read_together(tables):
    for number in range(20):
        for valid_from in range(3):
            await tables.calibrations.put(f"d{number:02}", Version(valid_from, {"light": Line(number)}))
    calls = count_calls(tables)
    found = await tables.calibrations.load([f"d{number:02}" for number in range(20)])
    assert {len(calibration.versions) for calibration in found.values()} == {3}
    assert len(found) == 20
    assert calls["query"] == 1
    calls.clear()
    assert await tables.calibrations.load([f"none-{number}" for number in range(100)]) == {}
    assert calls["query"] == 1


async def test_versions_that_another_removes_meanwhile_keep_none_of_the_others(tables, monkeypatch):
    """A transaction that removes a row which is gone removes nothing."""
    for valid_from in (1, 2, 3):
        await tables.calibrations.put("d1", Version(valid_from, {"light": Line(2.0, 0.0)}))
    rows = await tables.calibrations._rows(["d1"])
    assert await tables.calibrations.remove("d1", 2)

    async def as_they_were(_device_ids):
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(tables.calibrations, "_rows", as_they_were)
        assert await tables.calibrations.remove("d1")
    assert await tables.calibrations.load(["d1"]) == {}


async def test_what_the_store_can_never_take_harms_no_neighbour(tables):
    states = fleet(5)
    states[3] = structs.replace(states[3], labels={"name": Label(TOO_LONG, AT)})
    results = await tables.devices.compare_and_set([Change(state, None) for state in states])
    assert [result.outcome for result in results] == [
        WriteOutcome.REFUSED if number == 3 else WriteOutcome.APPLIED for number in range(5)
    ]


class Spoiled:
    """A device store whose states carry more than a row can hold while there is a reading of 66 degrees among them."""

    def __init__(self, store):
        self._store = store
        self.load = store.load
        self.page = store.page

    async def compare_and_set(self, changes):
        return await self._store.compare_and_set([Change(self._spoil(c.state), c.etag) for c in changes])

    def _spoil(self, state):
        measured = state.metrics.get("temperature")
        hot = measured is not None and measured.value == 66
        return structs.replace(state, labels={"name": Label(TOO_LONG, AT)}) if hot else state


async def test_a_reading_that_makes_a_state_too_large_is_a_dead_letter_and_is_counted(tables):
    world = World(with_devices(tables, Spoiled(tables.devices)))
    hot = b'{"temperature": 66}'
    await world.send(delivery(1), delivery(2, device="d2"))
    ingested = await world.send(delivery(3, hot), delivery(4, device="d2"))
    assert (ingested.counted.accepted, ingested.counted.rejected) == (1, 1)
    total = await world.total()
    assert (total.accepted, total.rejected) == (3, 1)
    (letter,) = await world.letters()
    assert (letter.reason, letter.device_id, letter.body) == ("refused", "d1", hot)
    assert (await world.state()).metrics["temperature"].value != 66


async def test_dead_letters_of_every_size_fit_their_transactions(tables):
    letters = [
        DeadLetter(
            reason="json", detail="", device_id="d", stream="s", sequence=number, index=0, enqueued_time=number,
            body=bytes(262_144),
        )
        for number in range(30)
    ]  # fmt: skip
    await tables.dead_letters.add(letters)
    await tables.dead_letters.add(letters)
    assert [letter async for letter in each(tables.dead_letters.page)] == letters
    assert len((await tables.dead_letters.page()).items) == 16


async def test_a_row_of_somebody_else_is_named(tables, account, tables_url):
    await insert(tables, fleet(1))
    table = account.get_table_client(tables_url.rpartition("/")[2] + "DeviceState")
    await table.create_entity({"PartitionKey": "site", "RowKey": "alien", "Celsius": 20.0})
    with pytest.raises(StorageError, match="'alien' holds no state"):
        await tables.devices.load(["alien"])


async def test_tables_that_vanish_are_made_again(tables, account, tables_url):
    await insert(tables, fleet(2))
    for name in ("DeviceState", "Calibration", "DeadLetters"):
        try:
            await account.create_table(tables_url.rpartition("/")[2] + name)
        except ResourceExistsError:
            await account.delete_table(tables_url.rpartition("/")[2] + name)
    assert await tables.devices.load(["d00000"]) == {}
    await insert(tables, fleet(2))
    assert (await tables.dead_letters.page()).items == []


async def test_a_closed_store_opens_again(tables):
    await insert(tables, fleet(1))
    await tables.close()
    assert set(await tables.devices.load(["d00000"])) == {"d00000"}


async def test_a_store_that_is_not_there_is_a_storage_error(tables_url, monkeypatch, azurite):
    monkeypatch.setenv("AZURITE", azurite.connection_string(port=1))
    stores = open_stores(tables_url, "site")
    with pytest.raises(StorageError, match="DeviceState"):
        await stores.devices.load(["d1"])
    await stores.close()


async def test_a_wrong_key_is_a_storage_error_that_does_not_show_it(tables_url, monkeypatch, azurite):
    wrong = "d3JvbmcgYW5kIHNlY3JldA=="
    text = azurite.connection_string()
    start = text.index("AccountKey=") + len("AccountKey=")
    monkeypatch.setenv("AZURITE", text[:start] + wrong + text[text.index(";", start) :])
    stores = open_stores(tables_url, "site")
    with pytest.raises(StorageError) as caught:
        await stores.devices.load(["d1"])
    assert wrong not in str(caught.value)
    await stores.close()


@pytest.mark.parametrize("url", ["azure-tables:", "azure-tables:A/1x", "azure-tables:A/x/y", "azure-tables://A"])
def test_a_url_of_another_form_is_refused(url):
    with pytest.raises(SettingsError, match="STORE_URL"):
        open_stores(url, "site", environment={"A": "x"})


async def test_a_connection_string_that_cannot_be_read_is_no_traceback_of_the_sdk():
    stores = open_stores("azure-tables:A", "site", environment={"A": "nonsense"})
    with pytest.raises(SettingsError, match="connection string"):
        await stores.devices.load(["d1"])

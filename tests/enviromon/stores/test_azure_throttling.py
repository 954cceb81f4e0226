"""Azure Tables that says no: too busy, being deleted, out of order. A server in front of Azurite says it."""

import time

import pytest

from enviromon.device_state import DeviceState, Ledger
from enviromon.errors import StorageError
from enviromon.stores import Change, WriteOutcome
from enviromon.stores.azure_tables import open_azure_tables
from tests.enviromon.stores.front import Front
from tests.enviromon.world import World, delivery

pytestmark = pytest.mark.slow


@pytest.fixture
async def front(azurite):
    async with Front(azurite.port) as made:
        yield made


@pytest.fixture
async def stores(azurite, front, table_prefix):
    opened = open_azure_tables(f"A/{table_prefix}", "site", {"A": azurite.connection_string(front.port)})
    await opened.devices.load(["d1"])
    front.requests.clear()
    yield opened
    await opened.close()


async def insert(stores):
    (result,) = await stores.devices.compare_and_set([Change(DeviceState("d1", revision=1), None)])
    return result.outcome


@pytest.mark.parametrize("status", [429, 503])
async def test_throttling_is_waited_out_as_long_as_the_service_says(stores, front, status):
    front.refuse("$batch", status, "ServerBusy", retry_after=1)
    start = time.monotonic()
    assert await insert(stores) is WriteOutcome.APPLIED
    assert time.monotonic() - start >= 1
    assert len(front.requests) == 2
    front.refuse("GET", status, "ServerBusy", retry_after=1)
    start = time.monotonic()
    assert set(await stores.devices.load(["d1"])) == {"d1"}
    assert time.monotonic() - start >= 1


async def test_throttling_without_an_end_is_unknown_for_a_write_and_a_storage_error_for_a_read(stores, front):
    front.refuse("$batch", 503, "ServerBusy", times=5)
    front.refuse("GET", 503, "ServerBusy", times=5)
    assert await insert(stores) is WriteOutcome.UNKNOWN
    with pytest.raises(StorageError, match="DeviceState"):
        await stores.devices.load(["d1"])
    assert len(front.requests) == 10


async def test_a_write_that_meets_its_own_earlier_self_is_no_conflict(stores, front):
    """It was applied though the answer said "busy": the one sent again finds the row there, and the position tells."""
    front.refuse("$batch", 503, "ServerBusy", applied=True)
    ingested = await World(stores).send(delivery(1), delivery(2))
    assert ingested.counted == await World(stores).total() == Ledger(accepted=2)


@pytest.mark.parametrize("status", [500, 504])
async def test_an_error_of_the_service_is_unknown_and_not_sent_again_blindly(stores, front, status):
    front.refuse("$batch", status, "OperationTimedOut", applied=True)
    assert await insert(stores) is WriteOutcome.UNKNOWN
    assert front.requests == ["POST /devstoreaccount1/$batch"]


@pytest.mark.parametrize(("status", "code"), [(403, "AuthorizationFailure"), (400, "InvalidInput")])
async def test_what_no_row_is_to_blame_for_is_a_storage_error(stores, front, status, code):
    front.refuse("$batch", status, code)
    with pytest.raises(StorageError, match=code):
        await insert(stores)
    front.refuse("GET", status, code)
    with pytest.raises(StorageError, match=code):
        await stores.devices.load(["d1"])
    assert len(front.requests) == 2


async def test_a_table_that_is_being_deleted_is_waited_for(stores, front):
    front.refuse("$batch", 404, "TableNotFound")
    front.refuse("POST /devstoreaccount1/Tables", 409, "TableBeingDeleted", times=2)
    assert await insert(stores) is WriteOutcome.APPLIED
    assert sum("Tables" in asked for asked in front.requests) == 3


async def test_a_table_that_can_neither_be_found_nor_made_ends_as_a_storage_error(stores, front):
    front.refuse("$batch", 404, "TableNotFound", times=100)
    with pytest.raises(StorageError, match="TableNotFound"):
        await insert(stores)
    assert len(front.requests) < 20

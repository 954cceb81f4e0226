"""The books would notice: each rule, broken on purpose."""

import pytest

from enviromon.device_state import DeviceState, Ledger
from enviromon.stores import Change, DeadLetter, open_stores
from localcloud.iothub.event_log import Envelope, Event, SqliteEventLog
from tests.faults.book import Book
from tests.faults.fleet import BAD, body


async def write(data, *numbers, device="d"):
    log = await SqliteEventLog.open(data, partitions=1)
    envelope = Envelope({"iothub-connection-device-id": device}, {})
    await log.append(repr(numbers).encode(), {0: [Event(envelope, body(device, number)) for number in numbers]})
    await log.close()


@pytest.fixture
async def stores(tmp_path):
    stores = open_stores(f"sqlite://{tmp_path}/state.db", "enviromon")
    yield stores
    await stores.close()


async def store(stores, **ledger):
    state = DeviceState("d", ledger=Ledger(**ledger))
    await stores.devices.compare_and_set([Change(state, None)])


def letter(sequence, index=0):
    return DeadLetter(
        reason="value",
        detail="",
        device_id="d",
        stream="n/h/0",
        sequence=sequence,
        index=index,
        enqueued_time=1,
        body=b"",
    )


@pytest.mark.parametrize("numbers", [(1, 2, 4), (2,), (1, 2, 1, 3), (1, 2, 3, 2, 4)])
async def test_a_gap_or_a_wrong_order_is_noticed(tmp_path, numbers):
    await write(tmp_path, *numbers)
    with pytest.raises(AssertionError, match="stands after"):
        await Book(tmp_path).read()


@pytest.mark.parametrize("numbers", [(1, 2, 3), (1, 2, 1, 2, 3), (1, 1, 2, 2)])
async def test_messages_that_were_sent_again_are_in_order(tmp_path, numbers):
    await write(tmp_path, *numbers)
    book = Book(tmp_path)
    await book.read()
    assert book.accounts["d"].good == len(numbers)


async def test_what_was_appended_since_is_read_once(tmp_path):
    book = Book(tmp_path)
    for numbers in ((1, 2), (3, 4)):
        await write(tmp_path, *numbers)
        await book.read()
    assert book.events == 4


async def test_something_acknowledged_that_is_not_in_the_log_is_noticed(tmp_path):
    await write(tmp_path, 1, 2)
    book = Book(tmp_path)
    await book.read()
    book.holds([("d", 2)])
    with pytest.raises(AssertionError, match="message 3 was acknowledged"):
        book.holds([("d", 3)])
    with pytest.raises(AssertionError, match="message 1 was acknowledged"):
        book.holds([("other", 1)])


@pytest.mark.parametrize(("accepted", "rejected", "counted"), [(2, 0, True), (1, 0, False), (0, 0, False)])
async def test_what_is_not_counted_yet_is_told(tmp_path, stores, accepted, rejected, counted):
    await write(tmp_path, 1, 2)
    book = Book(tmp_path)
    await book.read()
    await store(stores, accepted=accepted, rejected=rejected)
    assert await book.is_counted(stores) is counted


@pytest.mark.parametrize("ledger", [{"accepted": 3}, {"accepted": 2, "late": 1}, {"accepted": 2, "rejected": 1}])
async def test_what_is_counted_twice_is_noticed(tmp_path, stores, ledger):
    await write(tmp_path, 1, 2)
    book = Book(tmp_path)
    await book.read()
    await store(stores, **ledger)
    with pytest.raises(AssertionError, match="twice"):
        await book.is_counted(stores)


async def test_dead_letters_are_exactly_those_of_bad_events(tmp_path, stores):
    await write(tmp_path, *range(1, BAD + 1))
    book = Book(tmp_path)
    await book.read()
    with pytest.raises(AssertionError, match="missing"):
        await book.has_its_dead_letters(stores)
    await stores.dead_letters.add([letter(BAD - 1)])
    await book.has_its_dead_letters(stores)
    await stores.dead_letters.add([letter(BAD - 1, index=1)])
    with pytest.raises(AssertionError, match="twice"):
        await book.has_its_dead_letters(stores)
    await stores.dead_letters.remove([letter(BAD - 1, index=1)])
    await stores.dead_letters.add([letter(3)])
    with pytest.raises(AssertionError, match="too many"):
        await book.has_its_dead_letters(stores)

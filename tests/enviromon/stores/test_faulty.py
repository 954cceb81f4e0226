"""Stores that fail on purpose around a real one, and what ingest makes of it."""

import logging

import pytest

from enviromon.device_state import DeviceState, Ledger
from enviromon.errors import SettingsError, StorageError
from enviromon.host_settings import AZURE_MARKS
from enviromon.stores import Change, WriteOutcome, open_stores
from enviromon.stores.faulty import UNLOCKED, faulty, parse_rules
from tests.enviromon.world import World, batch, body, delivery


@pytest.fixture
async def stores(tmp_path):
    stores = open_stores(f"sqlite://{tmp_path}/state.db", "here")
    yield stores
    await stores.close()


def failing(stores, text, seed=1):
    return faulty(stores, text, seed=seed, unlock=UNLOCKED, environment={})


@pytest.mark.parametrize(
    "text",
    [
        "devices.load", "devices.load=explode", "devices.write=fail", "devices.load=fail:2", "devices.load=fail:x",
        "devices.load=full", "devices.page=lose_answer", "devices.load=fail:1:0", "devices.load=fail:1:1:1",
    ],
)  # fmt: skip
def test_a_rule_that_is_none_is_named(text):
    with pytest.raises(SettingsError, match=text):
        parse_rules(f"devices.load=fail {text}")


@pytest.mark.parametrize("unlock", ["", "yes", UNLOCKED.upper()])
def test_nothing_fails_on_purpose_unless_unlocked_in_full(stores, unlock):
    with pytest.raises(SettingsError, match="STORE_FAULTS_UNLOCK"):
        faulty(stores, "devices.load=fail", seed=0, unlock=unlock, environment={})


@pytest.mark.parametrize("mark", AZURE_MARKS)
def test_nothing_fails_on_purpose_on_azure(stores, mark):
    with pytest.raises(SettingsError, match=mark):
        faulty(stores, "devices.load=fail", seed=0, unlock=UNLOCKED, environment={mark: "x"})


async def test_a_lost_answer_is_an_unknown_outcome_of_a_write_that_was_done(stores):
    change = Change(DeviceState("d1"), None)
    (result,) = await failing(stores, "devices.compare_and_set=lose_answer").devices.compare_and_set([change])
    assert result.outcome is WriteOutcome.UNKNOWN
    assert set(await stores.devices.load(["d1"])) == {"d1"}


@pytest.mark.parametrize(
    ("action", "words"), [("fail", "not answer"), ("read_only", "readonly"), ("full", "disk is full")]
)
async def test_a_write_that_fails_writes_nothing_and_says_why(stores, action, words):
    with pytest.raises(StorageError, match=words):
        await failing(stores, f"devices.compare_and_set={action}").devices.compare_and_set(
            [Change(DeviceState("d1"), None)]
        )
    assert await stores.devices.load(["d1"]) == {}


async def test_each_fault_is_one_line_with_its_name(stores, caplog):
    with caplog.at_level(logging.WARNING, "faults"), pytest.raises(StorageError):
        await failing(stores, "devices.load=fail").devices.load(["d1"])
    assert [record.fault for record in caplog.records] == ["stores unlocked", "devices.load fail"]


async def test_an_outage_lasts_as_many_calls_as_it_says(stores):
    devices = failing(stores, "devices.load=fail:0.1:4").devices
    fates = ""
    for _ in range(400):
        try:
            await devices.load(["d1"])
            fates += "."
        except StorageError:
            fates += "x"
    assert {len(outage) % 4 for outage in fates.strip(".").split(".") if outage} == {0}


@pytest.mark.parametrize("seed", range(5))
async def test_ingest_counts_exactly_on_stores_that_fail_all_the_time(stores, seed):
    rules = (
        "devices.load=fail:0.1 devices.compare_and_set=fail:0.1:2 devices.compare_and_set=lose_answer:0.3 "
        "devices.compare_and_set=full:0.1 dead_letters.add=lose_answer:0.3 dead_letters.add=read_only:0.1 "
        "calibrations.load=fail:0.1"
    )
    world = World(failing(stores, rules, seed))
    sent = [
        delivery(number, body(temperature=99999) if number % 7 == 0 else None, device=f"d{number % 3}")
        for number in range(210)
    ]
    failures = 0
    for start in range(0, len(sent), 10):
        while True:
            try:
                await world.ingest.ingest(batch(*sent[start : start + 10]))
                break
            except StorageError:
                failures += 1
    assert failures > 5
    states = (await stores.devices.page()).items
    total = sum((stored.state.ledger for stored in states), Ledger())
    assert (total.accepted + total.late, total.rejected) == (180, 30)
    letters = (await stores.dead_letters.page()).items
    assert sorted(letter.sequence for letter in letters) == list(range(0, 210, 7))

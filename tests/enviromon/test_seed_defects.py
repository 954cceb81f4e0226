"""What the system that this one grew from got wrong: each test is named after what is right.

The numbers are those of the list of its defects. 12 (a chart that drops 0.0) is the dashboard's to draw; here 0.0
survives up to the message.
"""

import asyncio
import json

import pytest

from enviromon.application import application
from enviromon.calibration import Line, Version
from enviromon.errors import StorageError
from enviromon.ingest import Ingest
from enviromon.settings import Settings
from enviromon.stores import Stores, each
from tests.enviromon.world import T0, Out, Troubled, World, body, content_of, delivery, event, with_devices

VIEWER = "viewer-0123456789abcdef"


async def view_of(app, device="d1"):
    found = content_of(await app.http("devices"))["devices"]
    return next(view for view in found if view["deviceId"] == device)


async def dead_letters(app):
    return content_of(await app.http("dead_letters"))["deadLetters"]


async def test_01_a_redelivered_batch_is_not_counted_again(app):
    for _ in range(3):
        await app.telemetry(event(1), event(2))
    assert (await view_of(app))["count"] == 2


async def test_01_a_write_whose_answer_was_lost_is_not_counted_twice(stores):
    world = World(with_devices(stores, Troubled(stores.devices, "lost", "lost")))
    await world.send(delivery(1), delivery(2))
    assert (await world.state()).ledger.count == 2


async def test_02_the_first_message_of_a_new_device_reaches_the_dashboard(app):
    (message,) = await app.telemetry(event(1, body(temperature=21.5), device="new"))
    assert [(view["deviceId"], view["temperature"]) for view in message["arguments"][0]] == [("new", 21.5)]


@pytest.mark.parametrize("bad", [b'{"temperature":', b"\xff\xfe", b"[" * 10_000, b""])
async def test_03_a_malformed_message_costs_itself_and_no_neighbour(app, bad):
    await app.telemetry(event(1), event(2, bad), event(3))
    assert (await view_of(app))["ledger"] == {"received": 3, "accepted": 2, "duplicate": 0, "late": 0, "rejected": 1}


@pytest.mark.parametrize("bad", [b'{"temperature":"21"}', b'{"temperature":NaN}', b'{"temperature":1e999}',
                                 b'{"temperature":99}', b'{"temperature":true}'])  # fmt: skip
async def test_04_a_bad_value_is_counted_and_kept_with_its_reason(app, bad):
    await app.telemetry(event(1, bad))
    (letter,) = await dead_letters(app)
    assert letter["reason"] in {"value", "json", "range"}
    assert (letter["deviceId"], letter["partition"], letter["sequence"]) == ("d1", "0", 1)
    assert letter["body"].encode() == bad
    assert content_of(await app.http("ledger"))["rejected"] == 1


@pytest.mark.parametrize("bad", [body(light=1, messageId=2**70), body(light=1, geo={}), body(light=1, deviceId=[])])
async def test_05_a_permanent_error_is_a_dead_letter_at_once_and_never_retried(world, bad):
    async def sleep(_seconds):
        raise AssertionError("it waited")

    world.ingest = world.worker(sleep=sleep)
    await world.send(delivery(1, bad), delivery(2))
    assert (await world.state()).ledger.accepted == 1
    assert len(await world.letters()) == 1


@pytest.mark.parametrize("name", ["a/b", "a\\b", "a#b", "a?b", " "])
async def test_05_a_name_that_no_table_key_could_hold_is_just_a_name(app, name):
    await app.telemetry(event(1, body(deviceId=name, light=1)))
    assert (await view_of(app))["name"] == name


async def test_05_a_missing_device_id_in_the_body_is_no_error(app):
    await app.telemetry(event(1, body(light=1)))
    assert (await view_of(app))["name"] == "d1"


async def test_06_a_storage_outage_fails_the_invocation_and_the_next_delivery_counts(app, monkeypatch):
    await app.telemetry(event(1))
    devices = application().stores.devices
    working = devices.compare_and_set

    async def outage(_changes):
        raise StorageError("no store")

    monkeypatch.setattr(devices, "compare_and_set", outage)
    with pytest.raises(StorageError):
        await app.telemetry(event(2))
    monkeypatch.setattr(devices, "compare_and_set", working)
    await app.telemetry(event(2), retries=1)
    assert (await view_of(app))["count"] == 2


async def test_07_a_failed_read_is_not_taken_for_a_new_device(stores):
    world = World(stores)
    await world.send(delivery(1), delivery(2))

    async def fail(_ids):
        raise StorageError("no answer")

    working, stores.devices.load = stores.devices.load, fail
    restarted = World(stores)
    with pytest.raises(StorageError):
        await restarted.send(delivery(3))
    stores.devices.load = working
    await restarted.send(delivery(3))
    assert (await world.state()).ledger.count == 3


async def test_08_an_older_message_never_overwrites_newer_state(app):
    await app.telemetry(event(1, body(temperature=30, timestamp=T0)))
    await app.telemetry(event(2, body(temperature=10, timestamp=T0 - 60_000)))
    view = await view_of(app)
    assert (view["temperature"], view["count"], view["ledger"]["late"]) == (30.0, 2, 1)


async def test_09_a_message_without_values_is_refused_and_shows_no_nulls(app):
    await app.telemetry(event(1, body(temperature=30)))
    (message,) = await app.telemetry(event(2, body(deviceId="d1")))
    assert message["arguments"][0][0]["temperature"] == 30.0
    assert [letter["reason"] for letter in await dead_letters(app)] == ["empty"]


async def test_10_a_failure_to_read_a_calibration_is_not_remembered_as_none(world):
    async def fail(_ids):
        raise StorageError("no answer")

    calibrations = world.stores.calibrations
    working, calibrations.load = calibrations.load, fail
    with pytest.raises(StorageError):
        await world.send(delivery(1, body(light=1)))
    calibrations.load = working
    await calibrations.put("d1", Version(0, {"light": Line(3.0, 0.0)}))
    await world.send(delivery(1, body(light=1)))
    assert (await world.state()).metrics["light"].value == 3.0


async def test_10_a_changed_calibration_is_seen(app, monkeypatch):
    monkeypatch.setenv("CALIBRATION_TTL_SECONDS", "0")
    await app.telemetry(event(1, body(light=1)))
    change = {"validFrom": 0, "metrics": {"light": {"slope": 3}}}
    await app.http("calibration_write", "PUT", change, route={"deviceId": "d1"})
    await app.telemetry(event(2, body(light=1)))
    assert (await view_of(app))["light"] == 3.0


async def test_10_the_calibrations_kept_in_memory_are_bounded(stores):
    ingest = Ingest(stores, Settings(cached_devices=5))
    world = World(stores)
    world.ingest = ingest
    await world.send(*(delivery(1, device=f"d{number}") for number in range(50)))
    assert len(ingest._calibrations._cached) == 5


async def test_11_initial_state_goes_to_its_viewer_alone_in_the_keys_that_the_page_reads(app):
    await app.telemetry(event(1, body(temperature=21)))
    out = Out()
    response = await app.http("getdevicestate", "POST", {"viewer": VIEWER}, snapshot=out)
    (message,) = json.loads(out.value)
    assert (response.status_code, message["userId"], message["target"]) == (202, VIEWER, "newMessage")
    assert {"deviceId", "temperature", "count"} <= set(message["arguments"][0][0])


async def test_11_initial_state_does_not_stop_at_a_thousand_devices(app):
    await app.telemetry(*(event(1, device=f"d{number}") for number in range(1200)))
    out = Out()
    await app.http("getdevicestate", "POST", {"viewer": VIEWER}, snapshot=out)
    told = {view["deviceId"] for message in json.loads(out.value) for view in message["arguments"][0]}
    assert len(told) == 1200


async def test_11_reading_can_be_closed(app, monkeypatch):
    monkeypatch.setenv("READ_ACCESS", "key")
    monkeypatch.setenv("READ_KEY", "sesame")
    out = Out()
    response = await app.http("getdevicestate", "POST", {"viewer": VIEWER}, snapshot=out)
    assert (response.status_code, out.value) == (401, None)


async def test_12_zero_is_a_value_up_to_the_message(app):
    (message,) = await app.telemetry(event(1, body(temperature=0.0, light=0)))
    view = message["arguments"][0][0]
    assert (view["temperature"], view["light"], view["humidity"]) == (0.0, 0.0, None)


async def test_13_the_raw_value_is_kept_beside_the_calibrated_one(app):
    change = {"validFrom": 0, "metrics": {"temperature": {"slope": 2, "intercept": 1}}}
    await app.http("calibration_write", "PUT", change, route={"deviceId": "d1"})
    await app.telemetry(event(1, body(temperature=10)))
    view = await view_of(app)
    assert (view["temperature"], view["raw"]["temperature"]) == (21.0, 10.0)


async def test_14_a_batch_is_one_message_however_many_devices_it_touches(app):
    (message,) = await app.telemetry(*(event(number, device=f"d{number % 7}") for number in range(70)))
    assert len(message["arguments"][0]) == 7


async def test_14_a_crash_between_write_and_publishing_is_healed_by_the_redelivery(app):
    await app.telemetry(event(1), event(2, body(temperature=33)))
    (message,) = await app.telemetry(event(1), event(2, body(temperature=33)), retries=1)
    assert message["arguments"][0][0]["temperature"] == 33.0


@pytest.mark.parametrize(("retries", "published"), [(0, True), (1, True), (2, True), (3, False), (4, False)])
async def test_14_an_outage_of_signalr_does_not_stop_ingest(app, retries, published):
    await app.telemetry(event(1))
    assert bool(await app.telemetry(event(1), retries=retries)) is published
    assert await app.telemetry(event(2), retries=9)


async def test_15_sites_are_kept_apart(app, monkeypatch):
    await app.telemetry(event(1))
    await app.close()
    monkeypatch.setenv("PartitionKey", "elsewhere")
    assert content_of(await app.http("devices"))["devices"] == []


async def test_16_todays_worker_delivers_a_list_and_every_event_is_taken(app):
    await asyncio.gather(*(app.telemetry(*(event(n, partition=p, device=f"d{p}") for n in range(10))) for p in "0123"))
    stores: Stores = application().stores
    assert [stored.state.ledger.accepted async for stored in each(stores.devices.page)] == [10] * 4

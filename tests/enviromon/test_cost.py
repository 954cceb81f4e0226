"""The formulae, held against worked examples by hand, and the tiers against their quotas."""

import math

import msgspec
import pytest
from msgspec.structs import replace

from enviromon.cost import (
    DAY,
    UPDATE_BYTES,
    Batching,
    Workload,
    advised,
    alternatives,
    batch_size,
    distinct,
    estimate,
    price,
    use,
    use_uncoalesced,
)
from enviromon.device_state import Arrival, DeviceState, Position, Reading, fold
from enviromon.errors import SettingsError
from enviromon.metrics import METRICS
from enviromon.prices import PRICES_FILE, load_prices
from enviromon.updates import view

PRICES = load_prices()
ONE_STREAM = Batching(partitions=1, maximum=1000)
MILLION_A_DAY = 1e6 / DAY


def workload(**changes):
    given = {"devices": 100, "rate": MILLION_A_DAY, "viewers": 1, "batch": 100.0, "batching": ONE_STREAM}
    given |= {"update_bytes": 125.0, "calibration_ttl": 1e9}
    return Workload(**(given | changes))


def line(bill, service, unit=""):
    (found,) = (line for line in bill.lines if line.service == service and unit in line.unit)
    return found


def test_a_million_messages_of_a_hundred_devices_in_batches_of_a_hundred():
    """D = 100, b = 100: u = 0.634, s = 125 bytes; per million messages."""
    done = use(workload(viewers=0), PRICES)
    assert round(done.batch_devices) == 63
    assert round(done.executions) == 10_000
    assert round(done.table_transactions) == pytest.approx(10_000, abs=1)
    assert round(use(workload(viewers=3), PRICES).signalr_messages) == 40_000 * 3


def test_the_same_million_without_coalescing():
    done = use_uncoalesced(workload(viewers=3), PRICES)
    assert done.executions == pytest.approx(644_000, rel=1e-3)
    assert done.table_transactions == pytest.approx(2_000_000)
    assert done.signalr_messages == pytest.approx(634_000 * 3, rel=1e-3)


def test_a_frame_a_second_instead_of_one_a_message():
    """100 messages a second to ten viewers, what a frame holds within 2 KB."""
    one_by_one = workload(rate=100.0, viewers=10, batch=1.0)
    by_the_second = workload(rate=100.0, viewers=10, batch=100.0, update_bytes=20.0)
    assert use(one_by_one, PRICES).signalr_messages == pytest.approx(86.4e6)
    assert use(by_the_second, PRICES).signalr_messages == pytest.approx(0.864e6)


@pytest.mark.parametrize("viewer_hours", [0, 8, 24])
def test_a_dashboard_costs_while_it_is_open(viewer_hours):
    whole = use(workload(), PRICES)
    part = use(workload(viewer_hours=viewer_hours), PRICES)
    assert part.signalr_messages == pytest.approx(whole.signalr_messages * viewer_hours / 24)
    assert part.executions - 10_000 == pytest.approx(1440 * viewer_hours / 24)


def test_distinct_devices():
    assert distinct(1, 50) == 1
    assert distinct(10_000, 1) == pytest.approx(1)
    assert distinct(2, 2) == pytest.approx(1.5)
    assert distinct(100, 1e6) == pytest.approx(100)


@pytest.mark.parametrize(
    ("batching", "rate", "seconds", "expected"),
    [
        (Batching(partitions=4, minimum=1, maximum=1000), 0.4, 0.1, 1.0),  # each by itself
        (Batching(partitions=4, minimum=1, maximum=1000), 400, 0.1, 10.0),  # what came while the last one ran
        (Batching(partitions=4, minimum=1, maximum=100), 400_000, 0.1, 100.0),  # no more than the maximum
        (Batching(partitions=4, minimum=50, maximum=100, max_wait=60), 40, 0.1, 50.0),  # the minimum comes first
        (Batching(partitions=4, minimum=50, maximum=100, max_wait=2), 4, 0.1, 3.0),  # the time is up first
    ],
)
def test_how_many_messages_a_batch_holds(batching, rate, seconds, expected):
    asked = workload(rate=rate, seconds=seconds, batching=batching, batch=None)
    assert batch_size(asked, PRICES) == pytest.approx(expected)


def test_fewer_devices_than_partitions_use_as_many_partitions():
    one = workload(
        devices=1, rate=4.0, batch=None, batching=Batching(partitions=4, minimum=1000, maximum=1000, max_wait=1)
    )
    assert batch_size(one, PRICES) == pytest.approx(5)


@pytest.mark.parametrize(("rate", "partitions"), [(8_000 / DAY, 2), (8_001 / DAY, 4)])
def test_the_hub_has_the_partitions_of_the_tier_that_carries_the_messages(rate, partitions):
    deployed = workload(rate=rate, batch=None, batching=Batching(minimum=1000, maximum=1000, max_wait=60))
    given = replace(deployed, batching=replace(deployed.batching, partitions=partitions))
    assert use(deployed, PRICES) == use(given, PRICES)
    assert use(deployed, PRICES) != use(replace(given, batching=replace(given.batching, partitions=3)), PRICES)


@pytest.mark.parametrize(
    ("rate", "message_bytes", "tier"),
    [
        (8_000 / DAY, 512, "F1"),
        (8_001 / DAY, 512, "S1"),
        (4_001 / DAY, 513, "S1"),  # the free tier's meter counts it twice
        (400_000 / DAY, 4096, "S1"),
        (400_000 / DAY, 4097, "S1, 2 units"),
        (6_000_000 / DAY, 200, "S2"),
        (101, 200, "S2, 2 units"),
        (3_000, 200, "S3"),
    ],
)
def test_the_hub_tier_that_carries_it_cheapest(rate, message_bytes, tier):
    _, bill = estimate(workload(rate=rate, message_bytes=message_bytes), PRICES)
    assert line(bill, "IoT Hub").tier == tier
    assert line(bill, "IoT Hub").free == (tier == "F1")


def test_the_free_hub_has_room_for_five_hundred_devices():
    assert line(estimate(workload(devices=500, rate=0.01), PRICES)[1], "IoT Hub").free
    found = line(estimate(workload(devices=501, rate=0.01), PRICES)[1], "IoT Hub")
    assert (found.tier, found.reason) == ("S1", "IoT Hub: 501 devices, 500 are free")


def test_sends_a_second_count_as_well_as_messages_a_day():
    """5,000 a second would fit one S3 (6,000), but they are 432 M a day."""
    _, bill = estimate(workload(rate=5_000.0), PRICES)
    assert line(bill, "IoT Hub").tier == "S3, 2 units"


def test_what_no_single_service_carries_is_said():
    with pytest.raises(ValueError, match="no single IoT Hub"):
        estimate(workload(rate=1e6), PRICES)
    with pytest.raises(ValueError, match="no single SignalR"):
        estimate(workload(viewers=200_000), PRICES)


def test_executions_and_seconds_beyond_the_grants():
    usage = use(workload(viewers=0, memory_mb=512), PRICES)
    bill = price(workload(viewers=0), usage, PRICES)
    assert usage.gb_seconds == pytest.approx(5_000)  # 10,000 executions of a second at least, half a GB
    month = 365 / 12
    assert line(bill, "Functions", "executions").per_month == pytest.approx((10_000 * month - 250_000) * 0.4e-6)
    assert line(bill, "Functions", "GB-s").per_month == pytest.approx((5_000 * month - 100_000) * 0.000026)


def test_an_instance_is_billed_once_for_what_it_does_at_once():
    busy = use(workload(rate=1000.0, batch=1.0, viewers=0, seconds=0.001, memory_mb=1024), PRICES)
    assert busy.gb_seconds == pytest.approx(DAY)


def test_a_longer_execution_is_rounded_up_to_a_tenth_of_a_second():
    long = use(workload(viewers=0, seconds=1.21, memory_mb=1024), PRICES)
    assert long.gb_seconds == pytest.approx(10_000 * 1.3)


def test_signalr_is_free_for_few_viewers_and_few_messages():
    quiet = workload(rate=0.1, viewers=2, batch=1.0)
    assert line(estimate(quiet, PRICES)[1], "SignalR").free
    crowd = replace(quiet, viewers=21, rate=0.001)
    assert line(estimate(crowd, PRICES)[1], "SignalR").reason == "SignalR: 21 viewers, 20 are free"
    many = replace(quiet, viewers=1001)
    found = line(estimate(many, PRICES)[1], "SignalR")
    extra = (8640 * 1001 - 2e6) * 365 / 12 / 1e6
    assert found.tier == "Standard, 2 units"
    assert found.per_month == pytest.approx(2 * 48.97 + extra)


def test_only_what_is_free_altogether_fits_the_free_tier():
    _, quiet = estimate(workload(rate=0.01, viewers=1, batch=1.0, memory_mb=512), PRICES)
    assert quiet.fits_free_tier
    assert quiet.reasons == []
    assert 0 < quiet.per_month < 0.1
    _, busy = estimate(workload(), PRICES)
    assert not busy.fits_free_tier
    assert [reason.partition(":")[0] for reason in busy.reasons] == ["IoT Hub", "Functions", "Functions", "SignalR"]


def test_each_change_of_settings_costs_less_than_the_one_before_it():
    busy = workload(rate=100.0, viewers=10, batch=None, batching=Batching(partitions=4, maximum=1000), memory_mb=2048)
    _, bill = estimate(busy, PRICES)
    others = alternatives(busy, PRICES)
    months = [bill.per_month, *(other.bill.per_month for other in others)]
    assert months[:-1] == sorted(months[:-1], reverse=True)
    assert months[-1] > months[0]
    assert [other.what for other in others][0::5] == ["instances of 512 MB", "no coalescing at all"]


def test_the_mildest_change_that_brings_most_is_advised():
    busy = workload(rate=100.0, viewers=10, batch=None, batching=Batching(partitions=4, maximum=1000), memory_mb=2048)
    _, bill = estimate(busy, PRICES)
    others = alternatives(busy, PRICES)
    found = advised(bill, others)
    saved = [bill.per_month - other.bill.per_month for other in others[:-2]]
    assert bill.per_month - found.bill.per_month >= max(saved) / 2
    assert all(other < max(saved) / 2 for other in saved[: others.index(found)])
    quiet = workload(rate=0.01, viewers=1, batch=None, memory_mb=512)
    assert advised(estimate(quiet, PRICES)[1], alternatives(quiet, PRICES)) is None


def test_where_every_setting_is_at_its_cheapest_none_is_advised():
    thrifty = Workload(devices=6, rate=6, memory_mb=512, batching=Batching(minimum=1000, maximum=1000, max_wait=60))
    found = alternatives(thrifty, PRICES)
    assert [other.what for other in found] == ["10 readings a message", "no coalescing at all"]
    assert advised(estimate(thrifty, PRICES)[1], found) is None


def test_a_wait_that_changes_nothing_is_not_offered():
    deployed = replace(ONE_STREAM, minimum=64, max_wait=5.0)
    slow = workload(rate=2.0, batch=None, batching=deployed)
    assert [other.what for other in alternatives(slow, PRICES)[:2]] == [
        "instances of 512 MB",
        "news that may wait 30 s",
    ]


def test_nothing_sent_costs_nothing():
    usage, bill = estimate(workload(rate=0.0, viewers=0), PRICES)
    assert bill.per_month == 0
    assert not any(math.isnan(value) for value in msgspec.structs.astuple(usage))


def test_an_update_weighs_what_is_reckoned():
    at = 1_764_000_000_000
    reading = Reading(
        at,
        {metric.name: 21.37 for metric in METRICS},
        {metric.name: 21.12 for metric in METRICS},
        {"name": "sensor-12", "geo": "Melbourne", "messageId": 12},
    )
    state = fold(DeviceState("sensor-12"), "hub/partition", [Arrival(Position(1, 0, at), reading, b"")]).state
    assert len(msgspec.json.encode(view(state))) == pytest.approx(UPDATE_BYTES, rel=0.1)


def test_every_section_of_the_prices_says_when_and_on_what_it_rests():
    written = msgspec.toml.decode(PRICES_FILE.read_bytes())
    sections = [section for section in written.values() if isinstance(section, dict)]
    assert len(sections) == 5
    for section in sections:
        assert section["source"].startswith("https://azure.microsoft.com/")
        assert section["price_seen"]
        assert section["checked"] <= written["compiled"]


@pytest.mark.parametrize("text", ["", "compiled = 2026-11-24", "[", PRICES_FILE.read_text().replace("= 25.0", "= -1")])
def test_prices_that_cannot_be_used_are_refused_by_file(tmp_path, text):
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"prices\.toml"):
        load_prices(path)

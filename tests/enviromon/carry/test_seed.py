"""What a seed's rows mean here."""

import pytest
from msgspec import structs

from enviromon.calibration import Line, Version
from enviromon.carry.merging import Fate
from enviromon.carry.seed import SeedError, carried_on, read_map, seed_device, seed_version
from enviromon.device_state import fold
from tests.enviromon.test_device_state import arrival, run, shown
from tests.enviromon.world import STREAM, T0

ROW = {
    "PartitionKey": "Sydney",
    "RowKey": "Greenhouse",
    "DeviceId": "Greenhouse",
    "Geo": "Sydney, AU",
    "Humidity": 0.0,
    "hPa": 1013,
    "Celsius": 21.5,
    "Light": 7,
    "Id": 41,
    "Count": 1234,
    "Schema": 1,
}
SEED = seed_device("gh-1", ROW, T0).state


def test_a_row_becomes_a_state_with_its_count_as_the_baseline_and_its_values_at_its_time():
    assert shown(SEED) == {"temperature": 21.5, "humidity": 0.0, "pressure": 1013.0, "light": 7.0}
    assert {name: label.value for name, label in SEED.labels.items()} == {
        "name": "Greenhouse", "geo": "Sydney, AU", "messageId": 41
    }  # fmt: skip
    assert {one.at.event_time for one in (*SEED.metrics.values(), *SEED.labels.values())} == {T0}
    assert (SEED.device_id, SEED.event_time, SEED.baseline, SEED.count, SEED.ledger.received) == (
        "gh-1", T0, 1234, 1234, 0
    )  # fmt: skip


def test_64_bit_numbers_come_as_pairs_and_nulls_are_nothing():
    row = ROW | {"Count": (2**40, "Edm.Int64"), "Id": (2**60, "Edm.Int64"), "Light": None, "Geo": None}
    state = seed_device("gh-1", row, T0).state
    assert (state.baseline, state.labels["messageId"].value) == (2**40, 2**60)
    assert "light" not in state.metrics
    assert "geo" not in state.labels


def test_what_is_not_believable_is_left_out_by_name():
    row = ROW | {"Celsius": "warm", "Humidity": float("nan"), "Light": True, "Geo": "x" * 300}
    found = seed_device("gh-1", row, T0)
    assert found.left_out == ["Celsius", "Humidity", "Light", "Geo"]
    assert set(found.state.metrics) == {"pressure"}


@pytest.mark.parametrize("count", [None, -1, 1.5, "many", True, 2**60])
def test_a_row_without_a_count_is_refused_by_its_name(count):
    with pytest.raises(SeedError, match="Greenhouse"):
        seed_device("gh-1", ROW | {"Count": count}, T0)


def test_readings_after_the_move_count_on_and_older_ones_are_late():
    state = fold(SEED, STREAM, [arrival(1, T0 + 1, light=8.0), arrival(2, T0 - 5, light=1.0), arrival(3)]).state
    assert state.count == 1236
    assert (state.ledger.received, state.ledger.rejected) == (3, 1)
    assert shown(state)["light"] == 8.0


def test_a_device_that_speaks_here_already_keeps_what_is_newer_and_gets_the_rest():
    held, _ = run(
        arrival(1, T0 + 10, light=9.0), arrival(2, T0 + 10), state=structs.replace(SEED, metrics={}, baseline=0)
    )
    done = carried_on(held, SEED, overwrite=False)
    assert done.fate is Fate.REPLACED
    assert shown(done.state) == {"light": 9.0, "temperature": 21.5, "humidity": 0.0, "pressure": 1013.0}
    assert (done.state.ledger, done.state.positions) == (held.ledger, held.positions)
    assert (done.state.count, done.state.event_time, done.state.revision) == (1235, T0 + 10, held.revision + 1)
    assert carried_on(done.state, SEED, overwrite=False).fate is Fate.UNCHANGED


def test_a_seed_that_counted_on_raises_the_baseline_and_an_older_copy_of_it_does_not_lower_it():
    later = seed_device("gh-1", ROW | {"Count": 1300, "Celsius": 22.0}, T0 + 60_000).state
    done = carried_on(SEED, later, overwrite=False)
    assert (done.fate, done.state.baseline, shown(done.state)["temperature"]) == (Fate.REPLACED, 1300, 22.0)
    assert carried_on(done.state, SEED, overwrite=False).fate is Fate.NEWER
    assert carried_on(done.state, SEED, overwrite=True).state.baseline == 1234


def test_a_calibration_is_what_the_seed_applied():
    row = {
        "TemperatureSlope": 1.02, "TemperatureYIntercept": -0.5, "HumiditySlope": 2, "PressureYIntercept": 3.0,
        "LightSlope": 1.0, "LightYIntercept": 1.0,
    }  # fmt: skip
    assert seed_version(row) == Version(0, {"temperature": Line(1.02, -0.5)})
    assert seed_version({"HumiditySlope": 1.0}) is None
    with pytest.raises(SeedError, match="Greenhouse"):
        seed_version(row | {"RowKey": "Greenhouse", "TemperatureSlope": float("inf")})


def test_the_map_is_checked():
    assert read_map(b'{"Greenhouse": "gh-1", "Cellar": "c"}') == {"Greenhouse": "gh-1", "Cellar": "c"}
    for wrong, told in [
        (b"[]", "JSON object"),
        (b'{"Greenhouse": 1}', "JSON object"),
        (b"\xff", "JSON object"),
        (b'{"Greenhouse": "a/b"}', "no device id"),
        (b'{"Greenhouse": "gh", "Cellar": "gh"}', "'Greenhouse' and 'Cellar' to 'gh'"),
    ]:
        with pytest.raises(SeedError, match=told):
            read_map(wrong)

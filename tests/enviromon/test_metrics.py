import msgspec
import pytest

from enviromon.calibration import Line, Version
from enviromon.ingest import Ingest
from enviromon.metrics import METRICS, Metric, by_name, catalogue
from enviromon.telemetry import Reading, Telemetry, TelemetryReader
from enviromon.updates import view
from tests.enviromon.world import T0, batch, body, delivery

CO2 = Metric(
    name="co2",
    label="CO₂",
    unit="ppm",
    aliases=("co2", "CO2"),
    minimum=0,
    maximum=40_000,
    usual=(400, 2000),
    decimals=0,
)


def is_believed(name, value):
    item = Telemetry({name: value}, {}, None, b"")
    judged = TelemetryReader().judge(item, enqueued_time=T0, created=None, lead=0, calibration=None)
    return isinstance(judged, Reading)


def test_the_ranges_are_the_seeds():
    ranges = {metric.name: (metric.minimum, metric.maximum) for metric in METRICS}
    assert ranges == {
        "temperature": (-40, 80), "pressure": (600, 1600), "humidity": (0, 100), "light": (None, None)
    }  # fmt: skip


@pytest.mark.parametrize("value", [-40.0, 0.0, 80.0])
def test_both_ends_of_a_range_are_believable(value):
    assert is_believed("temperature", value)


@pytest.mark.parametrize("value", [-40.000001, 80.000001, float("inf"), float("nan")])
def test_what_lies_beyond_a_range_is_not(value):
    assert not is_believed("temperature", value)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_metric_without_a_range_still_has_to_be_finite(value):
    assert not is_believed("light", value)


def test_two_rows_cannot_claim_one_name_or_alias():
    with pytest.raises(ValueError, match="share"):
        by_name([*METRICS, METRICS[0]])
    with pytest.raises(ValueError, match="share"):
        by_name([*METRICS, msgspec.structs.replace(CO2, aliases=("co2", "Light"))])


async def test_a_new_metric_is_one_more_row(world):
    """Telemetry, ranges, calibration, views and catalogue all follow the table."""
    metrics = (*METRICS, CO2)
    await world.stores.calibrations.put("d1", Version(T0, {"co2": Line(2.0, 10.0)}))
    world.ingest = Ingest(world.stores, world.settings, metrics=metrics)
    await world.send(delivery(1, body(CO2=400)), delivery(2, body(co2=99_999)))
    shown = view(await world.state(), metrics)
    assert (shown["co2"], shown["raw"]["co2"], shown["temperature"]) == (810.0, 400.0, None)
    assert await world.reasons() == ["range"]
    assert catalogue(metrics)[-1]["name"] == "co2"


async def test_a_metric_whose_row_is_gone_is_no_longer_shown(world):
    await world.ingest.ingest(batch(delivery(1, body(temperature=20, light=5))))
    assert "light" not in view(await world.state(), METRICS[:3])

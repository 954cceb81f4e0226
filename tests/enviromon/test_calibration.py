import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enviromon.calibration import Calibration, Line, Version, calibrated, from_columns, to_columns
from enviromon.metrics import METRICS

OLD = Version(1000, {"temperature": Line(2.0, 1.0)})
NEW = Version(2000, {"temperature": Line(3.0, 0.0)})


def test_a_value_is_multiplied_by_the_slope_and_shifted_by_the_intercept():
    assert calibrated({"temperature": 10.0, "light": 5.0}, OLD) == {"temperature": 21.0, "light": 5.0}


def test_without_a_version_values_stay_as_they_are():
    assert calibrated({"temperature": 10.0}, None) == {"temperature": 10.0}


def test_the_version_valid_at_the_event_time_counts():
    calibration = Calibration((OLD, NEW))
    assert [calibration.at(time) for time in (999, 1000, 1999, 2000, 9999)] == [None, OLD, OLD, NEW, NEW]


def test_a_row_has_the_seeds_columns():
    version = Version(5, {"temperature": Line(1.1, -0.5), "humidity": Line(1.0, 2.0)})
    assert to_columns(version) == {
        "TemperatureSlope": 1.1,
        "TemperatureYIntercept": -0.5,
        "HumiditySlope": 1.0,
        "HumidityYIntercept": 2.0,
    }


def test_a_row_with_a_slope_alone_has_no_intercept():
    assert from_columns(5, {"PressureSlope": 1.5, "Else": 3}) == Version(5, {"pressure": Line(1.5, 0.0)})


floats = st.floats(allow_nan=False, allow_infinity=False)
lines = st.builds(Line, floats, floats)


@given(st.dictionaries(st.sampled_from([metric.name for metric in METRICS]), lines))
def test_a_version_survives_its_row(found):
    assert from_columns(7, to_columns(Version(7, found))) == Version(7, found)


@pytest.mark.parametrize("line", [(math.nan, 0.0), (1.0, math.nan), (math.inf, 0.0), (1.0, -math.inf)])
def test_a_line_that_is_not_finite_cannot_exist(line):
    """Stored, it would come back as no number, and stop whatever reads it."""
    with pytest.raises(ValueError, match="finite"):
        Line(*line)

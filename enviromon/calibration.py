"""Calibration: value * slope + intercept per metric, versioned by the event time from which it is valid.

A reading is calibrated by the latest version that was valid at its event time; before the first version it stays as the
device sent it. A stored version is a flat row with the columns TemperatureSlope, TemperatureYIntercept and so on.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from enviromon.metrics import title

_SLOPE: Final = "Slope"
_INTERCEPT: Final = "YIntercept"


class Line(Struct, frozen=True, gc=False):
    """calibrated = raw * slope + intercept, in the metric's unit. Raises ValueError unless both are finite."""

    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and math.isfinite(self.intercept)):
            raise ValueError(f"slope and intercept must be finite numbers, not {self.slope} and {self.intercept}")


class Version(Struct, frozen=True):
    """The lines of one device from `valid_from` (ms) on, by metric name; a metric without one is left as it is."""

    valid_from: int
    lines: dict[str, Line]


class Calibration(Struct, frozen=True):
    """All versions of one device, by rising `valid_from`."""

    versions: tuple[Version, ...]

    def at(self, event_time: int) -> Version | None:
        """Return the version valid at that event time (ms)."""
        index = bisect_right(self.versions, event_time, key=lambda version: version.valid_from)
        return self.versions[index - 1] if index else None


def calibrated(values: dict[str, float], version: Version | None) -> dict[str, float]:
    """Return calibrated values beside the raw ones, which stay as they are."""
    if version is None:
        return values
    lines = version.lines
    return {
        name: value * lines[name].slope + lines[name].intercept if name in lines else value
        for name, value in values.items()
    }


def to_columns(version: Version) -> dict[str, float]:
    """Return the row's columns of one version."""
    columns = {}
    for name, line in version.lines.items():
        columns[title(name) + _SLOPE] = line.slope
        columns[title(name) + _INTERCEPT] = line.intercept
    return columns


def from_columns(valid_from: int, columns: Mapping[str, float]) -> Version:
    """Read a row back; a missing slope is 1, a missing intercept 0, other columns are left alone."""
    titles = {
        column.removesuffix(suffix) for column in columns for suffix in (_SLOPE, _INTERCEPT) if column.endswith(suffix)
    }
    return Version(
        valid_from,
        {
            name[0].lower() + name[1:]: Line(columns.get(name + _SLOPE, 1.0), columns.get(name + _INTERCEPT, 0.0))
            for name in titles
            if name
        },
    )

"""`enviromon calibration`: slope and intercept per device and metric, versioned by valid-from."""

import math
import time
from pathlib import Path
from typing import Any

import click

from enviromon.calibration import Calibration, Line, Version
from enviromon.cli.common import Command, console, data_option, json_option, print_json, table, with_stores
from enviromon.errors import EnviromonError
from enviromon.metrics import METRICS
from enviromon.reports import calibration_view
from enviromon.stores import Stores
from enviromon.telemetry import Refusal, milliseconds
from enviromon.updates import iso

BEGINNING = 0


class Time(click.ParamType[int]):
    """An ISO 8601 time as milliseconds since 1970; without a zone it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See click.ParamType."""
        try:
            return milliseconds(value)
        except Refusal:
            self.fail(f"{value!r} is no ISO 8601 time such as 2026-01-31T12:00:00Z", param, ctx)


class Finite(click.ParamType[float]):
    """A number that is neither NaN nor infinite."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


@click.group()
def calibration() -> None:
    """Set, show and remove slopes and intercepts."""


def _line_options(command: Command) -> Command:
    for metric in reversed(METRICS):
        intercept = click.option(f"--{metric.name}-intercept", type=Finite(), help=f"In {metric.unit}.")
        slope = click.option(f"--{metric.name}-slope", type=Finite())
        command = slope(intercept(command))
    return command


@calibration.command(name="set")
@click.argument("device_id")
@_line_options
@click.option(
    "--valid-from", type=Time(), help="For readings from this time on.  [default: all for a first version, else now]"
)
@data_option
def set_(device_id: str, valid_from: int | None, data: Path, **values: float | None) -> None:
    """Calibrate DEVICE_ID; a metric that is not named stays as it is."""
    if all(value is None for value in values.values()):
        raise click.UsageError("name at least one slope or intercept, e.g. --temperature-slope 1.02")

    async def work(stores: Stores) -> Version:
        known = (await stores.calibrations.load([device_id])).get(device_id)
        start = valid_from if valid_from is not None else round(time.time() * 1000) if known else BEGINNING
        version = Version(start, _changed(known.at(start) if known else None, values))
        await stores.calibrations.put(device_id, version)
        return version

    _print(device_id, Calibration((with_stores(data, work),)))


@calibration.command()
@click.argument("device_id")
@data_option
@json_option
def show(device_id: str, data: Path, as_json: bool) -> None:  # noqa: FBT001 - click's signature
    """Show all versions of DEVICE_ID's calibration."""

    async def work(stores: Stores) -> Calibration:
        return (await stores.calibrations.load([device_id])).get(device_id, Calibration(()))

    found = with_stores(data, work)
    if as_json:
        print_json(calibration_view(device_id, found))
    elif found.versions:
        _print(device_id, found)
    else:
        console().print(f"{device_id} has no calibration: its values are taken as it sends them")


@calibration.command()
@click.argument("device_id")
@click.option("--valid-from", type=Time(), help="Only the version of this time.  [default: all]")
@data_option
def remove(device_id: str, valid_from: int | None, data: Path) -> None:
    """Remove DEVICE_ID's calibration."""

    async def work(stores: Stores) -> bool:
        return await stores.calibrations.remove(device_id, valid_from)

    if not with_stores(data, work):
        raise EnviromonError(f"{device_id} has no such calibration: `enviromon calibration show {device_id}` tells")
    console().print(f"the calibration of {device_id} is removed")


def _changed(known: Version | None, values: dict[str, float | None]) -> dict[str, Line]:
    lines = dict(known.lines) if known else {}
    for metric in METRICS:
        slope, intercept = values[f"{metric.name}_slope"], values[f"{metric.name}_intercept"]
        if slope is None and intercept is None:
            continue
        line = lines.get(metric.name, Line())
        lines[metric.name] = Line(
            line.slope if slope is None else slope, line.intercept if intercept is None else intercept
        )
    return lines


def _print(device_id: str, shown: Calibration) -> None:
    rows = table("device", "valid from", "metric", "slope", "intercept", right={"slope", "intercept"})
    for version in shown.versions:
        for name, line in version.lines.items():
            rows.add_row(
                device_id,
                "the beginning" if version.valid_from == BEGINNING else iso(version.valid_from),
                name,
                f"{line.slope:g}",
                f"{line.intercept:+g}",
            )
    console().print(rows)

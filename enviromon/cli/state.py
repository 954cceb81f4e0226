"""`enviromon state`: what each device says now."""

import asyncio
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from enviromon.cli.common import console, data_option, json_option, print_json, table, text, with_stores
from enviromon.device_state import is_visible
from enviromon.errors import EnviromonError
from enviromon.metrics import METRICS
from enviromon.stores import Stores, each
from enviromon.updates import view

if TYPE_CHECKING:
    from rich.table import Table

WATCH_SECONDS = 0.5


@click.command()
@click.argument("device_id", required=False)
@data_option
@json_option
@click.option("--watch", is_flag=True, help="Go on showing it, twice a second, until Ctrl-C.")
def state(device_id: str | None, data: Path, as_json: bool, watch: bool) -> None:  # noqa: FBT001 - click's signature
    """Show the state of DEVICE_ID, or of every device."""

    async def work(stores: Stores) -> None:
        if watch:
            await _watch(stores, device_id)
            return
        views = await _views(stores, device_id)
        if as_json:
            print_json(views[0] if device_id else views)
        else:
            console().print(_table(views))

    if watch and as_json:
        raise click.UsageError("--watch is for people; a program reads --json as often as it likes")
    with_stores(data, work)


async def _views(stores: Stores, device_id: str | None) -> list[dict[str, Any]]:
    if device_id is None:
        return [view(stored.state) async for stored in each(stores.devices.page) if is_visible(stored.state)]
    stored = (await stores.devices.load([device_id])).get(device_id)
    if stored is None or not is_visible(stored.state):
        raise EnviromonError(f"{device_id} has not said anything yet: `enviromon state` shows who has")
    return [view(stored.state)]


async def _watch(stores: Stores, device_id: str | None) -> None:
    from rich.live import Live  # noqa: PLC0415

    with Live(_table(await _views(stores, device_id)), console=console(), auto_refresh=False) as live:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            live.update(_table(await _views(stores, device_id)), refresh=True)


def _table(views: list[dict[str, Any]]) -> "Table":
    headings = [f"{metric.label.lower()}\n{metric.unit}" for metric in METRICS]
    rows = table("device", "place", *headings, "count", "age", right={*headings, "count", "age"})
    for shown in views:
        values = ["" if (value := shown[m.name]) is None else f"{value:.{m.decimals}f}" for m in METRICS]
        name = text(shown["deviceId"] if shown["name"] == shown["deviceId"] else f"{shown['deviceId']} {shown['name']}")
        rows.add_row(name, text(shown["geo"] or ""), *values, f"{shown['count']:,}", _age(shown["eventTime"]))
    return rows


def _age(event_time: str | None) -> str:
    if event_time is None:
        return ""
    seconds = (dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(event_time)).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"

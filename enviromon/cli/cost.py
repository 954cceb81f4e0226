"""`enviromon cost`: what this costs on Azure, as it runs here or as it might."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from enviromon.app_files import app_directory
from enviromon.cli.common import console, data_option, json_option, print_json, running_system, table, with_stores
from enviromon.cost import LEFT_OUT, Alternative, Batching, Bill, Usage, Workload, advised, alternatives, estimate
from enviromon.device_state import is_visible
from enviromon.errors import EnviromonError
from enviromon.host_settings import OVERRIDE, batching_on_azure
from enviromon.prices import PRICES_FILE, Prices, load_prices
from enviromon.reports import cost_view
from enviromon.stores import Stores, each

if TYPE_CHECKING:
    from rich.table import Table

    from enviromon.cli.figures import Figures

COUNT = click.IntRange(1, 10_000_000)
POSITIVE = click.FloatRange(0, min_open=True)


@click.command(short_help="Say what this costs on Azure, as it runs or as it might.")
@data_option
@click.option("--devices", type=COUNT, help="Devices that send.")
@click.option("--rate", type=click.FloatRange(0), help="Messages a second, of all together.")
@click.option("--viewers", type=click.IntRange(0, 10_000_000), help="Dashboards that are open.")
@click.option(
    "--viewer-hours", type=click.FloatRange(0, 24), default=24.0, show_default=True, help="Hours a day that they are."
)
@click.option("--batch", type=click.FloatRange(1), help="Messages a batch.  [default: what the host's settings make]")
@click.option("--partitions", type=click.IntRange(1, 32), help="The hub's.  [default: 2 of F1, else 4]")
@click.option("--min-batch", type=COUNT, help="minEventBatchSize.  [default: the host's settings]")
@click.option("--max-batch", type=COUNT, help="maxEventBatchSize.  [default: the host's settings]")
@click.option("--max-wait", type=POSITIVE, help="maxWaitTime in seconds.  [default: the host's settings]")
@click.option("--message-bytes", type=POSITIVE, help="A message's size.  [default: 200]")
@click.option("--update-bytes", type=POSITIVE, help="What viewers get per device.  [default: 560]")
@click.option("--duration", type=POSITIVE, help="Seconds that an execution takes.  [default: 0.1]")
@click.option("--memory-mb", type=click.IntRange(512, 4096), help="An instance's memory.  [default: 2048, Azure's own]")
@click.option(
    "--prices",
    type=click.Path(dir_okay=False, path_type=Path),
    default=PRICES_FILE,
    help="Other prices, in the form of prices.toml.",
)
@click.option("--seconds", type=POSITIVE, default=5.0, show_default=True, help="How long to measure what runs.")
@json_option
def cost(**options: Any) -> None:
    """Say what a month on Azure costs: measured where `enviromon up` runs on --data, and as the options say.

    An option wins over what is measured. With --devices and --rate nothing need run.
    """
    prices = load_prices(options["prices"])
    workload, origin = _workload(options)
    try:
        usage, bill = estimate(workload, prices)
        others = alternatives(workload, prices)
    except ValueError as error:
        raise EnviromonError(f"{error}: several hubs or services would have to share the work") from error
    if options["as_json"]:
        told = [{"what": other.what, "perMonth": other.bill.per_month} for other in others]
        print_json({**cost_view(workload, usage, bill, prices), "measured": origin, "alternatives": told})
        return
    _tell(workload, usage, bill, prices, origin)
    console().print(_compared(Alternative("as it is", "", workload, usage, bill), others))
    _advise(workload, bill, advised(bill, others))


def _workload(options: dict[str, Any]) -> tuple[Workload, list[str]]:
    """Take each figure from the options, else from what runs, else from the defaults; and say which were measured."""
    given = {name: options[name] for name in ("devices", "rate", "viewers", "message_bytes", "update_bytes")}
    given |= {"seconds": options["duration"], "memory_mb": options["memory_mb"]}
    given |= {"viewer_hours": options["viewer_hours"], "batch": options["batch"]}
    given = {name: value for name, value in given.items() if value is not None}
    measured: dict[str, Any] = {}
    if not {"devices", "rate"} <= given.keys():
        measured = {name: value for name, value in _measured(options).items() if name not in given}
    batching = batching_on_azure(app_directory(), os.environ)
    batching = Batching(
        partitions=options["partitions"],
        minimum=options["min_batch"] or batching.minimum,
        maximum=max(options["max_batch"] or batching.maximum, options["min_batch"] or 1),
        max_wait=options["max_wait"] or batching.max_wait,
    )
    return Workload(batching=batching, **(measured | given)), sorted(measured)


def _measured(options: dict[str, Any]) -> dict[str, Any]:
    """What the running system says of itself, over some seconds or, where those bring nothing, since its start."""
    from enviromon.cli.figures import read_figures  # noqa: PLC0415 - a question of what-if needs none of its imports

    running = running_system(options["data"])
    if not running:
        raise EnviromonError(
            f"nothing runs on {options['data']}: start `enviromon up`, or say what is to be priced: --devices, --rate"
        )
    first = read_figures(running)
    time.sleep(options["seconds"])
    figures = read_figures(running)
    rate = (figures.messages - first.messages) / (figures.at - first.at) or figures.messages / figures.uptime
    return _per_unit(figures) | {
        "rate": rate,
        "devices": max(1, with_stores(options["data"], _count_devices)),
        "viewers": figures.viewers,
    }


def _per_unit(figures: "Figures") -> dict[str, Any]:
    pairs = {
        "message_bytes": (figures.message_bytes, figures.messages),
        "update_bytes": (figures.published_bytes, figures.published_devices),
        "seconds": (figures.execution_seconds, figures.executions),
    }
    return {name: total / count for name, (total, count) in pairs.items() if total and count}


async def _count_devices(stores: Stores) -> int:
    return sum([is_visible(stored.state) async for stored in each(stores.devices.page)])


def _tell(workload: Workload, usage: Usage, bill: Bill, prices: Prices, origin: list[str]) -> None:
    show = console().print
    viewers = f"{workload.viewers:,} dashboard{'' if workload.viewers == 1 else 's'}"
    source = "measured here" if "rate" in origin else "as given"
    show(f"{workload.devices:,} devices, {workload.rate:,.3g} messages a second ({source}), {viewers}.")
    show(f"On Azure that is about [bold]{_money(bill.per_month, bill.currency)} a month[/bold].")
    show(_bill_table(bill))
    if bill.fits_free_tier:
        show("[green]It fits the free tiers[/green]; only storage costs its cents.")
    else:
        show("[yellow]It does not fit the free tiers[/yellow]:")
        for reason in bill.reasons:
            show(f"  {reason}")
    show(
        f"\nA batch holds {usage.batch:,.3g} messages of {usage.batch_devices:,.3g} devices; "
        f"viewers get {usage.frames_per_second:,.3g} frames a second, {_lateness(workload.batching)}."
    )
    show(f"[dim]Left out: {LEFT_OUT}.[/dim]")
    show(
        f"[dim]Prices of {prices.compiled} for {prices.region}, not read from Azure: check them in "
        f"{PRICES_FILE.name} before you rely on them.[/dim]"
    )


def _lateness(batching: Batching) -> str:
    return f"with news up to {batching.max_wait:g} s late" if batching.minimum > 1 else "with news at once"


def _bill_table(bill: Bill) -> "Table":
    rows = table("service", "a day", "of", "tier", "a month", right={"a day", "a month"})
    for line in bill.lines:
        month = "free" if line.free else _money(line.per_month, bill.currency)
        rows.add_row(line.service, f"{line.per_day:,.0f}", line.unit, line.tier, month)
    rows.add_section()
    rows.add_row("all", "", "", "", _money(bill.per_month, bill.currency), style="bold")
    return rows


def _compared(first: Alternative, others: list[Alternative]) -> "Table":
    numbers = ("batches a second", "to viewers a day", "a month")
    rows = table("what if", *numbers, right={*numbers})
    for row, found in enumerate((first, *others)):
        added = 0 < row < len(others)
        rows.add_row(
            f"{'+ ' if added else ''}{found.what}",
            f"{found.usage.frames_per_second:,.3g}",
            f"{found.usage.signalr_messages:,.0f}",
            _money(found.bill.per_month, found.bill.currency),
            end_section=row in (0, len(others) - 1),
        )
    return rows


def _advise(workload: Workload, bill: Bill, found: Alternative | None) -> None:
    """Say how to make the change that is advised."""
    if found is None:
        console().print("No setting would save a dollar a month.")
        return
    saved = _money(bill.per_month - found.bill.per_month, bill.currency)
    console().print(f"[bold]With {found.together}: {saved} a month less.[/bold] On Azure, set")
    batching = found.workload.batching
    if batching != workload.batching:
        wait = time.strftime("%H:%M:%S", time.gmtime(batching.max_wait))
        click.echo(f"  {OVERRIDE}maxEventBatchSize={batching.maximum}")
        click.echo(f"  {OVERRIDE}minEventBatchSize={batching.minimum}")
        click.echo(f"  {OVERRIDE}maxWaitTime={wait}")
    click.echo(f"  INSTANCE_MEMORY_MB={found.workload.memory_mb}, and the function app's instance size to the same")


def _money(amount: float, currency: str) -> str:
    sign = "$" if currency == "USD" else f"{currency} "
    if 0 < amount < 0.01:  # noqa: PLR2004 - a cent
        return f"below {sign}0.01"
    return f"{sign}{amount:,.2f}"

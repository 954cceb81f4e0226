"""`enviromon ledger`: what was received, and what became of it."""

from pathlib import Path

import click

from enviromon.cli.common import console, data_option, json_option, print_json, table, with_stores
from enviromon.reports import ledger_report

COLUMNS = ("received", "accepted", "duplicate", "late", "rejected")


@click.command(short_help="Show what was received, and what became of it.")
@data_option
@json_option
def ledger(data: Path, as_json: bool) -> None:  # noqa: FBT001 - click's signature
    """Show the ledger: received = accepted + duplicate + late + rejected, in all and per device."""
    report = with_stores(data, lambda stores: ledger_report(stores.devices))
    if as_json:
        print_json(report)
        return
    rows = table("device", *COLUMNS, right=frozenset(COLUMNS))
    for device_id, counts in report["devices"].items():
        rows.add_row(device_id, *(f"{counts[column]:,}" for column in COLUMNS))
    rows.add_section()
    rows.add_row("all", *(f"{report[column]:,}" for column in COLUMNS), style="bold")
    console().print(rows)

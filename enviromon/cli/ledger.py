"""`enviromon ledger`: what was received, and what became of it."""

from pathlib import Path

import click

from enviromon.cli.common import console, data_option, json_option, print_json, table, with_stores
from enviromon.device_state import Ledger
from enviromon.stores import Stores, each

COLUMNS = ("received", "accepted", "duplicate", "late", "rejected")


@click.command()
@data_option
@json_option
def ledger(data: Path, as_json: bool) -> None:  # noqa: FBT001 - click's signature
    """Show the ledger: received = accepted + duplicate + late + rejected, in all and per device."""
    ledgers = with_stores(data, _ledgers)
    total = sum(ledgers.values(), Ledger())
    if as_json:
        print_json(counts(total) | {"devices": {device_id: counts(each) for device_id, each in ledgers.items()}})
        return
    rows = table("device", *COLUMNS, right=frozenset(COLUMNS))
    for device_id, each_ledger in ledgers.items():
        rows.add_row(device_id, *(f"{count:,}" for count in counts(each_ledger).values()))
    rows.add_section()
    rows.add_row("all", *(f"{count:,}" for count in counts(total).values()), style="bold")
    console().print(rows)


def counts(entry: Ledger) -> dict[str, int]:
    """The ledger's columns by name, in the order in which they add up."""
    return {column: getattr(entry, column) for column in COLUMNS}


async def _ledgers(stores: Stores) -> dict[str, Ledger]:
    return {stored.state.device_id: stored.state.ledger async for stored in each(stores.devices.page)}

"""`enviromon dead-letters`: what was refused, and why."""

from pathlib import Path
from typing import Any

import click
from rich.text import Text

from enviromon.cli.common import console, data_option, json_option, print_json, table, with_stores
from enviromon.reports import dead_letter_view
from enviromon.stores import Stores, each

SHOWN_BODY_CHARACTERS = 60


@click.command(name="dead-letters")
@data_option
@json_option
def dead_letters(data: Path, as_json: bool) -> None:  # noqa: FBT001 - click's signature
    """List the readings that were rejected, the oldest first."""
    letters = with_stores(data, _all)
    if as_json:
        print_json(letters)
    elif not letters:
        console().print("No dead letters: everything that arrived was believed.")
    else:
        rows = table("enqueued", "device", "partition", "sequence", "what was wrong", "body", right={"sequence"})
        for letter in letters:
            place = (letter["partition"], f"{letter['sequence']}/{letter['index']}")
            verdict = Text.assemble((letter["reason"], "bold"), " ", letter["detail"])
            rows.add_row(
                letter["enqueuedTime"], Text(letter["deviceId"]), *place, verdict, Text(_shortened(letter["body"]))
            )
        console().print(rows)


async def _all(stores: Stores) -> list[dict[str, Any]]:
    return [dead_letter_view(letter) async for letter in each(stores.dead_letters.page)]


def _shortened(body: str) -> str:
    printable = repr(body)[1:-1]
    return printable if len(printable) <= SHOWN_BODY_CHARACTERS else printable[: SHOWN_BODY_CHARACTERS - 1] + "…"

"""`enviromon dead-letters`: what was refused, and why."""

import datetime as dt
from pathlib import Path

import click

from enviromon.cli.common import console, data_option, json_option, print_json, table, with_stores
from enviromon.stores import DeadLetter, Stores, each

SHOWN_BODY_CHARACTERS = 60


@click.command(name="dead-letters")
@data_option
@json_option
def dead_letters(data: Path, as_json: bool) -> None:  # noqa: FBT001 - click's signature
    """List the readings that were rejected, the oldest first."""
    letters = with_stores(data, _all)
    if as_json:
        print_json([_as_json(letter) for letter in letters])
        return
    if not letters:
        console().print("No dead letters: everything that arrived was believed.")
        return
    rows = table("enqueued", "device", "partition", "sequence", "reason", "what was wrong", "body", right={"sequence"})
    for letter in letters:
        body = repr(letter.body.decode(errors="backslashreplace"))[1:-1]
        shown = body if len(body) <= SHOWN_BODY_CHARACTERS else body[: SHOWN_BODY_CHARACTERS - 1] + "…"
        place = (letter.partition, f"{letter.sequence}/{letter.index}")
        rows.add_row(_iso(letter), letter.device_id, *place, letter.reason, letter.detail, shown)
    console().print(rows, markup=False)


async def _all(stores: Stores) -> list[DeadLetter]:
    return [letter async for letter in each(stores.dead_letters.page)]


def _iso(letter: DeadLetter) -> str:
    when = dt.datetime.fromtimestamp(letter.enqueued_time / 1000, dt.UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _as_json(letter: DeadLetter) -> dict[str, object]:
    """The letter for programs; in `body`, bytes that are no UTF-8 are written as hexadecimal escapes."""
    return {
        "reason": letter.reason,
        "detail": letter.detail,
        "deviceId": letter.device_id,
        "partition": letter.partition,
        "sequence": letter.sequence,
        "index": letter.index,
        "enqueuedTime": _iso(letter),
        "body": letter.body.decode(errors="backslashreplace"),
    }

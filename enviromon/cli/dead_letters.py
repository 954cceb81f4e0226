"""`enviromon dead-letters`: what was refused, and why; and a second chance for it."""

from pathlib import Path
from typing import Any

import click
from rich.text import Text

from enviromon.cli.common import console, data_option, json_option, print_json, settings, table, text, with_stores
from enviromon.dead_letter_replay import Report, replay_dead_letters
from enviromon.replay import Fate
from enviromon.reports import dead_letter_view
from enviromon.stores import Stores, each
from enviromon.telemetry import REASONS

SHOWN_BODY_CHARACTERS = 60


@click.group(name="dead-letters", invoke_without_command=True, short_help="List what was rejected, or replay it.")
@data_option
@json_option
@click.pass_context
def dead_letters(context: click.Context, data: Path, as_json: bool) -> None:  # noqa: FBT001 - click's signature
    """List the readings that were rejected, the oldest first."""
    if context.invoked_subcommand is not None:
        return
    letters = with_stores(data, _all)
    if as_json:
        print_json(letters)
    elif not letters:
        console().print("No dead letters: everything that arrived was believed.")
    else:
        rows = table("enqueued", "device", "partition", "sequence", "what was wrong", "body", right={"sequence"})
        for letter in letters:
            place = (letter["partition"], f"{letter['sequence']}/{letter['index']}")
            verdict = Text.assemble((letter["reason"], "bold"), " ", text(letter["detail"]))
            device, body = text(letter["deviceId"]), text(_shortened(letter["body"]))
            rows.add_row(letter["enqueuedTime"], device, *place, verdict, body)
        console().print(rows)


@dead_letters.command()
@click.option("--device", "device_id", metavar="ID", help="Only this device's.")
@click.option("--reason", type=click.Choice(list(REASONS)), help="Only those rejected for this reason.")
@click.option("--dry-run", is_flag=True, help="Tell what would come of it, and change nothing.")
@data_option
@json_option
def replay(
    device_id: str | None,
    reason: str | None,
    dry_run: bool,  # noqa: FBT001 - click's signature
    data: Path,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Judge dead letters once more, after a rule, a range or a calibration has changed.

    What is believed now is counted accepted or late instead of rejected, once, however often this runs or is cut off,
    and its letter goes. What still fails stays. It may run while devices send.
    """
    chosen = settings(data)
    report = with_stores(
        data,
        lambda stores: replay_dead_letters(stores, chosen, device_id=device_id, reason=reason, is_dry_run=dry_run),
    )
    if as_json:
        print_json(_view(report, dry_run=dry_run))
    else:
        _print(report, dry_run=dry_run)


def _view(report: Report, *, dry_run: bool) -> dict[str, Any]:
    counted = report.counted
    return {
        "dryRun": dry_run,
        "letters": {fate.name.lower(): report.fates[fate] for fate in Fate},
        "ledger": {"accepted": counted.accepted, "late": counted.late, "rejected": counted.rejected},
        "stillRejected": dict(report.reasons),
    }


def _print(report: Report, *, dry_run: bool) -> None:
    if not report.fates.total():
        console().print("No dead letters to replay.")
        return
    rows = table("dead letters", "count", right={"count"})
    for fate in Fate:
        if count := report.fates[fate]:
            reasons = ", ".join(f"{reason} {many:,}" for reason, many in report.reasons.most_common())
            rows.add_row(f"{fate} ({reasons})" if fate is Fate.FAILED else str(fate), f"{count:,}")
    console().print(rows)
    counted = report.counted
    changes = f"accepted {counted.accepted:+,}, late {counted.late:+,}, rejected {counted.rejected:+,}"
    console().print(f"{'would change the ledger' if dry_run else 'the ledger changed'}: {changes}")


async def _all(stores: Stores) -> list[dict[str, Any]]:
    return [dead_letter_view(letter) async for letter in each(stores.dead_letters.page)]


def _shortened(body: str) -> str:
    printable = repr(body)[1:-1]
    return printable if len(printable) <= SHOWN_BODY_CHARACTERS else printable[: SHOWN_BODY_CHARACTERS - 1] + "…"

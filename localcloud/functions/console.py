"""What the host shows to people: the table at the start, a line per invocation, stack traces cut to the app's code.

Rule: no control character of a device or caller reaches the terminal.
"""

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localcloud.functions.invocation import Invocation
from localcloud.json_lines import invocation_line
from localcloud.logs import printable

_FILE_WIDTH = 240  # a URL in a file or pipe shall not be broken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from localcloud.functions.host import FunctionInfo


def print_functions(rows: "Sequence[FunctionInfo]", console: "Console | None" = None) -> None:
    """Print a table of functions with their triggers and full URLs."""
    from rich.console import Console  # noqa: PLC0415  # 50 ms that a quiet start need not pay
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("Function", "Trigger", "Methods", "Where", "Key"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        where = Text(row.url or row.detail)
        if row.problem:
            where = Text(f"not run: {row.problem}", style="yellow")
        key = "" if row.level in ("", "ANONYMOUS") else row.level.lower()
        table.add_row(Text(row.name), row.trigger.removesuffix("Trigger"), row.methods, where, key)
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=_FILE_WIDTH)
    console.print(table)


def reporter(app_dir: Path, *, only_failures: bool = False, as_json: bool = False) -> "Callable[[Invocation], None]":
    """Return what prints a line per invocation, and for one that failed the stack as far as it is the app's own.

    JSON goes to stderr, where the rest of the log is.
    """

    def report(invocation: Invocation) -> None:
        if as_json:
            if invocation.error is not None or not only_failures:
                stack = None if invocation.error is None else cut_traceback(invocation.error, app_dir)
                click.echo(invocation_line(invocation, stack), err=True)
            return
        if invocation.error is None:
            if not only_failures:
                click.echo(format_invocation(invocation))
            return
        click.echo(format_invocation(invocation), err=True)
        click.echo(cut_traceback(invocation.error, app_dir), err=True)

    return report


def format_invocation(invocation: Invocation) -> str:
    """Return the line that tells one invocation: function, where, how many, how long, outcome."""
    parts = [invocation.function]
    if invocation.request is not None:
        parts.append(invocation.request)
    if invocation.partition is not None:
        parts.append(f"partition {invocation.partition}")
        parts.append(_sequences(invocation))
    parts.append(f"{invocation.milliseconds:.1f} ms")
    parts.append(_outcome(invocation))
    return printable("  ".join(parts))


def _sequences(invocation: Invocation) -> str:
    first, last = invocation.first_sequence, invocation.last_sequence
    return f"#{first} (1 event)" if first == last else f"#{first}-{last} ({invocation.count} events)"


def _outcome(invocation: Invocation) -> str:
    outcome: str = invocation.outcome
    if invocation.status is not None:
        outcome = str(invocation.status) if outcome == "ok" else f"{invocation.status} {outcome}"
    if invocation.retry:
        outcome += f" at retry {invocation.retry}"
    if invocation.error is not None:
        outcome += f": {_one_line(invocation.error)}"
    if invocation.retry_in is not None:
        outcome += f" (again in {invocation.retry_in:.1f} s)"
    return outcome


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def format_load_error(error: BaseException, app_dir: Path) -> str:
    """Return what Azure's host says when an app fails to index, the stack cut to the app's code."""
    return (
        "Worker failed to index functions\n"
        f"Result: Failure\nException: {type(error).__name__}: {error}\nStack: {cut_traceback(error, app_dir)}"
    )


def cut_traceback(error: BaseException, app_dir: Path) -> str:
    """Return a traceback with the app's own frames only, and the place where the error was raised.

    The whole traceback is returned where no frame is the app's.
    """
    exception = traceback.TracebackException.from_exception(error)
    root = app_dir.resolve()
    if any(_is_own(frame, root) for frame in exception.stack):
        _cut(exception, root)
    return "\n".join(map(printable, "".join(exception.format()).rstrip().split("\n")))


def _cut(exception: traceback.TracebackException, root: Path) -> None:
    frames = list(exception.stack)
    kept = [frame for frame in frames if _is_own(frame, root) or frame is frames[-1]]
    exception.stack = traceback.StackSummary.from_list(kept)
    for inner in (exception.__cause__, exception.__context__):
        if inner is not None:
            _cut(inner, root)


def _is_own(frame: traceback.FrameSummary, root: Path) -> bool:
    path = Path(frame.filename)
    if not path.is_relative_to(root):
        return False
    inside = path.relative_to(root).parts
    return not {"site-packages", ".venv", "localcloud"} & set(inside)

"""What the commands share: options, output for people and for programs, and the data directory."""

import asyncio
import json
import os
import re
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click

from enviromon.errors import EnviromonError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from enviromon.settings import Settings
    from enviromon.stores import Stores

Command = TypeVar("Command", bound=Callable[..., Any])
Result = TypeVar("Result")

DEFAULT_DATA = ".enviromon"
_BEYOND_JSON = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What JSON may hold as it is and a terminal may obey: further control characters, marks that turn text around."""


def data_option(command: Command) -> Command:
    """`--data DIR`, also read from ENVIROMON_DATA."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_DATA,
        envvar="ENVIROMON_DATA",
        show_default=True,
        callback=lambda _ctx, _param, value: value.absolute(),
        help="The data directory.",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`: output for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def only_without_command(context: click.Context) -> bool:
    """Tell whether a group that works without a command was given none.

    Raises click.UsageError where options stand before a command, which would not hear of them.
    """
    if context.invoked_subcommand is None:
        return True
    for name in context.params:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"put options behind `{context.invoked_subcommand}`, which they are for", context)
    return False


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    click.echo(_BEYOND_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_facts(facts: Mapping[str, object], *, as_json: bool) -> None:
    """One fact a line, unwrapped so that it can be copied; or one JSON object."""
    if as_json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {value}")


def console() -> "Console":
    """Rich's console on stdout; plain text where stdout is no terminal."""
    from rich.console import Console  # noqa: PLC0415 - `up` is ready sooner without it

    return Console(highlight=False)


def text(value: str) -> "Text":
    """A cell with something that a device chose: neither markup nor control characters have a meaning in it."""
    from rich.text import Text  # noqa: PLC0415

    from localcloud.logs import printable  # noqa: PLC0415

    return Text(printable(value))


def table(*columns: str, right: frozenset[str] | set[str] = frozenset()) -> "Table":
    """A table in the one style of this command; the columns in `right` hold numbers."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    made = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    return made


def settings(data: Path) -> "Settings":
    """The settings as the environment has them; the store is the data directory's unless STORE_URL is set."""
    from enviromon.settings import read_settings  # noqa: PLC0415

    return read_settings({"STORE_URL": local_store_url(data)} | dict(os.environ))


def local_store_url(data: Path) -> str:
    """The URL of the data directory's own store."""
    return "sqlite://" + quote(str(data / "state.db"))


def is_local(chosen: "Settings", data: Path) -> bool:
    """Tell whether the store is the data directory's own."""
    return chosen.store_url == local_store_url(data)


def with_stores(
    data: Path, work: "Callable[[Stores], Coroutine[Any, Any, Result]]", *, may_create: bool = False
) -> Result:
    """Run `work` on the opened stores. Raises EnviromonError where the data directory is not there, or makes it."""
    from enviromon.stores import open_stores  # noqa: PLC0415

    chosen = settings(data)
    if is_local(chosen, data) and not (data / "lock").exists():
        if not may_create:
            raise EnviromonError(
                f"there is no data at {data} yet: start `enviromon up` first, or name another with --data"
            )
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        (data / "lock").touch(0o600)

    async def run() -> Result:
        stores = open_stores(chosen.store_url, chosen.site, buckets=chosen.state_buckets)
        try:
            return await work(stores)
        finally:
            await stores.close()

    return asyncio.run(run())


def running_system(data: Path) -> Mapping[str, Any] | None:
    """What `enviromon up` wrote about itself when it started on this data directory; None where none runs."""
    from localcloud.data_directory import read_running  # noqa: PLC0415

    return read_running(data)

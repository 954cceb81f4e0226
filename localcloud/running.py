"""What every command that runs a cloud does alike: its options, the loop, signals, and errors as sentences."""

import asyncio
import logging
import signal
import sqlite3
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from localcloud.addresses import AddressError
from localcloud.cloud import AppError
from localcloud.data_directory import DataDirectoryInUseError, exclusive_data_directory
from localcloud.sqlite import SchemaTooNewError

SWITCH_SECONDS = 0.0005
"""How long the loop may keep the interpreter while a thread waits for it. At Python's 5 ms a commit's thread waits that
long for each of its steps beside a busy loop: measured 44,000 messages/s instead of 49,000 (bench/path.py's load)."""

Command = TypeVar("Command", bound=Callable[..., Any])
Result = TypeVar("Result")

_OPERATORS_ERRORS = (AddressError, AppError, DataDirectoryInUseError, SchemaTooNewError, sqlite3.Error, OSError)


def cloud_options(command: Command) -> Command:
    """Add the options for listeners, under the names that CloudSettings has for them, and `--verbose`."""
    port = click.IntRange(0, 65535)
    options = (
        click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on."),
        click.option("--hostname", default="localhost", show_default=True, help="The name by which clients come."),
        click.option("--http-port", type=port, default=7071, show_default=True, help="HTTP functions; 0: any free."),
        click.option("--mqtt-port", type=port, default=8883, show_default=True, help="IoT Hub's MQTT over TLS."),
        click.option("--mqtt-plain-port", type=port, help="MQTT without TLS as well; none unless given."),
        click.option("--https-port", type=port, help="IoT Hub's HTTPS.  [default: 8443, or a free one]"),
        click.option("--signalr-port", type=port, default=8888, show_default=True, help="SignalR."),
        click.option("--verbose", is_flag=True, help="Show more of what happens.", callback=_set_up_logging),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _set_up_logging(_context: click.Context, _option: click.Parameter, verbose: bool) -> bool:  # noqa: FBT001
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    return verbose


def run_cloud(data: Path, main: Coroutine[Any, Any, None]) -> None:
    """Run `main` while holding the data directory. Raises click.ClickException for what the operator can mend."""
    sys.setswitchinterval(SWITCH_SECONDS)
    _raise_descriptor_limit()
    try:
        with exclusive_data_directory(data):
            run_async(main)
    except _OPERATORS_ERRORS as error:
        main.close()
        raise click.ClickException(str(error)) from error


def _raise_descriptor_limit() -> None:
    """Allow as many sockets as the system lets us have: each device and each viewer is one."""
    try:
        import resource  # noqa: PLC0415 - not there on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run_async(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, on uvloop where that exists."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 - not there on Windows

    return uvloop.run(main)


def stop_signal() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop

"""What every command that runs a cloud does alike: its options, the loop, signals, and errors as sentences."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from localcloud.addresses import AddressError
from localcloud.cloud import AppError, FaultsRefusedError
from localcloud.data_directory import DataDirectoryInUseError, exclusive_data_directory
from localcloud.faults.plan import FaultPlan, FaultPlanError, parse_plan
from localcloud.limits import OTHER_FILES, CloudLimits, LimitsError, read_limits, within
from localcloud.logs import set_up_logging
from localcloud.sqlite import DatabaseFaultError, SchemaTooNewError, fault

GARBAGE_THRESHOLD = 10_000
"""A batch holds a thousand events and what is made of them: with Python's 700, the collector would look through all of
them several times a batch."""
LONGEST_STOP_SECONDS = 8.0
"""An orderly stop takes 2 s, and at worst twice as long where disk, functions and viewers are all slow."""
_MANY_FILES = 1 << 16

OWN_MAPPING_BYTES = 256 << 10
"""From this size on a block is a mapping of its own, of which only what was touched takes memory: uvloop's buffer of a
TLS connection is that large and hardly used. Out of the heap it comes with what others have touched: 10,000 idle
connections held 355 to 402 MB instead of 324 MB (bench/idle.py --tls)."""
KEPT_FREE_BYTES = 16 << 20
"""What the heap's end keeps before the system gets it back; glibc's own 128 kB would come and go all the time."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

SWITCH_SECONDS = 0.0005
"""How long the loop may keep the interpreter while a thread waits for it. At Python's 5 ms a commit's thread waits that
long for each of its steps beside a busy loop: measured 44,000 messages/s instead of 49,000 (bench/path.py's load)."""

Command = TypeVar("Command", bound=Callable[..., Any])
Result = TypeVar("Result")

_logger = logging.getLogger(__name__)

_OPERATORS_ERRORS = (
    AddressError,
    AppError,
    DatabaseFaultError,
    DataDirectoryInUseError,
    FaultsRefusedError,
    SchemaTooNewError,
    sqlite3.Error,
    OSError,
)


def cloud_options(command: Command) -> Command:
    """Add the options for listeners and `--limits`, under the names that CloudSettings has, and `--verbose`."""
    port = click.IntRange(0, 65535)
    options = (
        click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on."),
        click.option("--hostname", default="localhost", show_default=True, help="The name by which clients come."),
        click.option("--http-port", type=port, default=7071, show_default=True, help="HTTP functions; 0: any free."),
        click.option("--mqtt-port", type=port, default=8883, show_default=True, help="IoT Hub's MQTT over TLS."),
        click.option("--mqtt-plain-port", type=port, help="MQTT without TLS as well; none unless given."),
        click.option("--https-port", type=port, help="IoT Hub's HTTPS.  [default: 8443, or a free one]"),
        click.option("--signalr-port", type=port, default=8888, show_default=True, help="SignalR."),
        click.option(
            "--limits",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            callback=_read_limits,
            help="A JSON file of bounds on peers: docs/security.md.",
        ),
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            is_eager=True,  # --verbose sets the log up, and needs it
            help="The log for people or, one JSON object a line, for programs.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(0, 64),
            default=0,
            show_default=True,
            help="Processes of their own for event hub functions; 0: all in one.",
        ),
        click.option(
            "--faults",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            callback=_read_faults,
            metavar="FILE.toml",
            help="Let things go wrong on purpose; only on this machine.",
        ),
        click.option("--verbose", is_flag=True, help="Show more of what happens.", callback=_set_up_logging),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _set_up_logging(context: click.Context, _option: click.Parameter, verbose: bool) -> bool:  # noqa: FBT001
    set_up_logging(verbose=verbose, as_json=context.params["log_format"] == "json")
    return verbose


def _read_limits(_context: click.Context, _option: click.Parameter, path: Path | None) -> CloudLimits:
    try:
        return CloudLimits() if path is None else read_limits(path)
    except LimitsError as error:
        raise click.BadParameter(str(error)) from None


def fitting(limits: CloudLimits) -> CloudLimits:
    """Return the limits, smaller where the system lets this process open fewer files.

    Say so: loudly where the operator chose them, for the defaults are more than most ever need.
    """
    open_files = _raise_descriptor_limit()
    fit = within(limits, open_files)
    if fit != limits:
        _logger.log(
            logging.INFO if limits == CloudLimits() else logging.WARNING,
            "this process may open %d files: room for %d devices, %d sockets of viewers and %d of callers; for the "
            "limits as they are set (%d in all) raise it to %d: `ulimit -n`, or LimitNOFILE= of the service",
            *(open_files, fit.iothub.connections, fit.signalr.max_sockets, 2 * fit.web.sockets),
            *(limits.sockets(), limits.sockets() + OTHER_FILES),
        )
    return fit


def _read_faults(_context: click.Context, _option: click.Parameter, file: Path | None) -> FaultPlan | None:
    """Read the plan of faults, and say loudly that there is one."""
    if file is None:
        return None
    try:
        plan = parse_plan(file.read_text(), str(file))
    except (FaultPlanError, OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(str(error)) from error
    click.secho(f"FAULTS ON PURPOSE, by {file} (seed {plan.seed}):", fg="red", bold=True, err=True)
    for line in plan.describe():
        click.secho(f"  {line}", fg="red", err=True)
    return plan


def run_cloud(data: Path, main: Coroutine[Any, Any, None]) -> None:
    """Run `main` while holding the data directory. Raises click.ClickException for what the operator can mend."""
    set_up_interpreter()
    try:
        with exclusive_data_directory(data):
            run_async(main)
    except _OPERATORS_ERRORS as error:
        main.close()
        known = None
        if isinstance(error, sqlite3.Error | OSError):
            file = getattr(error, "filename", None) or data
            known = fault(error, Path(os.fsdecode(file)), f"{data} holds what must not be lost")
        raise click.ClickException(str(known or error)) from error


def set_up_interpreter() -> None:
    """Set what every process of the cloud runs with."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(GARBAGE_THRESHOLD)
    _set_up_allocator()


def _set_up_allocator() -> None:
    """Fix glibc's limits, which otherwise grow with what is freed; other C libraries have none to fix."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, OWN_MAPPING_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_FREE_BYTES)


def _raise_descriptor_limit() -> int:
    """Allow as many open files as the system lets us have, and return how many: each socket is one."""
    try:
        import resource  # noqa: PLC0415 - not there on Windows
    except ImportError:
        return _MANY_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS grants fewer than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MANY_FILES if soft == resource.RLIM_INFINITY else soft


def run_async(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, on uvloop where that exists."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 - not there on Windows

    return uvloop.run(main)


def stop_signal() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set; from then on the process ends within `LONGEST_STOP_SECONDS`.

    A plain function that hangs cannot be cancelled, and Python waits for its thread at its end; so may a dead disk.
    """
    stop = asyncio.Event()

    def begin() -> None:
        if not stop.is_set():
            stop.set()
            threading.Thread(target=_end_late, name="stop-watch", daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, begin)
    return stop


def _end_late() -> None:
    """End the process where its orderly end takes too long."""
    time.sleep(LONGEST_STOP_SECONDS)
    names = ", ".join(sorted(t.name for t in threading.enumerate() if not t.daemon and t.name != "MainThread"))
    print(  # noqa: T201 - the process's last words; logging may be gone
        f"stopped hard after {LONGEST_STOP_SECONDS:g} s: {names or 'the main thread'} did not end. What was "
        "acknowledged is on disk; what was not is sent or processed again.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)

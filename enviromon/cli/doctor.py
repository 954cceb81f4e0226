"""`enviromon doctor`: looks at what usually goes wrong, and says what to do."""

import contextlib
import datetime as dt
import os
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import click
from msgspec.structs import fields

from enviromon import __version__
from enviromon.app_files import page_directory
from enviromon.cli.common import console, data_option, json_option, print_json, running_system
from localcloud.addresses import is_free
from localcloud.cloud import PREFERRED_HTTPS_PORT, CloudSettings

LISTENERS = {
    "http_port": "functions and dashboard",
    "mqtt_port": "MQTT",
    "https_port": "hub HTTPS",
    "signalr_port": "SignalR",
}
LEAST_FREE_BYTES = 1 << 30
LEAST_PYTHON = (3, 11)
RELEASED = dt.datetime(2026, 11, 1, tzinfo=dt.UTC).timestamp()
CLOCK_TOLERANCE_SECONDS = 60
FAULTS_DOCUMENT = "docs/operations.md"


class Finding(NamedTuple):
    """One thing that was looked at; `advice` says what to do where it is not well."""

    subject: str
    well: bool
    detail: str
    advice: str = ""


@click.command()
@data_option
@json_option
def doctor(data: Path, as_json: bool) -> None:  # noqa: FBT001 - click's signature
    """Check versions, ports, permissions, disk and clock. Ends with 1 where something needs you."""
    findings = [*_versions(), *_ports(data), *_data_directory(data), *_disk(data), *_databases(data), _clock(data)]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            mark = "[green]✓[/green]" if finding.well else "[red]✗[/red]"
            console().print(f"{mark} {finding.subject}: {finding.detail}")
            if not finding.well:
                console().print(f"  [bold]{finding.advice}[/bold]")
    sys.exit(not all(finding.well for finding in findings))


def _versions() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    advice = "install Python 3.11 or newer"
    yield Finding("versions", sys.version_info >= LEAST_PYTHON, f"enviromon {__version__}, Python {python}", advice)
    page = page_directory()
    advice = "run `npm ci && npm run build` in dashboard/ (Node 20 or newer); everything but the page works without"
    yield Finding("page", page is not None, str(page or "not built"), advice)


def _ports(data: Path) -> Iterator[Finding]:
    if running := running_system(data):
        yield Finding("ports", well=True, detail=f"`enviromon up` is running on this data: {running['url']}")
        return
    defaults = {field.name: field.default for field in fields(CloudSettings)}
    for name, use in LISTENERS.items():
        port = defaults[name] or PREFERRED_HTTPS_PORT
        free = is_free("127.0.0.1", port)
        option = f"--{name.replace('_', '-')}"
        advice = f"stop the program that holds it, or give `enviromon up` another with {option}"
        yield Finding(f"port {port}", free, f"{use}, {'free' if free else 'in use'}", advice)


def _data_directory(data: Path) -> Iterator[Finding]:
    if not data.exists():
        yield Finding("data", well=True, detail=f"{data} will be made by `enviromon up`")
        return
    writable = os.access(data, os.R_OK | os.W_OK | os.X_OK)
    yield Finding("data", writable, str(data), f"let this user write to it: chown -R $USER {data}")
    loose = [path for path in (data, *data.rglob("*")) if _is_loose(path)]
    detail = "nobody else can read it" if not loose else "others can read " + ", ".join(path.name for path in loose[:3])
    yield Finding("permissions", not loose, detail, f"chmod -R go= {data}")


def _is_loose(path: Path) -> bool:
    return path.suffix != ".pem" and bool(stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO))


def _disk(data: Path) -> Iterator[Finding]:
    nearest = next(path for path in (data, *data.parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    advice = "free some space: at the log's limit the hub stops acknowledging, so that nothing is lost"
    yield Finding("disk", free >= LEAST_FREE_BYTES, f"{free / (1 << 30):.1f} GiB free", advice)


def _databases(data: Path) -> Iterator[Finding]:
    for path in sorted(data.glob("*.db")):
        try:
            with contextlib.closing(
                sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=1)
            ) as database:
                found = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.Error as error:
            found = str(error)
        advice = f"stop what uses it, keep a copy, and restore it from a backup or move it away: {FAULTS_DOCUMENT}"
        yield Finding(path.name, found == "ok", "whole" if found == "ok" else found, advice)


def _clock(data: Path) -> Finding:
    now = time.time()
    newest = max((path.stat().st_mtime for path in data.glob("*.db*")), default=0.0) if data.exists() else 0.0
    behind = max(RELEASED, newest - CLOCK_TOLERANCE_SECONDS) - now
    shown = dt.datetime.fromtimestamp(now, dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    advice = "set the clock (for example by NTP): tokens and readings are judged by it"
    return Finding("clock", behind <= 0, shown if behind <= 0 else f"{shown} is {behind:.0f} s behind", advice)

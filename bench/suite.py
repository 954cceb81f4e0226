"""Every figure that Enviromon promises, beside its target and its peers, in one table. scripts/bench runs it.

    scripts/bench [--only NAME[,NAME]] [--runs 5] [--growth] [--alone] [--quick] [--json]

bench/rows.py says what each row measures; docs/benchmarks.md tells it in words. A row whose own sums do not agree is
not shown: it is named as failed, and the exit code is 1. A target that is missed is no failure.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from brokers import BROKERS, PEERS, packages_here
from figures import Row, Target
from processes import allow_many_files
from rich.console import Console
from rich.table import Table
from rows import MEASUREMENTS, Effort, Measurement

NAMES = {name: measurement for measurement in MEASUREMENTS for name in measurement.rows}


def machine() -> dict[str, Any]:
    """Say on what this runs, and how busy it is with other things at the start."""
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "processor": processor[0].partition(": ")[2] if processor else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory) / 1e6),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "peers": versions(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Return the versions of the peers that are here."""
    found = {broker.name: broker.version() for broker in BROKERS if broker.here() and broker.name != "aedes"}
    if packages_here():
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        found |= {"node": node, **json.loads((PEERS / "package.json").read_text())["dependencies"]}
    return found


def selected(options: argparse.Namespace) -> list[Measurement]:
    """Return what was asked for. Raises SystemExit for a name that there is not."""
    if not options.only:
        return [each for each in MEASUREMENTS if options.growth or not each.growth]
    if unknown := [name for name in options.only if name not in NAMES]:
        raise SystemExit(f"there is no row {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return [each for each in MEASUREMENTS if any(name in options.only for name in each.rows)]


def run(options: argparse.Namespace) -> tuple[list[Row], dict[str, str]]:
    """Measure what was asked for; return the rows, and why others failed."""
    effort = Effort(1 if options.quick else options.runs, options.quick, not options.alone)
    rows: list[Row] = []
    failed = {}
    for measurement in selected(options):
        names = ", ".join(measurement.rows)
        print(f"· {names}", file=sys.stderr, flush=True)
        started = time.monotonic()
        try:
            rows += uvloop.run(measurement.measure(effort))
        except Exception as error:  # noqa: BLE001 - the other rows are measured all the same
            traceback.print_exc()
            failed[names] = f"{type(error).__name__}: {error}"
        print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return [row for row in rows if row.name in (options.only or NAMES)], failed


def show(where: dict[str, Any], rows: Sequence[Row], failed: dict[str, str], options: argparse.Namespace) -> None:
    """Print the table."""
    peers = ", ".join(f"{name} {version}" for name, version in where["peers"].items())
    table = Table(title="Enviromon's figures" + (" (--quick: they mean nothing)" if options.quick else ""))
    for column in ("row", "value", "", "runs", "target", "peers", "ratio"):
        right = column in {"value", "runs", "ratio"}
        table.add_column(column, justify="right" if right else "left", no_wrap=column != "peers")
    for row in rows:
        promise = NAMES[row.name].rows[row.name]
        table.add_row(
            row.name,
            number(row.value),
            row.unit,
            f"{number(min(row.runs))} to {number(max(row.runs))}" if len(row.runs) > 1 else "",
            "" if promise.target is None or options.quick else verdict(promise.target, row),
            ", ".join(peer(name, row, alone=options.alone) for name in promise.peers),
            "" if row.ratio is None else f"{row.ratio:.2f}",
        )
    console = Console() if sys.stdout.isatty() else Console(width=140)
    console.print(table)
    console.print(
        f"{where['processor']}, {where['cores']} cores, {where['memory_gb']} GB, {where['system']}, "
        f"Python {where['python']}; {peers or 'no peers'}; load average at the start {where['load_average']}"
    )
    for names, reason in failed.items():
        console.print(f"[red]failed[/] {names}: {reason}")


def verdict(target: Target, row: Row) -> str:
    return f"{target} {'[green]met[/]' if target.met(row) else '[red]not met[/]'}"


def peer(name: str, row: Row, *, alone: bool) -> str:
    """Return a peer's figure, or why there is none."""
    if name in row.peers:
        return f"{name} {number(row.peers[name])}"
    return f"{name}: {'left out' if alone else 'not to be had here'}"


def number(value: float) -> str:
    """Return a number with as many digits as mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Enviromon's figures beside its peers'.")
    parser.add_argument(
        "--only", metavar="NAME[,NAME]", type=lambda names: names.split(","), help=f"of {', '.join(NAMES)}"
    )
    parser.add_argument("--runs", type=int, default=5, help="of each figure; the median is shown")
    parser.add_argument("--growth", action="store_true", help="the rows growth_* as well")
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument("--quick", action="store_true", help="tiny loads, one run: does every program work?")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    allow_many_files()
    where = machine()
    rows, failed = run(options)
    if options.json:
        print(json.dumps({"machine": where, "rows": msgspec.to_builtins(rows)}, indent=2))
    else:
        show(where, rows, failed, options)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()

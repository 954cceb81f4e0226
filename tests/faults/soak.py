"""`scripts/soak`: cycles of faults for as long as asked, a line for each."""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.cycles import Report, Rig, schedule


async def soak(directory: Path, *, cycles: int | None, minutes: float | None, seed: int, own: int, sdk: int) -> None:
    started = time.monotonic()
    reports: list[Report] = []
    try:
        async with Rig(directory, own=own, sdk=sdk, seed=seed) as rig:
            for number, kind, workers, is_rough in itertools.islice(schedule(seed), cycles):
                if minutes is not None and time.monotonic() - started > minutes * 60:
                    break
                try:
                    reports.append(await rig.cycle(number, kind, workers=workers, is_rough=is_rough))
                except Exception:
                    print(f"{number:4}  {kind}  {workers} workers: FAILED; see {directory}", flush=True)
                    raise
                print(reports[-1].line(), flush=True)
    finally:
        print(summary(reports, time.monotonic() - started), flush=True)


def summary(reports: list[Report], seconds: float) -> str:
    """Tell of the cycles that ended well."""

    def total(name: str) -> int:
        return sum(getattr(report, name) for report in reports)

    return (
        f"{len(reports)} cycles in {seconds:.0f} s, all exact: {total('acknowledged'):,} messages acknowledged, "
        f"{total('repeated'):,} sent again, {total('events'):,} events counted once, {total('bad'):,} dead letters, "
        f"{total('deaths')} deaths of processes"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--cycles", type=int, help="so many cycles [default: until Ctrl-C]")
    length.add_argument("--minutes", type=float, help="for so long")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of kinds, moments and faults [default: the time]"
    )
    parser.add_argument("--devices", type=int, default=6, help="with the project's own client")
    parser.add_argument("--sdk-devices", type=int, default=2, help="with azure-iot-device")
    parser.add_argument("--data", type=Path, help="kept there, for a look afterwards [default: a temporary directory]")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    directory = options.data or Path(tempfile.mkdtemp(prefix="enviromon-soak-"))
    directory.mkdir(parents=True, exist_ok=True)
    wanted = {"cycles": options.cycles, "minutes": options.minutes, "seed": options.seed}
    try:
        asyncio.run(soak(directory, **wanted, own=options.devices, sdk=options.sdk_devices))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

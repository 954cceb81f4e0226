"""`scripts/soak`: cycles of faults for as long as asked, a line for each."""

import argparse
import asyncio
import contextlib
import itertools
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.cycles import Report, Rig, schedule


async def soak(directory: Path, *, cycles: int | None, minutes: float | None, seed: int, own: int, sdk: int) -> None:
    rig = Rig(directory, own=own, sdk=sdk, seed=seed)
    started = time.monotonic()
    reports: list[Report] = []
    await rig.open()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(rig.close)
        for number, kind, workers, is_rough in itertools.islice(schedule(seed), cycles):
            if minutes is not None and time.monotonic() - started > minutes * 60:
                break
            try:
                report = await rig.cycle(number, kind, workers=workers, is_rough=is_rough)
            except BaseException:
                print(f"{number:4}  {kind}  {workers} workers: FAILED; see {directory}", flush=True)
                raise
            print(report.line(), flush=True)
            reports.append(report)
    sums = {name: sum(getattr(report, name) for report in reports) for name in Report.__struct_fields__[5:10]}
    print(
        f"{len(reports)} cycles in {time.monotonic() - started:.0f} s, all exact: {sums['acknowledged']:,} messages "
        f"acknowledged, {sums['repeated']:,} sent again, {sums['events']:,} events counted once, "
        f"{sums['bad']:,} dead letters, {sums['deaths']} deaths of processes"
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
    with contextlib.ExitStack() as stack:
        directory = options.data or Path(tempfile.mkdtemp(prefix="enviromon-soak-"))
        directory.mkdir(parents=True, exist_ok=True)
        wanted = {"cycles": options.cycles, "minutes": options.minutes, "seed": options.seed}
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        asyncio.run(soak(directory, **wanted, own=options.devices, sdk=options.sdk_devices))
        sys.exit(0)
    sys.exit(130)


if __name__ == "__main__":
    main()

"""Runs one target under atheris: `python -m tests.fuzz.atheris_run TARGET SECONDS`.

Prints one line; a find ends it with another exit code than 0.
"""

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["localcloud", "enviromon"]):
    from tests.fuzz.corpus import CORPUS
    from tests.fuzz.targets import TARGETS

SLOW_SECONDS = 2.0
MAX_BYTES = 4096


def main() -> None:
    name, seconds = sys.argv[1], float(sys.argv[2])
    target, started, runs = TARGETS[name], time.monotonic(), 0

    def one(data: bytes) -> None:
        nonlocal runs
        runs += 1
        begun = time.process_time()
        try:
            target(data)
            taken = time.process_time() - begun
            assert taken < SLOW_SECONDS, f"{taken:.1f} s for {len(data)} bytes"
        except BaseException as error:
            print(f"{name}: FOUND {type(error).__name__}: {str(error)[:200]} by {data!r}", flush=True)
            raise
        if time.monotonic() - started > seconds:
            print(f"{name}: {runs:,} inputs in {seconds:g} s, nothing found", flush=True)
            os._exit(0)  # libFuzzer would end with a report of its own

    with TemporaryDirectory() as directory:
        for number, seed in enumerate(CORPUS[name]):
            (Path(directory) / str(number)).write_bytes(seed)
        arguments = [sys.argv[0], directory, f"-max_len={MAX_BYTES}", f"-artifact_prefix={directory}/", "-verbosity=0"]
        atheris.Setup(arguments, one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

"""One system at a time runs on a data directory.

It holds the file `lock` there for as long as it lives, whatever ends it, and describes itself in `running.json` so that
other processes find its ports.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from localcloud.private_files import write_private

_ASKERS_SECONDS = 0.5  # those who ask whether a system runs hold the lock for an instant


class DataDirectoryInUseError(Exception):
    """Another system runs on the directory; the operator must stop it or choose another."""


@contextlib.contextmanager
def exclusive_data_directory(data: Path) -> Iterator[None]:
    """Hold the directory, made where it is missing. Raises DataDirectoryInUseError, OSError."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(lock, data)
        _description(data).unlink(missing_ok=True)
        yield
        _description(data).unlink(missing_ok=True)
    finally:
        os.close(lock)


def _take(lock: int, data: Path) -> None:
    deadline = time.monotonic() + _ASKERS_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise DataDirectoryInUseError(
                    f"another system runs on {data}: stop it, or choose another data directory"
                ) from None
            time.sleep(0.01)
        else:
            return


def describe_running(data: Path, facts: Mapping[str, Any]) -> None:
    """Write what the running system says of itself, in one atomic step."""
    write_private(_description(data), json.dumps(facts, indent=2).encode())


def read_running(data: Path) -> dict[str, Any] | None:
    """What the system that runs on the directory says of itself; None where none runs, or not yet."""
    try:
        lock = os.open(data / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(FileNotFoundError, ValueError):
            facts: dict[str, Any] = json.loads(_description(data).read_text())
            return facts
    finally:
        os.close(lock)
    return None


def _description(data: Path) -> Path:
    return data / "running.json"

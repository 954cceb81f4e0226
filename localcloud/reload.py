"""Restarts a child process when files change: what `--reload` runs.

Rules: files are watched by polling, which works on every file system; a child that fails by itself is started again
at the next change; a child that ends well, or a signal to us, ends us.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

_POLL_SECONDS = 0.4
_STOP_SECONDS = 3.0
_WATCHED = frozenset({".py", ".json", ".toml", ".env"})
_IGNORED = frozenset({"__pycache__", "node_modules", "site-packages", "dist", "build", "tests"})
_MAX_FILES = 20_000

Snapshot = dict[str, tuple[int, int]]


def snapshot(directory: Path) -> Snapshot:
    """Return modification time (ns) and size of the watched files; hidden directories are left out."""
    found: Snapshot = {}
    for entry in _files(directory):
        try:
            status = entry.stat()
        except FileNotFoundError:
            continue
        found[entry.path] = status.st_mtime_ns, status.st_size
        if len(found) >= _MAX_FILES:
            break
    return found


def _files(directory: Path) -> "Iterator[os.DirEntry[str]]":
    pending = [str(directory)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if not entry.name.startswith(".") and entry.name not in _IGNORED:
                            pending.append(entry.path)
                    elif os.path.splitext(entry.name)[1] in _WATCHED:  # noqa: PTH122  # per file and poll: no objects
                        yield entry
        except FileNotFoundError:
            continue


def supervise(command: Sequence[str], directory: Path) -> int:
    """Run `command`, restart it when files in `directory` change, and return its exit status in the end.

    SIGTERM and SIGINT stop the child, then us. Call it in the main thread.
    """
    previous = {number: signal.signal(number, _raise_exit) for number in (signal.SIGTERM, signal.SIGINT)}
    child: subprocess.Popen[bytes] | None = None
    try:
        while True:
            seen = snapshot(directory)
            child = subprocess.Popen(command)  # noqa: S603  # the caller's own command
            status = _wait(child, directory, seen)
            if status is not None:
                return status
            _stop(child)
    except _StopRequestedError as request:
        return 128 + request.number
    finally:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave the child behind
        if child is not None:
            _stop(child)
        for number, handler in previous.items():
            signal.signal(number, handler)


class _StopRequestedError(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _raise_exit(number: int, _frame: FrameType | None) -> NoReturn:
    raise _StopRequestedError(number)


def _wait(child: "subprocess.Popen[bytes]", directory: Path, seen: Snapshot) -> int | None:
    """Return None at a change, the status of a child that ended well."""
    told = False
    while True:
        status = child.poll()
        if status == 0:
            return 0
        if status is not None and not told:
            told = True
            sys.stderr.write(f"the host ended with status {status}; waiting for a change in {directory}\n")
        if snapshot(directory) != seen:
            sys.stderr.write("files changed: restarting\n")
            return None
        time.sleep(_POLL_SECONDS)


def _stop(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

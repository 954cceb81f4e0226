"""What a process and its descendants use, from /proc, and how to start one that tells its port."""

import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

CLOCK_TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LISTEN_SECONDS = 15.0


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def rss(pid: int) -> int:
    """Return the resident bytes of a process and its descendants."""
    return sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) * PAGE for each in tree(pid))


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and its living descendants have used."""
    fields = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in tree(pid)]
    return sum(int(field[11]) + int(field[12]) for field in fields) / CLOCK_TICK


def allow_many_files() -> None:
    """Let this process and those it starts open as many files as the system allows: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def running(command: Sequence[str | Path], log: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a program, its output in a pipe and its errors at the end of a log where one is given, and end it."""
    with log.open("ab") if log else nullcontext() as errors:
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=15)


def first_line(process: subprocess.Popen[str]) -> str:
    """Return the first line that a program prints. Raises RuntimeError where it prints none."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait()}")
    return line


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(process: subprocess.Popen[str], port: int) -> None:
    """Return once a program listens on a port of the loopback. Raises RuntimeError where it does not."""
    end = time.monotonic() + LISTEN_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen on {port}")

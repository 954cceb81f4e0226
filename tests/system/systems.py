"""Whole systems for tests: `enviromon up` in a process of its own, on a loopback address of its own.

azure-iot-device cannot be told a port, so each system takes an address in 127.0.0.0/8 and keeps the usual ports.
"""

import contextlib
import errno
import itertools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ENVIROMON = [sys.executable, "-m", "enviromon"]
_CLAIM_PORT = 20071
_numbers = itertools.count(os.getpid() * 250)
_claims: list[socket.socket] = []


def own_address() -> str:
    """Return a loopback address that no other process of any test run has, claimed for this process's life.

    The claim is a UDP port of the address: only one can hold it, and the system lets it go however the process ends.
    """
    while True:
        number = next(_numbers)
        address = f"127.{100 + number // 62_500 % 100}.{number // 250 % 250}.{1 + number % 250}"
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind((address, _CLAIM_PORT))
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            _claims.append(claim)
            return address


class System:
    def __init__(self, data: Path, log: Path) -> None:
        self.address = own_address()
        self.data, self.log = data, log
        self.process: subprocess.Popen | None = None
        self.ready: dict = {}
        self.environment: dict[str, str] = {}
        """Beyond this process's own."""

    def start(self, *arguments: str) -> dict:
        command = ["up", "--json", "--data", self.data, "--host", self.address, "--hostname", self.address, *arguments]
        with self.log.open("ab") as log:
            environment = {**os.environ, **self.environment}
            command = [*ENVIROMON, *map(str, command)]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.ready = json.loads(line)
        return self.ready

    @property
    def url(self) -> str:
        return self.ready["dashboard"].rstrip("/")

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        process, self.process = self.process, None
        process.send_signal(signal_number)
        with process.stdout:
            try:
                return process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*ENVIROMON, *map(str, arguments), "--data", str(self.data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    def cli(self, *arguments: str):
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def get(self, path: str, headers: dict[str, str] | None = None):
        request = urllib.request.Request(self.url + path, headers=headers or {})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def device(self, device_id: str) -> dict:
        return self.cli("device", "add", device_id)

    def ledger(self) -> dict:
        return self.cli("ledger")

    def stored(self) -> int:
        """How many events the log holds."""
        with contextlib.closing(sqlite3.connect(f"file:{self.data / 'events.db'}?mode=ro", uri=True)) as log:
            ((count,),) = log.execute("SELECT coalesce(sum(count), 0) FROM blocks").fetchall()
            return count

    def text(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return answer.read().decode()

    def figures(self) -> dict[str, float]:
        """What /metrics says, by name and labels."""
        lines = [line for line in self.text("/metrics").splitlines() if line[0] != "#"]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@contextlib.contextmanager
def a_system(data: Path, log: Path) -> Iterator[System]:
    """A system that has not been started; what is still running at the end is stopped."""
    system = System(data, log)
    try:
        yield system
    finally:
        if system.process:
            system.stop()


def workers_of(process: subprocess.Popen) -> list[int]:
    """The ids of a system's function workers."""
    found = []
    for child in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for pid in child.read_text().split():
            with contextlib.suppress(OSError):
                if b"localcloud.functions.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
    return found

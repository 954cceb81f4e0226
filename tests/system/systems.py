"""Whole systems for tests: `enviromon up` in a process of its own, on a loopback address of its own.

azure-iot-device cannot be told a port, so each system takes an address in 127.0.0.0/8 and keeps the usual ports.
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ENVIROMON = [sys.executable, "-m", "enviromon"]
_addresses = itertools.count(1)


def eventually(probe, seconds=10.0):
    """Return the first true value of `probe`, asked until the deadline; what it last said is in the failure."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline, f"not within {seconds} s; last: {found!r}"
        time.sleep(0.02)
    return found


class System:
    def __init__(self, data: Path, log: Path) -> None:
        number = next(_addresses)
        self.address = f"127.{100 + os.getpid() % 100}.{number // 250}.{1 + number % 250}"
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
        self.process.send_signal(signal_number)
        code = self.process.wait(10)
        self.process.stdout.close()
        self.process = None
        return code

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


def workers_of(process: subprocess.Popen) -> list[int]:
    """The ids of a system's function workers."""
    found = []
    for child in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for pid in child.read_text().split():
            with contextlib.suppress(OSError):
                if b"localcloud.functions.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
    return found

"""The system under test: `enviromon up` in a process of its own, on free ports and a data directory that goes away."""

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

import msgspec
from load import Device
from processes import cpu_seconds, first_line, rss, running

from localcloud.iothub.registry import Registry
from localcloud.iothub.sas import make_token

API_VERSION = "2021-04-12"
TOKEN_SECONDS = 86400
FREE_PORTS = [f"--{name}-port=0" for name in ("http", "mqtt", "mqtt-plain", "https", "signalr")]


class System:
    """A running `enviromon up`, with more options where given; a context manager that ends it.

    Raises RuntimeError with what it has said where it does not start.
    """

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        started, log = time.perf_counter(), data.parent / "up.log"
        command = [sys.executable, "-m", "enviromon", "up", "--data", str(data), "--json", *FREE_PORTS, *options]
        self._running = ExitStack()
        process = self._running.enter_context(running(command, log))
        try:
            facts: dict[str, Any] = json.loads(first_line(process))
        except RuntimeError as error:
            raise RuntimeError(log.read_text()) from error
        self.ready_seconds = time.perf_counter() - started
        self._pid = process.pid
        self.url = facts["url"].rstrip("/")
        self.ca_file = Path(facts["caFile"])
        self.ports: dict[str, int] = facts["ports"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def ledger(self) -> dict[str, Any]:
        """Return what `enviromon ledger --json` says."""
        command = [sys.executable, "-m", "enviromon", "ledger", "--data", str(self.data), "--json"]
        report: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return report

    def stored(self) -> int:
        """Return how many events the log holds, asked of its file."""
        return self._ask_log("SELECT coalesce(sum(count), 0) FROM blocks")

    def log_bytes(self) -> int:
        """Return the size of the log's file, what is still in its WAL included."""
        return self._ask_log("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")

    def _ask_log(self, query: str) -> int:
        with closing(sqlite3.connect(f"file:{self.data / 'events.db'}?mode=ro", uri=True)) as connection:
            ((number,),) = connection.execute(query).fetchall()
        return int(number)

    def rss(self) -> int:
        """Return the resident bytes of all its processes."""
        return rss(self._pid)

    def cpu_seconds(self) -> float:
        """Return the processor time that its processes have used."""
        return cpu_seconds(self._pid)


def register(data: Path, count: int) -> tuple[list[Device], Path]:
    """Add devices to the registry of a data directory and sign them in for a day; the file is for bench/load.py."""
    registry = Registry.open(data / "hub.db")
    expiry = int(time.time()) + TOKEN_SECONDS
    devices = []
    for number in range(count):
        device = registry.add(f"bench-{number}")
        token = make_token(f"localhost/devices/{device.device_id}", device.primary_key, expiry)
        username = f"localhost/{device.device_id}/?api-version={API_VERSION}"
        devices.append(Device(device.device_id, username, token))
    registry.close()
    file = data.parent / "devices.json"
    file.write_bytes(msgspec.json.encode(devices))
    return devices, file

"""Azurite's table service in a process of its own: the real thing that stands in for an Azure storage account.

Its tables live in memory and are saved every few seconds and at SIGINT: SIGKILL proves nothing.
"""

import signal
import socket
import subprocess
import time
from pathlib import Path

MAIN = Path(__file__).parent / "node_modules/azurite/dist/src/table/main.js"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, published account: https://learn.microsoft.com/azure/storage/common/storage-connect-azurite"""


class Azurite:
    """A server on a free port of the loopback; it keeps its port over a restart."""

    def __init__(self, directory: Path, *options: object) -> None:
        assert MAIN.is_file(), "Azurite is missing: scripts/test installs it, or npm --prefix tests/azurite ci"
        self.directory = directory
        self.options = options
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            "node", MAIN, "--location", self.directory, "--tableHost", "127.0.0.1", "--tablePort", self.port,
            "--disableTelemetry", "--silent", *self.options,
        ]  # fmt: skip
        log = self.directory / "azurite.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output)
        deadline = time.monotonic() + 30
        while not listens(self.port):
            assert self.process.poll() is None, log.read_text()
            if time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError("Azurite does not listen")
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """Let it save its tables and end."""
        self.signal(signal.SIGINT)
        assert self.process is not None
        process, self.process = self.process, None
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()

    def connection_string(self, port: int | None = None) -> str:
        """The account's; with the port of a proxy in front of it, if need be."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"TableEndpoint=http://127.0.0.1:{port or self.port}/{ACCOUNT};"
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

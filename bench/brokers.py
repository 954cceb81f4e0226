"""The MQTT brokers that the path is compared with, and their one subscriber.

They receive the same publishes from the same generator and forward each to one QoS 1 subscriber; they judge, keep and
count nothing. Each is as its own defaults have it, apart from the bounds on queues, which are lifted so that a slow
subscriber loses nothing. Who acknowledges what:

mosquitto  (Debian's)  acknowledges what it holds in memory; nothing is written to disk
nats       (Debian's, its MQTT listener over JetStream, file storage)  acknowledges what JetStream has written to its
           file; the file is synced every two minutes, so a power failure may lose what was acknowledged
aedes      (npm)  acknowledges what it holds in memory
"""

import asyncio
import getpass
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from load import Acceptor, Device, connect, packet, text
from processes import first_line, free_port, running, wait_for

from localcloud.certificates import Certificates

PEERS = Path(__file__).with_name("peers")
TOPIC = "devices/{device}/messages/events"
"""IoT Hub's without its property bag, which nats refuses."""
EVERYTHING = "devices/+/messages/events"
SUBSCRIBE_SECONDS = 15.0
MOSQUITTO = """
user {user}
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 0
log_type error
{tls}
"""
NATS = """
server_name: bench
log_file: "{directory}.log"
listen: "127.0.0.1:{other_port}"
jetstream {{ store_dir: "{directory}" }}
mqtt {{ listen: "127.0.0.1:{port}", ack_wait: "10m", max_ack_pending: 65535 {tls} }}
"""


def packages_here() -> bool:
    """Say whether the peers from npm are installed."""
    return shutil.which("node") is not None and (PEERS / "node_modules").is_dir()


class Broker(msgspec.Struct, frozen=True):
    """One kind of broker: its program, and how to write its configuration."""

    name: str
    program: str

    def here(self) -> bool:
        """Say whether it is installed."""
        return packages_here() if self.name == "aedes" else self.path() is not None

    def path(self) -> str | None:
        """Return its program's path; Debian puts servers where not every PATH looks."""
        return shutil.which(self.program) or shutil.which(self.program, path="/usr/sbin:/usr/local/sbin")

    def version(self) -> str:
        """Return the version of a program that tells its own."""
        option = {"mosquitto": "-h", "nats": "--version"}[self.name]
        said = subprocess.run([self.path() or "", option], capture_output=True, text=True, check=False).stdout
        return said.partition("\n")[0].split()[-1]

    @contextmanager
    def serving(self, directory: Path, certificates: Certificates | None) -> Iterator[int]:
        """Run it on a free port of the loopback, over TLS where certificates are given; yields the port."""
        program = self.path()
        assert program is not None
        if self.name == "aedes":
            tls = () if certificates is None else (certificates.certificate_file, certificates.key_file)
            with running([program, PEERS / "aedes.js", *tls]) as process:
                yield int(first_line(process))
            return
        port, configuration = free_port(), directory / f"{self.name}.conf"
        configuration.write_text(self._configure(directory, port, certificates))
        with running([program, "-c", configuration]) as process:
            wait_for(process, port)
            yield port

    def _configure(self, directory: Path, port: int, certificates: Certificates | None) -> str:
        files = certificates and (certificates.certificate_file, certificates.key_file)
        if self.name == "mosquitto":
            tls = "certfile {}\nkeyfile {}".format(*files) if files else ""
            return MOSQUITTO.format(user=getpass.getuser(), port=port, tls=tls)
        tls = ', tls {{ cert_file: "{}", key_file: "{}" }}'.format(*files) if files else ""
        return NATS.format(directory=directory / "jetstream", port=port, other_port=free_port(), tls=tls)


BROKERS = (Broker("mosquitto", "mosquitto"), Broker("nats", "nats-server"), Broker("aedes", "node"))


class Subscriber(Acceptor):
    """An MQTT client that receives everything at QoS 1, acknowledges and counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last_receipt = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.write(connect(Device("bench-subscriber", "subscriber", "subscriber")))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.last_receipt = time.time()

    def answer(self, received: bytes) -> bytes:
        if received[0] == 0x20:
            return packet(0x82, b"\x00\x01" + text(EVERYTHING) + b"\x01")
        if received != b"\x90\x03\x00\x01\x01":
            raise ConnectionError(f"the broker sent {received!r} instead of a subscription at QoS 1")
        self.subscribed.set_result(None)
        return b""

    async def until(self, count: int, seconds: float) -> None:
        """Return once so many messages have come. Raises TimeoutError, saying how many did."""
        end = time.monotonic() + seconds
        while self.received < count:
            if time.monotonic() > end:
                raise TimeoutError(f"the subscriber received {self.received} of {count} messages")
            await asyncio.sleep(0.01)

    def close(self) -> None:
        self._transport.close()


async def subscribe(port: int, tls: ssl.SSLContext | None) -> Subscriber:
    """Connect the subscriber to a broker."""
    name = "localhost" if tls else None
    loop = asyncio.get_running_loop()
    _, subscriber = await loop.create_connection(Subscriber, "127.0.0.1", port, ssl=tls, server_hostname=name)
    await asyncio.wait_for(subscriber.subscribed, SUBSCRIBE_SECONDS)
    return subscriber

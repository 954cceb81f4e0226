"""Running hubs for tests: a real registry, a real event log, real sockets."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from localcloud.certificates import ensure_certificates, server_ssl_context
from localcloud.iothub import sas
from localcloud.iothub.event_log import SqliteEventLog, StoredEvent
from localcloud.iothub.limits import HubLimits
from localcloud.iothub.registry import Device, Registry
from localcloud.iothub.server import HubServer
from tests.localcloud.iothub import mqtt

OWNER_KEY = base64.b64encode(b"o" * 32).decode()
POLICIES = {"iothubowner": OWNER_KEY}
CONNACK = b"\x20\x02\x00\x00"
RESUMED = b"\x20\x02\x01\x00"


class Hub:
    """One running hub and what a test needs of it."""

    def __init__(self, server: HubServer, registry: Registry, log: SqliteEventLog, port: int) -> None:
        self.server, self.registry, self.log, self.port = server, registry, log, port

    def login(self, device: Device, **options: Any) -> bytes:
        """Return a valid CONNECT of the device."""
        return connect(device.device_id, device.primary_key, **options)

    async def client(self, device_id: str = "d1", **options: Any) -> mqtt.Client:
        """Return a connected device, registered where it is new."""
        device = self.registry.get(device_id) or self.registry.add(device_id)
        client = await mqtt.Client.open(self.port)
        assert await client.ask(self.login(device, **options)) in (CONNACK, RESUMED)
        return client

    async def events(self, count: int) -> list[StoredEvent]:
        """Return the first `count` durable events, once there are that many, by partition."""

        async def look() -> list[StoredEvent] | None:
            found = [e for p in range(self.log.partitions) for e in await self.log.read(p, -1, 10_000)]
            return found if len(found) >= count else None

        return await eventually(look)


def connect(device_id: str, key: str, **options: Any) -> bytes:
    expiry = int(options.pop("expiry", time.time() + 3600))
    token = sas.make_token(f"localhost/devices/{device_id}", key, expiry)
    return mqtt.connect(device_id, f"localhost/{device_id}/?api-version=2021-04-12", token, **options)


async def eventually(look: Callable[[], Any]) -> Any:
    """Call (and await) until the answer is true; fail after ten seconds."""
    async with asyncio.timeout(10):
        while True:
            found = look()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(
    directory: Path, *, limits: HubLimits | None = None, clock: Callable[[], float] = time.time, tls: bool = False
) -> AsyncIterator[Hub]:
    """Run a hub on a directory; entered again on the same one, it is a hub after a restart."""
    context = server_ssl_context(ensure_certificates(directory / "certificates", [])) if tls else None
    registry, log = Registry.open(directory / "hub.db"), await SqliteEventLog.open(directory)
    server = HubServer(
        registry=registry, log=log, hostnames=["localhost"], policies=POLICIES, limits=limits, clock=clock
    )
    try:
        yield Hub(server, registry, log, await server.start("127.0.0.1", 0, context))
    finally:
        await server.stop()
        await log.close()
        registry.close()

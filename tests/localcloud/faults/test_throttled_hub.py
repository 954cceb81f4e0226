"""A hub beyond its tier's limits, as a device sees it on a real socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from localcloud.faults.plan import Throttle
from localcloud.faults.throttled_hub import ThrottledHub
from localcloud.faults.tiers import DAY_SECONDS
from localcloud.iothub.event_log import SqliteEventLog
from localcloud.iothub.registry import Registry
from tests.localcloud.iothub import mqtt
from tests.localcloud.iothub.hubs import POLICIES, Hub

EVENTS = "devices/d1/messages/events/"


class Clock:
    now = 1_795_478_400.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def throttled(directory: Path, clock: Clock, throttle: Throttle) -> AsyncIterator[Hub]:
    registry, log = Registry.open(directory / "hub.db"), await SqliteEventLog.open(directory)
    server = ThrottledHub(throttle, registry=registry, log=log, hostnames=["localhost"], policies=POLICIES, clock=clock)
    try:
        yield Hub(server, registry, log, await server.start("127.0.0.1", 0, None))
    finally:
        await server.stop()
        await log.close()
        registry.close()


async def acknowledged(client: mqtt.Client, first: int, count: int = 1, *, body: bytes = b"{}") -> bool:
    """Send, and tell whether every message was acknowledged before the hub closed."""
    client.send(*(mqtt.publish(EVENTS, body, packet_id=first + n) for n in range(count)))
    return all([(await client.receive())[:1] == b"\x40" for _ in range(count)])


@contextlib.asynccontextmanager
async def device(hub: Hub, clock: Clock) -> AsyncIterator[mqtt.Client]:
    client = await hub.client(expiry=clock.now + 3600)
    yield client
    await client.close()


@pytest.mark.slow
async def test_beyond_the_rate_a_device_waits_for_its_acknowledgements(tmp_path: Path) -> None:
    clock, throttle = Clock(), Throttle(tier="S1", burst_seconds=0)
    async with throttled(tmp_path, clock, throttle) as hub, device(hub, clock) as client:
        started = asyncio.get_running_loop().time()
        assert await acknowledged(client, 1, 50)  # half a second's worth is taken as a debt
        assert await acknowledged(client, 51)
        assert asyncio.get_running_loop().time() - started >= 0.45


async def test_a_device_that_would_wait_too_long_is_closed_and_its_message_is_not_stored(tmp_path: Path) -> None:
    clock, throttle = Clock(), Throttle(tier="S1", burst_seconds=0, queue_seconds=0.1)
    async with throttled(tmp_path, clock, throttle) as hub, device(hub, clock) as client:
        assert not await acknowledged(client, 1, 100)
        assert [await hub.log.read(partition, -1, 10) for partition in range(4)] == [[], [], [], []]
        assert hub.server.counters.closed["throttled"] == 1


async def test_a_used_up_quota_lets_devices_connect_and_closes_at_their_first_message(tmp_path: Path) -> None:
    clock, throttle = Clock(), Throttle(tier="F1", sent_today=7_999)
    async with throttled(tmp_path, clock, throttle) as hub:
        async with device(hub, clock) as client:
            assert await acknowledged(client, 1)
            assert not await acknowledged(client, 2)
        async with device(hub, clock) as client:
            assert not await acknowledged(client, 1)
        assert len(await hub.events(1)) == 1
        clock.now += DAY_SECONDS
        async with device(hub, clock) as client:
            assert await acknowledged(client, 1)


@pytest.mark.parametrize(("size", "metered"), [(512, 1), (513, 2)])
async def test_the_free_tier_counts_half_kilobytes(tmp_path: Path, size: int, metered: int) -> None:
    clock = Clock()
    async with throttled(tmp_path, clock, Throttle(tier="F1")) as hub, device(hub, clock) as client:
        assert await acknowledged(client, 1, body=b"x" * size)
        assert isinstance(hub.server, ThrottledHub)
        assert hub.server.meter.sent_today == metered

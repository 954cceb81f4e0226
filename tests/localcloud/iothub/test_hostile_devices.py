"""Devices that have a key and mean harm: what they can make the hub hold is bounded, and the others do not notice."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from localcloud.iothub import packets
from localcloud.iothub.event_log import Event
from localcloud.iothub.limits import HubLimits
from localcloud.iothub.session import Commit, Session
from localcloud.iothub.topics import DeviceTopics
from tests.localcloud.iothub import mqtt
from tests.localcloud.iothub.hubs import Hub, eventually, running

FILTER = ("$iothub/twin/res/#", 0)


def events(device_id: str, bag: str = "") -> str:
    return f"devices/{device_id}/messages/events/{bag}"


async def test_tls_handshakes_in_progress_count_as_connections(tmp_path: Path) -> None:
    async with running(tmp_path, limits=HubLimits(connections=2), tls=True) as hub:
        silent = [await asyncio.open_connection("127.0.0.1", hub.port) for _ in range(3)]
        await eventually(lambda: hub.server.counters.turned_away == 1)
        assert await silent[2][0].read() == b""
        for _, writer in silent:
            writer.close()


async def test_unfinished_packets_share_a_pool_and_the_slowest_leave_it_first(tmp_path: Path) -> None:
    limits = HubLimits(unfinished_bytes=1 << 20)
    async with running(tmp_path, limits=limits) as hub:
        slow = [await hub.client(f"slow{n}") for n in range(8)]
        for number, client in enumerate(slow):
            client.send(mqtt.publish(events(f"slow{number}"), b"x" * 250_000, 1)[:200_000])
            await eventually(lambda: hub.server._held_bytes > 0)
        await eventually(lambda: hub.server.counters.closed["unfinished"] >= 3)
        assert hub.server._held_bytes <= 1 << 20
        honest = await hub.client("honest")
        for number in range(1, 6):
            message = mqtt.publish(events("honest"), b"x" * 250_000, number)
            for start in range(0, len(message), 50_000):
                honest.send(message[start : start + 50_000])
                await honest.writer.drain()
            assert await honest.receive() == b"\x40\x02\x00" + bytes((number,))
        assert hub.server.is_connected("honest")
        for client in (*slow, honest):
            await client.close()
        await eventually(lambda: not hub.server._connections)
        assert (hub.server._held_bytes, hub.server._held) == (0, {})


async def test_a_device_that_changes_its_session_waits_for_the_disk(tmp_path: Path) -> None:
    async with running(tmp_path) as hub:
        client, bystander = await hub.client(), await hub.client("d2")
        free = threading.Event()
        blocked = asyncio.create_task(hub.server.sessions.call(lambda _: free.wait(30)))
        flood = asyncio.create_task(_flip(client))
        await eventually(lambda: hub.server.sessions._answers or hub.server.sessions._writing)
        before = -1
        while before != (before := len(hub.server.sessions._answers)):  # noqa: ASYNC110 - until it stands still
            await asyncio.sleep(0.1)
        assert len(hub.server.sessions._answers) <= packets.TURN
        assert await bystander.ask(mqtt.PINGREQ) == b"\xd0\x00"
        free.set()
        await blocked
        assert (await client.receive())[0] in (0x90, 0xB0)
        flood.cancel()
        await asyncio.wait([flood])
        for each in (client, bystander):
            await each.close()


async def _flip(client: mqtt.Client) -> None:
    while True:
        client.send((mqtt.subscribe(1, FILTER) + mqtt.unsubscribe(1, FILTER[0])) * 500)
        await client.writer.drain()
        await asyncio.sleep(0)  # drain does not always yield


async def test_a_large_message_right_behind_a_connect_is_taken(tmp_path: Path) -> None:
    async with running(tmp_path) as hub:
        device = hub.registry.add("d1")
        client = await mqtt.Client.open(hub.port)
        client.send(hub.login(device) + mqtt.publish(events("d1"), b"x" * 100_000, 1))
        assert await client.receive() == b"\x20\x02\x00\x00"
        assert await client.receive() == b"\x40\x02\x00\x01"
        await client.close()


def test_what_follows_a_connect_stays_bytes_until_the_verdict() -> None:
    """131,072 pings in one read were 4 MB of packets, for every connection that waits for its CONNACK."""
    session = Session(HubLimits())
    session.receive(mqtt.connect("d1", "u", "p") + mqtt.PINGREQ * 1000)
    session.receive(mqtt.PINGREQ * 1000)
    assert session.held_bytes == 4000


def test_a_bag_of_many_properties_counts_by_what_it_holds() -> None:
    """500 bytes of topic make 14 kB of dictionary; 32 MiB in flight must not be a gigabyte."""
    session = Session(HubLimits())
    session.receive(mqtt.connect())
    session.accept(DeviceTopics("d1", "1", "{}", HubLimits()), None)
    bags = ["&".join(f"{n:x}{m:x}=" for m in range(100)) for n in range(10)]
    (commit,) = session.receive(b"".join(mqtt.publish(events("d1", bag), b"") for bag in bags))
    assert isinstance(commit, Commit)
    assert commit.size > 10 * 14_000


class SlowDisk:
    """Stands before a hub's log: a commit takes as long as a disk of this speed takes, then is real."""

    def __init__(self, hub: Hub, bytes_per_second: float) -> None:
        self._append, self._speed = hub.log.append, bytes_per_second
        self.written = 0
        hub.log.append = self.append  # type: ignore[method-assign]

    async def append(self, batch_id: bytes, events: Mapping[int, Sequence[Event]]) -> None:
        size = sum(len(event.body) for part in events.values() for event in part)
        await asyncio.sleep(0.005 + size / self._speed)
        await self._append(batch_id, events)
        self.written += size


@pytest.mark.slow
async def test_a_flood_beyond_the_disks_speed_fills_a_bound_and_a_quiet_device_keeps_its_service(
    tmp_path: Path,
) -> None:
    limits = HubLimits(pending_bytes=4 << 20, in_flight_bytes=256 << 10)
    async with running(tmp_path, limits=limits) as hub:
        disk = SlowDisk(hub, bytes_per_second=8 << 20)
        floods = [asyncio.create_task(_flood(hub, f"flood{n}")) for n in range(40)]
        await eventually(lambda: disk.written > 4 << 20)
        quiet = await hub.client("quiet")
        waits, most = [], 0
        for number in range(1, 11):
            start = time.perf_counter()
            assert (await quiet.ask(mqtt.publish(events("quiet"), b"x", number)))[0] == 0x40
            waits.append(time.perf_counter() - start)
            most = max(most, hub.server._group_commit.pending_bytes)
            assert not hub.server._is_full
        for flood in floods:
            flood.cancel()
        await asyncio.wait(floods)
        # 4 MiB at 8 MiB/s are half a second, and a message waits for the commit before its own as well.
        assert sorted(waits)[5] < 2
        assert 1 << 20 < most < 5 << 20
        await quiet.close()


async def _flood(hub: Hub, device_id: str) -> None:
    client = await hub.client(device_id)
    reading = asyncio.create_task(client.reader.read(-1))
    data = b"".join(mqtt.publish(events(device_id), b"x" * 4000, number) for number in range(1, 11))
    try:
        while True:
            client.send(data)
            await client.writer.drain()
            await asyncio.sleep(0)
    finally:
        reading.cancel()
        client.writer.transport.abort()


@pytest.mark.parametrize("device_id", ["d1", "quiet"])
async def test_a_flood_of_pings_or_sessions_starves_nobody(tmp_path: Path, device_id: str) -> None:
    async with running(tmp_path) as hub:
        floods = [asyncio.create_task(_ping_flood(hub, f"f{n}")) for n in range(3)]
        quiet = await hub.client(device_id)
        waits = []
        for number in range(1, 21):
            start = time.perf_counter()
            assert (await quiet.ask(mqtt.publish(events(device_id), b"x", number)))[0] == 0x40
            waits.append(time.perf_counter() - start)
        for flood in floods:
            flood.cancel()
        await asyncio.wait(floods)
        assert sorted(waits)[10] < 2
        await quiet.close()


async def _ping_flood(hub: Hub, device_id: str) -> Any:
    client = await hub.client(device_id)
    reading = asyncio.create_task(client.reader.read(-1))
    try:
        while True:
            client.send(mqtt.PINGREQ * 10_000)
            await client.writer.drain()
            await asyncio.sleep(0)
    finally:
        reading.cancel()
        client.writer.transport.abort()

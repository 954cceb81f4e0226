"""A slow disk, a fast device, a peer that takes nothing: who waits, and that nobody else does."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from localcloud.iothub.event_log import Event, EventLogFullError
from localcloud.iothub.limits import HubLimits
from localcloud.token_bucket import TokenBucket
from tests.localcloud.iothub import mqtt
from tests.localcloud.iothub.hubs import Hub, eventually, running

EVENTS = "devices/d1/messages/events/"
MESSAGE = b"x" * 10_000


class Disk:
    """Stands before a hub's log and holds back or refuses its appends."""

    def __init__(self, hub: Hub) -> None:
        self._append = hub.log.append
        self.turns = asyncio.Event()
        self.full = False
        hub.log.append = self.append  # type: ignore[method-assign]

    async def append(self, batch_id: bytes, events: Mapping[int, Sequence[Event]]) -> None:
        await self.turns.wait()
        if self.full:
            raise EventLogFullError("the log is full")
        await self._append(batch_id, events)


@pytest.fixture
async def stuck(tmp_path: Path) -> AsyncIterator[tuple[Hub, Disk]]:
    limits = HubLimits(in_flight_bytes=100_000, pending_bytes=1 << 30)
    async with running(tmp_path, limits=limits) as hub:
        disk = Disk(hub)
        yield hub, disk
        disk.turns.set()


async def test_nothing_is_acknowledged_before_the_disk_has_it_and_then_in_order(stuck: tuple[Hub, Disk]) -> None:
    hub, disk = stuck
    client = await hub.client()
    for first in (1, 4, 7):
        client.send(*(mqtt.publish(EVENTS, b"x", n) for n in range(first, first + 3)))
        await eventually(lambda first=first: hub.server.counters.messages == first + 2)
    client.send(mqtt.publish("$iothub/methods/res/200/?$rid=1", b"{}", 10))
    assert await client.ask(mqtt.PINGREQ) == b"\xd0\x00"
    disk.turns.set()
    assert [(await client.receive())[3] for _ in range(10)] == list(range(1, 11))
    await client.close()


async def test_the_acknowledgements_of_one_commit_are_one_write(stuck: tuple[Hub, Disk]) -> None:
    hub, disk = stuck
    client = await hub.client()
    client.send(mqtt.publish(EVENTS, b"x", 1))
    await eventually(lambda: hub.server.counters.messages == 1)
    for number in range(2, 12):
        client.send(mqtt.publish(EVENTS, b"x", number))
        await eventually(lambda number=number: hub.server.counters.messages == number)
    disk.turns.set()
    assert (await client.receive())[3] == 1
    assert len(await client.reader.read(1000)) == 40
    await client.close()


async def test_a_device_with_too_much_in_flight_is_not_read_until_it_is_durable(stuck: tuple[Hub, Disk]) -> None:
    hub, disk = stuck
    client, bystander = await hub.client(), await hub.client("d2")
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for number in range(1, 1001):
        client.send(mqtt.publish(EVENTS, MESSAGE, number))
    assert await bystander.ask(mqtt.PINGREQ) == b"\xd0\x00"
    assert await bystander.ask(mqtt.PINGREQ) == b"\xd0\x00"
    assert hub.server.counters.messages < 100
    disk.turns.set()
    assert [int.from_bytes((await client.receive())[2:], "big") for _ in range(1000)] == list(range(1, 1001))
    for each in (client, bystander):
        await each.close()


async def test_when_the_hub_is_full_nobody_is_read_and_nothing_is_lost(tmp_path: Path) -> None:
    async with running(tmp_path, limits=HubLimits(pending_bytes=50_000)) as hub:
        disk = Disk(hub)
        clients = [await hub.client(f"d{n}") for n in range(1, 9)]
        for number, client in enumerate(clients, 1):
            client.send(*(mqtt.publish(f"devices/d{number}/messages/events/", MESSAGE, n) for n in range(1, 11)))
        await eventually(lambda: hub.server.counters.messages > 4)
        late = await hub.client("late")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(late.ask(mqtt.PINGREQ), 0.05)
        disk.turns.set()
        for client in clients:
            assert [(await client.receive())[3] for _ in range(10)] == list(range(1, 11))
        assert await late.receive() == b"\xd0\x00"
        assert len(await hub.events(80)) == 80
        for each in (*clients, late):
            await each.close()


async def test_a_full_log_is_tried_again_and_acknowledged_once_there_is_room(stuck: tuple[Hub, Disk]) -> None:
    hub, disk = stuck
    client = await hub.client()
    disk.full = True
    disk.turns.set()
    client.send(mqtt.publish(EVENTS, b"x", 1))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.receive(), 0.1)
    disk.full = False
    assert await client.receive() == b"\x40\x02\x00\x01"
    assert len(await hub.events(1)) == 1
    await client.close()


async def test_a_hub_that_stops_acknowledges_what_is_durable_and_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path) as hub:
        disk = Disk(hub)
        client = await hub.client()
        client.send(mqtt.publish(EVENTS, b"x", 1))
        await eventually(lambda: hub.server.counters.messages == 1)
        start = time.monotonic()
        stopping = asyncio.create_task(hub.server.stop())
        disk.turns.set()
        assert [await client.receive(), await client.receive()] == [b"\x40\x02\x00\x01", b""]
        await stopping
        assert time.monotonic() - start < 1
        assert hub.server.counters.closed["stopped"] == 1
        await client.close()


@pytest.mark.slow
async def test_a_hub_stops_within_two_seconds_of_a_dead_disk_and_acknowledges_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as hub:
        Disk(hub)
        client = await hub.client()
        client.send(mqtt.publish(EVENTS, b"x", 1))
        await eventually(lambda: hub.server.counters.messages == 1)
        start = time.monotonic()
        await hub.server.stop()
        assert time.monotonic() - start < 2
        assert await client.receive() == b""
        await client.close()


@pytest.mark.slow
async def test_a_device_faster_than_its_limit_is_read_more_slowly_and_not_dropped(tmp_path: Path) -> None:
    async with running(tmp_path, limits=HubLimits(messages_per_second=50)) as hub:
        client, start = await hub.client(), time.monotonic()
        for number in range(1, 131):
            client.send(mqtt.publish(EVENTS, b"x", number))
            await client.receive()
        assert time.monotonic() - start > 0.5
        assert hub.server.is_connected("d1")
        await client.close()


@pytest.mark.slow
async def test_who_takes_no_answers_is_dropped_and_delays_nobody(tmp_path: Path) -> None:
    limits = HubLimits(outbound_bytes=1024, stall_seconds=0.3)
    async with running(tmp_path, limits=limits) as hub:
        client, bystander = await hub.client(), await hub.client("d2")
        await client.ask(mqtt.subscribe(1, ("$iothub/twin/res/#", 0)))
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        flood = asyncio.create_task(_flood(client))
        await eventually(lambda: hub.server.counters.closed["stalled"] == 1)
        assert await bystander.ask(mqtt.PINGREQ) == b"\xd0\x00"
        flood.cancel()
        await asyncio.wait([flood])
        for each in (client, bystander):
            await each.close()


async def _flood(client: mqtt.Client) -> None:
    while True:
        client.send(mqtt.publish("$iothub/twin/GET/?$rid=" + "r" * 10_000, b"") * 10)
        await client.writer.drain()
        await asyncio.sleep(0)


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = TokenBucket(per_second=2, burst=3, now=0)
    waits = []
    for _ in range(5):
        waits.append(bucket.wait(0))
        bucket.take(1, 0)
    assert waits == [0, 0, 0, 0.5, 1.0]
    assert bucket.wait(1.5) == 0
    assert (bucket.is_full(2.4), bucket.is_full(2.5)) == (False, True)

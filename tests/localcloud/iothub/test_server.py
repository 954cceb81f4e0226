import asyncio
import logging
import ssl
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from localcloud.iothub import sas
from localcloud.iothub.limits import HubLimits
from localcloud.iothub.registry import Registry
from tests.localcloud.iothub import mqtt
from tests.localcloud.iothub.hubs import CONNACK, OWNER_KEY, RESUMED, Hub, connect, eventually, running

DEVICE_KEY_METHOD = '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}'
EVENTS = "devices/d1/messages/events/"
NOT_AUTHORIZED = b"\x20\x02\x00\x05"
BAD_CREDENTIALS = b"\x20\x02\x00\x04"
DEVICEBOUND = "devices/d1/messages/devicebound/#"


def puback(packet_id: int) -> bytes:
    return b"\x40\x02" + struct.pack(">H", packet_id)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running(tmp_path) as hub:
        yield hub


async def test_a_message_is_acknowledged_and_in_the_log_with_its_properties(hub: Hub) -> None:
    client = await hub.client()
    bag = "%24.ct=application%2Fjson&%24.mid=m-1&color=r%C3%B8d%20%26&$.ce=utf-8&iothub-creation-time-utc=2026-01-01"
    assert await client.ask(mqtt.publish(EVENTS + bag, b"{}", 7)) == puback(7)
    (event,) = await hub.events(1)
    system = event.envelope.system_properties
    assert (event.body, event.envelope.properties) == (b"{}", {"color": "r\u00f8d &"})
    assert system.pop("iothub-connection-auth-generation-id") == hub.registry.get("d1").generation_id
    assert system == {
        "iothub-connection-device-id": "d1",
        "iothub-connection-auth-method": DEVICE_KEY_METHOD,
        "iothub-message-source": "Telemetry",
        "message-id": "m-1",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "iothub-creation-time-utc": "2026-01-01",
    }
    await client.close()


async def test_messages_at_qos_0_are_kept_as_well_and_order_is_kept(hub: Hub) -> None:
    client = await hub.client()
    client.send(*(mqtt.publish(EVENTS, str(n).encode(), n if n % 2 else 0) for n in range(1, 100)))
    acknowledged = [await client.receive() for _ in range(50)]
    assert acknowledged == [puback(n) for n in range(1, 100, 2)]
    assert [event.body for event in await hub.events(99)] == [str(n).encode() for n in range(1, 100)]
    await client.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_devices_come_in_by_tls(tmp_path: Path, version: ssl.TLSVersion) -> None:
    async with running(tmp_path, tls=True) as hub:
        context = ssl.create_default_context(cafile=str(tmp_path / "certificates" / "ca.pem"))
        context.minimum_version = context.maximum_version = version
        client = await mqtt.Client.open(hub.port, context)
        assert await client.ask(hub.login(hub.registry.add("d1"))) == CONNACK
        assert await client.ask(mqtt.publish(EVENTS, b"x" * 200_000, 1)) == puback(1)
        assert (await hub.events(1))[0].body == b"x" * 200_000
        await client.close()


async def test_the_secondary_key_and_a_policy_of_the_hub_are_accepted(hub: Hub) -> None:
    device = hub.registry.add("d1")
    policy = sas.make_token("localhost", OWNER_KEY, int(time.time()) + 60, "iothubowner")
    by_policy = mqtt.connect("d1", "LOCALHOST/d1/?api-version=2021-04-12&DeviceClientType=x", policy)
    for login in (connect("d1", device.secondary_key), by_policy):
        client = await mqtt.Client.open(hub.port)
        assert await client.ask(login) in (CONNACK, RESUMED)
        await client.close()


def token(resource: str, key: str = OWNER_KEY, policy: str | None = "iothubowner") -> str:
    return sas.make_token(resource, key, int(time.time()) + 60, policy)


USER = "localhost/d1/?api-version=2021-04-12"


@pytest.mark.parametrize(
    ("login", "answer"),
    [
        (mqtt.connect("d1"), BAD_CREDENTIALS),
        (mqtt.connect("d1", USER), BAD_CREDENTIALS),
        (mqtt.connect("d1", USER, "hunter2"), BAD_CREDENTIALS),
        (mqtt.connect("d1", "localhost/d1", token("localhost")), BAD_CREDENTIALS),
        (mqtt.connect("d1", "localhost/d1/", token("localhost")), BAD_CREDENTIALS),
        (mqtt.connect("d1", "localhost/d1/?api-version=latest", token("localhost")), BAD_CREDENTIALS),
        (mqtt.connect("d1", "localhost/d1/?" + "a&" * 99, token("localhost")), BAD_CREDENTIALS),
        (mqtt.connect("d1", "localhost/d1/module/?api-version=2021-04-12", token("localhost")), BAD_CREDENTIALS),
        (mqtt.connect("d1", "elsewhere/d1/?api-version=2021-04-12", token("localhost")), NOT_AUTHORIZED),
        (mqtt.connect("d2", USER, token("localhost")), NOT_AUTHORIZED),
        (mqtt.connect("d1", USER, token("elsewhere")), NOT_AUTHORIZED),
        (mqtt.connect("d1", USER, token("localhost/devices/d2")), NOT_AUTHORIZED),
        (mqtt.connect("d1", USER, token("localhost", policy="nobody")), NOT_AUTHORIZED),
        (mqtt.connect("d1", USER, token("localhost/devices/d1", policy=None)), NOT_AUTHORIZED),
        (mqtt.connect("d1", USER, sas.make_token("localhost", OWNER_KEY, 1, "iothubowner")), NOT_AUTHORIZED),
        (mqtt.connect("gone", "localhost/gone/?api-version=2021-04-12", token("localhost")), NOT_AUTHORIZED),
        (connect("gone", OWNER_KEY), NOT_AUTHORIZED),
        (mqtt.packet(0x10, mqtt.text("MQTT") + b"\x05\x02\0\0\0\0\0"), b"\x20\x02\x00\x01"),
    ],
)
async def test_who_proves_nothing_is_refused_with_a_number_only(hub: Hub, login: bytes, answer: bytes) -> None:
    hub.registry.add("d1")
    client = await mqtt.Client.open(hub.port)
    assert [await client.ask(login), await client.receive()] == [answer, b""]
    assert hub.server.counters.closed["refused"] == 1
    await client.close()


async def test_the_log_tells_why_a_device_was_refused_and_no_secret(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="localcloud")
    login = connect("d1", hub.registry.add("d1").primary_key, expiry=1)
    client = await mqtt.Client.open(hub.port)
    assert await client.ask(login) == NOT_AUTHORIZED
    assert "'d1': the token expired" in caplog.text
    assert "sig=" not in caplog.text
    await client.close()


async def test_a_connection_ends_when_its_token_does(tmp_path: Path) -> None:
    now = time.time()
    async with running(tmp_path, clock=lambda: now) as hub:
        client = await hub.client(expiry=now + 60)
        now += 59
        assert await client.ask(mqtt.PINGREQ) == b"\xd0\x00"
        now += 2
        assert await client.receive() == b""
        assert hub.server.counters.closed["expired"] == 1
        await client.close()


@pytest.mark.parametrize("change", ["disabled", "removed", "made again", "new keys"])
async def test_a_device_that_another_process_revokes_is_dropped_within_a_second(
    hub: Hub, tmp_path: Path, change: str
) -> None:
    client, bystander = await hub.client(), await hub.client("d2")
    start = time.monotonic()
    other = Registry.open(tmp_path / "hub.db")
    if change == "disabled":
        other.set_status("d1", "disabled")
    elif change == "new keys":
        other.update("d1", primary_key=OWNER_KEY)
    else:
        other.remove("d1")
        if change == "made again":
            other.add("d1")
    other.close()
    assert await client.receive() == b""
    assert time.monotonic() - start < 1
    assert await bystander.ask(mqtt.PINGREQ) == b"\xd0\x00"
    assert hub.server.counters.closed["revoked"] == 1
    for each in (client, bystander):
        await each.close()


async def test_a_disabled_device_is_refused_until_it_is_enabled(hub: Hub) -> None:
    device = hub.registry.add("d1", status="disabled")
    refused = await mqtt.Client.open(hub.port)
    assert await refused.ask(hub.login(device)) == NOT_AUTHORIZED
    hub.registry.set_status("d1", "enabled")
    accepted = await hub.client()
    for each in (refused, accepted):
        await each.close()


async def test_a_second_connection_of_a_device_drops_the_first(hub: Hub) -> None:
    first = await hub.client()
    second = await hub.client()
    assert await first.receive() == b""
    assert await second.ask(mqtt.publish(EVENTS, b"x", 1)) == puback(1)
    assert hub.server.is_connected("d1")
    assert hub.server.counters.closed["taken_over"] == 1
    for each in (first, second):
        await each.close()


async def test_two_clients_that_kick_each_other_are_slowed_down(tmp_path: Path) -> None:
    limits = HubLimits(connect_burst=2, connects_per_second=5, connect_delay_seconds=0.5)
    async with running(tmp_path, limits=limits) as hub:
        login = hub.login(hub.registry.add("d1"))
        clients = [await mqtt.Client.open(hub.port) for _ in range(8)]
        start = time.monotonic()
        for client in clients:
            client.send(login)
        answers = [await client.receive() for client in clients]
        assert 0.35 < time.monotonic() - start < 5
        accepted = [answer for answer in answers if answer in (CONNACK, RESUMED)]
        assert answers.count(b"\x20\x02\x00\x03") == len(clients) - len(accepted) > 0
        assert hub.server.counters.delayed >= 2
        for client in clients:
            await client.close()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (mqtt.publish(EVENTS, b"x", 1, qos=2), "unsupported"),
        (mqtt.publish("devices/d2/messages/events/", b"x", 1), "foreign_topic"),
        (mqtt.publish("devices/d1/messages/eventsx", b"x", 1), "foreign_topic"),
        (mqtt.publish("other", b"x"), "foreign_topic"),
        (mqtt.publish(EVENTS.encode() + b"\xff=1", b"x"), "foreign_topic"),
        (mqtt.publish(EVENTS + "a=1&" * 101, b"x"), "foreign_topic"),
        (mqtt.publish(EVENTS + "a=" + "1" * 20_000, b"x"), "foreign_topic"),
        (mqtt.publish(EVENTS, b"x" * (257 * 1024), 1), "oversized"),
        (mqtt.publish(EVENTS, b"x" * (256 * 1024 + 1), 1), "oversized"),
        (mqtt.publish(EVENTS + "a=1", b"x" * (256 * 1024 - 2), 1), "oversized"),
        (mqtt.packet(0xF0), "malformed"),
        (mqtt.connect("d1"), "malformed"),
        (mqtt.subscribe(1, *((f"f{n}", 1) for n in range(33))), "unsupported"),
        (mqtt.DISCONNECT, "disconnected"),
    ],
)
async def test_what_iot_hub_does_not_allow_ends_that_connection_and_no_other(
    hub: Hub, data: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="localcloud")
    bystander, client = await hub.client("d2"), await hub.client()
    client.send(mqtt.publish(EVENTS, b"before", 9), data)
    assert await client.receive() in (puback(9), b"")
    assert await client.receive() == b""
    assert hub.server.counters.closed[reason] == 1
    assert f"(d1) closed, {reason}" in caplog.text
    assert await bystander.ask(mqtt.publish("devices/d2/messages/events/", b"after", 1)) == puback(1)
    assert sorted(event.body for event in await hub.events(2)) == [b"after", b"before"]
    for each in (client, bystander):
        await each.close()


async def test_a_message_of_exactly_the_limit_is_accepted(hub: Hub) -> None:
    client = await hub.client()
    assert await client.ask(mqtt.publish(EVENTS + "a=1", b"x" * (256 * 1024 - 3), 1)) == puback(1)
    await client.close()


async def test_retain_becomes_a_property(hub: Hub) -> None:
    client = await hub.client()
    client.send(mqtt.publish(EVENTS, b"1", 1), mqtt.publish(EVENTS, b"2", 2, flags=1), mqtt.publish(EVENTS, b"3", 3))
    events = await hub.events(3)
    assert [event.envelope.properties for event in events] == [{}, {"mqtt-retain": "true"}, {}]
    await client.close()


async def test_a_will_is_published_when_the_device_is_gone_without_a_word(hub: Hub) -> None:
    silent = await hub.client(will=(EVENTS + "why=lost", b"bye", 1, False))
    orderly = await hub.client("d2", will=("devices/d2/messages/events/", b"bye", 1, False))
    orderly.send(mqtt.DISCONNECT)
    assert await orderly.receive() == b""
    await silent.close()
    (event,) = await hub.events(1)
    assert (event.body, event.envelope.properties) == (b"bye", {"why": "lost", "iothub-MessageType": "Will"})
    await orderly.close()


@pytest.mark.parametrize("will", [("other", b"", 0, False), (EVENTS, b"", 2, False)])
async def test_a_will_that_could_not_be_published_ends_the_connection(
    hub: Hub, will: tuple[str, bytes, int, bool]
) -> None:
    client = await mqtt.Client.open(hub.port)
    assert await client.ask(hub.login(hub.registry.add("d1"), will=will)) == b""
    assert not hub.server.is_connected("d1")
    await client.close()


async def test_four_filters_may_be_subscribed_to_at_qos_1_and_no_other(hub: Hub) -> None:
    client = await hub.client()
    known = [DEVICEBOUND, "$iothub/methods/POST/#", "$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#"]
    asked = [*((name, qos) for name, qos in zip(known, (0, 1, 2, 1), strict=True)), ("#", 0), (EVENTS, 1)]
    assert await client.ask(mqtt.subscribe(9, *asked)) == b"\x90\x08\x00\x09\x00\x01\x01\x01\x80\x80"
    assert await client.ask(mqtt.unsubscribe(10, DEVICEBOUND, "#")) == b"\xb0\x02\x00\x0a"
    await eventually(lambda: sorted(hub.registry.session("d1") or {}) == sorted(known[1:]))
    await client.close()


async def test_subscriptions_outlive_connections_and_restarts_until_a_clean_session(tmp_path: Path) -> None:
    async with running(tmp_path) as hub:
        client = await mqtt.Client.open(hub.port)
        assert await client.ask(hub.login(hub.registry.add("d1"))) == CONNACK
        assert await client.ask(mqtt.subscribe(1, (DEVICEBOUND, 1))) == b"\x90\x03\x00\x01\x01"
        await client.close()
    async with running(tmp_path) as hub:
        client = await mqtt.Client.open(hub.port)
        assert await client.ask(hub.login(hub.registry.get("d1"))) == RESUMED
        assert hub.registry.session("d1") == {DEVICEBOUND: 1}
        clean, again = await mqtt.Client.open(hub.port), await mqtt.Client.open(hub.port)
        assert await clean.ask(hub.login(hub.registry.get("d1"), clean=True)) == CONNACK
        assert await clean.ask(mqtt.subscribe(1, (DEVICEBOUND, 1))) == b"\x90\x03\x00\x01\x01"
        assert await again.ask(hub.login(hub.registry.get("d1"))) == CONNACK
        await eventually(lambda: hub.registry.session("d1") == {})
        for each in (client, clean, again):
            await each.close()


async def test_a_twin_request_is_answered_with_not_implemented(hub: Hub) -> None:
    client = await hub.client()
    client.send(mqtt.subscribe(1, ("$iothub/twin/res/#", 0)), mqtt.publish("$iothub/twin/GET/?$rid=a%20b", b" ", 2))
    topic = b"$iothub/twin/res/501/?$rid=a%20b"
    answers = {await client.receive() for _ in range(3)}
    assert answers == {b"\x90\x03\x00\x01\x00", puback(2), mqtt.publish(topic, b"")}
    await client.close()


@pytest.mark.slow
async def test_silence_beyond_one_and_a_half_keepalives_ends_the_connection(hub: Hub) -> None:
    client, start = await hub.client(keepalive=1), time.monotonic()
    assert await client.receive() == b""
    assert 1.4 < time.monotonic() - start < 3
    assert hub.server.counters.closed["timed_out"] == 1
    await client.close()


@pytest.mark.parametrize("data", [b"", b"\x10", mqtt.connect("d1")[:9]])
async def test_who_does_not_finish_a_connect_in_time_is_dropped(tmp_path: Path, data: bytes) -> None:
    async with running(tmp_path, limits=HubLimits(connect_seconds=0.2)) as hub:
        client = await mqtt.Client.open(hub.port)
        assert await client.ask(data) == b""
        await client.close()


@pytest.mark.parametrize(
    "data", [mqtt.PINGREQ, mqtt.publish(EVENTS, b"x"), b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\x10\xff\xff\xff\x7f"]
)
async def test_nothing_is_heard_before_a_connect(hub: Hub, data: bytes) -> None:
    client = await mqtt.Client.open(hub.port)
    assert await client.ask(data) == b""
    await client.close()


async def test_messages_behind_a_connect_need_not_wait_for_its_answer(hub: Hub) -> None:
    client = await mqtt.Client.open(hub.port)
    login = hub.login(hub.registry.add("d1"))
    assert await client.ask(login, mqtt.publish(EVENTS, b"x", 1)) == CONNACK
    assert await client.receive() == puback(1)
    await client.close()


async def test_a_slow_writer_is_understood(hub: Hub) -> None:
    client = await hub.client()
    for byte in mqtt.publish(EVENTS, b"slow", 1):
        client.send(bytes((byte,)))
        await client.writer.drain()
        await asyncio.sleep(0)
    assert await client.receive() == puback(1)
    await client.close()


async def test_beyond_the_limit_of_connections_there_is_no_place(tmp_path: Path) -> None:
    async with running(tmp_path, limits=HubLimits(connections=2)) as hub:
        first, second = await hub.client(), await hub.client("d2")
        third = await mqtt.Client.open(hub.port)
        assert await third.receive() == b""
        await first.close()
        await eventually(lambda: hub.server.counters.connections == 1)
        fourth = await hub.client("d3")
        assert hub.server.counters.turned_away == 1
        for each in (second, third, fourth):
            await each.close()

"""Microsoft's device SDK, unmodified, at one end; the CLI and the API at the other."""

import asyncio
import json

import pytest
from azure.iot.device import Message
from azure.iot.device.aio import IoTHubDeviceClient as AsyncIoTHubDeviceClient

from tests.system.sdk import MARKS, client_of
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, *MARKS]


def message(**values):
    made = Message(json.dumps(values), content_encoding="utf-8", content_type="application/json")
    made.custom_properties["room"] = "cellar & attic/2"
    return made


def test_what_the_sync_client_sends_is_in_the_state(system):
    client = client_of(system.device("cellar"))
    client.connect()
    client.send_message(message(temperature=7.25, humidity=0.0, messageId=1))
    client.shutdown()
    state = eventually(lambda: system.cli("state"))[0]
    assert (state["deviceId"], state["temperature"], state["humidity"], state["count"]) == ("cellar", 7.25, 0.0, 1)
    assert system.get("/api/devices")["devices"] == [state]


async def test_what_the_async_client_sends_is_in_the_state(system):
    device = await asyncio.to_thread(system.device, "attic")
    client = client_of(device, AsyncIoTHubDeviceClient)
    await client.connect()
    await asyncio.gather(*(client.send_message(message(temperature=20 + n / 10)) for n in range(10)))
    await client.shutdown()
    ledger = await asyncio.to_thread(system.ledger)
    assert ledger["devices"]["attic"]["received"] == 10


def test_a_device_reconnects_after_a_restart_and_goes_on(system):
    device = system.device("cellar")
    client = client_of(device)
    client.connect()
    client.send_message(message(temperature=1))
    system.stop()
    system.start()
    client.send_message(message(temperature=2))
    client.shutdown()
    eventually(lambda: system.cli("state", "cellar")["temperature"] == 2)
    assert system.ledger()["accepted"] == 2


def test_a_disabled_device_is_dropped_and_an_enabled_one_is_let_in(system):
    client = client_of(system.device("cellar"), connection_retry=False)
    client.connect()
    assert system.run("device", "disable", "cellar").returncode == 0
    eventually(lambda: not client.connected, seconds=3)
    assert system.run("device", "enable", "cellar").returncode == 0
    client.connect()
    client.send_message(message(temperature=3))
    client.shutdown()

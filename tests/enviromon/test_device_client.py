import asyncio
import base64
import ssl
import time

import pytest

from enviromon.device_client import WINDOW, DeviceConnection, HubAddress, RefusedError, UntrustedHubError, sas_token
from localcloud.certificates import ensure_certificates, server_ssl_context
from localcloud.iothub.event_log import SqliteEventLog
from localcloud.iothub.registry import Registry
from localcloud.iothub.sas import make_token
from localcloud.iothub.server import HubServer

KEY = base64.b64encode(b"k" * 32).decode()


def test_a_token_is_the_hubs_own():
    assert sas_token("localhost/devices/d", KEY, 1_800_000_000) == make_token("localhost/devices/d", KEY, 1_800_000_000)
    assert sas_token("localhost", KEY, 1, "iothubowner") == make_token("localhost", KEY, 1, "iothubowner")


@pytest.fixture
async def hub(tmp_path):
    certificates = ensure_certificates(tmp_path / "certificates", [])
    log, devices = await SqliteEventLog.open(tmp_path), Registry.open(tmp_path / "hub.db")
    devices.add("d", primary_key=KEY)
    server = HubServer(registry=devices, log=log, hostnames=["localhost"])
    port = await server.start("127.0.0.1", 0, server_ssl_context(certificates))
    address = HubAddress("localhost", port, ssl.create_default_context(cafile=str(certificates.ca_file)))
    yield address, server, log
    await server.stop()
    devices.close()
    await log.close()


def token(key=KEY):
    return sas_token("localhost/devices/d", key, int(time.time()) + 60)


async def test_more_messages_than_the_window_are_all_acknowledged_and_in_the_log(hub):
    address, _, log = hub
    connection = DeviceConnection("d")
    await connection.open(address, token())
    futures = [await connection.publish(b"%d" % number) for number in range(3 * WINDOW)]
    await asyncio.gather(*futures)
    connection.close()
    await connection.closed
    stored = [event for partition in range(log.partitions) for event in await log.read(partition, -1, 1000)]
    assert [event.body for event in stored] == [b"%d" % number for number in range(3 * WINDOW)]


async def test_a_wrong_key_is_refused_for_good(hub):
    connection = DeviceConnection("d")
    with pytest.raises(RefusedError, match="refused the token") as refusal:
        await connection.open(hub[0], token(base64.b64encode(b"w" * 32).decode()))
    assert not refusal.value.retry


async def test_what_the_hub_did_not_acknowledge_fails_when_the_connection_ends(hub):
    address, server, _ = hub
    connection = DeviceConnection("d")
    await connection.open(address, token())
    oversized = await connection.publish(bytes(257 * 1024))
    with pytest.raises(ConnectionError):
        await oversized
    with pytest.raises(ConnectionError):
        await connection.publish(b"too late")
    assert server.counters.closed["oversized"] == 1


async def test_a_hub_that_is_not_trusted_is_not_talked_to(hub):
    with pytest.raises(UntrustedHubError, match="give the device the CA file"):
        await DeviceConnection("d").open(hub[0]._replace(tls=ssl.create_default_context()), token())

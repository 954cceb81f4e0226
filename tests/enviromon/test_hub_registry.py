import base64
import ssl

import pytest
from aiohttp import web

from enviromon.hub_registry import HubRegistry, RegisteredDevice, RegistryError, parse_connection_string
from localcloud.certificates import ensure_certificates, server_ssl_context
from localcloud.iothub.event_log import SqliteEventLog
from localcloud.iothub.registry import Registry
from localcloud.iothub.rest import RegistryRest
from localcloud.iothub.server import HubServer

KEY = base64.b64encode(b"k" * 32).decode()


def test_a_connection_string_is_parsed_in_any_order():
    hub = parse_connection_string(f"SharedAccessKey={KEY};HostName=localhost:8443;SharedAccessKeyName=iothubowner")
    assert (hub.host, hub.hostname, hub.policy, hub.key) == ("localhost:8443", "localhost", "iothubowner", KEY)


def test_what_is_missing_is_named_and_the_key_is_not_shown():
    with pytest.raises(RegistryError, match="SharedAccessKeyName") as refusal:
        parse_connection_string(f"HostName=h;DeviceId=d;SharedAccessKey={KEY}")
    assert KEY not in str(refusal.value)


@pytest.fixture
async def registry(tmp_path):
    """A hub's REST on a real socket, and a client of it."""
    certificates = ensure_certificates(tmp_path / "certificates", [])
    log, devices = await SqliteEventLog.open(tmp_path), Registry.open(tmp_path / "hub.db")
    hub = HubServer(registry=devices, log=log, hostnames=["localhost"], policies={"iothubowner": KEY})
    await hub.start("127.0.0.1", 0, None)
    runner = web.AppRunner(RegistryRest(hub).app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_ssl_context(certificates)).start()
    host = f"localhost:{runner.addresses[0][1]}"
    text = f"HostName={host};SharedAccessKeyName=iothubowner;SharedAccessKey={{}}"
    trust = ssl.create_default_context(cafile=str(certificates.ca_file))
    yield lambda key: HubRegistry(parse_connection_string(text.format(key)), trust)
    await runner.cleanup()
    await hub.stop()
    devices.close()
    await log.close()


async def test_a_device_is_registered_once_and_keeps_its_key(registry):
    async with registry(KEY) as client:
        first = await client.ensure_device("sim-1")
        assert await client.ensure_device("sim-1") == first
        assert await client.ensure_device("sim-2") != first


async def test_a_removed_device_is_gone_and_gets_another_key_when_it_comes_back(registry):
    async with registry(KEY) as client:
        first = await client.ensure_device("sim-1")
        await client.remove("sim-1")
        await client.remove("sim-1")
        assert await client.ensure_device("sim-1") != first


async def test_a_refusal_carries_the_hubs_own_words(registry):
    wrong = base64.b64encode(b"w" * 32).decode()
    async with registry(wrong) as client:
        with pytest.raises(RegistryError, match=r"401.*Unauthorized"):
            await client.ensure_device("sim-1")


async def test_a_device_is_changed_only_as_it_was_read(registry):
    async with registry(KEY) as client:
        added = await client.add(RegisteredDevice("sim-1", "disabled", KEY, KEY))
        assert await client.get("sim-1") == added
        assert (added.status, added.primary_key) == ("disabled", KEY)
        changed = await client.update(added._replace(status="enabled"))
        assert (changed.status, changed.secondary_key) == ("enabled", KEY)
        with pytest.raises(RegistryError, match="412"):
            await client.update(added._replace(status="disabled"))
        with pytest.raises(RegistryError, match="409"):
            await client.add(added)
        assert await client.get("nobody") is None
        assert KEY not in repr(changed)


async def test_a_hub_that_throttles_is_waited_for(tmp_path):
    certificates = ensure_certificates(tmp_path / "certificates", [])
    answers = [429, 429, 404]

    async def answer(_):
        return web.json_response({"Message": "slowly"}, status=answers.pop(0) if answers else 429)

    app = web.Application()
    app.router.add_get("/devices/d1", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_ssl_context(certificates)).start()
    host = f"localhost:{runner.addresses[0][1]}"
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    hub = parse_connection_string(f"HostName={host};SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}")
    trust = ssl.create_default_context(cafile=str(certificates.ca_file))
    async with HubRegistry(hub, trust, sleep=sleep) as client:
        assert await client.get("d1") is None
        assert waits == [1.0, 5.0]
        with pytest.raises(RegistryError, match=r"429.*slowly"):
            await client.get("d1")
    await runner.cleanup()


async def test_a_hub_that_is_not_there_is_a_sentence():
    hub = parse_connection_string(f"HostName=localhost:1;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}")
    async with HubRegistry(hub, None) as client:
        with pytest.raises(RegistryError, match="localhost:1 does not answer"):
            await client.ensure_device("sim-1")

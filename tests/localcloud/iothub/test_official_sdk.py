"""The hub as azure-iot-device sees it. The SDK knows one port, 8883, and its async client blocks its own loop while it
subscribes: each hub runs in a thread, on a loopback address of its own."""

import asyncio
import gc
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from azure.iot.device import IoTHubDeviceClient, Message, exceptions
from azure.iot.device.aio import IoTHubDeviceClient as AsyncDeviceClient

from localcloud.certificates import ensure_certificates, server_ssl_context
from localcloud.iothub.event_log import SqliteEventLog, StoredEvent
from localcloud.iothub.registry import Registry, device_connection_string
from localcloud.iothub.server import HubServer
from tests.localcloud.iothub.hubs import Hub
from tests.system.sdk import MARKS
from tests.system.systems import own_address
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, *MARKS]

T = TypeVar("T")
MQTT_PORT = 8883


class ThreadedHub:
    """A hub with an event loop of its own."""

    def __init__(self, directory: Path) -> None:
        self.address = own_address()
        self.certificates = ensure_certificates(directory / "certificates", [self.address])
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def start(self) -> Hub:
        self.hub = self.run(self._start())
        return self.hub

    def stop(self) -> None:
        self.run(self._stop())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def events(self, count: int) -> list[StoredEvent]:
        return self.run(self.hub.events(count))

    def connection_string(self, device_id: str) -> str:
        device = self.hub.registry.get(device_id) or self.hub.registry.add(device_id)
        return device_connection_string(self.address, device)

    async def _start(self) -> Hub:
        registry, log = Registry.open(self._directory / "hub.db"), await SqliteEventLog.open(self._directory)
        server = HubServer(registry=registry, log=log, hostnames=[self.address])
        port = await server.start(self.address, MQTT_PORT, server_ssl_context(self.certificates))
        return Hub(server, registry, log, port)

    async def _stop(self) -> None:
        await self.hub.server.stop()
        await self.hub.log.close()
        self.hub.registry.close()


@pytest.fixture
def threaded(tmp_path: Path) -> Iterator[ThreadedHub]:
    threaded = ThreadedHub(tmp_path)
    threaded.start()
    yield threaded
    threaded.stop()
    threaded.close()
    gc.collect()  # what the SDK left open is closed here, where the filter above holds


def client_of(threaded: ThreadedHub, kind: Any = IoTHubDeviceClient, **options: Any) -> Any:
    trusted = threaded.certificates.ca_file.read_text()
    return kind.create_from_connection_string(
        threaded.connection_string("d1"), server_verification_cert=trusted, **options
    )


def message(body: str = '{"temperature": 21.5}') -> Message:
    message = Message(body, message_id="m/1", content_encoding="utf-8", content_type="application/json")
    message.correlation_id, message.custom_properties = "c=1", {"colour": "r\u00f8d & blue/green", "empty": ""}
    message.custom_properties["iothub-creation-time-utc"] = "2026-01-02T03:04:05Z"
    return message


def test_telemetry_of_the_sync_client_arrives_with_its_properties(threaded: ThreadedHub) -> None:
    client = client_of(threaded)
    client.send_message(message())
    client.shutdown()
    (event,) = threaded.events(1)
    system = event.envelope.system_properties
    assert event.body == b'{"temperature": 21.5}'
    assert event.envelope.properties == {"colour": "r\u00f8d & blue/green", "empty": ""}
    assert [system[name] for name in ("message-id", "correlation-id", "content-type", "content-encoding")] == [
        "m/1", "c=1", "application/json", "utf-8",
    ]  # fmt: skip
    assert system["iothub-connection-device-id"] == "d1"
    assert system["iothub-creation-time-utc"] == "2026-01-02T03:04:05Z"


async def test_telemetry_of_the_async_client_arrives_in_order(threaded: ThreadedHub) -> None:
    client = client_of(threaded, AsyncDeviceClient)
    await client.connect()
    for number in range(50):
        await client.send_message(str(number))
    await client.shutdown()
    assert [event.body for event in threaded.events(50)] == [str(number).encode() for number in range(50)]


def test_a_client_outlives_a_restart_of_the_hub_with_its_subscriptions(threaded: ThreadedHub) -> None:
    client = client_of(threaded, connection_retry_interval=1)
    client.on_message_received = lambda _: None
    client.send_message("before")
    threaded.stop()
    hub = threaded.start()
    eventually(lambda: hub.server.is_connected("d1"), seconds=20)
    client.send_message("after")
    assert hub.registry.session("d1") == {"devices/d1/messages/devicebound/#": 1}
    assert [event.body for event in threaded.events(2)] == [b"before", b"after"]
    client.shutdown()


def test_a_wrong_key_is_a_credential_error_to_the_client(threaded: ThreadedHub) -> None:
    client = client_of(threaded)
    threaded.hub.registry.remove("d1")
    with pytest.raises(exceptions.CredentialError):
        client.connect()
    client.shutdown()


def test_a_client_that_does_not_trust_the_authority_sends_nothing(threaded: ThreadedHub) -> None:
    client = IoTHubDeviceClient.create_from_connection_string(threaded.connection_string("d1"))
    with pytest.raises(exceptions.ClientError):
        client.connect()
    client.shutdown()
    assert threaded.hub.server.counters.accepted == 0


def test_a_renewed_token_keeps_the_client_connected(threaded: ThreadedHub) -> None:
    client = client_of(threaded, sastoken_ttl=123)  # the SDK renews 120 s before the end: after 3 s
    client.connect()
    eventually(lambda: threaded.hub.server.counters.accepted >= 2, seconds=20)
    client.send_message("renewed")
    client.shutdown()
    assert [event.body for event in threaded.events(1)] == [b"renewed"]

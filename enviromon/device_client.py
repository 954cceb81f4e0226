"""One device's connection to an IoT Hub: MQTT 3.1.1 with QoS 1 over TLS, publishing only.

A fleet of thousands fits in one process, which no thread-per-client library allows. The rules kept here:
a message counts as sent when it is written and as acknowledged when its PUBACK arrives, and at most `WINDOW`
messages are unacknowledged at any time. What was not acknowledged when the connection ended is the caller's to send
again (IoT Hub is at-least-once). Facts: https://learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub
"""

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections import deque
from typing import NamedTuple, cast
from urllib.parse import quote

from enviromon.errors import EnviromonError

WINDOW = 20
KEEPALIVE_SECONDS = 60
CONNECT_SECONDS = 10
API_VERSION = "2021-04-12"

_CONNACK, _PUBACK = 0x20, 0x40
_PINGREQ = b"\xc0\x00"
_DISCONNECT = b"\xe0\x00"
_REFUSALS = {
    1: "the hub does not speak MQTT 3.1.1",
    2: "the hub refused the client id",
    3: "the hub is not available now",
    4: "the hub refused the user name or the token's form",
    5: "the hub refused the token: unknown or disabled device, wrong key or wrong host name",
}


class RefusedError(EnviromonError):
    """The hub answered CONNECT with a refusal; `retry` tells whether a later attempt may succeed."""

    def __init__(self, device_id: str, code: int) -> None:
        super().__init__(f"{device_id}: {_REFUSALS.get(code, f'CONNACK code {code}')}")
        self.retry = code == 3  # noqa: PLR2004 - MQTT 3.1.1, table 3.1: server unavailable


class UntrustedHubError(RefusedError):
    """The hub's certificate is not what the device trusts: another authority's, ended, or for another name."""

    def __init__(self, device_id: str, error: ssl.SSLCertVerificationError) -> None:
        EnviromonError.__init__(
            self,
            f"{device_id}: the hub's certificate cannot be trusted ({error.verify_message}): give the device the CA "
            "file that the hub's start names, and see that the clocks are right",
        )
        self.retry = False


class HubAddress(NamedTuple):
    """Where a hub's MQTT listener is and by which name its tokens go."""

    hostname: str
    port: int
    tls: ssl.SSLContext | None


def sas_token(resource: str, key: str, expiry: int, policy: str | None = None) -> str:
    """Sign `resource` (HOST or HOST/devices/ID) until `expiry` (unix seconds) with a base64 key.

    https://learn.microsoft.com/azure/iot-hub/authenticate-authorize-sas
    """
    encoded = quote(resource, safe="")
    digest = hmac.digest(base64.b64decode(key), f"{encoded}\n{expiry}".encode(), hashlib.sha256)
    signature = quote(base64.b64encode(digest), safe="")
    token = f"SharedAccessSignature sr={encoded}&sig={signature}&se={expiry}"
    return f"{token}&skn={policy}" if policy else token


class DeviceConnection(asyncio.Protocol):
    """A connection that is up from `open` until `closed` is done; it serves once."""

    def __init__(self, device_id: str) -> None:
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._device_id = device_id
        self._accepted: asyncio.Future[None] = loop.create_future()
        self._topic = f"devices/{device_id}/messages/events/".encode()
        self._buffer = b""
        self._next_packet_id = 1
        self._unacknowledged: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._room = asyncio.Semaphore(WINDOW)
        self._transport: asyncio.Transport
        self._ping: asyncio.TimerHandle | None = None

    async def open(self, hub: HubAddress, token: str) -> None:
        """Connect within `CONNECT_SECONDS`. Raises RefusedError, UntrustedHubError among them, and OSError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            try:
                await loop.create_connection(lambda: self, hub.hostname, hub.port, ssl=hub.tls)
            except ssl.SSLCertVerificationError as error:
                raise UntrustedHubError(self._device_id, error) from error
            user_name = f"{hub.hostname}/{self._device_id}/?api-version={API_VERSION}"
            self._transport.write(_connect_packet(self._device_id, user_name, token))
            try:
                await self._accepted
            except BaseException:
                self._transport.abort()
                raise

    async def publish(self, body: bytes, property_bag: str = "") -> asyncio.Future[None]:
        """Write one message once the window has room; the future is done when the hub acknowledged it.

        The future fails with ConnectionError when the connection ends first; so does the call.
        """
        await self._room.acquire()
        if self.closed.done():
            raise ConnectionResetError(f"{self._device_id}: the connection has ended")
        packet_id = self._next_packet_id
        self._next_packet_id = packet_id % 0xFFFF + 1
        acknowledged = asyncio.get_running_loop().create_future()
        acknowledged.add_done_callback(lambda _: self._room.release())
        self._unacknowledged.append((packet_id, acknowledged))
        topic = self._topic + property_bag.encode()
        self._transport.write(_packet(0x32, _text(topic) + packet_id.to_bytes(2) + body))
        return acknowledged

    def close(self) -> None:
        """Say DISCONNECT and close."""
        if not self._transport.is_closing():
            self._transport.write(_DISCONNECT)
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._buffer += data
        while len(self._buffer) >= 2 and len(self._buffer) >= (end := 2 + self._buffer[1]):  # noqa: PLR2004
            packet, self._buffer = self._buffer[:end], self._buffer[end:]
            self._receive(packet)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._ping:
            self._ping.cancel()
        error = exc if isinstance(exc, OSError) else ConnectionResetError(f"{self._device_id}: the hub closed")
        if not self._accepted.done():
            self._accepted.set_exception(error)
            self._accepted.exception()  # known to `open`, where that still waits
        if not self.closed.done():
            self.closed.set_result(None)
        for _, acknowledged in self._unacknowledged:
            if not acknowledged.done():
                acknowledged.set_exception(error)
        self._unacknowledged.clear()

    def _receive(self, packet: bytes) -> None:
        if packet[0] == _CONNACK:
            self._connack(packet[3])
        elif packet[0] == _PUBACK and self._unacknowledged:
            packet_id, acknowledged = self._unacknowledged[0]
            if packet_id != int.from_bytes(packet[2:4]):
                self._transport.abort()  # acknowledgements come in the order of the messages: [MQTT-4.6.0-2]
                return
            self._unacknowledged.popleft()
            if not acknowledged.done():
                acknowledged.set_result(None)

    def _connack(self, code: int) -> None:
        if self._accepted.done():
            return
        if code:
            self._accepted.set_exception(RefusedError(self._device_id, code))
        else:
            self._accepted.set_result(None)
            self._schedule_ping()

    def _schedule_ping(self) -> None:
        def ping() -> None:
            self._transport.write(_PINGREQ)
            self._schedule_ping()

        self._ping = asyncio.get_running_loop().call_later(KEEPALIVE_SECONDS / 2, ping)


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(2) + value


def _packet(first_byte: int, content: bytes) -> bytes:
    length, encoded = len(content), bytearray([first_byte])
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | 0x80 if length else digit)
        if not length:
            return bytes(encoded) + content


def _connect_packet(client_id: str, user_name: str, password: str) -> bytes:
    clean_session_with_user_and_password = 0xC2
    header = _text(b"MQTT") + bytes([4, clean_session_with_user_and_password]) + KEEPALIVE_SECONDS.to_bytes(2)
    return _packet(0x10, header + b"".join(_text(field.encode()) for field in (client_id, user_name, password)))

"""Registering and removing devices at an IoT Hub, local or real, over its service REST.

https://learn.microsoft.com/rest/api/iothub/service/devices
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import aiohttp

from enviromon.device_client import API_VERSION, sas_token
from enviromon.errors import EnviromonError

_TOKEN_SECONDS = 3600
_ANY_ETAG = "*"
_TIMEOUT = aiohttp.ClientTimeout(total=30)
_THROTTLE_WAITS = (1.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds. A hub of tier S1 allows 100 registry operations a minute and unit, and answers 429 beyond:
https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-quotas-throttling"""


class HubConnection(NamedTuple):
    """A parsed IoT Hub connection string; `host` may carry a port."""

    host: str
    policy: str
    key: str

    @property
    def hostname(self) -> str:
        """The host without its port."""
        return self.host.partition(":")[0]


class RegisteredDevice(NamedTuple):
    """A device as the registry has it; keys in base64, empty where they are not known or to be made."""

    device_id: str
    status: str = "enabled"
    primary_key: str = ""
    secondary_key: str = ""
    etag: str = ""

    def __repr__(self) -> str:
        """Leave the keys out, so that no log or traceback shows them."""
        return f"RegisteredDevice({self.device_id!r}, {self.status})"


class RegistryError(EnviromonError):
    """The hub refused a call to its registry; the sentence carries the hub's own words."""


def parse_connection_string(text: str) -> HubConnection:
    """Parse `HostName=...;SharedAccessKeyName=...;SharedAccessKey=...`; raises RegistryError naming what is missing."""
    parts = dict(part.partition("=")[::2] for part in text.strip().strip(";").split(";"))
    names = ("HostName", "SharedAccessKeyName", "SharedAccessKey")
    if missing := [name for name in names if not parts.get(name)]:
        raise RegistryError(f"the hub's connection string lacks {' and '.join(missing)} (a device's will not do)")
    return HubConnection(*(parts[name] for name in names))


class HubRegistry:
    """The registry of one hub; use as an async context manager."""

    def __init__(
        self,
        hub: HubConnection,
        tls: ssl.SSLContext | None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`tls` trusts the hub's CA; None means the system's."""
        self._hub = hub
        self._clock = clock
        self._sleep = sleep
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls or True), timeout=_TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ensure_device(self, device_id: str) -> str:
        """Return the device's primary key, registering the device where it is unknown. Raises RegistryError."""
        device = await self.get(device_id) or await self.add(RegisteredDevice(device_id=device_id))
        return device.primary_key

    async def get(self, device_id: str) -> RegisteredDevice | None:
        """Return the device, None where the hub knows none of that id. Raises RegistryError."""
        status, device = await self._call("GET", device_id)
        return None if status == HTTPStatus.NOT_FOUND else self._registered(device_id, status, device)

    async def add(self, device: RegisteredDevice) -> RegisteredDevice:
        """Register a device; the hub makes the keys that are empty. Raises RegistryError, also where it is known."""
        return self._registered(device.device_id, *await self._call("PUT", device.device_id, _body(device)))

    async def update(self, device: RegisteredDevice) -> RegisteredDevice:
        """Change a device's status and keys if it still has the etag. Raises RegistryError."""
        return self._registered(
            device.device_id, *await self._call("PUT", device.device_id, _body(device), device.etag)
        )

    async def remove(self, device_id: str) -> None:
        """Remove the device, which ends its connection; an unknown one is removed already. Raises RegistryError."""
        status, answer = await self._call("DELETE", device_id, etag=_ANY_ETAG)
        if status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND):
            raise RegistryError(f"{self._hub.host} answered {status} for {device_id}: {answer.get('Message', answer)}")

    def _registered(self, device_id: str, status: int, device: dict[str, Any]) -> RegisteredDevice:
        if status != HTTPStatus.OK:
            raise RegistryError(f"{self._hub.host} answered {status} for {device_id}: {device.get('Message', device)}")
        keys = (device.get("authentication") or {}).get("symmetricKey") or {}
        return RegisteredDevice(
            device_id=str(device["deviceId"]),
            status=str(device["status"]),
            primary_key=keys.get("primaryKey") or "",
            secondary_key=keys.get("secondaryKey") or "",
            etag=device.get("etag") or "",
        )

    async def _call(
        self, method: str, device_id: str, body: object = None, etag: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        url = f"https://{self._hub.host}/devices/{quote(device_id, safe='')}?api-version={API_VERSION}"
        token = sas_token(self._hub.host, self._hub.key, int(self._clock()) + _TOKEN_SECONDS, self._hub.policy)
        headers = {"Authorization": token}
        if etag is not None:
            headers["If-Match"] = etag if etag == _ANY_ETAG else f'"{etag}"'
        waits = iter(_THROTTLE_WAITS)
        while True:
            try:
                async with self._session.request(method, url, json=body, headers=headers) as answer:
                    status, content = answer.status, await answer.json(content_type=None) or {}
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise RegistryError(
                    f"the registry at {self._hub.host} does not answer as IoT Hub's: {error}"
                ) from error
            if status != HTTPStatus.TOO_MANY_REQUESTS or (wait := next(waits, None)) is None:
                return status, content
            await self._sleep(wait)


def _body(device: RegisteredDevice) -> dict[str, Any]:
    body: dict[str, Any] = {"deviceId": device.device_id, "status": device.status}
    if device.primary_key or device.secondary_key:
        keys = {"primaryKey": device.primary_key, "secondaryKey": device.secondary_key}
        body["authentication"] = {"type": "sas", "symmetricKey": keys}
    return body

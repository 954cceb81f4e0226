"""Registering devices at an IoT Hub, local or real, over its service REST.

https://learn.microsoft.com/rest/api/iothub/service/devices
"""

import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import aiohttp

from enviromon.device_client import API_VERSION, sas_token
from enviromon.errors import EnviromonError

_TOKEN_SECONDS = 3600
_TIMEOUT = aiohttp.ClientTimeout(total=30)


class HubConnection(NamedTuple):
    """A parsed IoT Hub connection string; `host` may carry a port."""

    host: str
    policy: str
    key: str

    @property
    def hostname(self) -> str:
        """The host without its port."""
        return self.host.partition(":")[0]


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

    def __init__(self, hub: HubConnection, tls: ssl.SSLContext | None, clock: Callable[[], float] = time.time) -> None:
        """`tls` trusts the hub's CA; None means the system's."""
        self._hub = hub
        self._clock = clock
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls or True), timeout=_TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ensure_device(self, device_id: str) -> str:
        """Return the device's primary key, registering the device where it is unknown. Raises RegistryError."""
        status, device = await self._call("GET", device_id)
        if status == 404:  # noqa: PLR2004
            status, device = await self._call("PUT", device_id, {"deviceId": device_id, "status": "enabled"})
        if status != 200:  # noqa: PLR2004
            raise RegistryError(f"{self._hub.host} answered {status} for {device_id}: {device.get('Message', device)}")
        return str(device["authentication"]["symmetricKey"]["primaryKey"])

    async def _call(self, method: str, device_id: str, body: object = None) -> tuple[int, dict[str, Any]]:
        url = f"https://{self._hub.host}/devices/{quote(device_id, safe='')}?api-version={API_VERSION}"
        token = sas_token(self._hub.host, self._hub.key, int(self._clock()) + _TOKEN_SECONDS, self._hub.policy)
        try:
            async with self._session.request(method, url, json=body, headers={"Authorization": token}) as answer:
                return answer.status, await answer.json(content_type=None) or {}
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise RegistryError(f"the registry at {self._hub.host} does not answer as IoT Hub's: {error}") from error

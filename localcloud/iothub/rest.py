"""The hub for services: IoT Hub's registry REST, as azure-iot-hub and the portal's tools speak it.

1. Every request carries a SAS token of one of the hub's policies, for the host or a prefix of the path.
2. Errors are IoT Hub's own: `{"Message": "ErrorCode:...;...", "ExceptionMessage": ...}`.
3. PUT without If-Match creates (409 where the device exists), with If-Match it updates (412 where the etag is old).
4. Registry calls run in the hub's registry thread: a slow disk delays their caller only.

Source: learn.microsoft.com/rest/api/iothub/service/devices, api-version 2021-04-12; azure-iot-hub 2.7. Left out: twins,
methods, modules, jobs, queries (501 or 404).
"""

import datetime as dt
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal, TypeVar

import msgspec
from aiohttp import web

from localcloud.iothub import registry, sas
from localcloud.iothub.registry import Device, Registry, Status
from localcloud.iothub.server import HubServer

MAX_PAGE = 1000
MAX_BULK = 100
MAX_BODY_BYTES = 256 * 1024
_NEVER = "0001-01-01T00:00:00Z"

Body = TypeVar("Body")
ImportMode = Literal[
    "create",
    "createOrUpdate",
    "createOrUpdateIfMatchETag",
    "update",
    "updateIfMatchETag",
    "delete",
    "deleteIfMatchETag",
]

_logger = logging.getLogger(__name__)


class _SymmetricKey(msgspec.Struct, rename="camel"):
    primary_key: str | None = None
    secondary_key: str | None = None


class _Authentication(msgspec.Struct, rename="camel"):
    type: Literal["sas"] | None = "sas"
    symmetric_key: _SymmetricKey | None = None


class _Identity(msgspec.Struct, rename="camel", kw_only=True):
    """What a caller may say of a device; the rest of the body is the hub's to tell and is ignored."""

    status: Status = "enabled"
    status_reason: str | None = None
    authentication: _Authentication | None = None

    def changes(self) -> dict[str, str | None]:
        """Return the arguments for Registry.add and Registry.update."""
        keys = (self.authentication and self.authentication.symmetric_key) or _SymmetricKey()
        return {
            "status": self.status,
            "status_reason": self.status_reason,
            "primary_key": keys.primary_key,
            "secondary_key": keys.secondary_key,
        }


class _DeviceBody(_Identity, rename="camel", kw_only=True):
    device_id: str


class _BulkItem(_Identity, rename="camel", kw_only=True):
    id: str
    import_mode: ImportMode = "create"
    etag: str | None = msgspec.field(default=None, name="eTag")


class RestError(Exception):
    """An answer that is IoT Hub's error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


_REGISTRY_ERRORS: dict[type[registry.RegistryError], tuple[int, str]] = {
    registry.InvalidDeviceError: (400, "ArgumentInvalid"),
    registry.DeviceNotFoundError: (404, "DeviceNotFound"),
    registry.DeviceExistsError: (409, "DeviceAlreadyExists"),
    registry.EtagMismatchError: (412, "PreconditionFailed"),
}


class RegistryRest:
    """The web application of a hub's service side; serve `app` over TLS, and start the hub first."""

    def __init__(self, hub: HubServer, *, clock: Callable[[], float] = time.time) -> None:
        self._hub = hub
        self._clock = clock
        self.app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._answer_errors, self._authorize])
        self.app.add_routes(
            [
                web.get("/devices", self._list),
                web.post("/devices", self._bulk),
                web.get("/devices/{id}", self._get),
                web.put("/devices/{id}", self._put),
                web.delete("/devices/{id}", self._delete),
                web.get("/statistics/devices", self._device_statistics),
                web.get("/statistics/service", self._service_statistics),
            ]
        )

    @web.middleware
    async def _answer_errors(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except RestError as error:
            return _error(error.status, error.code, error.message)
        except registry.RegistryError as error:
            return _error(*_REGISTRY_ERRORS[type(error)], str(error))
        except web.HTTPException as error:
            return _error(error.status, "GenericBadRequest" if error.status == 400 else error.reason, error.reason)  # noqa: PLR2004

    @web.middleware
    async def _authorize(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            self._prove(request)
        except sas.InvalidTokenError as error:
            path = request.rel_url.raw_path[:200]
            _logger.warning("%s %s from %s refused: %s", request.method, path, request.remote, error)
            raise RestError(401, "IotHubUnauthorizedAccess", "Unauthorized") from None
        if not request.query.get("api-version"):
            raise RestError(400, "InvalidProtocolVersion", "api-version is missing")
        return await handler(request)

    def _prove(self, request: web.Request) -> None:
        token = sas.parse_token(request.headers.get("Authorization", ""))
        key = self._hub.policies.get(token.policy or "")
        sas.verify(token, sas.policy_secrets(key) if key else (), now=self._clock())
        if not sas.covers(token, self._hub.hostnames, request.path.strip("/")):
            raise sas.InvalidTokenError(f"the token is for {token.resource[:200]!r}")

    async def _list(self, request: web.Request) -> web.Response:
        top = request.query.get("top", str(MAX_PAGE))
        if not (top.isascii() and top.isdigit() and len(top) <= len("1000") and 0 < int(top) <= MAX_PAGE):
            raise RestError(400, "ArgumentInvalid", f"top must be 1 to {MAX_PAGE}")
        devices = await self._call(lambda registry: registry.list(limit=int(top)))
        return _json([self._view(device) for device in devices])

    async def _get(self, request: web.Request) -> web.Response:
        device_id = request.match_info["id"]
        device = await self._call(lambda registry: registry.get(device_id))
        if device is None:
            raise registry.DeviceNotFoundError(f"there is no device {device_id[:140]!r}")
        return self._device(device)

    async def _put(self, request: web.Request) -> web.Response:
        device_id, body = request.match_info["id"], await _read(request, _DeviceBody)
        if body.device_id != device_id:
            raise RestError(400, "ArgumentInvalid", "the deviceId of the body is not the path's")
        if "If-Match" in request.headers:
            return self._device(await self._call(partial(_update, device_id, body, _etag_of(request))))
        return self._device(await self._call(partial(_add, device_id, body)))

    async def _delete(self, request: web.Request) -> web.Response:
        device_id, etag = request.match_info["id"], _etag_of(request)
        if not await self._call(lambda registry: registry.remove(device_id, etag)):
            raise registry.DeviceNotFoundError(f"there is no device {device_id[:140]!r}")
        return web.Response(status=204)

    async def _bulk(self, request: web.Request) -> web.Response:
        items = await _read(request, list[_BulkItem])
        if len(items) > MAX_BULK:
            raise RestError(400, "ArgumentInvalid", f"more than {MAX_BULK} devices")
        errors = await self._call(partial(_do_all, items))
        return _json({"isSuccessful": not errors, "errors": errors, "warnings": []}, status=400 if errors else 200)

    async def _device_statistics(self, _: web.Request) -> web.Response:
        counts = await self._call(Registry.count)
        named = {f"{status}DeviceCount": count for status, count in counts.items()}
        return _json({"totalDeviceCount": sum(counts.values()), **named})

    async def _service_statistics(self, _: web.Request) -> web.Response:
        return _json({"connectedDeviceCount": self._hub.connected_devices})

    async def _call(self, work: Callable[[Registry], Body]) -> Body:
        return await self._hub.sessions.call(work)

    def _device(self, device: Device) -> web.Response:
        return _json(self._view(device), headers={"ETag": f'"{device.etag}"'})

    def _view(self, device: Device) -> dict[str, object]:
        return {
            "deviceId": device.device_id,
            "generationId": device.generation_id,
            "etag": device.etag,
            "connectionState": "Connected" if self._hub.is_connected(device.device_id) else "Disconnected",
            "status": device.status,
            "statusReason": device.status_reason,
            "connectionStateUpdatedTime": _NEVER,
            "statusUpdatedTime": _time(device.status_updated_ms),
            "lastActivityTime": _NEVER,
            "cloudToDeviceMessageCount": 0,
            "authentication": {
                "type": "sas",
                "symmetricKey": {"primaryKey": device.primary_key, "secondaryKey": device.secondary_key},
                "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
            },
            "capabilities": {"iotEdge": False},
        }


def _add(device_id: str, body: _Identity, devices: Registry) -> Device:
    return devices.add(device_id, **body.changes())  # type: ignore[arg-type]


def _update(device_id: str, body: _Identity, etag: str | None, devices: Registry) -> Device:
    return devices.update(device_id, etag=etag, **body.changes())  # type: ignore[arg-type]


def _do_all(items: list[_BulkItem], devices: Registry) -> list[dict[str, str]]:
    """Carry out a bulk request, each item for itself; return the errors as IoT Hub lists them."""
    errors = []
    for item in items:
        try:
            _do(item, devices)
        except registry.RegistryError as error:
            _, code = _REGISTRY_ERRORS[type(error)]
            errors.append({"deviceId": item.id, "errorCode": code, "errorStatus": str(error)})
    return errors


def _do(item: _BulkItem, devices: Registry) -> None:
    mode = item.import_mode.removesuffix("IfMatchETag")
    etag = item.etag if mode != item.import_mode else None
    if mode == "delete":
        if not devices.remove(item.id, etag):
            raise registry.DeviceNotFoundError(f"there is no device {item.id[:140]!r}")
    elif mode == "create" or (mode == "createOrUpdate" and devices.get(item.id) is None):
        _add(item.id, item, devices)
    else:
        _update(item.id, item, etag, devices)


async def _read(request: web.Request, body_type: type[Body]) -> Body:
    try:
        return msgspec.json.decode(await request.read(), type=body_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RestError(400, "ArgumentInvalid", str(error)) from None


def _etag_of(request: web.Request) -> str | None:
    """Return the etag of If-Match without quotes and weakness; None for `*`, which fits any."""
    etag = request.headers.get("If-Match", "*").strip().removeprefix("W/").strip('"')
    return None if etag == "*" else etag


def _json(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )


def _error(status: int, code: str, message: str) -> web.Response:
    now = dt.datetime.now(dt.UTC).strftime("%m/%d/%Y %H:%M:%S")
    body = {
        "Message": f"ErrorCode:{code};{message}",
        "ExceptionMessage": f"Tracking ID:{secrets.token_hex(16)}-TimeStamp:{now}",
    }
    return _json(body, status=status, headers={"iothub-errorcode": code})


def _time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return _NEVER
    return (
        dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )

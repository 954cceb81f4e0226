import base64
import hmac
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient, TestServer

from localcloud.iothub import sas
from localcloud.iothub.rest import RegistryRest
from tests.localcloud.iothub.hubs import OWNER_KEY, Hub, running

VERSION = {"api-version": "2021-04-12"}
KEYS = {"primaryKey": OWNER_KEY, "secondaryKey": base64.b64encode(b"s" * 32).decode()}


class Service:
    """A caller that holds the owner's policy."""

    def __init__(self, client: TestClient[Any, Any], hub: Hub) -> None:
        self.client, self.hub = client, hub

    async def call(self, method: str, path: str, body: object = None, **options: Any) -> tuple[int, Any]:
        headers = {"Authorization": options.pop("token", owner_token("localhost:8443"))}
        if "etag" in options:
            headers["If-Match"] = options.pop("etag")
        answer = await self.client.request(method, path, json=body, headers=headers, params=VERSION | options)
        return answer.status, await answer.json() if answer.status != 204 else None


def owner_token(resource: str, *, expiry: float = 0, policy: str = "iothubowner") -> str:
    return sas.make_token(resource, OWNER_KEY, int(expiry or time.time() + 60), policy)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path) as hub, TestClient(TestServer(RegistryRest(hub.server).app)) as client:
        yield Service(client, hub)


async def test_a_device_is_created_with_keys_of_the_hubs_making(service: Service) -> None:
    body = {
        "deviceId": "d1",
        "status": "enabled",
        "authentication": {"type": "sas", "symmetricKey": {"primaryKey": ""}},
    }
    status, made = await service.call("PUT", "/devices/d1", body)
    stored = service.hub.registry.get("d1")
    assert status == 200
    assert stored is not None
    assert made["authentication"]["symmetricKey"] == {
        "primaryKey": stored.primary_key,
        "secondaryKey": stored.secondary_key,
    }
    assert (made["generationId"], made["etag"], made["connectionState"]) == (
        stored.generation_id, stored.etag, "Disconnected",
    )  # fmt: skip
    assert await service.call("GET", "/devices/d1") == (200, made)


async def test_keys_of_the_callers_choice_are_kept(service: Service) -> None:
    body = {"deviceId": "d1", "status": "disabled", "statusReason": "new", "authentication": {"symmetricKey": KEYS}}
    _, made = await service.call("PUT", "/devices/d1", body)
    assert made["authentication"]["symmetricKey"] == KEYS
    assert (made["status"], made["statusReason"]) == ("disabled", "new")


async def test_creating_a_device_twice_is_a_conflict(service: Service) -> None:
    await service.call("PUT", "/devices/d1", {"deviceId": "d1"})
    status, error = await service.call("PUT", "/devices/d1", {"deviceId": "d1"})
    assert (status, error["Message"]) == (409, "ErrorCode:DeviceAlreadyExists;device d1 exists already")
    assert error["ExceptionMessage"].startswith("Tracking ID:")


async def test_an_update_needs_the_newest_etag_or_a_star(service: Service) -> None:
    _, made = await service.call("PUT", "/devices/d1", {"deviceId": "d1"})
    body = {"deviceId": "d1", "status": "disabled", "cloudToDeviceMessageCount": 0, "capabilities": {"iotEdge": False}}
    status, updated = await service.call("PUT", "/devices/d1", body, etag=f'"{made["etag"]}"')
    assert (status, updated["status"]) == (200, "disabled")
    assert updated["authentication"] == made["authentication"]
    stale = await service.call("PUT", "/devices/d1", body, etag=f'"{made["etag"]}"')
    assert (stale[0], stale[1]["Message"][:29]) == (412, "ErrorCode:PreconditionFailed;")
    assert (await service.call("PUT", "/devices/d1", body, etag="*"))[0] == 200
    assert (await service.call("PUT", "/devices/d2", body | {"deviceId": "d2"}, etag="*"))[0] == 404


async def test_a_device_is_deleted_once(service: Service) -> None:
    _, made = await service.call("PUT", "/devices/d1", {"deviceId": "d1"})
    assert (await service.call("DELETE", "/devices/d1", etag='"stale"'))[0] == 412
    assert (await service.call("DELETE", "/devices/d1", etag=f'W/"{made["etag"]}"'))[0] == 204
    status, error = await service.call("DELETE", "/devices/d1", etag="*")
    assert (status, error["Message"]) == (404, "ErrorCode:DeviceNotFound;there is no device 'd1'")
    assert (await service.call("GET", "/devices/d1"))[0] == 404


async def test_devices_are_listed_and_counted(service: Service) -> None:
    for number in range(3):
        service.hub.registry.add(f"d{number}")
    service.hub.registry.set_status("d2", "disabled")
    client = await service.hub.client("d0")
    _, listed = await service.call("GET", "/devices", top="2")
    assert [(each["deviceId"], each["connectionState"]) for each in listed] == [
        ("d0", "Connected"), ("d1", "Disconnected"),
    ]  # fmt: skip
    assert (await service.call("GET", "/statistics/devices"))[1] == {
        "totalDeviceCount": 3, "enabledDeviceCount": 2, "disabledDeviceCount": 1,
    }  # fmt: skip
    assert (await service.call("GET", "/statistics/service"))[1] == {"connectedDeviceCount": 1}
    await client.close()


async def test_a_bulk_request_does_what_it_can_and_tells_the_rest(service: Service) -> None:
    made = service.hub.registry.add("old")
    items = [
        {"id": "d1"},
        {"id": "old", "importMode": "create"},
        {"id": "d2", "importMode": "createOrUpdate", "authentication": {"symmetricKey": KEYS}},
        {"id": "old", "importMode": "updateIfMatchETag", "eTag": "stale"},
        {"id": "old", "importMode": "updateIfMatchETag", "eTag": made.etag, "status": "disabled"},
        {"id": "d2", "importMode": "createOrUpdate", "status": "disabled"},
        {"id": "gone", "importMode": "delete"},
        {"id": "d1", "importMode": "delete"},
    ]
    status, result = await service.call("POST", "/devices", items)
    assert (status, result["isSuccessful"]) == (400, False)
    assert [(error["deviceId"], error["errorCode"]) for error in result["errors"]] == [
        ("old", "DeviceAlreadyExists"), ("old", "PreconditionFailed"), ("gone", "DeviceNotFound"),
    ]  # fmt: skip
    left = {device.device_id: device.status for device in service.hub.registry.list()}
    assert left == {"d2": "disabled", "old": "disabled"}
    assert (await service.call("POST", "/devices", [{"id": "d3"}]))[1] == {
        "isSuccessful": True, "errors": [], "warnings": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    "token",
    [
        "",
        "Bearer x",
        owner_token("localhost", expiry=1),
        owner_token("localhost", policy="nobody"),
        owner_token("elsewhere"),
        owner_token("localhost/devices/d2"),
        sas.make_token("localhost", KEYS["secondaryKey"], 1 << 33, "iothubowner"),
        sas.make_token("localhost", OWNER_KEY, 1 << 33),
    ],
)
async def test_who_holds_no_policy_is_told_nothing(service: Service, token: str) -> None:
    service.hub.registry.add("d1")
    status, error = await service.call("GET", "/devices/d1", token=token)
    assert (status, error["Message"]) == (401, "ErrorCode:IotHubUnauthorizedAccess;Unauthorized")


async def test_a_token_may_be_signed_with_the_text_of_the_key_and_be_for_a_prefix(service: Service) -> None:
    service.hub.registry.add("d1")
    for resource in ("localhost", "localhost/devices", "localhost/devices/d1"):
        encoded, expiry = quote(resource, safe=""), int(time.time()) + 60
        signature = base64.b64encode(hmac.digest(OWNER_KEY.encode(), f"{encoded}\n{expiry}".encode(), "sha256"))
        token = f"SharedAccessSignature sr={encoded}&sig={quote(signature, safe='')}&se={expiry}&skn=iothubowner"
        assert (await service.call("GET", "/devices/d1", token=token))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/devices/d1", {"deviceId": "d2"}),
        ("PUT", "/devices/d1", {}),
        ("PUT", "/devices/d1", []),
        ("PUT", "/devices/a%20b", {"deviceId": "a b"}),
        ("PUT", "/devices/d1", {"deviceId": "d1", "status": "odd"}),
        ("PUT", "/devices/d1", {"deviceId": "d1", "authentication": {"type": "selfSigned"}}),
        ("PUT", "/devices/d1", {"deviceId": "d1", "authentication": {"symmetricKey": {"primaryKey": "short"}}}),
        ("POST", "/devices", [{"id": f"d{n}"} for n in range(101)]),
        ("POST", "/devices", [{"id": "d1", "importMode": "updateTwin"}]),
        ("GET", "/devices?top=0", None),
        ("GET", "/devices?top=1001", None),
        ("GET", "/devices?top=x", None),
    ],
)
async def test_a_request_that_is_not_understood_changes_nothing(
    service: Service, method: str, path: str, body: object
) -> None:
    path, _, top = path.partition("?top=")
    status, error = await service.call(method, path, body, **({"top": top} if top else {}))
    assert (status, error["Message"][:26]) == (400, "ErrorCode:ArgumentInvalid;")
    assert service.hub.registry.list() == []


async def test_every_other_error_is_in_iot_hubs_words_too(service: Service) -> None:
    assert (await service.call("GET", "/nothing"))[1]["Message"] == "ErrorCode:Not Found;Not Found"
    assert (await service.call("PATCH", "/devices/d1"))[0] == 405
    assert (await service.call("PUT", "/devices/d1", {"deviceId": "d" * (300 << 10)}))[0] == 413
    headers = {"Authorization": owner_token("localhost")}
    answer = await service.client.get("/devices", headers=headers)
    assert (answer.status, answer.headers["iothub-errorcode"]) == (400, "InvalidProtocolVersion")


async def test_a_device_disabled_over_rest_is_dropped(service: Service) -> None:
    client = await service.hub.client("d1")
    await service.call("PUT", "/devices/d1", {"deviceId": "d1", "status": "disabled"}, etag="*")
    assert await client.receive() == b""
    await client.close()

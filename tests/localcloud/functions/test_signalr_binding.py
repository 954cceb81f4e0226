"""The signalR output against a server that records the service's REST calls."""

import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from localcloud.functions.app import Binding
from localcloud.functions.bindings import BindingData, SettingError
from localcloud.functions.signalr_binding import SignalRConnectionInfo, SignalROutput, SignalROutputError
from tests.localcloud.functions.shop import SIGNALR_KEY, MakeShop
from tests.waiting import until

HUB = "/api/v1/hubs/orders"


class Service:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.tokens: list[str] = []
        self.status = 202
        self.server: TestServer

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.calls.append((request.method, request.raw_path, json.loads(body) if body else None))
        self.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        return web.Response(status=self.status)

    @property
    def connection_string(self) -> str:
        return f"Endpoint=http://localhost;Port={self.server.port};AccessKey={SIGNALR_KEY};Version=1.0;"


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.answer)
    service.server = TestServer(app, host="localhost")
    await service.server.start_server()
    yield service
    await service.server.close()


@pytest.fixture
async def output(service: Service, client) -> SignalROutput:
    binding = Binding("o", "signalR", {"hubName": "Orders"})
    return SignalROutput(binding, {"AzureSignalRConnectionString": service.connection_string}, lambda: client)


@pytest.mark.parametrize(
    ("value", "calls"),
    [
        ({"target": "t", "arguments": [1]}, [("POST", HUB, {"target": "t", "arguments": [1]})]),
        ('{"target": "t"}', [("POST", HUB, {"target": "t", "arguments": []})]),
        (
            [{"target": "t", "userId": "a/b"}, {"target": "u", "groupName": "g"}],
            [
                ("POST", f"{HUB}/users/a%2Fb", {"target": "t", "arguments": []}),
                ("POST", f"{HUB}/groups/g", {"target": "u", "arguments": []}),
            ],
        ),
        (
            b'{"target": "t", "userId": "u", "connectionId": "c"}',
            [("POST", f"{HUB}/connections/c", {"target": "t", "arguments": []})],
        ),
        ({"action": "add", "userId": "u", "groupName": "g"}, [("PUT", f"{HUB}/groups/g/users/u", None)]),
        (
            {"action": "remove", "connectionId": "c", "groupName": "g"},
            [("DELETE", f"{HUB}/groups/g/connections/c", None)],
        ),
        ({"action": "removeAll", "userId": "u"}, [("DELETE", f"{HUB}/users/u/groups", None)]),
    ],
)
async def test_each_kind_of_output_becomes_its_call(
    service: Service, output: SignalROutput, value: Any, calls: list[tuple[str, str, Any]]
) -> None:
    await output(value)
    assert service.calls == calls


async def test_calls_are_signed_for_their_url(service: Service, output: SignalROutput) -> None:
    await output({"target": "t"})
    await output({"target": "t"})
    url = f"http://localhost:{service.server.port}{HUB}"
    claims = jwt.decode(service.tokens[0], SIGNALR_KEY, algorithms=["HS256"], audience=url)
    assert claims["exp"] > claims["iat"]
    assert service.tokens[0] == service.tokens[1]


async def test_a_service_that_refuses_or_is_away_is_an_error(service: Service, output: SignalROutput) -> None:
    service.status = 401
    with pytest.raises(SignalROutputError, match="answered 401 to POST http://localhost"):
        await output({"target": "t"})
    await service.server.close()
    with pytest.raises(SignalROutputError, match="cannot be reached"):
        await output({"target": "t"})


@pytest.mark.parametrize("value", ["no json", 5, {"arguments": []}, {"action": "add", "userId": "u"}, {"target": 1}])
async def test_an_output_that_is_no_message_is_an_error(output: SignalROutput, value: Any) -> None:
    with pytest.raises(SignalROutputError):
        await output(value)


async def test_a_failed_output_fails_the_invocation_and_a_good_one_goes_out(
    make_shop: MakeShop, service: Service
) -> None:
    shop = await make_shop(environment={"AzureSignalRConnectionString": service.connection_string})
    await shop.send(b"announce")
    await until(lambda: shop.of("bill"))
    assert service.calls == [("POST", HUB, {"target": "billed", "arguments": [1]})]
    service.status = 500
    await shop.send(b"announce")
    await until(lambda: len(shop.of("bill")) == 4)
    assert [invocation.outcome for invocation in shop.of("bill")] == ["ok", "failed", "failed", "failed"]


async def test_a_client_endpoint_overrides_the_viewers_host_name() -> None:
    connection = "Endpoint=http://localhost;Port=8888;AccessKey=a2V5;ClientEndpoint=https://live.example;Version=1.0;"
    info = SignalRConnectionInfo(
        Binding("c", "signalRConnectionInfo", {"hubName": "Orders"}), {"AzureSignalRConnectionString": connection}
    )
    answer = json.loads(info(BindingData(headers={"host": "pi.home:7071"})))
    assert answer["url"] == "https://live.example/client/?hub=orders"
    assert "nameid" not in jwt.decode(answer["accessToken"], options={"verify_signature": False})


async def test_a_service_in_the_cloud_keeps_its_own_name() -> None:
    connection = "Endpoint=https://x.service.signalr.net;AccessKey=a2V5;Version=1.0;"
    info = SignalRConnectionInfo(
        Binding("c", "signalRConnectionInfo", {"hubName": "h", "connectionStringSetting": "S"}), {"S": connection}
    )
    answer = json.loads(info(BindingData(headers={"host": "pi.home"})))
    assert answer["url"] == "https://x.service.signalr.net/client/?hub=h"


def test_a_connection_string_that_cannot_be_used_names_its_setting() -> None:
    binding = Binding("c", "signalRConnectionInfo", {"hubName": "h", "connectionStringSetting": "S"})
    with pytest.raises(SettingError, match="'S' does not exist"):
        SignalRConnectionInfo(binding, {})
    with pytest.raises(SettingError, match="app setting S cannot be used") as caught:
        SignalRConnectionInfo(binding, {"S": "Endpoint=x;AccessKey=secret"})
    assert "secret" not in str(caught.value)

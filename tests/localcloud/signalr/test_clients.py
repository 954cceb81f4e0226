"""Negotiate and the doors of `/client/`, by plain HTTP."""

import aiohttp
import pytest

TRANSPORTS = {"WebSockets": ["Text", "Binary"], "ServerSentEvents": ["Text"], "LongPolling": ["Text", "Binary"]}


async def test_negotiate_gives_a_public_id_a_secret_token_and_three_transports(service) -> None:
    negotiated = await service.negotiate()
    assert negotiated["negotiateVersion"] == 1
    assert negotiated["connectionToken"] != negotiated["connectionId"]
    offered = {entry["transport"]: entry["transferFormats"] for entry in negotiated["availableTransports"]}
    assert offered == TRANSPORTS


async def test_a_newer_client_gets_the_highest_version_the_server_knows(service) -> None:
    assert (await service.negotiate(version=2))["negotiateVersion"] == 1


async def test_an_old_client_connects_with_the_one_id_it_knows(service) -> None:
    negotiated = await service.negotiate(version=0)
    assert negotiated["negotiateVersion"] == 0
    assert "connectionToken" not in negotiated
    url = f"{service.client_url}&id={negotiated['connectionId']}"
    async with service.session.get(url, headers=service.as_client()) as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_an_old_clients_id_is_not_the_public_one(service) -> None:
    negotiated = await service.negotiate(version=0)
    assert await service.call("HEAD", f"/api/v1/hubs/chat/connections/{negotiated['connectionId']}") == 404


async def test_the_public_id_opens_nothing(service) -> None:
    negotiated = await service.negotiate()
    url = f"{service.client_url}&id={negotiated['connectionId']}"
    for method in ("GET", "POST", "DELETE"):
        async with service.session.request(method, url, headers=service.as_client()) as response:
            assert response.status == 404
    with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
        await service.session.ws_connect(url, headers=service.as_client())


async def test_a_token_of_another_user_or_hub_does_not_open_a_connection(service) -> None:
    url = service.connect_url(await service.negotiate("ann"))
    other_hub = url.replace("hub=chat", "hub=other")
    for address, headers in (
        (url, service.as_client("bob")),
        (url, service.as_client()),
        (other_hub, service.bearer(f"{service.base}/client/?hub=other", "ann")),
    ):
        async with service.session.get(address, headers=headers) as response:
            assert response.status == 404


async def test_a_request_without_an_id_is_a_bad_one(service) -> None:
    for method in ("GET", "POST", "DELETE"):
        async with service.session.request(method, service.client_url, headers=service.as_client()) as response:
            assert response.status == 400


async def test_a_second_transport_for_a_connection_conflicts_and_harms_nothing(service) -> None:
    negotiated = await service.negotiate()
    url = service.connect_url(negotiated)
    first = await service.session.ws_connect(url, headers=service.as_client())
    with pytest.raises(aiohttp.WSServerHandshakeError, match="409"):
        await service.session.ws_connect(url, headers=service.as_client())
    for accept in ("*/*", "text/event-stream"):
        async with service.session.get(url, headers=service.as_client() | {"Accept": accept}) as response:
            assert response.status == 409
    await first.send_str('{"protocol":"json","version":1}\x1e')
    assert (await first.receive(timeout=5)).data == "{}\x1e"


async def test_a_websocket_may_come_without_negotiation_and_with_its_token_in_the_query(service) -> None:
    token = service.as_client()["Authorization"].removeprefix("Bearer ")
    socket = await service.session.ws_connect(f"{service.client_url}&access_token={token}")
    await socket.send_str('{"protocol":"json","version":1}\x1e')
    assert (await socket.receive(timeout=5)).data == "{}\x1e"


async def test_bad_expired_and_missing_tokens_are_refused_and_counted(service) -> None:
    expired = service.bearer(service.client_url, lifetime_seconds=-1)
    foreign = service.bearer(f"{service.base}/client/?hub=other")
    tampered = {"Authorization": service.as_client()["Authorization"][:-2] + "xx"}
    bad = [{}, expired, foreign, tampered, {"Authorization": "Basic eA=="}]
    for headers in bad:
        async with service.session.post(f"{service.base}/client/negotiate?hub=chat", headers=headers) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
    assert service.server.counters.refused_tokens == len(bad)


async def test_a_tokens_audience_may_lack_the_port(service) -> None:
    headers = service.bearer("http://localhost/client/?hub=chat")
    async with service.session.post(f"{service.base}/client/negotiate?hub=CHAT", headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize("name", ["", "1chat", "a-b", "a/b", "x" * 200])
async def test_a_hub_has_a_name_of_letters_digits_and_underscores(service, name: str) -> None:
    url = f"{service.base}/client/negotiate"
    async with service.session.post(url, params={"hub": name}, headers=service.as_client()) as response:
        assert response.status == 400


async def test_no_more_connections_than_allowed(start_service) -> None:
    service = await start_service(limits={"max_connections": 2})
    await service.negotiate()
    await service.negotiate()
    async with service.session.post(
        f"{service.base}/client/negotiate?hub=chat", headers=service.as_client()
    ) as response:
        assert response.status == 429
        assert (await response.json())["code"] == "TooManyRequests"
    assert service.server.counters.refused_connections == 1


async def test_a_negotiated_connection_that_nobody_uses_expires(start_service) -> None:
    service = await start_service(limits={"negotiated_seconds": 0.05, "sweep_seconds": 0.01})
    url = service.connect_url(await service.negotiate())
    await service.until(lambda: service.server.counters.connections == 0)
    async with service.session.get(url, headers=service.as_client()) as response:
        assert response.status == 404


async def test_health_needs_no_token(service) -> None:
    for path in ("/health", "/api/health", "/api/v1/health"):
        for method in ("GET", "HEAD"):
            async with service.session.request(method, f"{service.base}{path}") as response:
                assert response.status == 200

"""CORS with credentials, and foreign pages."""

import aiohttp
import pytest

PAGE = {"Origin": "http://localhost:7071"}
FOREIGN = {"Origin": "http://evil.example"}


async def test_a_preflight_is_answered_with_the_pages_own_origin(service) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-requested-with",
    }
    async with service.session.options(f"{service.base}/client/negotiate?hub=chat", headers=PAGE | asked) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == PAGE["Origin"]
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
        assert response.headers["Access-Control-Allow-Headers"] == "authorization,x-requested-with"


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
async def test_answers_echo_the_origin_on_every_transport(service, accept: str) -> None:
    url = service.connect_url(await service.negotiate())
    headers = service.as_client() | PAGE | {"Accept": accept}
    async with service.session.get(url, headers=headers) as response:
        assert response.headers["Access-Control-Allow-Origin"] == PAGE["Origin"]
        assert response.headers["Vary"] == "Origin"


async def test_refusals_echo_the_origin_as_well_so_that_the_page_can_read_them(service) -> None:
    async with service.session.post(f"{service.base}/client/negotiate?hub=chat", headers=PAGE) as response:
        assert response.status == 401
        assert response.headers["Access-Control-Allow-Origin"] == PAGE["Origin"]


async def test_a_foreign_page_is_refused_whatever_token_it_has(service) -> None:
    async with service.session.post(
        f"{service.base}/client/negotiate?hub=chat", headers=FOREIGN | service.as_client()
    ) as response:
        assert response.status == 403
        assert "Access-Control-Allow-Origin" not in response.headers
    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        await service.session.ws_connect(service.client_url, headers=FOREIGN | service.as_client())

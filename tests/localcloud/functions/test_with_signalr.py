"""The output binding against the local SignalR service, and a viewer that listens there."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from localcloud.certificates import ensure_certificates, server_ssl_context
from localcloud.signalr.server import SignalRServer
from tests.localcloud.functions.shop import SIGNALR_KEY, MakeShop
from tests.waiting import until

END = "\x1e"


@pytest.fixture
async def connection_string() -> AsyncIterator[str]:
    server = SignalRServer(SIGNALR_KEY, allowed_origins=lambda _origin: True)
    port = await server.start("127.0.0.1", 0)
    yield f"Endpoint=http://127.0.0.1;Port={port};AccessKey={SIGNALR_KEY};Version=1.0;"
    await server.stop()


async def test_what_a_function_puts_out_reaches_a_viewer_that_negotiated(
    make_shop: MakeShop, serve, client: ClientSession, connection_string: str
) -> None:
    shop = await make_shop(environment={"AzureSignalRConnectionString": connection_string})
    async with client.post(f"{await serve(shop)}/shop/shoppers/ann/negotiate") as response:
        info = await response.json()
    headers = {"Authorization": f"Bearer {info['accessToken']}"}
    async with client.ws_connect(info["url"].replace("http:", "ws:"), headers=headers) as socket:
        await socket.send_str('{"protocol":"json","version":1}' + END)
        assert await socket.receive_str() == "{}" + END
        await shop.send(b"announce")
        await until(lambda: shop.of("bill"))
        assert '"target":"billed","arguments":[1]' in (await socket.receive_str()).replace(": ", ":")
    assert shop.of("bill")[0].outcome == "ok"


async def test_over_tls_the_local_certificate_authority_is_trusted_when_given(
    make_shop: MakeShop, tmp_path: Path
) -> None:
    certificates = await asyncio.to_thread(ensure_certificates, tmp_path / "certificates", ["localhost", "127.0.0.1"])
    server = SignalRServer(SIGNALR_KEY, allowed_origins=lambda _origin: True)
    port = await server.start("127.0.0.1", 0, await asyncio.to_thread(server_ssl_context, certificates))
    connection = f"Endpoint=https://127.0.0.1;Port={port};AccessKey={SIGNALR_KEY};Version=1.0;"
    environment = {"AzureSignalRConnectionString": connection}
    trusting = await make_shop(environment=environment, ca_file=certificates.ca_file)
    await trusting.send(b"announce")
    await until(lambda: trusting.of("bill"))
    assert trusting.of("bill")[0].outcome == "ok"
    await trusting.host.stop()
    doubting = await make_shop(environment=environment)
    doubting._batches = 10
    await doubting.send(b"announce")
    await until(lambda: doubting.of("bill"))
    assert "certificate verify failed" in str(doubting.of("bill")[0].error)
    await server.stop()

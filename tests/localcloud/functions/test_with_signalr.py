"""The output binding against the local SignalR service, and a viewer that listens there."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession

from localcloud.signalr.server import SignalRServer
from tests.localcloud.functions.shop import SIGNALR_KEY, MakeShop, until

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

"""A SignalR server on a free port, and the few calls that tests make of it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from localcloud.signalr.limits import Limits
from localcloud.signalr.server import SignalRServer
from localcloud.signalr.tokens import make_token

KEY = "signalr-tests-signalr-tests-signalr-tests-signalr"
PAGE = "http://localhost:7071"
DEADLINE = 10.0


class Service:
    """A running server and an HTTP session."""

    def __init__(self, server: SignalRServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session
        self.port = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client_url(self) -> str:
        return f"{self.base}/client/?hub=chat"

    def bearer(self, audience: str, user: str | None = None, **kwargs: Any) -> dict[str, str]:
        token = make_token(KEY, audience, now=time.time(), user_id=user, **kwargs)
        return {"Authorization": f"Bearer {token}"}

    def as_client(self, user: str | None = None) -> dict[str, str]:
        return self.bearer(self.client_url, user)

    async def negotiate(self, user: str | None = None, version: int = 1) -> dict[str, Any]:
        url = f"{self.base}/client/negotiate?hub=chat&negotiateVersion={version}"
        async with self.session.post(url, headers=self.as_client(user)) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    def connect_url(self, negotiated: dict[str, Any]) -> str:
        return f"{self.client_url}&id={negotiated['connectionToken']}"

    async def websocket(self, user: str | None = None, protocol: str = "json") -> "Socket":
        negotiated = await self.negotiate(user)
        url = self.connect_url(negotiated)
        socket = await self.session.ws_connect(url, headers=self.as_client(user), max_msg_size=1 << 24)
        await socket.send_str(json.dumps({"protocol": protocol, "version": 1}) + "\x1e")
        received = await socket.receive(timeout=DEADLINE)
        assert received.data in ("{}\x1e", b"{}\x1e"), received
        return Socket(socket, negotiated["connectionId"])

    async def call(self, method: str, path: str, body: Any = None, **query: Any) -> int:
        url = f"{self.base}{path}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.request(method, url, data=data, params=query, headers=self.bearer(url)) as response:
            await response.read()
            return response.status

    async def send(self, *arguments: Any, scope: str = "") -> None:
        body = {"target": "newMessage", "arguments": list(arguments)}
        assert await self.call("POST", f"/api/v1/hubs/chat{scope}", body) == 202

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110  # polling with a deadline is what tests do
                await asyncio.sleep(0.005)


class Socket:
    """A WebSocket client after its handshake."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, connection_id: str) -> None:
        self.socket = socket
        self.connection_id = connection_id

    async def receive(self) -> Any:
        """The next message of the JSON protocol; None at the end."""
        received = await self.socket.receive(timeout=DEADLINE)
        return json.loads(received.data[:-1]) if received.type is aiohttp.WSMsgType.TEXT else None

    async def arguments(self) -> Any:
        message = await self.receive()
        assert message["type"] == 1, message
        return message["arguments"]


StartService = Callable[..., Awaitable[Service]]


@pytest.fixture
async def start_service() -> AsyncIterator[StartService]:
    services = []
    async with aiohttp.ClientSession() as session:

        async def start(port: int = 0, **kwargs: Any) -> Service:
            limits = Limits(**{"close_seconds": 0.1} | kwargs.pop("limits", {}))
            server = SignalRServer(KEY, allowed_origins=PAGE.__eq__, limits=limits, **kwargs)
            service = Service(server, session)
            service.port = await server.start("127.0.0.1", port)
            services.append(service)
            return service

        yield start
        await session.close()
        for service in services:
            await service.server.stop()


@pytest.fixture
async def service(start_service: StartService) -> Service:
    return await start_service()

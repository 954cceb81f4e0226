"""Azure SignalR Service in serverless mode, as one aiohttp application: REST, negotiate, three transports."""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from aiohttp import web

from localcloud.signalr.access import Guard, Handler, OriginPolicy
from localcloud.signalr.clients import ClientEndpoint
from localcloud.signalr.connections import Connections
from localcloud.signalr.http_errors import refusal
from localcloud.signalr.limits import Counters, Limits
from localcloud.signalr.protocol import Close
from localcloud.signalr.rest import RestEndpoint
from localcloud.signalr.transports.websocket import WebSocketChannel

logger = logging.getLogger(__name__)

BACKLOG = 1024  # a thousand clients may come back at once
POLL_SECONDS = 0.01


class SignalRServer:
    """The service behind one access key. `clock` gives unix seconds, `monotonic` seconds that never go back."""

    def __init__(
        self,
        access_key: str,
        *,
        allowed_origins: Callable[[str], bool],
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        websocket_channel: type[WebSocketChannel] = WebSocketChannel,
    ) -> None:
        self._limits = limits or Limits()
        self._connections = Connections(self._limits, monotonic)
        self._is_shutting_down = False
        self._runner: web.AppRunner | None = None
        self._listeners: list[asyncio.Server] = []
        guard = Guard(access_key, clock, self.counters)
        self.app = self._make_app(OriginPolicy(allowed_origins))
        ClientEndpoint(guard, self._connections, websocket_channel).add_routes(self.app)
        RestEndpoint(guard, self._connections).add_routes(self.app)

    @property
    def counters(self) -> Counters:
        """What has happened since the start."""
        return self._connections.counters

    async def start(self, host: str, port: int, ssl_context: ssl.SSLContext | None = None) -> int:
        """Listen, also several times, and return the port, which is any free one for 0. Raises OSError."""
        if self._runner is None:
            self._runner = web.AppRunner(
                self.app,
                access_log=None,  # its lines would hold tokens
                handler_cancellation=True,
                keepalive_timeout=self._limits.request_seconds,
                shutdown_timeout=self._limits.close_seconds,
            )
            await self._runner.setup()
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(self._accept, host, port, ssl=ssl_context, backlog=BACKLOG)
        self._listeners.append(listener)
        bound: int = listener.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Shut down, then stop listening: clients that poll come once more for their last message."""
        await self.shutdown()
        for listener in self._listeners:
            listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def shutdown(self) -> None:
        """Tell every client to come back later, and wait a moment until they have gone."""
        self._is_shutting_down = True
        for connection in self._connections.all():
            connection.close(Close(allow_reconnect=True))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.close_seconds):
                while self._connections.all():  # noqa: ASYNC110  # once, for a moment; no event would be simpler
                    await asyncio.sleep(POLL_SECONDS)
        for connection in self._connections.all():
            connection.abort("the server stops")

    def _accept(self) -> asyncio.BaseProtocol:
        """Bound the sockets too: a peer needs no token to hold one open for `request_seconds`."""
        assert self._runner is not None
        assert self._runner.server is not None
        if len(self._runner.server.connections) < self._limits.max_sockets:
            return self._runner.server()
        self.counters.refused_connections += 1
        return _Refusal()

    def _make_app(self, origins: OriginPolicy) -> web.Application:
        app = web.Application(middlewares=[origins.middleware, self._refuse_when_shutting_down])
        app.on_response_prepare.append(origins.on_prepare)
        app.on_shutdown.append(self._on_shutdown)
        app.cleanup_ctx.append(self._sweeping)
        for path in ("/health", "/api/health", "/api/v1/health"):
            app.router.add_get(path, _health)
        return app

    @web.middleware
    async def _refuse_when_shutting_down(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._is_shutting_down and "id" not in request.query:
            raise refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the server stops")
        return await handler(request)

    async def _on_shutdown(self, _app: web.Application) -> None:
        await self.shutdown()

    async def _sweeping(self, _app: web.Application) -> AsyncIterator[None]:
        sweeper = asyncio.get_running_loop().create_task(self._sweep_forever())
        yield
        sweeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sweeper

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(self._limits.sweep_seconds)
            try:
                self._connections.sweep()
            except Exception:
                logger.exception("a sweep failed; the next one tries again")


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _health(_request: web.Request) -> web.Response:
    return web.Response(text="healthy")

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
from localcloud.web_server import WebLimits, WebServer

logger = logging.getLogger(__name__)

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
        self._connections = Connections(self._limits, monotonic, _call_later)
        self._is_shutting_down = False
        guard = Guard(access_key, clock, self.counters)
        self.app = self._make_app(OriginPolicy(allowed_origins))
        ClientEndpoint(guard, self._connections, websocket_channel).add_routes(self.app)
        RestEndpoint(guard, self._connections).add_routes(self.app)
        self._server = WebServer(
            self.app,
            WebLimits(
                sockets=self._limits.max_sockets,
                handshake_seconds=self._limits.tls_handshake_seconds,
                handshakes_per_second=self._limits.handshakes_per_second,
                request_seconds=self._limits.request_seconds,
            ),
            shutdown_seconds=self._limits.close_seconds,
            handler_cancellation=True,
            on_refused=self._turn_away,
        )

    @property
    def counters(self) -> Counters:
        """What has happened since the start."""
        return self._connections.counters

    async def start(self, host: str, port: int, ssl_context: ssl.SSLContext | None = None) -> int:
        """Listen, also several times, and return the port, which is any free one for 0. Raises OSError."""
        return await self._server.start(host, port, ssl_context)

    async def stop(self) -> None:
        """Shut down, then stop listening: clients that poll come once more for their last message."""
        await self.shutdown()
        await self._server.stop()

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

    def _turn_away(self, peer: str) -> None:
        """Sockets are bounded too: a peer needs no token to hold one open for `request_seconds`."""
        self.counters.refused_connections += 1
        logger.warning("%s turned away: %d sockets are open", peer, self._limits.max_sockets)

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


def _call_later(seconds: float, call: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_later(seconds, call)


async def _health(_request: web.Request) -> web.Response:
    return web.Response(text="healthy")

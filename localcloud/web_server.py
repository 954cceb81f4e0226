"""An aiohttp application on listeners, within bounds: sockets, TLS handshakes, heads of requests, and time."""

import ssl
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from localcloud.door import Door

KIB = 1024


class WebLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one server, whatever it serves."""

    sockets: int = 2_000
    """Sockets at a time, TLS handshakes in progress included; one more is closed at once."""
    handshake_seconds: float = 10.0
    """From the connection to the end of its TLS handshake."""
    handshakes_per_second: float = 500.0
    """TLS handshakes begun, beyond a burst of two seconds' worth; a further one waits."""
    request_seconds: float = 20.0
    """For a request's head to arrive; also the idle time of a kept connection."""
    head_bytes: int = 8 * KIB
    """A request's first line, and each header."""
    headers: int = 128
    """Headers of a request."""


class WebServer:
    """Serves one application; `start` it once per listener, then `stop` it."""

    def __init__(
        self,
        app: web.Application,
        limits: WebLimits,
        *,
        shutdown_seconds: float,
        handler_cancellation: bool = False,
        on_refused: Callable[[str], None] = lambda _peer: None,
    ) -> None:
        self._runner = web.AppRunner(
            app,
            access_log=None,  # its lines would hold keys and tokens
            handler_cancellation=handler_cancellation,
            keepalive_timeout=limits.request_seconds,
            shutdown_timeout=shutdown_seconds,
            max_line_size=limits.head_bytes,
            max_field_size=limits.head_bytes,
            max_headers=limits.headers,
        )
        self._door = Door(
            places=lambda: limits.sockets - self.sockets,
            handshake_seconds=limits.handshake_seconds,
            handshakes_per_second=limits.handshakes_per_second,
            on_refused=on_refused,
        )
        self._listeners: list[Any] = []

    @property
    def sockets(self) -> int:
        """Return how many sockets are open."""
        return len(self._runner.server.connections) if self._runner.server else 0

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen, and return the port, which is any free one for 0. Raises OSError."""
        if self._runner.server is None:
            await self._runner.setup()
        assert self._runner.server is not None
        listener = await self._door.listen(self._runner.server, host, port, tls)
        self._listeners.append(listener)
        bound: int = listener.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening, and let what is being answered end."""
        for listener in self._listeners:
            listener.close()
        self._door.close()
        await self._runner.cleanup()

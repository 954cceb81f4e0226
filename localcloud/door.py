"""Where sockets come in, for every listener alike: how many at a time, and how long and how often TLS may shake hands.

A TLS handshake costs a place from its first byte: a peer that never ends it must not be free. asyncio's own TLS
listeners tell of a connection only once its handshake is done; hence the handshake is made here.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import cast

from localcloud.token_bucket import TokenBucket

_BACKLOG = 1024
_BURST_SECONDS = 2.0
_CLOSE_SECONDS = 1.0

_logger = logging.getLogger(__name__)


class Door:
    """Lets in as many sockets as there are `places`, handshakes in progress counted; belongs to one event loop.

    `places` tells how many more may be open beside the handshakes; `on_refused` is told the peer that found none.
    `close` ends the handshakes in progress, the listeners are their callers' to close.
    """

    def __init__(
        self,
        *,
        places: Callable[[], int],
        handshake_seconds: float,
        handshakes_per_second: float,
        on_refused: Callable[[str], None],
    ) -> None:
        self._places = places
        self._handshake_seconds = handshake_seconds
        self._per_second = handshakes_per_second
        self._on_refused = on_refused
        self._bucket: TokenBucket | None = None
        self._handshakes: set[asyncio.Task[None]] = set()

    @property
    def handshakes(self) -> int:
        """Return how many TLS handshakes are in progress."""
        return len(self._handshakes)

    async def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, tls: ssl.SSLContext | None
    ) -> asyncio.Server:
        """Listen; each socket that is let in gets a protocol, over TLS once hands are shaken. Raises OSError."""

        def greet() -> asyncio.Protocol:
            return _Greeter(self, factory, tls)

        return await asyncio.get_running_loop().create_server(greet, host, port, backlog=_BACKLOG)

    def close(self) -> None:
        """End the handshakes in progress."""
        for task in self._handshakes:
            task.cancel()

    def has_place(self, transport: asyncio.Transport) -> bool:
        """Say whether there is a place for a new socket, and tell who found none."""
        if self._places() > len(self._handshakes):
            return True
        self._on_refused(peer_name(transport))
        return False

    def shake_hands(self, greeter: "_Greeter", transport: asyncio.Transport, tls: ssl.SSLContext) -> None:
        """Begin a handshake, when it is its turn, and give the protocol its transport at the end."""
        task = asyncio.get_running_loop().create_task(self._shake_hands(greeter, transport, tls))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, greeter: "_Greeter", transport: asyncio.Transport, tls: ssl.SSLContext) -> None:
        entrance = _Entrance()
        try:
            async with asyncio.timeout(self._handshake_seconds):
                await asyncio.sleep(self._turn(asyncio.get_running_loop().time()))
                secured = await self._secure(greeter, transport, entrance, tls)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            _logger.info("%s did not shake hands: %r", peer_name(transport), error)
            transport.abort()
        except asyncio.CancelledError:
            transport.abort()
            raise
        else:
            if secured is None:
                transport.abort()  # the peer left as its handshake ended
            else:
                self._handshakes.discard(cast("asyncio.Task[None]", asyncio.current_task()))  # its socket counts now
                entrance.pass_on(secured, greeter.protocol())

    async def _secure(
        self, greeter: "_Greeter", transport: asyncio.Transport, entrance: "_Entrance", tls: ssl.SSLContext
    ) -> asyncio.Transport | None:
        if transport.is_closing():
            raise ConnectionResetError("the peer left before its turn")
        loop = asyncio.get_running_loop()
        securing = loop.create_task(
            loop.start_tls(
                transport,
                entrance,
                tls,
                server_side=True,
                ssl_handshake_timeout=self._handshake_seconds,
                ssl_shutdown_timeout=_CLOSE_SECONDS,
            )
        )
        try:
            await asyncio.sleep(0)  # the socket is the TLS protocol's now
            greeter.pass_on(transport)
            return await securing
        finally:
            securing.cancel()

    def _turn(self, now: float) -> float:
        """Return how long the next handshake has to wait."""
        if self._bucket is None:
            self._bucket = TokenBucket(self._per_second, self._per_second * _BURST_SECONDS, now)
        wait = self._bucket.wait(now)
        self._bucket.take(1, now)
        return wait


class _Greeter(asyncio.Protocol):
    """Holds a new socket until it is refused, shakes hands, or is its protocol's.

    uvloop reads a new socket whatever `connection_made` says, so its first bytes may come here.
    """

    def __init__(self, door: Door, protocol: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None) -> None:
        self.protocol = protocol
        self._door, self._tls = door, tls
        self._transport: asyncio.Transport
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = socket = cast("asyncio.Transport", transport)
        if not self._door.has_place(socket):
            socket.abort()
        elif self._tls is None:
            protocol = self.protocol()
            socket.set_protocol(protocol)
            protocol.connection_made(socket)
        else:
            socket.pause_reading()
            self._door.shake_hands(self, socket, self._tls)

    def data_received(self, data: bytes) -> None:
        self._early += data
        self._transport.pause_reading()

    def pass_on(self, transport: asyncio.Transport) -> None:
        """Give what came too early to the TLS protocol, a buffered one in every loop, that has the socket now."""
        reader = cast("asyncio.BufferedProtocol", transport.get_protocol())
        while self._early:
            buffer = memoryview(reader.get_buffer(len(self._early)))
            count = min(len(buffer), len(self._early))
            buffer[:count] = self._early[:count]
            reader.buffer_updated(count)
            self._early = self._early[count:]


class _Entrance(asyncio.Protocol):
    """Keeps what a peer sends right behind its handshake until the protocol has its transport."""

    def __init__(self) -> None:
        self._early: list[Callable[[asyncio.Protocol], object]] = []

    def data_received(self, data: bytes) -> None:
        self._early.append(lambda protocol: protocol.data_received(data))

    def eof_received(self) -> None:
        self._early.append(lambda protocol: protocol.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        self._early.append(lambda protocol: protocol.connection_lost(exc))

    def pass_on(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        for tell in self._early:
            tell(protocol)


def peer_name(transport: asyncio.BaseTransport) -> str:
    """Return a socket's other end as `address:port`, "?" where it is unknown."""
    address = transport.get_extra_info("peername")
    return f"{address[0]}:{address[1]}" if address else "?"

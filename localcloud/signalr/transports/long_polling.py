"""The long polling transport: one GET after the other fetches what came meanwhile; the client speaks by POST.

The rules (TransportProtocols.md in dotnet/aspnetcore):
1. The first poll is answered at once, 200 and empty: it connects.
2. A poll without news is answered 200 and empty after a while; the end is 204.
3. A poll that comes while another waits takes its place; the other is answered 204.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping

from aiohttp import web

from localcloud.signalr.connections import AlreadyConnectedError, Connection
from localcloud.signalr.limits import Limits
from localcloud.signalr.protocol import Encoder, HubProtocol, json_record, messagepack_record
from localcloud.signalr.transports.outbox import Outbox

HEADERS = {"Content-Type": "application/octet-stream", "Cache-Control": "no-cache, no-store"}


class LongPollingChannel:
    """The channel of a client that polls."""

    encoders: Mapping[HubProtocol, Encoder] = {
        HubProtocol.JSON: json_record,
        HubProtocol.MESSAGEPACK: messagepack_record,
    }
    needs_pings = False

    def __init__(self, limits: Limits) -> None:
        self.outbox = Outbox(limits.max_unsent)
        self._polls: list[asyncio.Transport] = []

    def shows_life(self) -> bool:
        """A poll is waiting."""
        return bool(self._polls)

    def write(self, data: bytes) -> bool:
        """Keep for the next poll."""
        return self.outbox.put(data)

    def close(self) -> None:
        """Let polls fetch what is left; the one after that is told the end."""
        self.outbox.close()

    def abort(self) -> None:
        """Reset the polls that are being answered, and forget what is left."""
        self.outbox.drop()
        for transport in self._polls:
            transport.abort()

    @contextlib.contextmanager
    def polled_over(self, transport: asyncio.Transport) -> Iterator[None]:
        """Know a poll's transport while it lasts."""
        self._polls.append(transport)
        try:
            yield
        finally:
            self._polls.remove(transport)


async def serve_poll(request: web.Request, connection: Connection, limits: Limits) -> web.StreamResponse:
    """Answer one poll. Raises AlreadyConnectedError where the connection has another transport."""
    if connection.channel is None:
        connection.attach(LongPollingChannel(limits))
        return web.Response(headers=HEADERS)
    channel, transport = connection.channel, request.transport
    if not isinstance(channel, LongPollingChannel):
        raise AlreadyConnectedError
    connection.show_life()
    assert transport is not None
    with channel.polled_over(transport):
        try:
            async with asyncio.timeout(limits.poll_seconds):
                data = await channel.outbox.take()
        except TimeoutError:
            return web.Response(headers=HEADERS)
        return await _answer(request, connection, data) if data else _end(connection, channel)


def _end(connection: Connection, channel: LongPollingChannel) -> web.Response:
    if channel.outbox.closed:
        connection.end()
    return web.Response(status=204)


async def _answer(request: web.Request, connection: Connection, data: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers=HEADERS)
    response.content_length = len(data)
    try:
        await response.prepare(request)
        await response.write(data)
        await response.write_eof()
    except (ConnectionError, asyncio.CancelledError):
        connection.abort("the answer to a poll was lost")
        raise
    return response

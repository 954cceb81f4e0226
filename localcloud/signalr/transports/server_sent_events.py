"""The server-sent events transport: text only; the client speaks by POST."""

import asyncio
from collections.abc import Mapping

from aiohttp import web

from localcloud.signalr.connections import Connection
from localcloud.signalr.limits import Limits
from localcloud.signalr.protocol import Encoder, HubProtocol, Message, json_record
from localcloud.signalr.transports import abort_later
from localcloud.signalr.transports.outbox import Outbox

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}
OPENING = b":\r\n\r\n"  # a comment: the client's `onopen` waits for the first bytes


def event(message: Message) -> bytes:
    """Encode a message as one event; a JSON record has no line break that would end it early."""
    return b"data: " + message.encoded(json_record) + b"\r\n\r\n"


class EventStreamChannel:
    """The channel of an event stream."""

    encoders: Mapping[HubProtocol, Encoder] = {HubProtocol.JSON: event}
    needs_pings = True

    def __init__(self, transport: asyncio.Transport, limits: Limits) -> None:
        self.outbox = Outbox(limits.max_unsent)
        self._transport = transport
        self._close_seconds = limits.close_seconds

    def shows_life(self) -> bool:
        """Clients ping by POST."""
        return False

    def write(self, data: bytes) -> bool:
        """Keep for the stream's writer."""
        return self.outbox.put(data)

    def close(self) -> None:
        """Let the writer end the stream, and abort where it cannot."""
        self.outbox.close()
        abort_later(self._transport, self._close_seconds)

    def abort(self) -> None:
        """Reset the connection."""
        self.outbox.drop()
        self._transport.abort()


async def serve_event_stream(request: web.Request, connection: Connection, limits: Limits) -> web.StreamResponse:
    """Be a connection's event stream until it ends."""
    response = web.StreamResponse(headers=HEADERS)
    response.force_close()
    transport = request.transport
    assert transport is not None
    channel = EventStreamChannel(transport, limits)
    connection.attach(channel)
    try:
        await response.prepare(request)
        await response.write(OPENING)
        while data := await channel.outbox.take():
            await response.write(data)
        await response.write_eof()
    except ConnectionError:
        pass  # the client has gone, which is how these streams end
    finally:
        connection.end()
        abort_later(transport, limits.close_seconds)
    return response

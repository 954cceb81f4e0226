"""The clients' endpoint, `/client/`: negotiate, connect by one of the transports, speak, leave."""

from http import HTTPStatus

import msgspec
from aiohttp import web

from localcloud.signalr.access import Guard
from localcloud.signalr.connections import (
    AlreadyConnectedError,
    Connection,
    Connections,
    TooManyConnectionsError,
    UnknownConnectionError,
)
from localcloud.signalr.http_errors import read_body, refusal
from localcloud.signalr.transports.long_polling import serve_poll
from localcloud.signalr.transports.server_sent_events import serve_event_stream
from localcloud.signalr.transports.websocket import WebSocketChannel, serve_websocket

HIGHEST_VERSION = 1
TRANSPORTS = (
    {"transport": "WebSockets", "transferFormats": ["Text", "Binary"]},
    {"transport": "ServerSentEvents", "transferFormats": ["Text"]},
    {"transport": "LongPolling", "transferFormats": ["Text", "Binary"]},
)


class ClientEndpoint:
    """The handlers of `/client/`."""

    def __init__(self, guard: Guard, connections: Connections, websocket_channel: type[WebSocketChannel]) -> None:
        self._guard = guard
        self._websocket_channel = websocket_channel
        self._connections = connections
        self._limits = connections.limits

    def add_routes(self, app: web.Application) -> None:
        """Register with and without the slash at the end: clients differ."""
        app.router.add_post("/client/negotiate", self.negotiate)
        for path in ("/client/", "/client"):
            app.router.add_get(path, self.connect, allow_head=False)
            app.router.add_post(path, self.speak)
            app.router.add_delete(path, self.leave)

    async def negotiate(self, request: web.Request) -> web.Response:
        """Hand out a connection and say which transports there are.

        Version 0 knows one id only, the one that later requests carry: it gets the secret token under the name
        `connectionId`, so that the public id opens nothing in any version.
        """
        connection = self._negotiate(*self._guard.admit_client(request))
        answer = {"negotiateVersion": 0, "connectionId": connection.token, "availableTransports": TRANSPORTS}
        if _version(request) >= HIGHEST_VERSION:
            answer |= {
                "negotiateVersion": HIGHEST_VERSION,
                "connectionId": connection.connection_id,
                "connectionToken": connection.token,
            }
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Be a WebSocket, an event stream or a poll. Only a WebSocket may come without negotiation."""
        is_websocket = request.headers.get("Upgrade", "").lower() == "websocket"
        if is_websocket and "id" not in request.query:
            connection = self._negotiate(*self._guard.admit_client(request))
        else:
            connection = self._claim(request)
        try:
            if is_websocket:
                return await serve_websocket(request, connection, self._limits, self._websocket_channel)
            if "text/event-stream" in request.headers.get("Accept", ""):
                return await serve_event_stream(request, connection, self._limits)
            return await serve_poll(request, connection, self._limits)
        except AlreadyConnectedError:
            raise refusal(HTTPStatus.CONFLICT, "the connection has its transport already") from None

    async def speak(self, request: web.Request) -> web.Response:
        """Take what a client of events or polls says."""
        connection = self._claim(request)
        limits = self._limits
        body = await read_body(request, max_bytes=limits.max_client_message, seconds=limits.request_seconds)
        connection.receive(body)
        return web.Response(content_type="text/plain")

    async def leave(self, request: web.Request) -> web.Response:
        """End a connection whose client has left; a poll that waits is told so."""
        connection = self._claim(request)
        connection.close()
        connection.end()
        return web.Response(status=HTTPStatus.ACCEPTED)

    def _negotiate(self, hub: str, user_id: str | None) -> Connection:
        try:
            return self._connections.negotiate(hub, user_id)
        except TooManyConnectionsError as error:
            raise refusal(HTTPStatus.TOO_MANY_REQUESTS, str(error)) from None

    def _claim(self, request: web.Request) -> Connection:
        hub, user_id = self._guard.admit_client(request)
        token = request.query.get("id")
        if not token:
            raise refusal(HTTPStatus.BAD_REQUEST, "the query lacks id")
        try:
            return self._connections.claim(token, hub, user_id)
        except UnknownConnectionError:
            raise refusal(HTTPStatus.NOT_FOUND, "there is no connection with this id") from None


def _version(request: web.Request) -> int:
    text = request.query.get("negotiateVersion", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= len("999") else 0

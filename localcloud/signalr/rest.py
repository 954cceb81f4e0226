"""The REST interface, `/api/`: both generations, v1 and the one with `:send` and `api-version`.

Followed: the swagger files v1 and 2023-07-01 of Azure SignalR Service. A send answers 202 and waits for no client.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from localcloud.signalr.access import Guard, hub_name
from localcloud.signalr.connections import Connection, Connections
from localcloud.signalr.http_errors import read_body, refusal
from localcloud.signalr.hub import FOREVER, GroupLimitError, Hub
from localcloud.signalr.protocol import Close, Message, parse_payload

MAX_NAME_LENGTH = 1024
MAX_TTL_DIGITS = 9

Handler = Callable[[web.Request], Awaitable[web.Response]]


class RestEndpoint:
    """The handlers of `/api/`."""

    def __init__(self, guard: Guard, connections: Connections) -> None:
        self._guard = guard
        self._connections = connections
        self._limits = connections.limits

    def add_routes(self, app: web.Application) -> None:
        """Register both generations; what does not differ is one handler on both paths."""
        v1, hubs = "/api/v1/hubs/{hub}", "/api/hubs/{hub}"
        for scope in ("", "/users/{user}", "/groups/{group}", "/connections/{connection}"):
            self._route(app, "POST", f"{v1}{scope}", self.send)
            self._route(app, "POST", f"{hubs}{scope}/:send", self.send)
        for scope in ("", "/users/{user}", "/groups/{group}"):
            self._route(app, "POST", f"{hubs}{scope}/:closeConnections", self.close_connections)
        for root in (v1, hubs):
            self._add_common_routes(app, root)

    def _add_common_routes(self, app: web.Application, root: str) -> None:
        for scope in ("/users/{user}", "/groups/{group}", "/connections/{connection}"):
            self._route(app, "GET", f"{root}{scope}", self.exists)
            self._route(app, "HEAD", f"{root}{scope}", self.exists)
        self._route(app, "DELETE", f"{root}/connections/{{connection}}", self.close_connection)
        self._route(app, "DELETE", f"{root}/connections/{{connection}}/groups", self.remove_connection_from_all_groups)
        self._route(app, "PUT", f"{root}/groups/{{group}}/connections/{{connection}}", self.add_connection_to_group)
        self._route(
            app, "DELETE", f"{root}/groups/{{group}}/connections/{{connection}}", self.remove_connection_from_group
        )
        self._route(app, "DELETE", f"{root}/users/{{user}}/groups", self.remove_user_from_all_groups)
        for path in (f"{root}/users/{{user}}/groups/{{group}}", f"{root}/groups/{{group}}/users/{{user}}"):
            self._route(app, "GET", path, self.user_is_in_group)
            self._route(app, "HEAD", path, self.user_is_in_group)
            self._route(app, "PUT", path, self.add_user_to_group)
            self._route(app, "DELETE", path, self.remove_user_from_group)

    def _route(self, app: web.Application, method: str, path: str, handler: Handler) -> None:
        async def guarded(request: web.Request) -> web.Response:
            self._guard.admit_rest_call(request)
            if any(len(name) > MAX_NAME_LENGTH for name in request.match_info.values()):
                raise refusal(HTTPStatus.BAD_REQUEST, f"a name is longer than {MAX_NAME_LENGTH} characters")
            return await handler(request)

        app.router.add_route(method, path, guarded)

    async def send(self, request: web.Request) -> web.Response:
        """Send a message to everyone, a user, a group or a connection; nobody there is no error."""
        body = await read_body(request, max_bytes=self._limits.max_body, seconds=self._limits.request_seconds)
        try:
            message = Message(parse_payload(body))
        except ValueError as error:
            raise refusal(HTTPStatus.BAD_REQUEST, str(error)) from None
        self._connections.send(self._recipients(request), message, len(body))
        return web.Response(status=HTTPStatus.ACCEPTED)

    async def exists(self, request: web.Request) -> web.Response:
        """Say by 200 or 404 whether there is a connection, any of a user, or any in a group."""
        return _found(bool(self._recipients(request)))

    async def close_connections(self, request: web.Request) -> web.Response:
        """Close the connections of everyone, a user or a group."""
        for connection in self._recipients(request):
            connection.close(_farewell(request))
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def close_connection(self, request: web.Request) -> web.Response:
        """Close one connection; one that is gone is no error."""
        for connection in self._recipients(request):
            connection.close(_farewell(request))
        return web.Response()

    async def add_connection_to_group(self, request: web.Request) -> web.Response:
        """Put a connection into a group."""
        connection = self._connection(request)
        try:
            self._hub(request).add_to_group(request.match_info["group"], connection)
        except GroupLimitError as error:
            raise refusal(HTTPStatus.BAD_REQUEST, str(error)) from None
        return web.Response()

    async def remove_connection_from_group(self, request: web.Request) -> web.Response:
        """Take a connection out of a group."""
        self._hub(request).remove_from_group(request.match_info["group"], self._connection(request))
        return web.Response()

    async def remove_connection_from_all_groups(self, request: web.Request) -> web.Response:
        """Take a connection out of every group."""
        self._hub(request).remove_from_all_groups(self._connection(request))
        return web.Response()

    async def add_user_to_group(self, request: web.Request) -> web.Response:
        """Put a user into a group, for `ttl` seconds where that is given; 0 means the present connections only."""
        group, user = request.match_info["group"], request.match_info["user"]
        try:
            self._hub(request).add_user_to_group(group, user, now=self._connections.clock(), lifetime=_ttl(request))
        except GroupLimitError as error:
            raise refusal(HTTPStatus.BAD_REQUEST, str(error)) from None
        return web.Response()

    async def remove_user_from_group(self, request: web.Request) -> web.Response:
        """Take a user out of a group."""
        self._hub(request).remove_user_from_group(request.match_info["group"], request.match_info["user"])
        return web.Response()

    async def remove_user_from_all_groups(self, request: web.Request) -> web.Response:
        """Take a user out of every group."""
        self._hub(request).remove_user_from_all_groups(request.match_info["user"])
        return web.Response()

    async def user_is_in_group(self, request: web.Request) -> web.Response:
        """Say by 200 or 404 whether a user is in a group."""
        group, user = request.match_info["group"], request.match_info["user"]
        return _found(self._hub(request).is_user_in_group(group, user, self._connections.clock()))

    def _hub(self, request: web.Request) -> Hub[Connection]:
        return self._connections.hub(hub_name(request, request.match_info["hub"]))

    def _connection(self, request: web.Request) -> Connection:
        connection = self._hub(request).get(request.match_info["connection"])
        if connection is None:
            raise refusal(HTTPStatus.NOT_FOUND, "there is no connection with this id")
        return connection

    def _recipients(self, request: web.Request) -> list[Connection]:
        hub, scope = self._hub(request), request.match_info
        excluded = frozenset(request.query.getall("excluded", ()))
        if "user" in scope:
            return hub.of_user(scope["user"], excluded)
        if "group" in scope:
            return hub.of_group(scope["group"], excluded)
        if "connection" in scope:
            connection = hub.get(scope["connection"])
            return [connection] if connection is not None else []
        return hub.everyone(excluded)


def _found(found: bool) -> web.Response:  # noqa: FBT001
    return web.Response(status=HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)


def _farewell(request: web.Request) -> Close:
    return Close(error=request.query.get("reason"))


def _ttl(request: web.Request) -> float:
    text = request.query.get("ttl")
    if text is None:
        return FOREVER
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_TTL_DIGITS):
        raise refusal(HTTPStatus.BAD_REQUEST, "ttl is a number of seconds")
    return float(text)

"""Who may do what: tokens of clients and REST calls, and the origins of browsers."""

import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from localcloud.signalr.http_errors import refusal
from localcloud.signalr.limits import Counters
from localcloud.signalr.tokens import Claims, InvalidTokenError, verify_token

logger = logging.getLogger(__name__)

BEARER = "bearer "
HUB_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
PREFLIGHT_SECONDS = "600"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """Judges tokens against the access key; `clock` gives unix seconds."""

    def __init__(self, access_key: str, clock: Callable[[], float], counters: Counters) -> None:
        self._access_key = access_key
        self._clock = clock
        self._counters = counters

    def admit_client(self, request: web.Request) -> tuple[str, str | None]:
        """Return the hub (lower case) and the user id of a client's request. Raises the refusals 400 and 401."""
        hub = hub_name(request, request.query.get("hub", ""))
        claims = self._claims(request)
        if not claims.opens_hub(hub):
            raise self._refuse(request, "the token's audience is another one")
        return hub, claims.user_id

    def admit_rest_call(self, request: web.Request) -> None:
        """Let a REST call pass. Raises the refusal 401."""
        if not self._claims(request).opens_path(request.path):
            raise self._refuse(request, "the token's audience is another one")

    def _claims(self, request: web.Request) -> Claims:
        try:
            return verify_token(_token(request), self._access_key, now=self._clock())
        except InvalidTokenError as error:
            raise self._refuse(request, str(error)) from None

    def _refuse(self, request: web.Request, reason: str) -> web.HTTPException:
        self._counters.refused_tokens += 1
        path = request.rel_url.raw_path[:200]
        logger.info("%s %s from %s refused: %s", request.method, path, request.remote, reason)
        error = refusal(HTTPStatus.UNAUTHORIZED, reason)
        error.headers["WWW-Authenticate"] = "Bearer"
        return error


def hub_name(request: web.Request, name: str) -> str:
    """Return a hub's name in lower case, after its application's where one is given. Raises the refusal 400."""
    application = request.query.get("application")
    full_name = f"{application}_{name}" if application else name
    if not HUB_NAME.fullmatch(full_name):
        raise refusal(HTTPStatus.BAD_REQUEST, "a hub's name is a letter, then letters, digits and underscores")
    return full_name.lower()


class OriginPolicy:
    """CORS for clients: browsers send credentials, so that the origin must be echoed; `*` would be refused."""

    def __init__(self, is_allowed: Callable[[str], bool]) -> None:
        self._is_allowed = is_allowed

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse foreign origins, and answer preflights."""
        origin = request.headers.get("Origin")
        if origin is not None and not self._is_allowed(origin):
            raise refusal(HTTPStatus.FORBIDDEN, "the origin is not allowed")
        if origin is not None and request.method == "OPTIONS":
            return _preflight(request)
        return await handler(request)

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Echo an allowed origin, on refusals and streams as well."""
        response.headers["Vary"] = "Origin"
        origin = request.headers.get("Origin")
        if origin is not None and self._is_allowed(origin):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"


def _preflight(request: web.Request) -> web.Response:
    wanted = request.headers.get("Access-Control-Request-Headers", "")
    return web.Response(
        status=HTTPStatus.NO_CONTENT,
        headers={
            "Access-Control-Allow-Methods": "GET, POST, DELETE",
            "Access-Control-Allow-Headers": wanted,
            "Access-Control-Max-Age": PREFLIGHT_SECONDS,
        },
    )


def _token(request: web.Request) -> str:
    """Browsers cannot set headers on WebSockets and event streams; there the token comes in the query."""
    header = request.headers.get("Authorization", "")
    if header[: len(BEARER)].lower() == BEARER:
        return header[len(BEARER) :]
    return request.query.get("access_token", "")

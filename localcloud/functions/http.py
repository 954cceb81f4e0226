"""The httpTrigger and the host's other addresses, as one aiohttp application.

Order of judgement: Host header, Origin header, preflight, then function routes, `/health` and `/metrics`, the site.
Rules: a function's error is a 500 that tells the caller the invocation's id and nothing else; a key is never logged;
what a caller can make large is bounded (body, time to send it, requests at once). The rest is as Azure's host does.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any, cast

import msgspec
from aiohttp import web

from localcloud.functions.access import AuthLevel, CorsRules, given_key, is_authorized
from localcloud.functions.bindings import BindingData
from localcloud.functions.context import TraceContext
from localcloud.functions.invocation import Invocation, Invoker
from localcloud.functions.retrying import Report, described
from localcloud.functions.routes import Route, Router, compile_route
from localcloud.functions.static_site import StaticSite
from localcloud.keys import Keys

_LONGEST_REPORTED_PATH = 200
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_OWN_HEADERS = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive", "upgrade"})


class HttpLimits(msgspec.Struct, frozen=True):
    """Bounds of what functions are asked by HTTP."""

    body_bytes: int = 16 << 20
    """A request's body."""
    bodies_bytes: int = 64 << 20
    """The bodies of all requests that arrive or are worked on; beyond it the next are refused."""
    body_seconds: float = 30.0
    """For a body to arrive."""
    outstanding_requests: int | None = None
    """Requests that functions work on at once, -1 for any number; host.json's maxOutstandingRequests unless given."""


class HttpFunction(msgspec.Struct, frozen=True):
    """An HTTP function at its route."""

    invoker: Invoker
    route: Route
    methods: frozenset[str]
    """Empty: every method."""
    level: AuthLevel

    @property
    def name(self) -> str:
        """The function's name."""
        return self.invoker.function.name


def http_function(invoker: Invoker, prefix: str) -> HttpFunction:
    """Read a function's httpTrigger. Raises RouteError."""
    trigger = invoker.function.trigger
    path = "/".join(part for part in (prefix.strip("/"), trigger.text("route").strip("/")) if part)
    return HttpFunction(
        invoker=invoker,
        route=compile_route(path),
        methods=frozenset(str(method).upper() for method in trigger.options.get("methods") or ()),
        level=cast("AuthLevel", trigger.text("authLevel", "FUNCTION").upper()),
    )


class HttpHost:
    """Answers requests. `health` tells whether everything runs; `metrics` gives text in Prometheus' format."""

    def __init__(
        self,
        functions: Sequence[HttpFunction],
        *,
        prefix: str,
        keys: Keys,
        rules: CorsRules,
        limits: HttpLimits,
        report: Report,
        site: StaticSite | None,
        index: Callable[[], web.Response],
        health: Callable[[], bool],
        metrics: Callable[[], str] | None,
    ) -> None:
        self._router = Router((function.route, function) for function in functions)
        self._prefix = prefix.strip("/").lower()
        self._keys = keys
        self._rules = rules
        self._limits = limits
        self._report = report
        self._site = site
        self._index = index
        self._health = health
        self._metrics = metrics
        self._outstanding = 0
        self._held_bytes = 0

    def application(self) -> web.Application:
        """Make the application to serve."""
        app = web.Application(client_max_size=self._limits.body_bytes)
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        if not self._rules.allows_host(host):
            return problem(421, "This host does not serve the name in the Host header; start it with that --hostname.")
        if origin is not None and not self._rules.allows_origin(origin, host):
            return problem(403, "Pages of this origin may not call; allow it under Host.CORS in local.settings.json.")
        wanted = request.headers.get("Access-Control-Request-Method")
        if request.method == "OPTIONS" and origin is not None and wanted is not None:
            asked = request.headers.get("Access-Control-Request-Headers", "")
            return web.Response(status=204, headers=self._rules.preflight_headers(origin, wanted, asked))
        response = await self._dispatch(request)
        if origin is not None:
            response.headers.update(self._rules.response_headers(origin))
        return response

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path.lstrip("/")
        found = self._router.find(path, lambda function: not function.methods or request.method in function.methods)
        if found is not None:
            return await self._call(request, *found)
        if request.method in ("GET", "HEAD"):
            response = await self._page(request.path.lstrip("/"))
            if response is not None:
                return response
        return problem(404, "There is nothing here for this method and path.")

    async def _page(self, path: str) -> web.StreamResponse | None:
        if path == "health":
            healthy = self._health()
            return web.json_response({"status": "ok" if healthy else "starting"}, status=200 if healthy else 503)
        if path == "metrics" and self._metrics is not None:
            return web.Response(body=self._metrics().encode(), headers={"Content-Type": _PROMETHEUS})
        if self._prefix and path.lower().split("/", 1)[0] == self._prefix.split("/", 1)[0]:
            return None
        response = await self._site.response(path) if self._site else None
        return self._index() if response is None and path == "" else response

    async def _call(
        self, request: web.Request, function: HttpFunction, parameters: dict[str, str]
    ) -> web.StreamResponse:
        master, default = self._keys.function_master, self._keys.function_default
        key = given_key(request.headers, request.query)
        if not is_authorized(function.level, key, master=master, default=default):
            return problem(401, "This function needs a key: the header x-functions-key, or ?code=.")
        most = self._limits.outstanding_requests
        if most is not None and 0 <= most <= self._outstanding:
            return problem(429, "Too many requests are being worked on.")
        self._outstanding += 1
        try:
            body = await self._body(request)
            if isinstance(body, web.Response):
                return body
            try:
                return await self._invoke(request, function, parameters, body)
            finally:
                self._held_bytes -= len(body)
        finally:
            self._outstanding -= 1

    async def _body(self, request: web.Request) -> bytes | web.Response:
        """Return the body, which counts among `_held_bytes` then, or the refusal of one that is too large or slow."""
        limits, chunks, size = self._limits, list[bytes](), 0
        refusal = None
        try:
            async with asyncio.timeout(limits.body_seconds):
                while refusal is None and (chunk := await request.content.readany()):
                    chunks.append(chunk)
                    size += len(chunk)
                    self._held_bytes += len(chunk)
                    refusal = self._refusal_of(max(size, request.content_length or 0))
        except TimeoutError:
            refusal = problem(408, f"The body did not arrive within {limits.body_seconds:g} s.")
        except BaseException:
            self._held_bytes -= size
            raise
        if refusal is not None:
            self._held_bytes -= size
            return refusal
        return b"".join(chunks)

    def _refusal_of(self, size: int) -> web.Response | None:
        if size > self._limits.body_bytes:
            return problem(413, f"A body may have at most {self._limits.body_bytes} bytes.")
        if self._held_bytes > self._limits.bodies_bytes:
            return problem(503, "The bodies of all requests together are too large; try again.")
        return None

    async def _invoke(
        self, request: web.Request, function: HttpFunction, parameters: dict[str, str], body: bytes
    ) -> web.StreamResponse:
        from azure.functions.http import HttpRequest  # noqa: PLC0415  # the class that the worker gives

        headers = _joined((name.lower(), value) for name, value in request.headers.items())
        query = _joined((name, value) for name, value in request.query.items() if value)
        url = f"{request.scheme}://{request.host}{request.raw_path}"
        about = Invocation(
            function=function.name,
            trigger="httpTrigger",
            request=f"{request.method} {request.rel_url.raw_path[:_LONGEST_REPORTED_PATH]}",
        )
        result = await function.invoker.invoke(
            lambda: HttpRequest(
                method=request.method,
                url=url,
                headers=headers,
                params=query,
                route_params=parameters,
                body_type="bytes",
                body=body,
            ),
            data=BindingData(parameters, headers, query),
            trace=TraceContext(headers.get("traceparent", ""), headers.get("tracestate", "")),
            convert=_response if _returns_http(function) else _no_content,
        )
        response = cast("web.Response", result.value) if result.error is None else _failure(result.invocation_id)
        self._report(msgspec.structs.replace(described(about, result), status=response.status))
        return response


def _returns_http(function: HttpFunction) -> bool:
    return any(binding.name == "$return" and binding.type == "http" for binding in function.invoker.function.outputs)


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Join the values of a name that occurs several times by commas, as Azure's host does."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _no_content(_: Any) -> web.Response:
    return web.Response(status=204)


def _response(value: Any) -> web.Response:
    """Turn what a function returned into the answer. Raises TypeError in the worker's words for anything else."""
    from azure.functions import HttpResponse  # noqa: PLC0415

    if isinstance(value, str):
        return web.Response(text=value)
    if not isinstance(value, HttpResponse):
        raise TypeError(
            f'unable to encode outgoing TypedData: unsupported type "http" for Python type "{type(value).__name__}"'
        )
    response = web.Response(body=value.get_body(), status=int(value.status_code))
    response.headers.popall("Content-Type", None)
    for name, text in value.headers.items():
        if name.lower() not in _OWN_HEADERS:
            response.headers.add(name, text)
    if "Content-Type" not in response.headers:
        charset = f"; charset={value.charset}" if value.mimetype.startswith("text/") else ""
        response.headers["Content-Type"] = f"{value.mimetype}{charset}"
    return response


def _failure(invocation_id: str) -> web.Response:
    return problem(500, f"The function failed; the host's log tells more of invocation {invocation_id}.")


def problem(status: int, detail: str) -> web.Response:
    """Return an error as RFC 9457 tells it."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return web.Response(text=json.dumps(body), status=status, content_type="application/problem+json", headers=headers)

"""The HTTP API: reads, calibrations, dead letters and snapshots. Errors are problem details (RFC 9457).

Who may read is decided here by READ_ACCESS; function keys, which guard the writes, are the host's affair.
"""

import hmac
import logging
import math
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Concatenate, Final, ParamSpec, TypeVar

import azure.functions as func
import msgspec
from msgspec import Meta, Struct

from enviromon.calibration import Line, Version
from enviromon.cost import Batching, Workload, estimate
from enviromon.device_state import is_device_id, is_visible
from enviromon.errors import RequestError, StorageError
from enviromon.metrics import METRICS, Metric, catalogue
from enviromon.prices import load_prices
from enviromon.reports import calibration_view, cost_view, dead_letter_view, ledger_report
from enviromon.settings import Settings
from enviromon.stores import PAGE_SIZE, Stores, each
from enviromon.telemetry import Refusal, milliseconds
from enviromon.updates import iso, messages, view

KEY_HEADER: Final = "x-enviromon-key"
SNAPSHOT_SECONDS: Final = 5.0
MAX_BODY_BYTES: Final = 65_536
MAX_AMOUNT: Final = 10_000_000
_VIEWERS_REMEMBERED: Final = 10_000
_STORAGE_RETRY_SECONDS: Final = 5
_VIEWER: Final = re.compile(r"[A-Za-z0-9_-]{22,128}")
"""128 random bits take 22 characters of base64url; a UUID has 36."""

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_Body = TypeVar("_Body")

_Handler = Callable[Concatenate["Api", func.HttpRequest, _P], Coroutine[Any, Any, func.HttpResponse]]


class _LineBody(Struct, forbid_unknown_fields=True):
    slope: float = 1.0
    intercept: float = 0.0


class _VersionBody(Struct, forbid_unknown_fields=True, rename="camel"):
    metrics: Annotated[dict[str, _LineBody], Meta(min_length=1)]
    valid_from: str | int | float | None = None


class _SnapshotBody(Struct):
    viewer: str = ""


def _answering(handler: _Handler[_P]) -> _Handler[_P]:
    """Answer what the handler raises as problem details; anything unforeseen is the host's 500."""

    async def answer(
        self: "Api", request: func.HttpRequest, /, *args: _P.args, **kwargs: _P.kwargs
    ) -> func.HttpResponse:
        try:
            return await handler(self, request, *args, **kwargs)
        except RequestError as error:
            return _problem(error)
        except StorageError:
            _log.exception("the store failed; the request is answered 503")
            return _problem(
                RequestError(503, "the store does not answer at the moment", retry_after_seconds=_STORAGE_RETRY_SECONDS)
            )

    return answer


class Api:
    """The answers to the HTTP functions, over one site's stores."""

    def __init__(
        self,
        stores: Stores,
        settings: Settings,
        *,
        metrics: Sequence[Metric] = METRICS,
        batching: Batching | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stores = stores
        self._settings = settings
        self._batching = batching or Batching()
        self._metrics = metrics
        self._clock = clock
        self._snapshots: dict[str, float] = {}

    @_answering
    async def negotiate(self, request: func.HttpRequest, connection_info: str) -> func.HttpResponse:
        """Hand out the way to the SignalR service that the host's binding made."""
        self._check_may_read(request)
        if "viewer" in request.route_params:
            _check_viewer(request.route_params["viewer"])
        return func.HttpResponse(connection_info, mimetype="application/json", headers=_FRESH)

    @_answering
    async def get_device_state(self, request: func.HttpRequest, send: Callable[[str], None]) -> func.HttpResponse:
        """Send all devices to the one viewer that asks, by SignalR, at most once per 5 s."""
        self._check_may_read(request)
        viewer = _body(request, _SnapshotBody).viewer if request.get_body() else ""
        if not viewer:
            raise RequestError(
                400, 'the body must name the viewer: {"viewer": ID}; without SignalR, GET /api/devices tells the same'
            )
        _check_viewer(viewer)
        self._check_snapshot_is_due(viewer)
        states = [stored.state async for stored in each(self._stores.devices.page)]
        if (snapshot := messages(states, self._metrics, viewer=viewer)) is not None:
            send(snapshot)
        return func.HttpResponse(status_code=202)

    @_answering
    async def devices(self, request: func.HttpRequest) -> func.HttpResponse:
        """Tell the devices, a page at a time."""
        self._check_may_read(request)
        page = await self._stores.devices.page(request.params.get("after"), _limit(request))
        views = [view(stored.state, self._metrics) for stored in page.items if is_visible(stored.state)]
        return _json({"devices": views, "next": page.next, "serverTime": iso(self._now())})

    @_answering
    async def ledger(self, request: func.HttpRequest) -> func.HttpResponse:
        """Tell what became of all readings."""
        self._check_may_read(request)
        return _json(await ledger_report(self._stores.devices))

    @_answering
    async def cost(self, request: func.HttpRequest) -> func.HttpResponse:
        """Tell what a month on Azure costs for `devices` with `rate` messages a second in all, to `viewers`."""
        self._check_may_read(request)
        workload = Workload(
            devices=int(_amount(request, "devices")),
            rate=_amount(request, "rate"),
            viewers=int(_amount(request, "viewers", "1")),
            batching=self._batching,
            memory_mb=self._settings.instance_memory_mb,
            table_partitions=self._settings.state_buckets,
            calibration_ttl=self._settings.calibration_ttl_seconds,
        )
        prices = load_prices()
        try:
            return _json(cost_view(workload, *estimate(workload, prices), prices))
        except ValueError as error:
            raise RequestError(400, str(error)) from error

    @_answering
    async def metrics_catalogue(self, request: func.HttpRequest) -> func.HttpResponse:
        """Tell which metrics there are."""
        self._check_may_read(request)
        return _json({"metrics": catalogue(self._metrics)})

    @_answering
    async def dead_letters(self, request: func.HttpRequest) -> func.HttpResponse:
        """Tell the rejected readings, a page at a time, the oldest first."""
        page = await self._stores.dead_letters.page(request.params.get("after"), _limit(request))
        return _json({"deadLetters": [dead_letter_view(letter) for letter in page.items], "next": page.next})

    @_answering
    async def calibration(self, request: func.HttpRequest) -> func.HttpResponse:
        """Tell a device's calibration with all its versions."""
        self._check_may_read(request)
        return await self._calibration(_device_id(request))

    @_answering
    async def write_calibration(self, request: func.HttpRequest) -> func.HttpResponse:
        """PUT adds a version, from now on or from its validFrom; DELETE removes one (?validFrom=) or all."""
        device_id = _device_id(request)
        if request.method == "DELETE":
            valid_from = request.params.get("validFrom")
            if not await self._stores.calibrations.remove(device_id, _time(valid_from) if valid_from else None):
                raise RequestError(404, f"{device_id} has no such calibration")
            return func.HttpResponse(status_code=204)
        body = _body(request, _VersionBody)
        if unknown := body.metrics.keys() - {metric.name for metric in self._metrics}:
            raise RequestError(
                400, f"there is no metric {min(unknown)!r}: GET /api/metrics-catalogue tells which exist"
            )
        valid_from_ms = self._now() if body.valid_from is None else _time(body.valid_from)
        lines = {name: Line(line.slope, line.intercept) for name, line in body.metrics.items()}
        await self._stores.calibrations.put(device_id, Version(valid_from_ms, lines))
        return await self._calibration(device_id)

    async def _calibration(self, device_id: str) -> func.HttpResponse:
        found = await self._stores.calibrations.load([device_id])
        return _json(calibration_view(device_id, found.get(device_id)))

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _check_may_read(self, request: func.HttpRequest) -> None:
        if self._settings.read_access == "open":
            return
        if not self._settings.read_key:
            raise RequestError(403, "READ_ACCESS is `key` but READ_KEY is not set: set it, or READ_ACCESS to `open`")
        given = request.headers.get(KEY_HEADER) or ""
        # A header's bytes that are not UTF-8 arrive as lone surrogates.
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), self._settings.read_key.encode()):
            raise RequestError(401, f"reading needs the header {KEY_HEADER}")

    def _check_snapshot_is_due(self, viewer: str) -> None:
        now = self._clock()
        wait = self._snapshots.get(viewer, 0.0) + SNAPSHOT_SECONDS - now
        if wait > 0:
            raise RequestError(
                429, f"a viewer gets one snapshot per {SNAPSHOT_SECONDS:g} s", retry_after_seconds=math.ceil(wait)
            )
        self._snapshots.pop(viewer, None)
        self._snapshots[viewer] = now
        if len(self._snapshots) > _VIEWERS_REMEMBERED:
            del self._snapshots[next(iter(self._snapshots))]


_FRESH: Final = {"Cache-Control": "no-store"}


def _json(content: Any) -> func.HttpResponse:
    return func.HttpResponse(msgspec.json.encode(content), mimetype="application/json", headers=_FRESH)


def _problem(error: RequestError) -> func.HttpResponse:
    headers = dict(_FRESH)
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = f'ApiKey header="{KEY_HEADER}"'
    problem = {"type": "about:blank", "title": HTTPStatus(error.status).phrase, "status": error.status}
    body = msgspec.json.encode({**problem, "detail": error.detail})
    return func.HttpResponse(body, status_code=error.status, mimetype="application/problem+json", headers=headers)


def _body(request: func.HttpRequest, shape: type[_Body]) -> _Body:
    body = request.get_body()
    if len(body) > MAX_BODY_BYTES:
        raise RequestError(413, f"the body may have {MAX_BODY_BYTES:,} bytes")
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RequestError(400, f"the body is not what is expected here: {error}") from None


def _limit(request: func.HttpRequest) -> int:
    text = request.params.get("limit", str(PAGE_SIZE))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(PAGE_SIZE)) and 1 <= int(text) <= PAGE_SIZE):
        raise RequestError(400, f"limit must be a number from 1 to {PAGE_SIZE}")
    return int(text)


def _amount(request: func.HttpRequest, name: str, default: str = "") -> float:
    try:
        amount = float(request.params.get(name, default))
    except ValueError:
        amount = math.nan
    if not 0 <= amount <= MAX_AMOUNT:
        raise RequestError(400, f"{name} must be a number from 0 to {MAX_AMOUNT:,}")
    return amount


def _device_id(request: func.HttpRequest) -> str:
    device_id: str = request.route_params["deviceId"]
    if not is_device_id(device_id):
        raise RequestError(400, "that is no device id")
    return device_id


def _check_viewer(viewer: str) -> None:
    if not _VIEWER.fullmatch(viewer):
        raise RequestError(400, "a viewer's id has 22 to 128 characters of A-Z, a-z, 0-9, _ and -, chosen at random")


def _time(value: str | float) -> int:
    try:
        return milliseconds(int(value) if isinstance(value, str) and value.isdecimal() else value)
    except Refusal as refusal:
        raise RequestError(400, f"validFrom: {refusal}") from None

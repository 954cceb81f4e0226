"""The local cloud: IoT Hub, Functions and SignalR Service in one process on one data directory.

Order of the start: what answers before what asks (SignalR, the hub's log, the function app, the devices' listeners,
the page). The stop goes the other way: devices first, so that nothing more is acknowledged, viewers last, so that they
hear of the last batch and are told to come back.
"""

import asyncio
import contextlib
import gc
import logging
import os
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from localcloud.addresses import addresses_of, is_free, is_loopback, is_unspecified, listening
from localcloud.certificates import (
    ALWAYS_CERTIFIED,
    are_certified,
    certificate_files,
    ensure_certificates,
    server_ssl_context,
)
from localcloud.data_directory import describe_running
from localcloud.exposition import exposition
from localcloud.faults.injector import FaultCounts, FaultInjector
from localcloud.faults.plan import FaultPlan
from localcloud.faults.throttled_hub import ThrottledHub
from localcloud.functions.access import origin_host
from localcloud.functions.console import format_load_error
from localcloud.functions.counters import FunctionCounters, total
from localcloud.functions.host import FunctionsHost
from localcloud.functions.invocation import Invocation
from localcloud.functions.static_site import DEFAULT_CONTENT_SECURITY_POLICY
from localcloud.functions.worker_messages import Start
from localcloud.functions.worker_pool import WorkerPool
from localcloud.iothub.event_log import SqliteEventLog
from localcloud.iothub.registry import Registry
from localcloud.iothub.rest import RegistryRest
from localcloud.iothub.server import HubServer
from localcloud.keys import Keys, load_or_create_keys
from localcloud.limits import CloudLimits
from localcloud.signalr.server import SignalRServer
from localcloud.web_server import WebServer

PREFERRED_HTTPS_PORT = 8443
EVENT_HUB_NAME = "iothub-ehub-local"
OWNER_POLICY = "iothubowner"
_SHUTDOWN_SECONDS = 0.5
_RENEWAL_SECONDS = 6 * 3600.0

_logger = logging.getLogger(__name__)


class AppError(Exception):
    """The function app cannot be loaded; its programmer must act. The text is what Azure's host would say."""


class FaultsRefusedError(Exception):
    """Faults on purpose were asked for where others would suffer from them; the operator must choose."""


class CloudSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the cloud listens and keeps its data. A port of 0 means any free one; None means no such listener.

    `https_port` None: 8443, or a free one where that is taken. `app_settings` are defaults for the app's settings.
    `workers` are processes of their own for event hub functions; 0: all in this one. They write their log and report
    their invocations where this process does, as `json_log` and `only_failures` say.
    """

    app_dir: Path
    data: Path
    static_dir: Path | None = None
    host: str = "127.0.0.1"
    hostname: str = "localhost"
    tls: bool = False
    http_port: int = 7071
    mqtt_port: int = 8883
    mqtt_plain_port: int | None = None
    https_port: int | None = None
    signalr_port: int = 8888
    partitions: int = 4
    workers: int = 0
    only_failures: bool = False
    json_log: bool = False
    app_settings: Mapping[str, str] = msgspec.field(default_factory=dict)
    content_security_policy: str = DEFAULT_CONTENT_SECURITY_POLICY
    limits: CloudLimits = CloudLimits()
    faults: FaultPlan | None = None


class LocalCloud:
    """The running cloud; `start` it once, `stop` it once. The caller holds the data directory.

    `report` gets one line per invocation of a function.
    """

    def __init__(self, settings: CloudSettings, report: Callable[[Invocation], None]) -> None:
        self._settings = settings
        self._report = report
        self._limits = settings.limits
        self._plan = settings.faults or FaultPlan()
        self._faults = FaultInjector(self._plan)
        self._fault_counts: FaultCounts | None = None
        self._app_settings = {**settings.app_settings, **self._plan.app_settings}
        self._names = _names(settings)
        self._stack = contextlib.AsyncExitStack()
        self._is_ready = False
        self._log: SqliteEventLog
        self.host: FunctionsHost
        self.hub: HubServer
        self.signalr: SignalRServer
        self.workers: WorkerPool | None = None
        self.certificates = certificate_files(settings.data / "certificates")
        self.ports: dict[str, int] = {}

    async def start(self) -> None:
        """Start everything, or nothing.

        Raises AddressError where a port is taken, FaultsRefusedError where faults are planned and others than this
        machine could come, AppError, OSError and sqlite3.Error.
        """
        settings = self._settings
        if settings.faults is not None:
            if not is_loopback(settings.host):
                raise FaultsRefusedError(
                    f"faults on purpose are for this machine alone, not for others that come to {settings.host}: "
                    "leave --faults out, or listen on a loopback address with --host"
                )
            _logger.warning("faults happen on purpose: %s", "; ".join(self._plan.describe()) or "none")
            self._fault_counts = FaultCounts()
            self._stack.callback(self._fault_counts.close)
        securing = asyncio.create_task(self._secure(), name="certificates")
        try:
            keys = load_or_create_keys(settings.data / "keys.json")
            page_tls = await securing if settings.tls else None
            await self._start_signalr(keys, page_tls)
            log = self._log = await SqliteEventLog.open(settings.data, partitions=settings.partitions)
            self._stack.push_async_callback(log.close)
            self._load_app(log, keys)
            tls = await securing
            await self._start_functions(log, keys)
            await self._start_hub(log, keys, tls)
            await self._serve("http", self.host.web_app, settings.http_port, page_tls)
        except BaseException:
            securing.cancel()
            await self._stack.aclose()
            raise
        renewal = asyncio.create_task(self._renew_certificates(tls), name="certificates")
        self._stack.callback(renewal.cancel)
        # What the start made stays: a full collection need not walk it, which took 27 ms each time.
        gc.freeze()
        self._is_ready = True
        describe_running(settings.data, self.facts())

    async def stop(self) -> None:
        """Stop within 2 s; what was acknowledged is on disk."""
        self._is_ready = False
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """Where the page and the functions are."""
        return f"{self._scheme}://{self._settings.hostname}:{self.ports['http']}/"

    @property
    def signalr_url(self) -> str:
        """Where SignalR is."""
        return f"{self._scheme}://{self._settings.hostname}:{self.ports['signalr']}/"

    def lag(self) -> Iterator[tuple[str, str, int, int]]:
        """Tell how many events each function has not finished: function, consumer group, partition, events."""
        ends = self._log.ends
        elsewhere = self.workers.positions() if self.workers else {}
        for function, group, positions in self.host.positions():
            finished = positions | elsewhere.get(function, {})
            for partition, end in enumerate(ends):
                yield function, group, partition, end - 1 - finished.get(partition, -1)

    def function_counters(self) -> dict[str, FunctionCounters]:
        """What was counted by function, in this process and in the workers."""
        return total([self.host.counters, self.workers.counters() if self.workers else {}])

    def fault_counts(self) -> Mapping[str, int] | None:
        """How often what happened on purpose, in this process and in the workers; None where nothing shall."""
        if self._fault_counts is None:
            return None
        return Counter(self._fault_counts.counts) + Counter(self.workers.faults() if self.workers else {})

    def facts(self) -> dict[str, Any]:
        """What other processes need to know of the running cloud."""
        return {
            "url": self.url,
            "hostname": self._settings.hostname,
            "caFile": str(self.certificates.ca_file),
            "ports": self.ports,
            "pid": os.getpid(),
            "consumerGroups": {group: function for function, group, _ in self.host.positions()},
        }

    @property
    def _scheme(self) -> str:
        return "https" if self._settings.tls else "http"

    async def _secure(self) -> ssl.SSLContext:
        """See to certificates; beside the rest of a start, since to issue the first ones takes nearly as long."""
        directory = self._settings.data / "certificates"
        if not are_certified(directory, self._names):  # in a thread even this took 30 ms beside the rest
            await asyncio.to_thread(ensure_certificates, directory, self._names)
        return server_ssl_context(self.certificates)

    async def _renew_certificates(self, tls: ssl.SSLContext) -> None:
        """Look now and then whether the certificate nears its end: a cloud may run for years.

        Whoever connects after that is shown the new one; the context is in use by this loop, and changed in it.
        """
        directory = self._settings.data / "certificates"
        while True:
            await asyncio.sleep(_RENEWAL_SECONDS)
            try:
                files = await asyncio.to_thread(ensure_certificates, directory, self._names)
                tls.load_cert_chain(files.certificate_file, files.key_file)
            except Exception:
                _logger.exception("the certificate could not be looked after; trying again in %s s", _RENEWAL_SECONDS)

    async def _start_signalr(self, keys: Keys, tls: ssl.SSLContext | None) -> None:
        self.signalr = SignalRServer(keys.signalr, allowed_origins=self._allows_origin, limits=self._limits.signalr)
        self._stack.push_async_callback(self.signalr.stop)
        with listening(self._settings.host, self._settings.signalr_port, "--signalr-port"):
            self.ports["signalr"] = await self.signalr.start(self._settings.host, self._settings.signalr_port, tls)

    def _allows_origin(self, origin: str) -> bool:
        return origin_host(origin) in self._names

    def _load_app(self, log: SqliteEventLog, keys: Keys) -> None:
        settings = self._settings
        try:
            self.host = FunctionsHost(
                settings.app_dir,
                event_hub=lambda _namespace, _name: log,
                keys=keys,
                settings=self._app_settings,
                connections=self._connections(log, keys),
                static_dir=settings.static_dir,
                allowed_hosts=self._names,
                report=self._report,
                health=lambda: self._is_ready,
                metrics=lambda: exposition(self),
                ca_file=self.certificates.ca_file,
                content_security_policy=settings.content_security_policy,
                limits=self._limits.functions,
                faults=self._faults,
            )
        except Exception as error:
            raise AppError(format_load_error(error, settings.app_dir)) from error
        self._stack.push_async_callback(self.host.stop)

    async def _start_functions(self, log: SqliteEventLog, keys: Keys) -> None:
        settings = self._settings
        if not settings.workers:
            await self.host.start()
            return
        await self.host.start(partitions=())
        start = Start(
            app_dir=str(settings.app_dir),
            data=str(settings.data),
            app_settings=self._app_settings,
            connections=self._connections(log, keys),
            ca_file=str(self.certificates.ca_file),
            verbose=logging.getLogger().isEnabledFor(logging.INFO),
            only_failures=settings.only_failures,
            json_log=settings.json_log,
            faults=settings.faults,
        )
        self.workers = WorkerPool(settings.workers, log.partitions, start)
        self._stack.push_async_callback(self.workers.stop)
        log.listen(self.workers.announce)
        await self.workers.start()

    async def _start_hub(self, log: SqliteEventLog, keys: Keys, tls: ssl.SSLContext) -> None:
        settings = self._settings
        registry = Registry.open(settings.data / "hub.db")
        self._stack.callback(registry.close)
        policies = {OWNER_POLICY: keys.iothubowner}
        self.hub = self._make_hub(
            registry=registry,
            log=self._faults.event_log(log),
            hostnames=self._names,
            policies=policies,
            limits=self._limits.iothub,
        )
        self._stack.push_async_callback(self.hub.stop)
        await self._listen("mqtt", settings.mqtt_port, tls)
        if settings.mqtt_plain_port is not None:
            await self._listen("mqtt-plain", settings.mqtt_plain_port, None)
        port = settings.https_port
        if port is None:
            port = PREFERRED_HTTPS_PORT if is_free(settings.host, PREFERRED_HTTPS_PORT) else 0
        rest = RegistryRest(self.hub).app
        if isinstance(self.hub, ThrottledHub):
            rest.middlewares.append(self.hub.refuse_beyond_quota)
        await self._serve("https", rest, port, tls)

    def _make_hub(self, **options: Any) -> HubServer:
        return ThrottledHub(self._plan.throttle, **options) if self._plan.throttle else HubServer(**options)

    async def _listen(self, name: str, port: int, tls: ssl.SSLContext | None) -> None:
        with listening(self._settings.host, port, f"--{name}-port"):
            self.ports[name] = await self.hub.start(self._settings.host, port, tls)

    async def _serve(self, name: str, app: web.Application, port: int, tls: ssl.SSLContext | None) -> None:
        server = WebServer(app, self._limits.web, shutdown_seconds=_SHUTDOWN_SECONDS, on_refused=_turn_away)
        self._stack.push_async_callback(server.stop)
        with listening(self._settings.host, port, f"--{name}-port"):
            self.ports[name] = await server.start(self._settings.host, port, tls)

    def _connections(self, log: SqliteEventLog, keys: Keys) -> dict[str, str]:
        """The connection strings of this cloud's own services, by binding type, for settings that name none."""
        settings = self._settings
        # Where every address is listened on, the function app comes by loopback: its certificate holds for that too.
        host = "localhost" if is_unspecified(settings.host) else settings.host
        signalr = f"Endpoint={self._scheme}://{host};Port={self.ports['signalr']};AccessKey={keys.signalr};Version=1.0;"
        # No two logs share a name, as no two Event Hubs of Azure do: who keeps positions by it must not take a log made
        # anew, or another machine's, for the one that it read. And a log keeps its name whatever the hostname is.
        hub = (
            f"Endpoint=sb://localcloud/;SharedAccessKeyName={OWNER_POLICY};"
            f"SharedAccessKey={keys.iothubowner};EntityPath={EVENT_HUB_NAME}-{log.log_id.hex()[:16]}"
        )
        return {"eventHubTrigger": hub, "signalR": signalr, "signalRConnectionInfo": signalr}


def _turn_away(peer: str) -> None:
    _logger.warning("%s turned away: as many HTTP connections are open as may be", peer)


def _names(settings: CloudSettings) -> list[str]:
    """The names and addresses by which clients may come; a device may know no other than an address."""
    own = [] if is_unspecified(settings.host) else [settings.host]
    return list(dict.fromkeys([*ALWAYS_CERTIFIED, settings.hostname.lower(), *own, *addresses_of(settings.hostname)]))

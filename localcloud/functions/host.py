"""The Functions host: composes an app's functions with their triggers and bindings, starts and stops them.

Rule: what the app asks for and this host cannot do (a queue trigger, say) is named and left out, never half done.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from localcloud.faults.injector import FaultInjector
from localcloud.faults.plan import FaultPlan
from localcloud.functions.access import LOOPBACK_HOSTS, cors_rules
from localcloud.functions.app import AppFunction, connection_name, load_app
from localcloud.functions.bindings import event_hub_address
from localcloud.functions.configuration import apply_settings, read_host_json, read_local_settings, time_span
from localcloud.functions.eventhub_trigger import BatchLimits, EventHubTrigger
from localcloud.functions.http import HttpFunction, HttpHost, HttpLimits, http_function
from localcloud.functions.invocation import Invocation, Invoker
from localcloud.functions.signalr_binding import SignalRConnectionInfo, SignalROutput
from localcloud.functions.static_site import DEFAULT_CONTENT_SECURITY_POLICY, StaticSite, plain_page
from localcloud.functions.timer import TimerTrigger
from localcloud.keys import Keys

if TYPE_CHECKING:
    from aiohttp import ClientSession, web

    from localcloud.functions.counters import FunctionCounters
    from localcloud.iothub.event_log import EventLog

logger = logging.getLogger(__name__)

_STOP_SECONDS = 1.5
_TRIGGERS = frozenset({"httpTrigger", "eventHubTrigger", "timerTrigger"})
_INPUTS = frozenset({"signalRConnectionInfo"})
_OUTPUTS = frozenset({"http", "signalR"})


class FunctionInfo(msgspec.Struct, frozen=True):
    """One row of the table that is shown at the start. `problem` tells why a function does not run here."""

    name: str
    trigger: str
    detail: str
    methods: str = ""
    url: str = ""
    level: str = ""
    problem: str = ""


class DuplicateConsumerGroupError(ValueError):
    """Two functions read one event hub with one consumer group: in Azure each would get a part of the events."""


def _ignore(_: Invocation) -> None:
    pass


def _harmless(report: Callable[[Invocation], None]) -> Callable[[Invocation], None]:
    """Keep a report's own failure (a closed terminal, say) from failing what it tells of."""

    def reported(invocation: Invocation) -> None:
        try:
            report(invocation)
        except Exception:
            logger.exception("an invocation of %s could not be reported", invocation.function)

    return reported


class FunctionsHost:
    """Runs the function app in `app_dir`. Construct it in the event loop's thread; the app is imported at once.

    `settings` are defaults for app settings; the environment and local.settings.json win. `connections` are connection
    strings by binding type, for bindings whose own setting is missing. `event_hub` gives the log for a namespace's
    host name and an event hub's name. `report` gets one line per invocation. `ca_file` is trusted
    besides the system's certificates when messages go to a SignalR service over TLS. `faults` happen on purpose.
    Raises ConfigurationError, SettingError, RouteError, ScheduleError, DuplicateConsumerGroupError,
    and what fails the app's indexing in Azure.
    """

    def __init__(
        self,
        app_dir: Path,
        *,
        event_hub: "Callable[[str, str], EventLog]",
        keys: Keys,
        settings: Mapping[str, str] | None = None,
        connections: Mapping[str, str] | None = None,
        static_dir: Path | None = None,
        allowed_hosts: Iterable[str] = LOOPBACK_HOSTS,
        report: Callable[[Invocation], None] = _ignore,
        health: Callable[[], bool] = lambda: True,
        metrics: Callable[[], str] | None = None,
        ca_file: Path | None = None,
        content_security_policy: str = DEFAULT_CONTENT_SECURITY_POLICY,
        limits: HttpLimits | None = None,
        faults: FaultInjector | None = None,
        environment: MutableMapping[str, str] = os.environ,
    ) -> None:
        local = read_local_settings(app_dir)
        apply_settings(environment, local, settings or {})
        self._environment = environment
        self._configuration = read_host_json(app_dir, environment)
        self._event_hub = event_hub
        self._report = _harmless(report)
        self._ca_file = ca_file
        self._faults = faults or FaultInjector(FaultPlan())
        self._threads = _thread_pool(environment)
        self._session: ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self._outputs_use_tls = False
        self._event_hubs: list[EventHubTrigger] = []
        self._timers: list[TimerTrigger] = []
        self._http: list[HttpFunction] = []
        self._skipped: list[FunctionInfo] = []
        self.counters: dict[str, FunctionCounters] = {}
        """By function name; the host writes them, anyone may read."""
        for function in load_app(app_dir, environment):
            _connect(function, connections or {}, environment)
            self._add(function)
        self._refuse_shared_groups()
        http = self._configuration.extensions.http
        self.web_app: web.Application = HttpHost(
            self._http,
            prefix=http.route_prefix,
            keys=keys,
            rules=cors_rules(allowed_hosts, local.host.cors, credentials=local.host.cors_credentials),
            limits=_with_outstanding(limits or HttpLimits(), http.max_outstanding_requests),
            report=self._report,
            site=StaticSite(static_dir, content_security_policy) if static_dir else None,
            index=lambda: plain_page(
                [(row.methods, row.url) for row in self.describe("") if row.url], static_dir, content_security_policy
            ),
            health=health,
            metrics=metrics,
        ).application()

    def _add(self, function: AppFunction) -> None:
        problem = _unsupported(function)
        if problem:
            logger.warning("function %s does not run here: %s", function.name, problem)
            detail = function.trigger.type
            self._skipped.append(FunctionInfo(function.name, function.trigger.type, detail, problem=problem))
            return
        invoker = self._invoker(function)
        self.counters[function.name] = invoker.counters
        if function.trigger.type == "httpTrigger":
            self._http.append(http_function(invoker, self._configuration.extensions.http.route_prefix))
        elif function.trigger.type == "timerTrigger":
            self._timers.append(TimerTrigger(invoker, report=self._report))
        else:
            self._event_hubs.append(self._event_hub_trigger(invoker))

    def _invoker(self, function: AppFunction) -> Invoker:
        settings = self._environment
        outputs = {
            binding.name: SignalROutput(binding, settings, self._client)
            for binding in function.outputs
            if binding.type == "signalR"
        }
        self._outputs_use_tls |= any(output.uses_tls for output in outputs.values())
        return Invoker(
            self._faults.function(function),
            inputs={binding.name: SignalRConnectionInfo(binding, settings) for binding in function.inputs},
            outputs={name: self._faults.output(function.name, output) for name, output in outputs.items()},
            threads=self._threads,
            timeout=time_span(self._configuration.function_timeout),
        )

    def _event_hub_trigger(self, invoker: Invoker) -> EventHubTrigger:
        trigger = invoker.function.trigger
        address = event_hub_address(connection_name(trigger), trigger.text("eventHubName"), self._environment)
        options = self._configuration.extensions.event_hubs
        return EventHubTrigger(
            invoker,
            self._faults.event_log(self._event_hub(address.namespace, address.name)),
            address,
            limits=BatchLimits(
                options.max_event_batch_size, options.min_event_batch_size, time_span(options.max_wait_time) or 0.0
            ),
            report=self._report,
        )

    def _refuse_shared_groups(self) -> None:
        seen: dict[tuple[str, str], str] = {}
        for trigger in self._event_hubs:
            key, name = (trigger.address.name.lower(), trigger.group.lower()), trigger.invoker.function.name
            if key in seen:
                raise DuplicateConsumerGroupError(
                    f"the functions {seen[key]} and {name} read the event hub {trigger.address.name} with the same "
                    f"consumer group {trigger.group}: give each its own, or each gets only a part of the events"
                )
            seen[key] = name

    def _client(self) -> "ClientSession":
        import aiohttp  # noqa: PLC0415  # an app without SignalR need not load the client

        if self._session is None:
            # The pause is shorter than a server's, so that a kept connection is rarely closed as it is used again.
            connector = aiohttp.TCPConnector(limit=32, keepalive_timeout=15, ssl=self._tls or True)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session

    @property
    def partitions(self) -> set[int]:
        """The partitions of event hubs that are read."""
        return {number for trigger in self._event_hubs for number in trigger.partitions}

    async def run_partitions(self, partitions: Collection[int]) -> None:
        """Read these partitions of the event hubs and no others; what runs on another may finish within 1.5 s."""
        await asyncio.gather(*(trigger.run(partitions, _STOP_SECONDS) for trigger in self._event_hubs))

    async def start(self, partitions: Collection[int] | None = None, *, timers: bool = True) -> None:
        """Start reading event hubs, all partitions by default, and timers.

        Serve `web_app` after it. Raises what the event log raises, OSError.
        """
        if self._outputs_use_tls:
            self._tls = await asyncio.to_thread(_tls_context, self._ca_file)
        for trigger in self._event_hubs:
            await trigger.start(partitions)
        for timer in self._timers if timers else ():
            timer.start()

    async def stop(self) -> None:
        """End within 2 s: what runs may finish, then it is cancelled, and its batch comes again."""
        await asyncio.gather(
            *(trigger.stop(_STOP_SECONDS) for trigger in self._event_hubs),
            *(timer.stop(_STOP_SECONDS) for timer in self._timers),
        )
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._threads.shutdown(wait=False, cancel_futures=True)

    def positions(self) -> list[tuple[str, str, dict[int, int]]]:
        """Tell per event hub function its name, its consumer group and, by partition that is read, what it finished."""
        return [(hub.invoker.function.name, hub.group, hub.positions) for hub in self._event_hubs]

    def describe(self, base_url: str) -> list[FunctionInfo]:
        """Return a row per function, HTTP functions with their full URL under `base_url`."""
        base = base_url.rstrip("/")
        rows = [
            FunctionInfo(
                function.name,
                "httpTrigger",
                f"/{function.route.template}",
                methods=",".join(sorted(function.methods)) or "ANY",
                url=f"{base}/{function.route.template}",
                level=function.level,
            )
            for function in self._http
        ]
        rows += [
            FunctionInfo(hub.invoker.function.name, "eventHubTrigger", f"{hub.address.name}, group {hub.group}")
            for hub in self._event_hubs
        ]
        rows += [
            FunctionInfo(timer.invoker.function.name, "timerTrigger", timer.schedule_text) for timer in self._timers
        ]
        return rows + self._skipped


def _unsupported(function: AppFunction) -> str:
    """Tell which of the function's bindings this host lacks; "" when it has all."""
    if function.trigger.type not in _TRIGGERS:
        return f"this host has no {function.trigger.type}"
    for known, bindings in ((_INPUTS, function.inputs), (_OUTPUTS, function.outputs)):
        for binding in bindings:
            if binding.type not in known:
                return f"this host has no {binding.type} binding ({binding.name})"
    return ""


def _with_outstanding(limits: HttpLimits, configured: int) -> HttpLimits:
    if limits.outstanding_requests is not None:
        return limits
    return msgspec.structs.replace(limits, outstanding_requests=configured)


def _connect(function: AppFunction, connections: Mapping[str, str], settings: MutableMapping[str, str]) -> None:
    """Set the connection strings that the function's bindings name and nobody has set."""
    for binding in (function.trigger, *function.inputs, *function.outputs):
        name = connection_name(binding)
        if name and not settings.get(name) and binding.type in connections:
            settings[name] = connections[binding.type]


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()  # 20 ms: not in the event loop
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def _thread_pool(settings: Mapping[str, str]) -> ThreadPoolExecutor:
    count = settings.get("PYTHON_THREADPOOL_THREAD_COUNT", "")
    workers = int(count) if count.isdecimal() and int(count) > 0 else None
    return ThreadPoolExecutor(workers, thread_name_prefix="function")

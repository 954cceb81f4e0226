"""What the running cloud counts, in Prometheus' text format, and after it what the app counts.

The app's are whatever stands in prometheus_client's default registry: a function app that uses that library, the usual
one, sees its figures here without further ado. This process's own (memory, processor time, start) stand there as well.
With function workers it is the sum over all processes.
"""

from typing import TYPE_CHECKING, Any

from localcloud.figures import app_figures
from localcloud.functions.counters import DURATION_BOUNDS, FunctionCounters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from localcloud.cloud import LocalCloud


def exposition(cloud: "LocalCloud") -> str:
    """Return the metrics as text."""
    # Imported at the first scrape: whoever does not scrape does not pay for it.
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(cloud))
    figures = app_figures() if cloud.workers is None else cloud.workers.figures(app_figures())
    return generate_latest(registry).decode() + figures


class _Collector:
    def __init__(self, cloud: "LocalCloud") -> None:
        self._cloud = cloud

    def collect(self) -> "Iterator[Metric]":
        """See prometheus_client's custom collectors."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415

        hub, signalr = self._cloud.hub.counters, self._cloud.signalr.counters
        yield GaugeMetricFamily("iothub_connections", "Open sockets of devices.", value=hub.connections)
        for name in ("accepted", "messages", "bytes", "turned_away", "delayed"):
            yield CounterMetricFamily(f"iothub_{name}", _HUB[name], value=getattr(hub, name))
        closed = CounterMetricFamily("iothub_closed", "Connections that ended, by reason.", labels=["reason"])
        for reason, count in hub.closed.items():
            closed.add_metric([reason], count)
        yield closed
        yield GaugeMetricFamily("signalr_connections", "Connections of viewers.", value=signalr.connections)
        for name in signalr.__struct_fields__:
            if name != "connections":
                yield CounterMetricFamily(f"signalr_{name}", _SIGNALR.get(name, name), value=getattr(signalr, name))
        if self._cloud.workers is not None:
            yield GaugeMetricFamily("function_workers", "Function workers that run.", value=self._cloud.workers.live)
        yield from _functions(self._cloud.function_counters())
        lag = GaugeMetricFamily(
            "eventhub_lag_events", "Events not yet finished.", labels=["function", "consumer_group", "partition"]
        )
        for function, group, partition, behind in self._cloud.lag():
            lag.add_metric([function, group, str(partition)], behind)
        yield lag
        if (counts := self._cloud.fault_counts()) is not None:
            faults = CounterMetricFamily("injected_faults", "What went wrong on purpose.", labels=["fault"])
            for fault, count in counts.items():
                faults.add_metric([fault], count)
            yield faults


_HUB = {
    "accepted": "Connections accepted.",
    "messages": "Messages received.",
    "bytes": "Bytes of messages received.",
    "turned_away": "Connections for which there was no place.",
    "delayed": "Connections that waited because their device connects too often.",
}
_SIGNALR = {
    "negotiated": "Connections negotiated.",
    "connected": "Connections made.",
    "messages": "Messages sent to hubs, groups, users or connections.",
    "deliveries": "Messages delivered, one per connection.",
    "refused_tokens": "Requests with a token that opens nothing.",
    "refused_connections": "Connections for which there was no place.",
    "protocol_errors": "Connections ended because their peer broke the protocol.",
    "timed_out": "Connections ended because their peer said nothing.",
    "too_slow": "Connections ended because their peer did not read.",
}


def _functions(counters: dict[str, FunctionCounters]) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily  # noqa: PLC0415

    for name, help_text in (
        ("invocations", "Invocations."),
        ("failures", "Invocations that failed."),
        ("retries", "Invocations that were retries."),
        ("events", "Events given to functions."),
    ):
        family: Any = CounterMetricFamily(f"function_{name}", help_text, labels=["function"])
        for function, counted in counters.items():
            family.add_metric([function], getattr(counted, name))
        yield family
    durations: Any = HistogramMetricFamily("function_duration_seconds", "Invocations.", labels=["function"])
    for function, counted in counters.items():
        durations.add_metric([function], _buckets(counted), counted.duration_seconds)
    yield durations


def _buckets(counted: FunctionCounters) -> list[tuple[str, float]]:
    """Prometheus' buckets are cumulative, the host's are not."""
    bounds = [*map(str, DURATION_BOUNDS), "+Inf"]
    sums, total = [], 0
    for bound, count in zip(bounds, counted.durations, strict=True):
        total += count
        sums.append((bound, float(total)))
    return sums

"""The instruments in Prometheus' default registry, for whoever serves it: the local host does, at /metrics."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from enviromon.errors import SettingsError
from enviromon.instruments import INSTRUMENTS, Attributes, Instrument

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

_UNITS = {"s": "_seconds", "By": "_bytes", "1": ""}


class PrometheusRecorder:
    """See Recorder; there are no traces. Raises SettingsError where prometheus_client is not installed."""

    def __init__(self) -> None:
        try:
            from prometheus_client import Counter, Histogram  # noqa: PLC0415 - not there on Azure
        except ImportError as error:
            raise SettingsError("INSTRUMENTS is `prometheus`, which needs the package prometheus-client") from error
        self._metrics: dict[Instrument, Counter | Histogram] = {
            instrument: _made(
                instrument, partial(Histogram, buckets=instrument.bounds) if instrument.bounds else Counter
            )
            for instrument in INSTRUMENTS
        }
        self._recording: dict[tuple[str, ...], Callable[[float], None]] = {}

    def add(self, instrument: Instrument, amount: float, *labels: str) -> None:
        """See Recorder."""
        key = (instrument.name, *labels)
        record = self._recording.get(key)
        if record is None:
            record = self._recording[key] = self._record(instrument, labels)
        record(amount)

    def _record(self, instrument: Instrument, labels: tuple[str, ...]) -> Callable[[float], None]:
        metric = self._metrics[instrument]
        child: Any = metric.labels(*labels) if labels else metric
        record: Callable[[float], None] = child.observe if instrument.bounds else child.inc
        return record

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[object]:  # noqa: ARG002
        """See Recorder."""
        return nullcontext()


def _made(instrument: Instrument, make: Callable[..., "Counter | Histogram"]) -> "Counter | Histogram":
    return make(instrument.name.replace(".", "_") + _UNITS[instrument.unit], instrument.help, instrument.labels)


@cache
def prometheus_recorder() -> PrometheusRecorder:
    """Return the process's one: the default registry takes each name once."""
    return PrometheusRecorder()

"""What the solution measures of itself: THE table of instruments, and the port by which their values leave.

Values are recorded per batch and per call of a store, never per message. The adapters are chosen by the setting
INSTRUMENTS and imported then: `prometheus` (Prometheus' default registry, which the local host shows at /metrics) and
`opentelemetry` (whatever provider the process has: on Azure the worker's, which sends to Application Insights).
Names here are OpenTelemetry's; Prometheus has underscores and its suffixes: enviromon_readings_total.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, Protocol

from msgspec import Struct

Attributes = Mapping[str, str | int]

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MESSAGES: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


class Instrument(Struct, frozen=True):
    """A counter (no bounds) or a histogram (upper bounds of its buckets); `unit` is UCUM's, as OpenTelemetry wants."""

    name: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


READINGS: Final = Instrument("enviromon.readings", "1", "Readings by what became of them.", ("outcome",))
DEAD_LETTERS: Final = Instrument(
    "enviromon.dead_letters", "1", "Readings written as dead letters, those of redelivered batches again.", ("reason",)
)
BATCH_MESSAGES: Final = Instrument("enviromon.batch_messages", "1", "Messages a batch.", bounds=MESSAGES)
INGEST_SECONDS: Final = Instrument("enviromon.ingest", "s", "Batches brought into the stores.", bounds=SECONDS)
FAILED_BATCHES: Final = Instrument("enviromon.failed_batches", "1", "Batches that must come again.", ("error",))
RETRIED_BATCHES: Final = Instrument("enviromon.retried_batches", "1", "Batches that came again.")
PUBLISHED_BYTES: Final = Instrument("enviromon.published", "By", "What was sent to viewers, for one of them.")
PUBLISHED_DEVICES: Final = Instrument("enviromon.published_devices", "1", "Devices' states sent to viewers.")
STATE_WRITES: Final = Instrument(
    "enviromon.state_writes", "1", "Compare-and-sets of a device's state by their outcome.", ("outcome",)
)
STORAGE_SECONDS: Final = Instrument(
    "enviromon.storage", "s", "Calls of a store.", ("store", "operation"), bounds=SECONDS
)
STORAGE_FAILURES: Final = Instrument(
    "enviromon.storage_failures", "1", "Calls of a store that failed.", ("store", "operation", "error")
)

INSTRUMENTS: Final = (
    READINGS,
    DEAD_LETTERS,
    BATCH_MESSAGES,
    INGEST_SECONDS,
    FAILED_BATCHES,
    RETRIED_BATCHES,
    PUBLISHED_BYTES,
    PUBLISHED_DEVICES,
    STATE_WRITES,
    STORAGE_SECONDS,
    STORAGE_FAILURES,
)


class Recorder(Protocol):
    """Where values go. `labels` are the values of the instrument's labels, in their order. Nothing is raised."""

    def add(self, instrument: Instrument, amount: float, *labels: str) -> None:
        """Add to a counter, or one value to a histogram."""

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[object]:
        """Trace what happens in the block; an exception that leaves it is noted in the trace."""


class NoRecorder:
    """Records nothing."""

    def add(self, instrument: Instrument, amount: float, *labels: str) -> None:
        """See Recorder."""

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[object]:  # noqa: ARG002
        """See Recorder."""
        return nullcontext()


def open_recorder(kind: Literal["none", "prometheus", "opentelemetry"]) -> Recorder:
    """Choose the adapter. Raises SettingsError where its packages are not installed."""
    if kind == "prometheus":
        from enviromon.instruments.prometheus import prometheus_recorder  # noqa: PLC0415 - as the setting asks

        return prometheus_recorder()
    if kind == "opentelemetry":
        from enviromon.instruments.opentelemetry import opentelemetry_recorder  # noqa: PLC0415 - the same

        return opentelemetry_recorder()
    return NoRecorder()

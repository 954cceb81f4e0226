"""The instruments and traces by OpenTelemetry's API, to the process's providers.

On Azure the worker sets the providers up for Application Insights (PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY=true).
Where nobody has and OTEL_EXPORTER_OTLP_ENDPOINT is set, this sends everything there by OTLP over HTTP; the variables
of https://opentelemetry.io/docs/specs/otel/protocol/exporter/ hold.
"""

import logging
import os
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING

from enviromon.errors import SettingsError
from enviromon.instruments import INSTRUMENTS, Attributes, Instrument

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import Meter

SCOPE = "enviromon"
OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"

_log = logging.getLogger(__name__)


class OpenTelemetryRecorder:
    """See Recorder. Raises SettingsError where opentelemetry-api is not installed."""

    def __init__(self) -> None:
        try:
            from opentelemetry import metrics, trace  # noqa: PLC0415 - optional
        except ImportError as error:
            raise SettingsError("INSTRUMENTS is `opentelemetry`, which needs the package opentelemetry-api") from error
        meter = metrics.get_meter(SCOPE)
        self._tracer = trace.get_tracer(SCOPE)
        self._record = {instrument: _instrument(meter, instrument) for instrument in INSTRUMENTS}

    def add(self, instrument: Instrument, amount: float, *labels: str) -> None:
        """See Recorder."""
        self._record[instrument](amount, dict(zip(instrument.labels, labels, strict=True)))

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[object]:
        """See Recorder."""
        return self._tracer.start_as_current_span(name, attributes=attributes)


def _instrument(meter: "Meter", instrument: Instrument) -> "Callable[[float, dict[str, str]], None]":
    name, unit, text = instrument.name, instrument.unit, instrument.help
    if not instrument.bounds:
        return meter.create_counter(name, unit, text).add
    bounds = instrument.bounds
    return meter.create_histogram(name, unit, text, explicit_bucket_boundaries_advisory=bounds).record


@cache
def opentelemetry_recorder() -> OpenTelemetryRecorder:
    """Return the process's one. Raises SettingsError where OTLP is wanted and its packages are not installed."""
    if OTLP_ENDPOINT in os.environ:
        send_by_otlp()
    return OpenTelemetryRecorder()


def send_by_otlp() -> None:
    """Give the process providers that send by OTLP, unless it has some."""
    try:
        from opentelemetry import metrics, trace  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(f"{OTLP_ENDPOINT} needs the package opentelemetry-exporter-otlp-proto-http") from error
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        _log.info("this process has an OpenTelemetry provider already; %s is left to it", OTLP_ENDPOINT)
        return
    tracing = TracerProvider()
    tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracing)
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))

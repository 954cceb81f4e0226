"""What a running system says of itself at /metrics, as far as the command line needs it."""

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from enviromon.errors import EnviromonError

TIMEOUT_SECONDS = 10
TELEMETRY = {"function": "telemetry"}


class Figures(Struct, frozen=True, kw_only=True):
    """Sums since the start of the system, taken at `at` (seconds of a steady clock)."""

    at: float
    uptime: float
    messages: float
    message_bytes: float
    executions: float
    execution_seconds: float
    published_bytes: float
    published_devices: float
    viewers: int


class Samples:
    """The samples of one answer, by name and labels."""

    def __init__(self, text: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def sum(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """Add up the samples of that name whose labels are (at least) those; 0 where there are none."""
        wanted = (labels or {}).items()
        return sum(sample.value for sample in self._samples if sample.name == name and wanted <= sample.labels.items())


def read_figures(running: Mapping[str, Any]) -> Figures:
    """Ask the running system. Raises EnviromonError where it does not answer."""
    samples = Samples(_get(f"{running['url']}metrics", running["caFile"]))
    return Figures(
        at=time.monotonic(),
        uptime=max(1.0, time.time() - samples.sum("process_start_time_seconds")),
        messages=samples.sum("iothub_messages_total"),
        message_bytes=samples.sum("iothub_bytes_total"),
        executions=samples.sum("function_duration_seconds_count", TELEMETRY),
        execution_seconds=samples.sum("function_duration_seconds_sum", TELEMETRY),
        published_bytes=samples.sum("enviromon_published_bytes_total"),
        published_devices=samples.sum("enviromon_published_devices_total"),
        viewers=int(samples.sum("signalr_connections")),
    )


def _get(url: str, ca_file: str) -> str:
    context = ssl.create_default_context(cafile=ca_file) if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS, context=context) as answer:  # noqa: S310 - our own
            text: str = answer.read().decode()
    except (urllib.error.URLError, OSError) as error:
        raise EnviromonError(f"the running system does not answer at {url}: {error}") from None
    return text

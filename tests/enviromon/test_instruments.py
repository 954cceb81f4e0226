"""What is recorded while batches are taken in, read where it leaves: Prometheus' registry, the exporters' requests."""

import json
import subprocess
import sys
import zlib
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from enviromon.api import Api
from enviromon.application import Application
from enviromon.device_state import DeviceState
from enviromon.errors import StorageError
from enviromon.ingest import Ingest
from enviromon.instruments import INSTRUMENTS, NoRecorder, open_recorder
from enviromon.instruments.prometheus import prometheus_recorder
from enviromon.settings import Settings
from enviromon.stores import Change, Stored
from enviromon.stores.observed import observed
from tests.enviromon.world import Troubled, body, event, with_devices
from tests.http_servers import answering


@pytest.fixture
def grown(monkeypatch):
    """How much a sample of the default registry has grown since the test began; it outlives tests."""
    monkeypatch.setenv("INSTRUMENTS", "prometheus")
    prometheus_recorder()

    def samples():
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
        }

    before = samples()

    def growth(name, **labels):
        key = (name, *sorted(labels.items()))
        return samples().get(key, 0) - before.get(key, 0)

    return growth


async def test_a_batch_is_told_by_outcome_reason_size_and_duration(grown, app):
    content = [body(temperature=20), body(temperature=21), body(temperature=999), b"?"]
    await app.telemetry(*(event(sequence, one) for sequence, one in enumerate(content)))
    await app.telemetry(event(3, b"?"), event(4, body(temperature=22)), retries=2)
    assert grown("enviromon_readings_total", outcome="accepted") == 3
    assert grown("enviromon_readings_total", outcome="rejected") == 2
    assert grown("enviromon_readings_total", outcome="duplicate") == 1
    assert grown("enviromon_dead_letters_total", reason="range") == 1
    assert grown("enviromon_batch_messages_sum") == 6
    assert grown("enviromon_batch_messages_count") == grown("enviromon_ingest_seconds_count") == 2
    assert grown("enviromon_ingest_seconds_sum") > 0
    assert grown("enviromon_retried_batches_total") == 1


async def test_what_viewers_get_is_weighed(grown, app):
    await app.telemetry(event(0, body(temperature=20), device="a"), event(1, body(temperature=20), device="b"))
    assert grown("enviromon_published_devices_total") == 2
    assert 500 < grown("enviromon_published_bytes_total") < 2000


async def test_calls_of_the_stores_are_counted_and_timed(grown, app):
    await app.telemetry(event(0, body(temperature=20)))
    await app.telemetry(event(1, body(temperature=21)))
    assert grown("enviromon_storage_seconds_count", store="devices", operation="compare_and_set") == 2
    assert grown("enviromon_storage_seconds_count", store="devices", operation="load") == 1  # then it is cached
    assert grown("enviromon_storage_seconds_count", store="calibrations", operation="load") == 1
    assert grown("enviromon_state_writes_total", outcome="applied") == 2


async def test_a_conflict_is_told_apart_from_what_was_applied(grown, stores):
    watched = observed(stores, prometheus_recorder())
    for _ in range(2):
        await watched.devices.compare_and_set([Change(DeviceState("d1", revision=1), None)])
    assert grown("enviromon_state_writes_total", outcome="applied") == 1
    assert grown("enviromon_state_writes_total", outcome="conflict") == 1


async def test_a_batch_that_must_come_again_is_told_with_its_reason(grown, stores, caplog):
    recorder, settings = prometheus_recorder(), Settings()
    watched = observed(with_devices(stores, Troubled(stores.devices, "outage")), recorder)
    made = Application(watched, Ingest(watched, settings), Api(watched, settings), recorder)
    context = SimpleNamespace(retry_context=SimpleNamespace(retry_count=0))
    with pytest.raises(StorageError):
        await made.telemetry([event(4, body(temperature=20)), event(5, body(temperature=21))], context, print)
    labels = {"store": "devices", "operation": "compare_and_set", "error": "StorageError"}
    assert grown("enviromon_storage_failures_total", **labels) == 1
    assert grown("enviromon_failed_batches_total", error="StorageError") == 1
    assert grown("enviromon_readings_total", outcome="accepted") == 0
    (record,) = (record for record in caplog.records if record.name == "enviromon.application")
    assert (record.partition, record.first_sequence, record.last_sequence) == ("0", 4, 5)
    assert "must come again" in record.message


async def test_stores_that_nobody_watches_are_the_stores_themselves(stores):
    assert observed(stores, NoRecorder()) is stores
    assert isinstance(open_recorder("none"), NoRecorder)


async def test_what_is_watched_answers_as_the_store_does(stores):
    watched = observed(stores, prometheus_recorder())
    (result,) = await watched.devices.compare_and_set([Change(DeviceState("d1", revision=1), None)])
    assert await watched.devices.load(["d1"]) == {"d1": Stored(DeviceState("d1", revision=1), result.etag)}
    assert (await watched.devices.page(limit=5)).items == (await stores.devices.page(limit=5)).items


def test_every_instrument_has_a_name_of_its_own_and_a_text():
    assert len({instrument.name for instrument in INSTRUMENTS}) == len(INSTRUMENTS)
    for instrument in INSTRUMENTS:
        assert instrument.name.startswith("enviromon.")
        assert instrument.help.endswith(".")


class Collector:
    """Keeps what exporters post, by path."""

    def __init__(self):
        self.received: list[tuple[str, bytes]] = []

    def take(self, request):
        content = request.rfile.read(int(request.headers["Content-Length"]))
        if request.headers.get("Content-Encoding") == "gzip":
            content = zlib.decompress(content, 31)
        self.received.append((request.path, content))
        return {"itemsReceived": 1, "itemsAccepted": 1, "errors": []}

    def bodies(self, path):
        return [content for where, content in self.received if where.startswith(path)]


@pytest.fixture
def collector():
    made = Collector()
    with answering(made.take) as made.url:
        yield made


BATCH = """
import asyncio
from tests.enviromon.world import FunctionApp, body, event

async def main():
    app = FunctionApp()
    await app.telemetry(event(7, body(temperature=20), partition="3"), event(8, b"?", partition="3"))
    await app.close()

asyncio.run(main())
from opentelemetry import metrics, trace
trace.get_tracer_provider().force_flush()
metrics.get_meter_provider().force_flush()
"""

AS_THE_WORKER_DOES = """
from azure.monitor.opentelemetry import configure_azure_monitor
configure_azure_monitor()
"""

FLUSH_LOGS = """
from opentelemetry._logs import get_logger_provider
get_logger_provider().force_flush()
"""


def run(script, tmp_path, **environment):
    environment |= {"STORE_URL": f"sqlite://{tmp_path}/otel.db", "READ_ACCESS": "open", "INSTRUMENTS": "opentelemetry"}
    environment |= {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_otlp_carries_the_figures_and_a_trace_per_batch(collector, tmp_path):
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest  # noqa: PLC0415
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: PLC0415

    run(BATCH, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    metrics = [
        metric
        for content in collector.bodies("/v1/metrics")
        for resource in ExportMetricsServiceRequest.FromString(content).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    readings = next(metric for metric in metrics if metric.name == "enviromon.readings").sum.data_points
    counted = {point.attributes[0].value.string_value: point.as_int for point in readings}
    assert counted == {"accepted": 1, "rejected": 1}
    spans = [
        span
        for content in collector.bodies("/v1/traces")
        for resource in ExportTraceServiceRequest.FromString(content).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    (span,) = spans
    attributes = {item.key: item.value.string_value or item.value.int_value for item in span.attributes}
    assert span.name == "enviromon.ingest"
    assert attributes == {"partition": "3", "first_sequence": 7, "last_sequence": 8, "messages": 2, "retries": 0}


@pytest.mark.slow
def test_application_insights_gets_figures_traces_and_logs_with_their_dimensions(collector, tmp_path):
    key = "00000000-0000-0000-0000-000000000000"
    connection = f"InstrumentationKey={key};IngestionEndpoint={collector.url}/"
    every = {"OTEL_TRACES_SAMPLER": "microsoft.fixed_percentage", "OTEL_TRACES_SAMPLER_ARG": "1.0"}  # else by chance
    run(AS_THE_WORKER_DOES + BATCH + FLUSH_LOGS, tmp_path, APPLICATIONINSIGHTS_CONNECTION_STRING=connection, **every)
    items = [item for content in collector.bodies("/v2.1/track") for item in json.loads(content)]
    by_type = {}
    for item in items:
        by_type.setdefault(item["data"]["baseType"], []).append(item["data"]["baseData"])
    counted = {
        data["properties"]["outcome"]: data["metrics"][0]["value"]
        for data in by_type["MetricData"]
        if data["metrics"][0]["name"] == "enviromon.readings"
    }
    assert counted == {"accepted": 1, "rejected": 1}
    (span,) = by_type["RemoteDependencyData"]
    assert (span["name"], span["properties"]["partition"]) == ("enviromon.ingest", "3")
    assert (span["properties"]["first_sequence"], span["properties"]["last_sequence"]) == ("7", "8")
    (record,) = [data for data in by_type["MessageData"] if "rejected" in data["message"]]
    assert {name: record["properties"].get(name) for name in ("device", "partition", "sequence")} == {
        "device": "d1",
        "partition": "3",
        "sequence": "8",
    }

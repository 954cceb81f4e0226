"""The queries of docs/operations.md against what a running system shows and what is recorded."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from enviromon.instruments import INSTRUMENTS
from tests.system.systems import a_system
from tests.waiting import eventually

pytestmark = pytest.mark.slow

DOCUMENT = (Path(__file__).parents[2] / "docs/operations.md").read_text()
WORDS = {"sum", "max", "by", "rate", "increase", "histogram_quantile", "le"}
SUFFIXES = {"counter": {"_total"}, "gauge": {""}, "histogram": {"_bucket", "_sum", "_count"}}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


QUERIES = [line for block in blocks("promql") for line in block.splitlines()]


def names_of(query):
    """The metrics of a query, and the labels that it asks for."""
    labels = {name for names in re.findall(r"by \(([^)]*)\)", query) for name in re.split(r",\s*", names)}
    labels |= set(re.findall(r"(\w+)=\"", query))
    bare = re.sub(r"\{[^}]*\}|\[\w+\]|by \([^)]*\)", "", query)
    return set(re.findall(r"[a-z]\w*", bare)) - WORDS, labels - WORDS


@pytest.fixture(scope="module")
def exposition(tmp_path_factory):
    """What a system shows that has seen good and bad readings; none of it is made for these tests."""
    directory = tmp_path_factory.mktemp("operations")
    with a_system(directory / "data", directory / "up.log") as system:
        system.start()
        system.cli("simulate", "--devices", 2, "--rate", 100, "--count", 20)
        eventually(lambda: system.ledger()["received"] == 20)
        return list(text_string_to_metric_families(system.text("/metrics")))


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_asks_for_what_a_running_system_shows(exposition, query):
    shown = {family.name + suffix: family for family in exposition for suffix in SUFFIXES.get(family.type, {""})}
    metrics, labels = names_of(query)
    assert metrics, query
    assert metrics <= shown.keys()
    for family in (shown[name] for name in metrics):
        told = {label for sample in family.samples for label in sample.labels}
        known = {
            label
            for instrument in INSTRUMENTS
            if family.name.startswith(instrument.name.replace(".", "_"))
            for label in instrument.labels
        }
        assert labels <= told | known


def test_the_queries_are_found():
    assert len(QUERIES) > 15
    assert len(blocks("kusto")) > 8


@pytest.mark.parametrize("query", blocks("kusto"))
def test_each_kusto_query_asks_for_what_is_recorded(query):
    names = {instrument.name: instrument for instrument in INSTRUMENTS}
    asked = re.findall(r'name == "(enviromon\.\w+)"', query)
    assert set(asked) <= names.keys()
    labels = set(re.findall(r"customDimensions\.(\w+)", query))
    assert labels <= {label for name in asked for label in names[name].labels}


def test_figures_add_up_to_what_was_sent(exposition):
    samples = {
        (sample.name, sample.labels.get("outcome")): sample.value for family in exposition for sample in family.samples
    }
    counted = sum(value for (name, _), value in samples.items() if name == "enviromon_readings_total")
    assert counted == samples["enviromon_batch_messages_sum", None] == samples["iothub_messages_total", None] == 20
    assert samples["enviromon_ingest_seconds_count", None] == samples["enviromon_batch_messages_count", None]

"""Figures of several processes, added up as Prometheus would have them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from localcloud.figures import added_up


def process(orders: int, waiting: float, *, started: float = 100.0) -> str:
    registry = CollectorRegistry()
    Counter("orders", "Orders.", ["shop"], registry=registry).labels("north").inc(orders)
    Gauge("waiting", "Waiting.", registry=registry).set(waiting)
    Gauge("process_start_time_seconds", "Start.", registry=registry).set(started)
    Histogram("took", "Took.", buckets=(1, 10), registry=registry).observe(5)
    return generate_latest(registry).decode()


def values(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name + "".join(f" {value}" for value in sample.labels.values())] = sample.value
    return found


def test_counters_gauges_and_histograms_are_added_up() -> None:
    found = values(added_up([process(3, 1), process(4, 2, started=50.0)]))
    assert (found["orders_total north"], found["waiting"], found["took_bucket 10.0"]) == (7, 3, 2)
    assert found["process_start_time_seconds"] == 50, "the earliest"


def test_a_process_that_ended_leaves_what_it_counted_and_nothing_that_is() -> None:
    ended = added_up([], [process(5, 9)])
    found = values(added_up([process(3, 1)], [ended]))
    assert (found["orders_total north"], found["waiting"], found["took_count"]) == (8, 1, 2)


def test_nothing_gives_nothing() -> None:
    assert added_up([""]) == ""

"""What the function app itself counts in prometheus_client's default registry, of one process or of several."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_THE_PROCESS = ("process_", "python_")
_EARLIEST = ("_created", "_start_time_seconds")
_ONE_OF_THEM = ("_info",)


def app_figures() -> str:
    """Return this process's figures in Prometheus' text format; none where the app does not use the library."""
    library = sys.modules.get("prometheus_client")
    return library.generate_latest(library.REGISTRY).decode() if library is not None else ""


def added_up(texts: Iterable[str], ended: Iterable[str] = ()) -> str:
    """Add up the figures of several processes; of those that ended, only what they counted for the app."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - as late as app_figures

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Sum([*_families(texts), *_counted(ended)]))
    return generate_latest(registry).decode()


def _families(texts: Iterable[str]) -> "Iterator[Metric]":
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    for text in texts:
        yield from text_string_to_metric_families(text)


def _counted(texts: Iterable[str]) -> "Iterator[Metric]":
    """A gauge tells of something that is: an ended process has none."""
    return (
        family
        for family in _families(texts)
        if family.type in ("counter", "histogram", "summary") and not family.name.startswith(_THE_PROCESS)
    )


class _Sum:
    def __init__(self, families: "Iterable[Metric]") -> None:
        self._families = families

    def collect(self) -> "Iterator[Metric]":
        """See prometheus_client's custom collectors."""
        from prometheus_client.core import Metric  # noqa: PLC0415

        sums: dict[str, tuple[Metric, dict[tuple[str, tuple[tuple[str, str], ...]], float]]] = {}
        for family in self._families:
            _, values = sums.setdefault(family.name, (family, {}))
            for sample in family.samples:
                key = (sample.name, tuple(sample.labels.items()))
                values[key] = _together(sample.name, values[key], sample.value) if key in values else sample.value
        for family, values in sums.values():
            total = Metric(family.name, family.documentation, family.type)
            for (name, labels), value in values.items():
                total.add_sample(name, dict(labels), value)
            yield total


def _together(name: str, one: float, other: float) -> float:
    if name.endswith(_EARLIEST):
        return min(one, other)
    return max(one, other) if name.endswith(_ONE_OF_THEM) else one + other

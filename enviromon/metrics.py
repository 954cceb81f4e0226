"""THE table of metrics. A metric is one row here and nothing else.

Telemetry reads the aliases, validation the range, calibration and the stores the name, the API and the page the rest.
The names, aliases and ranges of the first four are those of the system this one grew from.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct


class Metric(Struct, frozen=True, kw_only=True):
    """One physical quantity a device may report.

    `name` starts with a small letter and never changes: it is what the stores keep. `aliases` are the names it may
    carry in a message, the first that is not null wins. `minimum` and `maximum` bound what is believed after
    calibration (None: any finite number). `usual` is where values mostly lie: charts and the simulator start there.
    `decimals` is how many of them mean something.
    """

    name: str
    label: str
    unit: str
    aliases: tuple[str, ...]
    minimum: float | None = None
    maximum: float | None = None
    usual: tuple[float, float]
    decimals: int


METRICS: tuple[Metric, ...] = (
    Metric(
        name="temperature",
        label="Temperature",
        unit="°C",
        aliases=("temperature", "Temperature", "Celsius"),
        minimum=-40,
        maximum=80,
        usual=(10, 35),
        decimals=1,
    ),
    Metric(
        name="pressure",
        label="Pressure",
        unit="hPa",
        aliases=("pressure", "Pressure", "hPa", "HPa"),
        minimum=600,
        maximum=1600,
        usual=(980, 1040),
        decimals=1,
    ),
    Metric(
        name="humidity",
        label="Humidity",
        unit="%",
        aliases=("humidity", "Humidity"),
        minimum=0,
        maximum=100,
        usual=(20, 80),
        decimals=1,
    ),
    Metric(
        name="light",
        label="Light",
        unit="lx",
        aliases=("light", "Light"),
        usual=(0, 1000),
        decimals=0,
    ),
)


def title(name: str) -> str:
    """Return a metric's name as the columns of stored rows begin with it: with a capital letter."""
    return name[:1].upper() + name[1:]


def by_name(metrics: Sequence[Metric]) -> dict[str, Metric]:
    """Index metrics by their names; raises ValueError where two rows share a name or an alias."""
    index = {metric.name: metric for metric in metrics}
    aliases = [alias for metric in index.values() for alias in metric.aliases]
    if len(index) != len(metrics) or len(aliases) != len(set(aliases)):
        raise ValueError("two metrics share a name or an alias")
    return index


def catalogue(metrics: Iterable[Metric] = METRICS) -> list[Mapping[str, object]]:
    """Describe the metrics for the page and other readers, in the table's order."""
    return [
        {
            "name": metric.name,
            "label": metric.label,
            "unit": metric.unit,
            "minimum": metric.minimum,
            "maximum": metric.maximum,
            "usual": metric.usual,
            "decimals": metric.decimals,
        }
        for metric in metrics
    ]

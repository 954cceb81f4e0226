"""What the table of scripts/bench is made of: figures, and what they should reach."""

from collections.abc import Mapping, Sequence
from statistics import median

import msgspec


class Row(msgspec.Struct, frozen=True):
    """A figure: the median of its runs, the medians of its peers, and its ratio to the best of those.

    Where there is no peer, `ratio` is what the measurement's own description says, if anything.
    """

    name: str
    value: float
    unit: str
    runs: list[float]
    peers: dict[str, float] = {}
    ratio: float | None = None


def row(name: str, unit: str, runs: Sequence[float], peers: Mapping[str, Sequence[float]] | None = None) -> Row:
    """Make a row of runs; for a figure of which more is better, where there are peers."""
    value = median(runs)
    medians = {peer: median(values) for peer, values in (peers or {}).items() if values}
    return Row(name, value, unit, list(runs), medians, value / max(medians.values()) if medians else None)


class Target(msgspec.Struct, frozen=True):
    """What a row should reach, by its value or by its ratio."""

    limit: float
    most: bool = False
    of_ratio: bool = False

    def met(self, found: Row) -> bool:
        """Say whether a row reaches it; one without a ratio does not."""
        figure = found.ratio if self.of_ratio else found.value
        return figure is not None and (figure <= self.limit if self.most else figure >= self.limit)

    def __str__(self) -> str:
        """Return it as the table shows it."""
        return f"{'ratio ' if self.of_ratio else ''}{'≤' if self.most else '≥'} {self.limit:,g}"


class Promise(msgspec.Struct, frozen=True):
    """What a row should reach, where that is set, and with whom it is compared."""

    target: Target | None = None
    peers: tuple[str, ...] = ()

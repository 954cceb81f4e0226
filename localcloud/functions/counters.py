"""What is counted per function, for whoever exports metrics. Plain numbers, written by the host only."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping

import msgspec

DURATION_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds of the buckets of FunctionCounters.durations; the last bucket has none."""


class FunctionCounters(msgspec.Struct):
    """Counts since the host started. `durations` are invocations per bucket, not cumulative."""

    invocations: int = 0
    failures: int = 0
    retries: int = 0
    events: int = 0
    duration_seconds: float = 0.0
    durations: list[int] = msgspec.field(default_factory=lambda: [0] * (len(DURATION_BOUNDS) + 1))

    def __add__(self, other: "FunctionCounters") -> "FunctionCounters":
        return FunctionCounters(
            self.invocations + other.invocations,
            self.failures + other.failures,
            self.retries + other.retries,
            self.events + other.events,
            self.duration_seconds + other.duration_seconds,
            [one + another for one, another in zip(self.durations, other.durations, strict=True)],
        )

    def observe(self, seconds: float, events: int, *, failed: bool) -> None:
        """Count one invocation that took `seconds` with `events` events."""
        self.invocations += 1
        self.failures += failed
        self.events += events
        self.duration_seconds += seconds
        self.durations[bisect_left(DURATION_BOUNDS, seconds)] += 1


def total(parts: Iterable[Mapping[str, FunctionCounters]]) -> dict[str, FunctionCounters]:
    """Add up counters by function."""
    sums: dict[str, FunctionCounters] = {}
    for part in parts:
        for function, counters in part.items():
            sums[function] = sums[function] + counters if function in sums else counters
    return sums

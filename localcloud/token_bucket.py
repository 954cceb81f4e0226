"""A rate with a burst. Pure: the caller reads the clock."""


class TokenBucket:
    """Takers are never refused: they are told how long to wait."""

    __slots__ = ("_burst", "_per_second", "_tokens", "_updated")

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._updated = now

    def wait(self, now: float) -> float:
        """Return how many seconds the next taker has to wait; 0 where it has not."""
        return max(0.0, (1.0 - self._level(now)) / self._per_second)

    def take(self, count: float, now: float) -> None:
        """Take tokens, also beyond what there is."""
        self._tokens = self._level(now) - count
        self._updated = now

    def is_full(self, now: float) -> bool:
        """Say whether nothing was taken that has not come back: such a bucket may be forgotten."""
        return self._level(now) >= self._burst

    def _level(self, now: float) -> float:
        return min(self._burst, self._tokens + (now - self._updated) * self._per_second)

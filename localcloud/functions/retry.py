"""How often and how late a failed invocation is tried again. Pure."""

from collections.abc import Callable

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True):
    """A fixed delay (`maximum` is None) or an exponential one between `minimum` and `maximum`, in seconds."""

    max_retries: int
    """-1: without limit."""
    minimum: float
    maximum: float | None

    def delay(self, retries: int, random: Callable[[], float]) -> float | None:
        """Return the seconds to wait after `retries` retries have failed, None when there shall be no further one.

        `random` gives a number in [0, 1). The exponential curve is the WebJobs SDK's: the minimum first, then the
        minimum plus 2^(n-1) minimums, spread by a fifth either way.
        """
        if 0 <= self.max_retries <= retries:
            return None
        if self.maximum is None or retries == 0:
            return self.minimum
        spread = 0.8 + 0.4 * random()
        return min(self.maximum, self.minimum * (1 + 2.0 ** min(retries - 1, 62) * spread))

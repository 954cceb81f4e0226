"""IoT Hub's limits per tier, and what is left of them. Pure: the clock's values are handed in.

Figures: learn.microsoft.com/azure/iot-hub/iot-hub-devguide-quotas-throttling and its pricing page. A hub slows sends
above its rate down (traffic shaping) and closes the connection once too many wait; beyond the day's quota it lets
devices connect and closes at their first message, until the next day in UTC. MQTT 3.1.1 has no packet that says why.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from localcloud.token_bucket import TokenBucket

KIB = 1024
DAY_SECONDS = 86_400
Tier = Literal["F1", "B1", "B2", "B3", "S1", "S2", "S3"]


class TierLimits(msgspec.Struct, frozen=True):
    """One tier's limits: per unit, and the least that a hub has however few its units."""

    messages_per_day: int
    meter_bytes: int
    sends_per_second: float
    least_sends_per_second: float


_SMALL = TierLimits(400_000, 4 * KIB, 12, 100)
_MEDIUM = TierLimits(6_000_000, 4 * KIB, 120, 120)
_LARGE = TierLimits(300_000_000, 4 * KIB, 6_000, 6_000)
TIERS: dict[Tier, TierLimits] = {
    "F1": TierLimits(8_000, KIB // 2, 12, 100),
    "B1": _SMALL,
    "S1": _SMALL,
    "B2": _MEDIUM,
    "S2": _MEDIUM,
    "B3": _LARGE,
    "S3": _LARGE,
}


class Meter:
    """Counts a hub's sends. `now` is a steady clock's seconds, `wall` unix seconds."""

    def __init__(
        self, tier: Tier, units: int, *, burst_seconds: float, sent_today: int, now: float, wall: float
    ) -> None:
        limits = TIERS[tier]
        self.quota = limits.messages_per_day * units
        self.rate = max(limits.least_sends_per_second, limits.sends_per_second * units)
        self.sent_today = sent_today
        self._meter_bytes = limits.meter_bytes
        self._bucket = TokenBucket(self.rate, max(1.0, self.rate * burst_seconds), now)
        self._day = wall // DAY_SECONDS

    def is_used_up(self, wall: float) -> bool:
        """Tell whether the day's quota is: nothing is taken then."""
        if wall // DAY_SECONDS != self._day:
            self._day, self.sent_today = wall // DAY_SECONDS, 0
        return self.sent_today >= self.quota

    def take(self, sizes: Sequence[int], now: float) -> float:
        """Count messages of these sizes in bytes; return how many seconds the next one has to wait."""
        self.sent_today += sum(max(1, -(-size // self._meter_bytes)) for size in sizes)
        self._bucket.take(len(sizes), now)
        return self._bucket.wait(now)

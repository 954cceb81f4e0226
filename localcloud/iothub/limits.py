"""Every size, count and rate that a peer of the hub controls, with its bound; and the bucket that meters a rate."""

import msgspec

KIB = 1024


class HubLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The hub's bounds. IoT Hub's own numbers where it states one."""

    connections: int = 10_000
    """Connections at a time; one more is closed at once."""
    connect_seconds: float = 10.0
    """From the connection to its CONNECT, TLS included twice over."""
    connect_bytes: int = 16 * KIB
    """CONNECT, will included; until it is accepted nothing longer is read."""
    connects_per_second: float = 1.0
    """Per device, beyond a burst; a device that connects more often waits for its CONNACK."""
    connect_burst: int = 5
    """Connects of one device without a wait."""
    connect_delay_seconds: float = 30.0
    """The longest such wait; beyond it the device is told to come again later (CONNACK 3)."""
    idle_seconds: float = 1767.0
    """The longest keepalive timeout, also for clients that ask for none (IoT Hub's 1.5 x 1,178 s)."""
    message_bytes: int = 256 * KIB
    """Body and property bag of one message (IoT Hub's)."""
    topic_bytes: int = 16 * KIB
    """A topic, its property bag included."""
    properties: int = 100
    """Properties of one message."""
    filters: int = 32
    """Filters in one SUBSCRIBE or UNSUBSCRIBE; four are known."""
    cached_topics: int = 64
    """Topics per connection whose envelopes are kept; beyond it the cache starts anew."""
    in_flight_bytes: int = 1024 * KIB
    """Per connection, read but not durable; beyond it the connection is not read."""
    pending_bytes: int = 32 * 1024 * KIB
    """All connections together, read but not durable; beyond it no connection is read."""
    outbound_bytes: int = 64 * KIB
    """Per connection, written but not taken by the peer; beyond it the connection is not read."""
    stall_seconds: float = 30.0
    """How long a peer may take nothing of a full outbound buffer."""
    messages_per_second: float | None = None
    """Per device, beyond a burst of two seconds' worth; None for no limit. A faster device is read more slowly."""


class TokenBucket:
    """A rate with a burst. Takers are never refused: they are told how long to wait."""

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

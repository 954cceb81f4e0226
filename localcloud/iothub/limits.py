"""Every size, count and rate that a peer of the hub controls, with its bound."""

import msgspec

KIB = 1024


class HubLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The hub's bounds. IoT Hub's own numbers where it states one."""

    connections: int = 10_000
    """Connections at a time, TLS handshakes in progress included; one more is closed at once."""
    handshake_seconds: float = 10.0
    """From the connection to the end of its TLS handshake."""
    handshakes_per_second: float = 500.0
    """TLS handshakes begun, beyond a burst of two seconds' worth; a further one waits. They cost a millisecond each."""
    connect_seconds: float = 10.0
    """From the connection, or the end of its TLS handshake, to its CONNECT."""
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
    cached_topic_bytes: int = 16 * KIB
    """Per connection, topics with their envelopes that are kept ready; beyond it the cache starts anew."""
    unfinished_bytes: int = 64 * 1024 * KIB
    """All connections together, packets beyond `connect_bytes` that are not whole yet; the slowest are closed."""
    in_flight_bytes: int = 1024 * KIB
    """Per connection, read but not durable, and at most a quarter of what is free; beyond it the connection waits."""
    turn_bytes: int = 64 * KIB
    """Of one read, what is taken before other connections have their turn."""
    pending_bytes: int = 32 * 1024 * KIB
    """All connections together, read but not durable; beyond it no connection is read."""
    outbound_bytes: int = 64 * KIB
    """Per connection, written but not taken by the peer; beyond it the connection is not read."""
    stall_seconds: float = 30.0
    """How long a peer may take nothing of a full outbound buffer."""
    messages_per_second: float | None = None
    """Per device, beyond a burst of two seconds' worth; None for no limit. A faster device is read more slowly."""

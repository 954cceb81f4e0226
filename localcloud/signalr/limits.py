"""What a SignalR server allows its peers, and what it counts."""

import msgspec

KIB, MIB = 1024, 1024 * 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds. Defaults are Azure's or ASP.NET Core's where they have one."""

    max_connections: int = 10_000  # negotiated ones included
    max_sockets: int = 12_000  # TLS handshakes in progress included
    handshakes_per_second: float = 500  # of TLS, beyond a burst of two seconds' worth; a further one waits
    tls_handshake_seconds: float = 10
    max_client_message: int = 32 * KIB  # clients send handshakes and pings only
    max_body: int = MIB  # of a REST call
    max_unsent: int = MIB  # a connection that holds more when the next message comes is aborted
    max_groups: int = 1000  # of a connection
    max_remembered_groups: int = 100  # of a user
    max_remembered_users: int = 10_000  # of a hub
    request_seconds: float = 20  # for a request to arrive, head and body each; also the idle time of a kept connection
    negotiated_seconds: float = 30  # from negotiate to connect
    handshake_seconds: float = 15
    ping_seconds: float = 15  # after as long a silence the server pings
    client_timeout_seconds: float = 30  # without a word (long polling: without a poll) from the client
    poll_seconds: float = 90  # a long poll without news; the client gives up at 100
    close_seconds: float = 0.5  # for the peer to end a connection that the server closes
    sweep_seconds: float = 1


class Counters(msgspec.Struct, kw_only=True):
    """What happened since the start; `connections` is what there is now, negotiated ones included."""

    connections: int = 0
    negotiated: int = 0
    connected: int = 0
    messages: int = 0
    deliveries: int = 0
    refused_tokens: int = 0
    refused_connections: int = 0
    protocol_errors: int = 0
    timed_out: int = 0
    too_slow: int = 0

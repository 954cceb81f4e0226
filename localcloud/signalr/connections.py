"""The connections of a SignalR server, from negotiate to the end, whatever their transport.

The rules:
1. The secret token (`connectionToken`, the `id` of every later request) is not the public connection id, and only the
   hub and user that negotiated it may use it.
2. Nothing here waits for a client. A message is handed to the connection's channel, or the connection is aborted
   because more than its share is unsent already. When that is, fan_out.py says.
3. A connection is in its hub from its handshake to its end.
"""

import enum
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from localcloud.signalr.conversation import Conversation, ProtocolError, Said
from localcloud.signalr.fan_out import CallLater, FanOut
from localcloud.signalr.hub import Hub
from localcloud.signalr.limits import Counters, Limits
from localcloud.signalr.liveness import Due, Liveness
from localcloud.signalr.protocol import Close, Encoder, HandshakeResponse, HubProtocol, Message, Outgoing, Ping

logger = logging.getLogger(__name__)

ID_BYTES = 16
TOKEN_BYTES = 32
PING = Message(Ping())


class TooManyConnectionsError(Exception):
    """There are as many connections as the server allows."""


class UnknownConnectionError(Exception):
    """No connection has this token, or it belongs to another hub or user."""


class AlreadyConnectedError(Exception):
    """The connection has its transport already."""


class Channel(Protocol):
    """The way to one client. No method waits."""

    @property
    def encoders(self) -> Mapping[HubProtocol, Encoder]:
        """How messages are encoded for this transport, per protocol that it can carry."""

    @property
    def needs_pings(self) -> bool:
        """Whether silence has to be filled with pings."""

    def shows_life(self) -> bool:
        """Whether the client shows right now, without words, that it is there."""

    def write(self, data: bytes) -> bool:
        """Send, or keep for sending; refuse (False) where more than the limit is unsent already."""

    def close(self) -> None:
        """Send what is unsent, then end; end hard where that takes too long."""

    def abort(self) -> None:
        """End at once; drop what is unsent."""


class State(enum.Enum):
    """Where a connection is in its life; it only moves on."""

    NEGOTIATED = enum.auto()  # waits for its transport
    CONNECTED = enum.auto()  # waits for the handshake
    OPEN = enum.auto()  # in its hub
    CLOSING = enum.auto()  # out of its hub; the client still gets what is unsent
    ENDED = enum.auto()


class Connection:
    """One client of one hub. `connection_id` is public, `token` is the client's secret."""

    def __init__(self, connections: "Connections", hub: str, user_id: str | None) -> None:
        self.connection_id = secrets.token_urlsafe(ID_BYTES)
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self.hub = hub
        self.user_id = user_id
        self.state = State.NEGOTIATED
        self.channel: Channel | None = None
        self._encoder: Encoder | None = None
        self._connections = connections
        self._conversation = Conversation(connections.limits.max_client_message)
        self._liveness = Liveness(connections.clock())

    @property
    def protocol(self) -> HubProtocol | None:
        """What the handshake asked for; None before it."""
        return self._conversation.protocol

    def attach(self, channel: Channel) -> None:
        """Give the connection its channel. Raises AlreadyConnectedError."""
        if self.state is not State.NEGOTIATED:
            raise AlreadyConnectedError
        self.state = State.CONNECTED
        self.channel = channel
        self._encoder = channel.encoders[HubProtocol.JSON]
        self._liveness.heard = True
        self._connections.counters.connected += 1

    def receive(self, data: bytes) -> None:
        """Act on what the client sent."""
        if self.state not in {State.CONNECTED, State.OPEN}:
            return
        try:
            for said in self._conversation.feed(data):
                if said is Said.CLOSE:
                    self.close()
                    return
                self._shake_hands()
        except ProtocolError as error:
            self._refuse(str(error))
        self.show_life()

    def show_life(self) -> None:
        """Note that the client is there. Before the handshake that is not enough: it could drip in forever."""
        self._liveness.heard = self.state is not State.CONNECTED

    def deliver(self, message: Outgoing) -> None:
        """Send a message, or abort where too much is unsent. A connection that is closing sends no more."""
        if self.state is not State.OPEN and self.state is not State.CONNECTED:
            return
        assert self.channel is not None
        assert self._encoder is not None
        if self.channel.write(message.encoded(self._encoder)):
            self._liveness.spoke = True
        else:
            self._connections.counters.too_slow += 1
            self.abort("it reads too slowly")

    def close(self, last: Close | HandshakeResponse | None = None) -> None:
        """End gracefully: a last message, what is unsent, the end."""
        if self.channel is None:
            self.end()
            return
        self._connections.fan_out.flush()
        if last is not None:
            self.deliver(Message(last))
        if self.state in {State.CONNECTED, State.OPEN}:
            self._connections.leave(self)
            self.state = State.CLOSING
            self.channel.close()

    def abort(self, reason: str) -> None:
        """End hard; the reason goes to the log."""
        logger.info("connection %s of hub %s aborted: %s", self.connection_id, self.hub, reason)
        self.end()
        if self.channel is not None:
            self.channel.abort()

    def end(self) -> None:
        """Be gone; a transport says this when it has ended."""
        if self.state is not State.ENDED:
            self._connections.leave(self)
            self._connections.forget(self)
            self.state = State.ENDED

    def sweep(self, now: float) -> None:
        """Ping or end the connection, where that is due at `now`."""
        if self.channel is not None and self.channel.shows_life():
            self.show_life()
        limits = self._connections.limits
        due = self._liveness.sweep(now, ping_after=limits.ping_seconds, end_after=self._patience(limits))
        if due is Due.END:
            self._connections.counters.timed_out += 1
            self.abort("it has been silent for too long")
        elif due is Due.PING and self.state is State.OPEN and self.channel is not None and self.channel.needs_pings:
            self.deliver(PING)

    def _patience(self, limits: Limits) -> float:
        return {
            State.NEGOTIATED: limits.negotiated_seconds,
            State.CONNECTED: limits.handshake_seconds,
            State.OPEN: limits.client_timeout_seconds,
        }.get(self.state, limits.close_seconds)

    def _shake_hands(self) -> None:
        assert self.channel is not None
        assert self.protocol is not None
        encoder = self.channel.encoders.get(self.protocol)
        if encoder is None:
            raise ProtocolError(f"this transport cannot carry the protocol {self.protocol.value}")
        self._encoder = encoder
        self.state = State.OPEN
        self._connections.enter(self)
        self.deliver(Message(HandshakeResponse()))

    def _refuse(self, error: str) -> None:
        self._connections.counters.protocol_errors += 1
        logger.info("connection %s of hub %s refused: %s", self.connection_id, self.hub, error)
        self.close(Close(error=error) if self.state is State.OPEN else HandshakeResponse(error=error))


class Connections:
    """All connections of a server, by token and by hub.

    `clock` counts seconds and never goes back, `call_later` calls back after so many of them.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float], call_later: CallLater) -> None:
        self.limits = limits
        self.clock = clock
        self.counters = Counters()
        self.fan_out = FanOut[Connection](clock=clock, call_later=call_later)
        self._by_token: dict[str, Connection] = {}
        self._hubs: dict[str, Hub[Connection]] = {}

    def all(self) -> list[Connection]:
        """List all connections, those that only negotiated included."""
        return list(self._by_token.values())

    def negotiate(self, hub: str, user_id: str | None) -> Connection:
        """Make a connection that waits for its client. Raises TooManyConnectionsError."""
        if len(self._by_token) >= self.limits.max_connections:
            self.counters.refused_connections += 1
            raise TooManyConnectionsError(f"the server holds its {self.limits.max_connections} connections")
        connection = Connection(self, hub, user_id)
        self._by_token[connection.token] = connection
        self.counters.negotiated += 1
        self.counters.connections = len(self._by_token)
        return connection

    def claim(self, token: str, hub: str, user_id: str | None) -> Connection:
        """Find a connection by its secret token. Raises UnknownConnectionError."""
        connection = self._by_token.get(token)
        if connection is None or (connection.hub, connection.user_id) != (hub, user_id):
            raise UnknownConnectionError
        return connection

    def hub(self, name: str) -> Hub[Connection]:
        """Return the hub of this name (lower case); an empty one lives until the next sweep."""
        hub = self._hubs.get(name)
        if hub is None:
            hub = self._hubs[name] = Hub(
                max_groups=self.limits.max_groups,
                max_remembered_groups=self.limits.max_remembered_groups,
                max_remembered_users=self.limits.max_remembered_users,
            )
        return hub

    def send(self, recipients: Sequence[Connection], message: Message, size: int) -> None:
        """Send one message of about `size` bytes to many, waiting for none of them."""
        self.counters.messages += 1
        self.counters.deliveries += len(recipients)
        self.fan_out.send(recipients, message, size)

    def enter(self, connection: Connection) -> None:
        """Let a connection into its hub."""
        self.hub(connection.hub).add(connection, self.clock())

    def leave(self, connection: Connection) -> None:
        """Take a connection out of its hub, if it is there."""
        if connection.state is State.OPEN:
            self.hub(connection.hub).remove(connection)

    def forget(self, connection: Connection) -> None:
        """Make a connection's token invalid."""
        del self._by_token[connection.token]
        self.counters.connections = len(self._by_token)

    def sweep(self) -> None:
        """Do what time asks for: pings, timeouts, hubs that nobody needs any more."""
        now = self.clock()
        for connection in self.all():
            connection.sweep(now)
        for name in [name for name, hub in self._hubs.items() if hub.is_empty()]:
            del self._hubs[name]

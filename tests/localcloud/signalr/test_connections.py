"""A connection's life, with a clock and a channel that the test holds."""

import pytest

from localcloud.signalr.connections import (
    AlreadyConnectedError,
    Connection,
    Connections,
    State,
    TooManyConnectionsError,
    UnknownConnectionError,
)
from localcloud.signalr.fan_out import MANY
from localcloud.signalr.limits import Limits
from localcloud.signalr.protocol import Close, HubProtocol, Invocation, Message, json_record, messagepack_record

HANDSHAKE = b'{"protocol":"json","version":1}\x1e'
PING = b'{"type":6}\x1e'


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Channel:
    """What a transport would do, noted."""

    encoders = {HubProtocol.JSON: json_record, HubProtocol.MESSAGEPACK: messagepack_record}  # noqa: RUF012

    def __init__(self) -> None:
        self.needs_pings = True
        self.is_polled = False
        self.is_full = False
        self.written: list[bytes] = []
        self.ended = ""

    def shows_life(self) -> bool:
        return self.is_polled

    def write(self, data: bytes) -> bool:
        self.written.append(data)
        return not self.is_full

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connections(clock: Clock) -> Connections:
    return Connections(Limits(max_connections=3), clock, lambda _seconds, _call: None)


def connect(connections: Connections, handshake: bytes = HANDSHAKE) -> tuple[Connection, Channel]:
    connection, channel = connections.negotiate("chat", "ann"), Channel()
    connection.attach(channel)
    connection.receive(handshake)
    channel.written = channel.written[1:]
    return connection, channel


def sweep_at(connections: Connections, clock: Clock, *times: float) -> None:
    for time in times:
        clock.now = 1000 + time
        connections.sweep()


def test_ids_and_tokens_are_long_and_all_different(connections: Connections) -> None:
    made = [connections.negotiate("chat", None) for _ in range(3)]
    secrets = {connection.token for connection in made} | {connection.connection_id for connection in made}
    assert len(secrets) == 6
    assert all(len(connection.token) >= 43 for connection in made)
    with pytest.raises(TooManyConnectionsError):
        connections.negotiate("chat", None)


def test_only_its_own_hub_and_user_may_claim_a_connection(connections: Connections) -> None:
    connection = connections.negotiate("chat", "ann")
    assert connections.claim(connection.token, "chat", "ann") is connection
    for hub, user in (("other", "ann"), ("chat", "bob"), ("chat", None)):
        with pytest.raises(UnknownConnectionError):
            connections.claim(connection.token, hub, user)
    with pytest.raises(UnknownConnectionError):
        connections.claim(connection.connection_id, "chat", "ann")


def test_a_connection_is_in_its_hub_from_handshake_to_end(connections: Connections) -> None:
    connection, channel = connections.negotiate("chat", "ann"), Channel()
    assert connections.hub("chat").everyone() == []
    connection.attach(channel)
    assert connections.hub("chat").everyone() == []
    connection.receive(HANDSHAKE)
    assert channel.written == [b"{}\x1e"]
    assert connections.hub("chat").everyone() == [connection]
    connection.end()
    connection.end()
    assert connections.hub("chat").everyone() == []
    assert connections.counters.connections == 0


def test_a_channel_can_be_attached_once(connections: Connections) -> None:
    connection, _ = connect(connections)
    with pytest.raises(AlreadyConnectedError):
        connection.attach(Channel())


def test_a_message_is_encoded_by_the_protocol_that_was_asked_for(connections: Connections) -> None:
    _, in_json = connect(connections)
    _, packed = connect(connections, b'{"protocol":"messagepack","version":1}\x1e')
    message = Message(Invocation("t", []))
    connections.send(connections.hub("chat").everyone(), message, 10)
    assert (in_json.written, packed.written) == ([json_record(message)], [messagepack_record(message)])
    assert (connections.counters.messages, connections.counters.deliveries) == (1, 2)


def test_a_client_that_holds_too_much_is_aborted_and_counted_and_nobody_else(connections: Connections) -> None:
    (slow, stalled), (other, fine) = connect(connections), connect(connections)
    stalled.is_full = True
    connections.send(connections.hub("chat").everyone(), Message(Invocation("t", [])), 10)
    assert (slow.state, stalled.ended) == (State.ENDED, "aborted")
    assert (other.state, len(fine.written)) == (State.OPEN, 1)
    assert connections.counters.too_slow == 1


def test_a_client_that_sends_an_invocation_is_disconnected(connections: Connections) -> None:
    connection, channel = connect(connections)
    connection.receive(b'{"type":1,"target":"t","arguments":[]}\x1e')
    assert b'"type":7,"error":"clients of a serverless hub listen only' in channel.written[0]
    assert (connection.state, channel.ended) == (State.CLOSING, "closed")
    assert connections.hub("chat").everyone() == []
    assert connections.counters.protocol_errors == 1


def test_a_bad_handshake_is_answered_with_its_error(connections: Connections) -> None:
    connection, channel = connections.negotiate("chat", "ann"), Channel()
    connection.attach(channel)
    connection.receive(b'{"protocol":"xml","version":1}\x1e')
    assert channel.written[0].startswith(b'{"error":')
    assert channel.ended == "closed"


def test_a_transport_that_carries_no_binary_refuses_messagepack(connections: Connections) -> None:
    connection, channel = connections.negotiate("chat", "ann"), Channel()
    channel.encoders = {HubProtocol.JSON: json_record}
    connection.attach(channel)
    connection.receive(b'{"protocol":"messagepack","version":1}\x1e')
    assert channel.written == [b'{"error":"this transport cannot carry the protocol messagepack"}\x1e']


def test_a_client_that_says_goodbye_gets_no_answer(connections: Connections) -> None:
    connection, channel = connect(connections)
    connection.receive(b'{"type":7}\x1e{"type":1}\x1e')
    connection.receive(b"whatever")
    assert (channel.written, channel.ended) == ([], "closed")
    assert connections.counters.protocol_errors == 0


def test_a_closing_connection_gets_no_second_farewell(connections: Connections) -> None:
    connection, channel = connect(connections)
    connection.close(Close())
    connection.close(Close())
    assert channel.written == [b'{"type":7}\x1e']


def test_the_server_pings_after_15_silent_seconds(connections: Connections, clock: Clock) -> None:
    connection, channel = connect(connections)
    sweep_at(connections, clock, 0, 14)
    assert channel.written == []
    connection.receive(PING)
    sweep_at(connections, clock, 15, 16, 29)
    assert channel.written == [PING]


def test_a_client_that_is_silent_for_30_seconds_is_aborted(connections: Connections, clock: Clock) -> None:
    connection, channel = connect(connections)
    sweep_at(connections, clock, 0, 20)
    connection.receive(PING)
    sweep_at(connections, clock, 21, 50)
    assert connection.state is State.OPEN
    sweep_at(connections, clock, 51)
    assert (connection.state, channel.ended) == (State.ENDED, "aborted")
    assert connections.counters.timed_out == 1


def test_a_handshake_that_drips_in_times_out_after_15_seconds(connections: Connections, clock: Clock) -> None:
    connection, channel = connections.negotiate("chat", "ann"), Channel()
    connection.attach(channel)
    for time in range(15):
        connection.receive(HANDSHAKE[time : time + 1])
        sweep_at(connections, clock, time)
    assert connection.state is State.CONNECTED
    sweep_at(connections, clock, 15)
    assert channel.ended == "aborted"


def test_a_negotiated_connection_expires(connections: Connections, clock: Clock) -> None:
    connection = connections.negotiate("chat", "ann")
    sweep_at(connections, clock, 30)
    with pytest.raises(UnknownConnectionError):
        connections.claim(connection.token, "chat", "ann")


def test_a_poll_that_waits_is_a_sign_of_life_and_needs_no_ping(connections: Connections, clock: Clock) -> None:
    connection, channel = connect(connections)
    channel.needs_pings, channel.is_polled = False, True
    sweep_at(connections, clock, 0, 40, 80)
    assert (connection.state, channel.written) == (State.OPEN, [])
    channel.is_polled = False
    sweep_at(connections, clock, 110)
    assert channel.ended == "aborted"


def test_a_hub_that_nobody_needs_is_forgotten(connections: Connections, clock: Clock) -> None:
    connection, _ = connect(connections)
    hub = connections.hub("chat")
    sweep_at(connections, clock, 0)
    assert connections.hub("chat") is hub
    connection.end()
    sweep_at(connections, clock, 1)
    assert connections.hub("chat") is not hub


def test_what_was_sent_before_a_connection_is_closed_goes_first(clock: Clock) -> None:
    connections = Connections(Limits(), clock, lambda _seconds, _call: None)
    members = [connect(connections) for _ in range(MANY)]
    everyone = connections.hub("chat").everyone()
    for target in "ab":
        connections.send(everyone, Message(Invocation(target, [])), 10)
    (first, channel), (_, other) = members[:2]
    assert len(channel.written) == 1, "the second message is held"
    first.close(Close())
    assert [b'"a"' in channel.written[0], b'"b"' in channel.written[1], channel.written[2][:9]] == [
        True,
        True,
        b'{"type":7',
    ]
    connections.send(everyone, Message(Invocation("c", [])), 10)
    connections.fan_out.flush()
    assert len(channel.written) == 3
    assert len(other.written) == 3

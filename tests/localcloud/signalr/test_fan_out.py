"""When messages go out, with a clock and an event loop that the test holds."""

from collections.abc import Callable

import pytest

from localcloud.signalr.fan_out import MANY, MAX_HELD_BYTES, MAX_REST_SECONDS, FanOut
from localcloud.signalr.protocol import Invocation, Message, Outgoing, json_record


class Client:
    """Notes each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def deliver(self, message: Outgoing, /) -> None:
        self.writes.append(message.encoded(json_record))


class Loop:
    """A clock, and the calls that wait for it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.waiting.append((self.now + seconds, call))

    def turn(self, seconds: float) -> None:
        """Let time pass and make one call, which must be due by then."""
        self.now += seconds
        [(due, call)] = self.waiting
        assert due <= self.now
        self.waiting = []
        call()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def fan_out(loop: Loop) -> FanOut[Client]:
    return FanOut(clock=lambda: loop.now, call_later=loop.call_later)


def message(target: str) -> Message:
    return Message(Invocation(target, []))


def written(*targets: str) -> bytes:
    return b"".join(message(target).encoded(json_record) for target in targets)


def clients(number: int = MANY) -> list[Client]:
    return [Client() for _ in range(number)]


def test_to_few_every_message_goes_at_once(fan_out: FanOut[Client], loop: Loop) -> None:
    few = clients(MANY - 1)
    for target in "abc":
        fan_out.send(few, message(target), 10)
    assert all(client.writes == [written("a"), written("b"), written("c")] for client in few)
    assert not loop.waiting


def test_to_many_what_comes_while_it_rests_goes_as_one_write(fan_out: FanOut[Client], loop: Loop) -> None:
    many = clients()
    fan_out.send(many, message("a"), 10)
    assert all(client.writes == [written("a")] for client in many)
    fan_out.send(list(many), message("b"), 10)
    loop.turn(0.008)  # the loop has written
    fan_out.send(list(many), message("c"), 10)
    assert all(client.writes == [written("a")] for client in many)
    loop.turn(0.008)
    assert all(client.writes == [written("a"), written("b", "c")] for client in many)


def test_it_rests_for_as_long_as_writing_took_but_not_for_long(fan_out: FanOut[Client], loop: Loop) -> None:
    many = clients()
    for took, rest in ((0.004, 0.004), (5.0, MAX_REST_SECONDS)):
        fan_out.send(many, message("a"), 10)
        loop.turn(took)
        assert loop.waiting[0][0] == pytest.approx(loop.now + rest)
        loop.turn(rest)
        assert not loop.waiting, "nothing was held, so it is at rest"


def test_writing_counts_whether_it_happens_at_once_or_at_the_end_of_a_turn(fan_out: FanOut[Client], loop: Loop) -> None:
    class SlowClient(Client):
        def deliver(self, message: Outgoing, /) -> None:
            loop.now += 0.0001

    fan_out.send([SlowClient() for _ in range(MANY)], message("a"), 10)
    loop.turn(0.001)
    assert loop.waiting[0][0] == pytest.approx(loop.now + 0.0001 * MANY + 0.001)


def test_after_what_was_held_it_rests_again(fan_out: FanOut[Client], loop: Loop) -> None:
    many = clients()
    for _ in range(2):
        fan_out.send(many, message("a"), 10)
    loop.turn(0.001)
    loop.turn(0.001)
    fan_out.send(many, message("b"), 10)
    assert many[0].writes == [written("a"), written("a")]
    loop.turn(0.001)
    loop.turn(0.001)
    assert many[0].writes == [written("a"), written("a"), written("b")]


def test_the_order_is_kept_whoever_is_meant(fan_out: FanOut[Client], loop: Loop) -> None:
    many = clients()
    one = many[:1]
    for recipients, target in ((many, "a"), (many, "b"), (one, "c"), (one, "d"), (many, "e")):
        fan_out.send(recipients, message(target), 10)
    loop.turn(0.001)
    loop.turn(0.001)
    assert many[0].writes == [written("a"), written("b"), written("c", "d"), written("e")]
    assert many[1].writes == [written("a"), written("b"), written("e")]


def test_what_is_held_is_bounded(fan_out: FanOut[Client]) -> None:
    many = clients()
    fan_out.send(many, message("a"), 10)
    fan_out.send(many, message("b"), MAX_HELD_BYTES)
    assert many[0].writes == [written("a")]
    fan_out.send(many, message("c"), 1)
    assert many[0].writes == [written("a"), written("b", "c")]


def test_a_message_that_fails_does_not_take_others_with_it(
    fan_out: FanOut[Client], loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    many, other = clients(), clients(1)
    fan_out.send(many, message("a"), 10)
    fan_out.send(many, Message(Invocation("b", [object()])), 10)
    fan_out.send(other, message("c"), 10)
    loop.turn(0.001)
    loop.turn(0.001)
    assert other[0].writes == [written("c")]
    assert f"1 messages could not be sent to {MANY} clients" in caplog.text


def test_a_client_that_fails_does_not_take_others_with_it(fan_out: FanOut[Client]) -> None:
    class Broken(Client):
        def deliver(self, message: Outgoing, /) -> None:
            raise RuntimeError("broken")

    first, last = clients(2)
    with pytest.raises(RuntimeError, match="broken"):
        fan_out.send([first, Broken(), last], message("a"), 10)
    assert first.writes == last.writes == [written("a")]


def test_nobody_is_no_reason_to_wait(fan_out: FanOut[Client], loop: Loop) -> None:
    fan_out.send([], message("a"), 10)
    assert not loop.waiting

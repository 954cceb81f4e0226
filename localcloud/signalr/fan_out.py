"""When messages are written to many clients: together, where writing takes longer than they need to come.

The rules:
1. A message goes out at once, unless a fan-out is under way or has just ended.
2. To write to thousands of clients takes a server tens of milliseconds in which it does nothing else. So after a
   fan-out to `MANY` or more it rests for as long as that took, at most `MAX_REST_SECONDS`.
3. What comes meanwhile goes out together, in its order, and what goes to the same clients in one write to each: the
   more is sent, the cheaper each message is.
4. No more than `MAX_HELD_BYTES` wait.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from localcloud.signalr.protocol import Joined, Message, Outgoing

logger = logging.getLogger(__name__)

MANY: Final = 64
MAX_REST_SECONDS: Final = 0.01
MAX_HELD_BYTES: Final = 256 * 1024


class Recipient(Protocol):
    """A client, as far as a fan-out knows it."""

    def deliver(self, message: Outgoing, /) -> None:
        """Take a message on; one that has ended meanwhile ignores it."""


R = TypeVar("R", bound=Recipient)
CallLater = Callable[[float, Callable[[], object]], object]


class FanOut(Generic[R]):
    """Hands messages to their recipients. `call_later` calls back after so many seconds; 0 is the next turn."""

    def __init__(self, *, clock: Callable[[], float], call_later: CallLater) -> None:
        self._clock = clock
        self._call_later = call_later
        self._held: list[tuple[Sequence[R], Message]] = []
        self._held_bytes = 0
        self._is_resting = False

    def send(self, recipients: Sequence[R], message: Message, size: int) -> None:
        """Hand over a message of about `size` bytes, now or soon."""
        if not recipients:
            return
        if self._is_resting:
            self._held.append((recipients, message))
            self._held_bytes += size
            if self._held_bytes > MAX_HELD_BYTES:
                self.flush()
            return
        started = self._clock()
        _deliver(recipients, message)
        if len(recipients) >= MANY:
            self._rest_since(started)

    def flush(self) -> None:
        """Hand over what is held."""
        held, self._held, self._held_bytes = self._held, [], 0
        while held:
            recipients = held[0][0]
            same = next((n for n, (others, _) in enumerate(held) if others != recipients), len(held))
            messages = [message for _, message in held[:same]]
            del held[:same]
            try:
                _deliver(recipients, messages[0] if same == 1 else Joined(messages))
            except Exception:
                logger.exception("%d messages could not be sent to %d clients", same, len(recipients))

    def _rest_since(self, started: float) -> None:
        self._is_resting = True

        def rest() -> None:
            self._call_later(min(self._clock() - started, MAX_REST_SECONDS), self._go_on)

        # Event loops may write at the end of a turn: only the next one knows how long that took.
        self._call_later(0, rest)

    def _go_on(self) -> None:
        self._is_resting = False
        if self._held:
            started = self._clock()
            self.flush()
            self._rest_since(started)


def _deliver(recipients: Sequence[R], message: Outgoing) -> None:
    """Hand it to each, and raise the first failure afterwards."""
    failure: Exception | None = None
    for recipient in recipients:
        try:
            recipient.deliver(message)
        except Exception as error:  # noqa: BLE001  # it is raised below
            failure = failure or error
    if failure is not None:
        raise failure

"""One device's socket: carries out what its session decides, and says when not to read.

1. A read is one call of the session; its events are one submission, its PUBACKs are written once they are durable,
   joined with those of other reads of the same commit.
2. Reading pauses, and TCP pushes back on the device, while any `Pause` holds.
3. Time is judged by the hub's sweep (`check`), not by a timer per connection.
"""

import asyncio
import logging
from enum import IntEnum
from typing import TYPE_CHECKING, cast

from localcloud.door import peer_name
from localcloud.iothub.event_log import Event, partition_of
from localcloud.iothub.session import Action, Close, Commit, Judge, Reason, Save, Send, Session
from localcloud.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.iothub.auth import Grant
    from localcloud.iothub.server import HubServer
    from localcloud.iothub.topics import DeviceTopics

_FLUSH_SECONDS = 5.0  # what a closing connection gets to take its last bytes
_RATE_BURST_SECONDS = 2.0
_KEEPALIVE_GRACE = 1.5  # 3.1.2.10

_NOTHING_UNFINISHED: list[tuple[int, bytes]] = []
"""Shared, and never filled: most devices are idle. A list, for few are unfinished, and a deque takes 760 bytes."""

_logger = logging.getLogger(__name__)


class Pause(IntEnum):
    """Why a connection is not read; reasons add up, as bits of an integer: a Flag is slower."""

    JUDGING = 1 << 0
    HUB_FULL = 1 << 1
    IN_FLIGHT = 1 << 2
    RATE = 1 << 3
    SAVING = 1 << 4
    TURN = 1 << 5
    THROTTLE = 1 << 6
    OUTBOUND = 1 << 7


class Connection(asyncio.Protocol):
    """See the rules above. The hub makes one per accepted socket."""

    __slots__ = (
        "_abort",
        "_bucket",
        "_durable",
        "_held",
        "_hub",
        "_in_flight",
        "_last_heard",
        "_limits",
        "_loop",
        "_partition",
        "_pause",
        "_saving",
        "_session",
        "_stalled_since",
        "_timeout",
        "_transport",
        "_unfinished",
        "closed",
        "grant",
        "peer",
    )

    def __init__(self, hub: "HubServer") -> None:
        self._hub = hub
        self._limits = hub.limits
        self._loop = asyncio.get_running_loop()
        self._session = Session(hub.limits)
        self._transport: asyncio.Transport
        self._pause = 0
        self._unfinished = _NOTHING_UNFINISHED
        self._durable = b""
        self._in_flight = 0
        self._saving = 0
        self._held = 0
        self._partition = 0
        self._timeout = hub.limits.connect_seconds
        self._last_heard = self._loop.time()
        self._stalled_since = 0.0
        self._bucket: TokenBucket | None = None
        self._abort: asyncio.TimerHandle | None = None
        self.grant: Grant | None = None
        self.peer = "?"
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Enter the hub, or end at once where it has no place."""
        self._transport = cast("asyncio.Transport", transport)
        self.peer = peer_name(transport)
        self._transport.set_write_buffer_limits(high=self._limits.outbound_bytes)
        if not self._hub.admit(self):
            self.closed = True
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take one read."""
        if not self.closed:
            self._last_heard = self._loop.time()
            self.perform(self._session.receive(data, self._turn_bytes()))
            if self._held or self._session.held_bytes:
                self._hold(len(data))

    def eof_received(self) -> None:
        """Close the transport: a half-open connection has no use here."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the hub."""
        if self._abort is not None:
            self._abort.cancel()
        if not self.closed:
            self._leave(Reason.LOST, str(exc) if exc else "the peer closed the connection")
        self._hub.discard(self)

    def pause_writing(self) -> None:
        """Stop reading from a peer that does not take its answers."""
        self._stalled_since = self._loop.time()
        self.pause(Pause.OUTBOUND)

    def resume_writing(self) -> None:
        """Read again."""
        self.resume(Pause.OUTBOUND)

    def accept(
        self, grant: "Grant", topics: "DeviceTopics", stored: "Mapping[str, int] | None", keepalive: int
    ) -> None:
        """Become the connection of a device; `stored` and `keepalive` as Session and CONNECT have them."""
        self.grant = grant
        self._partition = partition_of(grant.device_id, self._hub.partitions)
        self._timeout = min(keepalive * _KEEPALIVE_GRACE or self._limits.idle_seconds, self._limits.idle_seconds)
        self._last_heard = self._loop.time()
        if self._limits.messages_per_second is not None:
            burst = max(1.0, self._limits.messages_per_second * _RATE_BURST_SECONDS)
            self._bucket = TokenBucket(self._limits.messages_per_second, burst, self._last_heard)
        self.resume(Pause.JUDGING)
        self.perform(self._session.accept(topics, stored))

    def refuse(self, code: int, why: str) -> None:
        """Answer the CONNECT with a CONNACK code and end; the reason goes to the log only."""
        self.perform(self._session.refuse(code, why))

    def perform(self, actions: list[Action]) -> None:
        """Carry out what the session decided, in order; what is to be sent goes out in one write."""
        answers: list[bytes] = []
        for action in actions:
            if type(action) is Commit:
                self._commit(action)
            elif type(action) is Send:
                answers.append(action.data)
            elif type(action) is Judge:
                self._hub.judge(self, action.connect)
            elif type(action) is Save:
                self._save(action)
            elif type(action) is Close:
                self.answer(b"".join(answers))
                self.close(action.reason, action.detail)
                return
        if answers:
            self.answer(b"".join(answers))
        if self._session.has_more and not self._pause & Pause.TURN:
            self.pause(Pause.TURN)
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Go on with a read that holds more packets than others should wait for; not while something else forbids."""
        if self.closed or self._pause != Pause.TURN:
            return
        self.perform(self._session.receive(b"", self._turn_bytes()))
        self._hold(0)
        if not self._session.has_more:
            self.resume(Pause.TURN)
        elif self._pause == Pause.TURN:
            self._loop.call_soon(self._take_turn)

    def _turn_bytes(self) -> int:
        """Return how much of a read may be taken before the others have their turn; one packet at least."""
        return max(1, min(self._limits.turn_bytes, self._hub.share - self._in_flight))

    def answer(self, data: bytes) -> None:
        """Write an answer that had to wait; nothing where the connection has ended meanwhile."""
        if data and not self.closed:
            self._transport.write(data)

    def close(self, reason: Reason, detail: str) -> None:
        """End the connection: what was written is flushed, for a while, and the device's place is free at once."""
        if not self.closed:
            self._leave(reason, detail)
            if reason in (Reason.STALLED, Reason.UNFINISHED):
                self._transport.abort()
                return
            self._abort = self._loop.call_later(_FLUSH_SECONDS, self._transport.abort)
            self._transport.close()

    def pause(self, why: Pause) -> None:
        """Stop reading."""
        if not self._pause and not self._transport.is_closing():
            self._transport.pause_reading()
        self._pause |= why

    def resume(self, why: Pause) -> None:
        """Read again where nothing else speaks against it."""
        if self._pause & why:
            self._pause &= ~why
            if self._pause == Pause.TURN:
                self._loop.call_soon(self._take_turn)
            elif not self._pause and not self._transport.is_closing():
                # What the device sent meanwhile was not heard: its silence is not its fault.
                self._last_heard = self._loop.time()
                self._transport.resume_reading()

    def check(self, now: float, wall: float) -> None:
        """Close where a time has run out: `now` of the loop in seconds, `wall` in unix seconds."""
        if self.grant is not None and self.grant.expiry <= wall:
            self.close(Reason.EXPIRED, "the token expired")
        elif self._pause & Pause.OUTBOUND and now - self._stalled_since > self._limits.stall_seconds:
            self.close(Reason.STALLED, "the device takes no answers")
        elif now - self._last_heard > self._timeout and not self._pause:
            what = "no CONNECT" if self.grant is None else "nothing heard"
            self.close(Reason.TIMED_OUT, f"{what} for {self._timeout:g} s")

    def _save(self, action: Save) -> None:
        """Wait for the disk with further requests: a read may hold thousands, and it may stand still."""
        if not action.answer:
            self._hub.save(self, action, self.answer)
            return
        self._saving += 1
        self.pause(Pause.SAVING)
        self._hub.save(self, action, self._on_saved)

    def _on_saved(self, answer: bytes) -> None:
        self.answer(answer)
        self._saving -= 1
        if not self._saving:
            self.resume(Pause.SAVING)

    def _hold(self, received: int) -> None:
        """Tell the hub how much of a packet is held that is not whole, where that is more than each may hold."""
        held = self._session.held_bytes
        if held > self._limits.connect_bytes or self._held:
            moved_on = held < self._held + received
            held = 0 if held <= self._limits.connect_bytes else held
            change, self._held = held - self._held, held
            self._hub.hold(self, change, moved_on=moved_on)

    def flush(self) -> None:
        """Write the PUBACKs of what a commit made durable."""
        durable, self._durable = self._durable, b""
        self.answer(durable)

    def _commit(self, action: Commit) -> None:
        if not action.events:
            self._acknowledge_after_others(action.pubacks)
            return
        self._hub.counters.messages += len(action.events)
        self._hub.counters.bytes += action.size
        self._in_flight += action.size
        if self._unfinished is _NOTHING_UNFINISHED:
            self._unfinished = []
        self._unfinished.append((action.size, action.pubacks))
        if self._in_flight > self._hub.share:
            self.pause(Pause.IN_FLIGHT)
        if self._bucket is not None:
            self._meter(self._bucket, len(action.events))
        self._hub.submit(self._partition, action.events, action.size, self._on_durable)

    def _on_durable(self) -> None:
        size, pubacks = self._unfinished.pop(0)
        if not self._unfinished:
            self._unfinished = _NOTHING_UNFINISHED
        self._in_flight -= size
        if pubacks:
            if not self._durable:
                self._hub.flush_soon(self)
            self._durable += pubacks
        if self._pause & Pause.IN_FLIGHT and self._in_flight <= self._hub.share // 2:
            self.resume(Pause.IN_FLIGHT)

    def _acknowledge_after_others(self, pubacks: bytes) -> None:
        """Acknowledge what needs no commit, in its turn."""
        if self._unfinished:
            size, others = self._unfinished.pop()
            self._unfinished.append((size, others + pubacks))
        else:
            self.flush()
            self.answer(pubacks)

    def _meter(self, bucket: TokenBucket, count: int) -> None:
        now = self._loop.time()
        bucket.take(count, now)
        wait = bucket.wait(now)
        if wait and not self._pause & Pause.RATE:
            self.pause(Pause.RATE)
            self._loop.call_later(wait, self.resume, Pause.RATE)

    def _leave(self, reason: Reason, detail: str) -> None:
        self.closed = True
        will = self._session.take_will()
        self._hold(0)
        self._hub.leave(self, reason, detail)
        if will is not None and reason not in (Reason.REVOKED, Reason.STOPPED):
            self._submit_will(will)

    def _submit_will(self, will: Event) -> None:
        self._hub.counters.messages += 1
        self._hub.submit(self._partition, [will], self._limits.connect_bytes, _nothing)


def _nothing() -> None:
    """Nobody waits for a will to be durable."""

"""Joining what many connections submit into few durable commits.

Rules:
1. Whatever is queued is committed as soon as the previous commit has ended; no timer (measured: a 5 ms timer costs a
   third of the throughput).
2. A submission is acknowledged, by calling its `on_durable`, once its events are durable, in the order submitted.
3. A commit that fails is tried again with the same batch id until it succeeds: nothing is lost or stored twice.
4. What waits is bounded: beyond `max_pending_bytes` the submitters are told to stop reading from their sockets.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import count

from localcloud.iothub.event_log import Event, EventLog, EventLogFullError
from localcloud.sqlite import DatabaseFaultError

_logger = logging.getLogger(__name__)

DEFAULT_MAX_PENDING_BYTES = 32 << 20
_EVENT_OVERHEAD_BYTES = 128  # an Event and its bytes objects beyond their content, in CPython
FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 2.0
TELL_SECONDS = 30.0
"""How often a lasting fault is told: the log may be on the disk that is full."""


class GroupCommit:
    """The one path from the hub's sessions into the event log. Belongs to one event loop.

    `on_full` is called when the queue passes its limit, `on_room` when it is below half of it again.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        max_pending_bytes: int = DEFAULT_MAX_PENDING_BYTES,
        on_full: Callable[[], None],
        on_room: Callable[[], None],
    ) -> None:
        self._log = log
        self._max_pending_bytes = max_pending_bytes
        self._on_full = on_full
        self._on_room = on_room
        self._queue: dict[int, list[Event]] = {}
        self._waiting: list[Callable[[], None]] = []
        self._queued_bytes = 0
        self.pending_bytes = 0
        """How much is submitted and not durable; read-only to others."""
        self._full = False
        self._closing = False
        self._submitted = asyncio.Event()
        self._run_id = os.urandom(8)
        self._commits = count()

    def submit(self, partition: int, events: list[Event], size: int, on_durable: Callable[[], None]) -> None:
        """Queue events that hold `size` bytes, bodies, topics and properties together.

        `on_durable` is called from the loop once they are durable. Never blocks, never fails.
        """
        self._queue.setdefault(partition, []).extend(events)
        self._waiting.append(on_durable)
        size += _EVENT_OVERHEAD_BYTES * len(events)
        self._queued_bytes += size
        self.pending_bytes += size
        self._submitted.set()
        if self.pending_bytes > self._max_pending_bytes and not self._full:
            self._full = True
            self._on_full()

    async def run(self) -> None:
        """Commit until `close`. One call per object."""
        while not (self._closing and not self._waiting):
            await self._submitted.wait()
            self._submitted.clear()
            if self._waiting:
                await self._commit()  # whose variables end with it: nothing holds a batch until the next one

    async def _commit(self) -> None:
        batch, waiting, size = self._queue, self._waiting, self._queued_bytes
        self._queue, self._waiting, self._queued_bytes = {}, [], 0
        await self._append(batch)
        self.pending_bytes -= size
        self._acknowledge(waiting)

    async def close(self) -> None:
        """Let `run` end as soon as everything submitted is durable; it keeps trying while the log fails."""
        self._closing = True
        self._submitted.set()

    async def _append(self, batch: Mapping[int, Sequence[Event]]) -> None:
        batch_id = self._run_id + next(self._commits).to_bytes(8, "big")
        delay = FIRST_RETRY_SECONDS
        loop = asyncio.get_running_loop()
        tell_at = loop.time()
        while True:
            try:
                await self._log.append(batch_id, batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be lost
                if loop.time() >= tell_at:
                    tell_at = loop.time() + TELL_SECONDS
                    _tell(error)
            else:
                if delay > FIRST_RETRY_SECONDS:
                    _logger.warning("the event log takes messages again: devices are acknowledged")
                return
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)

    def _acknowledge(self, waiting: Sequence[Callable[[], None]]) -> None:
        for on_durable in waiting:
            try:
                on_durable()
            except Exception:
                _logger.exception("an acknowledgement failed")
        if self._full and self.pending_bytes < self._max_pending_bytes // 2:
            self._full = False
            self._on_room()


def _tell(error: Exception) -> None:
    known = isinstance(error, EventLogFullError | DatabaseFaultError)
    _logger.error(
        "nothing is acknowledged, devices keep what they have: %s",
        error if known else "a commit failed",
        exc_info=None if known else error,
    )

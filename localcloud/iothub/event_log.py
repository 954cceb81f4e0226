"""The durable partitioned event log: the port, and its SQLite adapter.

The adapter's rules: commits run in one thread and reads in another, so that a slow disk never stalls the event loop;
what was appended lately is read from memory; nobody is woken before the commit has ended.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Protocol, TypeVar

from localcloud.iothub.checkpoints import Checkpoints
from localcloud.iothub.event_blocks import (
    Block,
    CorruptBlockError,
    Envelope,
    Event,
    StoredEvent,
    partition_of,
)
from localcloud.iothub.event_files import (
    BlockReader,
    BlockWriter,
    EventLogFullError,
    EventLogInUseError,
    RetentionLimits,
)

__all__ = [
    "CorruptBlockError",
    "Envelope",
    "Event",
    "EventLog",
    "EventLogFullError",
    "EventLogInUseError",
    "SqliteEventLog",
    "StoredEvent",
    "partition_of",
]

T = TypeVar("T")

DEFAULT_PARTITIONS = 4
DEFAULT_RETENTION_DAYS = 1.0  # IoT Hub's own
DEFAULT_MAX_BYTES = 2 << 30
_RECENT_BLOCKS = 64
_RECENT_BYTES = 1 << 20
_POLL_SECONDS = 0.25  # how soon a reader learns of another process's append


class EventLog(Protocol):
    """Events in partitions: each partition an order that never changes, numbered from 0 without gaps."""

    partitions: int

    async def append(self, batch_id: bytes, events: Mapping[int, Sequence[Event]]) -> None:
        """Make the events of all given partitions durable, all or none, in the order given.

        Idempotent: a batch id among the last few hundred changes nothing. After an error other than EventLogFullError
        the outcome is unknown; the caller gives the same batch with the same id again.
        Raises EventLogFullError (nothing was stored), OSError and the adapter's errors.
        """

    async def read(self, partition: int, after: int, limit: int) -> list[StoredEvent]:
        """Return at most `limit` events with sequence numbers above `after` (-1: from the start), in order.

        May return fewer than there are; none only where there is nothing beyond `after`.
        """

    async def wait(self, partition: int, after: int) -> None:
        """Return once `read` would find something beyond `after`."""

    async def register(self, group: str) -> None:
        """Make a consumer group known; nothing beyond its checkpoint is removed from then on."""

    async def checkpoint(self, group: str, partition: int) -> int:
        """Return the last sequence number that the group has finished, -1 at the start."""

    async def commit(self, group: str, partition: int, sequence_number: int) -> None:
        """Note that a registered group has finished everything up to the number; it never goes back."""

    async def close(self) -> None:
        """End what runs and release the log."""


class SqliteEventLog:
    """EventLog in `events.db` and `checkpoints.db` of a directory. One process may write; any number may read."""

    def __init__(self, writer: BlockWriter | None, reader: BlockReader, checkpoints: Checkpoints) -> None:
        self.partitions = reader.partitions
        self.log_id = reader.log_id
        self._threads = _Threads()
        self._writer = writer
        self._reader = reader
        self._checkpoints = checkpoints
        self._ends = reader.ends()
        self._appended = [asyncio.Event() for _ in range(self.partitions)]
        self._recent = [_RecentBlocks() for _ in range(self.partitions)]
        self._listeners: list[Callable[[Sequence[int]], None]] = []

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        partitions: int = DEFAULT_PARTITIONS,
        retention_days: float = DEFAULT_RETENTION_DAYS,
        max_bytes: int = DEFAULT_MAX_BYTES,
        clock: Callable[[], float] = time.time,
        read_only: bool = False,
    ) -> "SqliteEventLog":
        """Open or create the log. An existing log keeps its number of partitions.

        `read_only` is for a second process: it reads, waits and checkpoints, but cannot append.
        Raises EventLogInUseError where another process writes, OSError, sqlite3.Error, localcloud.sqlite's errors.
        """
        events, checkpoints = directory / "events.db", directory / "checkpoints.db"
        limits = RetentionLimits(retention_days * 86400, max_bytes)

        def build() -> SqliteEventLog:
            with ExitStack() as opened:
                writer = None
                if not read_only:
                    writer = BlockWriter(events, checkpoints, partitions, limits, clock)
                    opened.callback(writer.close)
                reader = BlockReader(events, partitions)
                opened.callback(reader.close)
                log = cls(writer, reader, Checkpoints(checkpoints, reader.log_id, reader.partitions))
                opened.pop_all()
                return log

        return await asyncio.to_thread(build)

    @property
    def ends(self) -> tuple[int, ...]:
        """Per partition the sequence number that comes next."""
        return tuple(self._ends)

    async def append(self, batch_id: bytes, events: Mapping[int, Sequence[Event]]) -> None:
        """See EventLog. Raises DatabaseFaultError for the disk's faults, sqlite3.Error."""
        if self._writer is None:
            raise EventLogInUseError("this log was opened for reading only")
        writer = self._writer
        blocks = await _in(self._threads.commit, lambda: writer.append(batch_id, events))
        for partition, run in blocks.items():
            self._recent[partition].extend(run)
        ends = writer.ends()
        self._publish(ends)
        for listener in self._listeners:
            listener(ends)

    def listen(self, listener: Callable[[Sequence[int]], None]) -> None:
        """Call the listener after each append with the sequence number after each partition's last event."""
        self._listeners.append(listener)

    def notice(self, ends: Sequence[int]) -> None:
        """Take another process's word for how far the log goes, so that readers need not wait for their own look."""
        self._publish(ends)

    def _publish(self, ends: Sequence[int]) -> None:
        for partition, end in enumerate(ends):
            if end > self._ends[partition]:
                self._ends[partition] = end
                self._appended[partition].set()
                self._appended[partition] = asyncio.Event()

    async def read(self, partition: int, after: int, limit: int) -> list[StoredEvent]:
        """See EventLog. Raises DatabaseFaultError, sqlite3.Error."""
        start = after + 1
        if start >= self._ends[partition] and self._writer is not None:
            return []
        recent = self._recent[partition]
        blocks = recent.since(start)
        if not blocks:
            blocks = await _in(self._threads.read, lambda: self._reader.blocks(partition, start, limit))
            recent.from_file = blocks[-1:]
        events = list(islice(chain.from_iterable(block.stored(start, limit) for block in blocks), limit))
        if events and events[-1].sequence_number + 1 == blocks[-1].end:
            recent.forget(blocks[-1])
        return events

    async def wait(self, partition: int, after: int) -> None:
        """See EventLog. An append of this process wakes at once, one of another at its `notice` or within 0.25 s."""
        while self._ends[partition] <= after + 1:
            appended = self._appended[partition]
            if self._writer is not None:
                await appended.wait()
                continue
            try:
                async with asyncio.timeout(_POLL_SECONDS):
                    await appended.wait()
            except TimeoutError:
                self._publish(await _in(self._threads.read, self._reader.ends))

    async def register(self, group: str) -> None:
        """See EventLog."""
        await _in(self._threads.checkpoint, lambda: self._checkpoints.register(group))

    async def checkpoint(self, group: str, partition: int) -> int:
        """See EventLog."""
        return await _in(self._threads.checkpoint, lambda: self._checkpoints.get(group, partition))

    async def commit(self, group: str, partition: int, sequence_number: int) -> None:
        """See EventLog."""
        await _in(self._threads.checkpoint, lambda: self._checkpoints.advance(group, partition, sequence_number))

    async def close(self) -> None:
        """See EventLog. Waits for a commit that is under way."""
        if self._writer is not None:
            await _in(self._threads.commit, self._writer.close)
        await _in(self._threads.read, self._reader.close)
        await _in(self._threads.checkpoint, self._checkpoints.close)
        self._threads.shutdown()


class _Threads:
    """One thread per kind of work, so that none waits for another's disk."""

    def __init__(self) -> None:
        self.commit = ThreadPoolExecutor(1, "event-log-commit")
        self.read = ThreadPoolExecutor(1, "event-log-read")
        self.checkpoint = ThreadPoolExecutor(1, "event-log-checkpoint")

    def shutdown(self) -> None:
        for executor in (self.commit, self.read, self.checkpoint):
            executor.shutdown(wait=False)


class _RecentBlocks:
    """A partition's latest blocks, and the one last read from the file: what consumers ask for next."""

    def __init__(self) -> None:
        self._tail: deque[Block] = deque()
        self._bytes = 0
        self.from_file: list[Block] = []

    def extend(self, run: Sequence[Block]) -> None:
        if self._tail and self._tail[-1].end != run[0].first:  # an append between them was cancelled
            self._tail.clear()
            self._bytes = 0
        self._tail.extend(run)
        self._bytes += sum(block.size for block in run)
        while self._tail and (self._bytes > _RECENT_BYTES or len(self._tail) > _RECENT_BLOCKS):
            self._bytes -= self._tail.popleft().size

    def since(self, start: int) -> list[Block]:
        """Return blocks without a gap, the first of which holds `start`; none where the file must be asked."""
        if self._tail and start >= self._tail[0].first:
            found = list(takewhile(lambda block: block.end > start, reversed(self._tail)))
            return found[::-1]
        return [block for block in self.from_file if block.first <= start < block.end]

    def forget(self, finished: Block) -> None:
        """Drop the block from the file if it is this one, which somebody has read to its end."""
        if self.from_file and self.from_file[0] is finished:
            self.from_file = []


async def _in(executor: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, call)

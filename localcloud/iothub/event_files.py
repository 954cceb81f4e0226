"""The event log's SQLite file, seen by one thread at a time: a writer and a reader. No asyncio.

Rules:
1. One process writes (a lock file says so): positions and recent batch ids are kept in memory, and a commit is one
   INSERT statement. So the writer's thread gives up and takes back the interpreter lock once per commit, not per row.
2. A row's id is partition << 48 | first sequence number.
3. Each partition's newest block stays whatever its age: it tells where to continue, and it means that
   "the end lies beyond X" is the same as "there is something to read beyond X".
4. Retention removes only what every registered consumer group has finished.
5. Every SELECT is finished before anything else happens: an open one keeps the WAL growing.
"""

import fcntl
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from localcloud.iothub.checkpoints import NOTHING_YET, Checkpoints
from localcloud.iothub.event_blocks import Block, BlockCodec, Event, split
from localcloud.sqlite import connect

_MIGRATIONS = (
    """
    CREATE TABLE log (id BLOB NOT NULL, partitions INTEGER NOT NULL);
    CREATE TABLE blocks (
      id INTEGER PRIMARY KEY,
      count INTEGER NOT NULL,
      offset INTEGER NOT NULL,
      enqueued_time INTEGER NOT NULL,
      batch_id BLOB NOT NULL,
      data BLOB NOT NULL
    )
    """,
)
_PARTITION_SHIFT = 48
_REMEMBERED_BATCHES = 256
_ROW_OVERHEAD_BYTES = 64
_SWEEP_SECONDS = 60.0
_SWEEP_BLOCKS = 4096  # at most so many per partition and sweep, which bounds the pause
_READ_BYTES = 4 << 20
_HEADROOM = 64  # a sweep for room makes 1/64 of the limit free, so that not every commit needs one


class RetentionLimits(msgspec.Struct, frozen=True):
    """What is kept at most: events up to an age, and bytes of the file."""

    seconds: float
    max_bytes: int


class EventLogFullError(Exception):
    """The log has reached its size, and a consumer group still needs all of it: the operator must act."""


class EventLogInUseError(Exception):
    """Another process writes to this log: the operator must stop it or choose another data directory."""


def open_log(path: Path, partitions: int) -> tuple[sqlite3.Connection, bytes, int]:
    """Open or create a log; return its connection, its random id, and its number of partitions (fixed at creation)."""
    connection = connect(path, _MIGRATIONS)
    connection.execute("INSERT INTO log SELECT randomblob(16), ? WHERE NOT EXISTS (SELECT 1 FROM log)", (partitions,))
    ((log_id, kept),) = connection.execute("SELECT id, partitions FROM log").fetchall()
    return connection, log_id, kept


class BlockReader:
    """Reads blocks by position, and where each partition ends."""

    def __init__(self, connection: sqlite3.Connection, partitions: int) -> None:
        self._connection = connection
        self.partitions = partitions
        self._codec = BlockCodec()

    def blocks(self, partition: int, start: int, limit: int) -> list[Block]:
        """Return blocks that hold events from sequence number `start` on, until `limit` events or 4 MiB are met.

        The first may begin before `start`. Where retention took `start`, the oldest that is left comes first.
        """
        low, high = partition << _PARTITION_SHIFT, (partition + 1) << _PARTITION_SHIFT
        rows = self._connection.execute(
            "SELECT id, offset, enqueued_time, data FROM blocks WHERE id < ?1 AND id >= coalesce("
            "(SELECT max(id) FROM blocks WHERE id BETWEEN ?2 AND ?2 + ?3), ?2) ORDER BY id",
            (high, low, start),
        )
        found: list[Block] = []
        size = 0
        with closing(rows):
            for row_id, offset, enqueued_time, data in rows:
                block = self._codec.decode(data, first=row_id - low, offset=offset, enqueued_time=enqueued_time)
                if block.end > start:
                    found.append(block)
                    size += block.size
                    if block.end - start >= limit or size >= _READ_BYTES:
                        break
        return found

    def newest(self, partition: int) -> Block | None:
        """Return the partition's last block."""
        ends = self._connection.execute(
            "SELECT max(id) FROM blocks WHERE id BETWEEN ? AND ?",
            (partition << _PARTITION_SHIFT, ((partition + 1) << _PARTITION_SHIFT) - 1),
        ).fetchall()
        if ends[0][0] is None:
            return None
        return self.blocks(partition, ends[0][0] - (partition << _PARTITION_SHIFT), 1)[0]

    def ends(self) -> list[int]:
        """Return per partition the sequence number after its last event."""
        return [0 if (block := self.newest(partition)) is None else block.end for partition in range(self.partitions)]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class BlockWriter:
    """Appends blocks and removes old ones. Raises EventLogInUseError where another process does."""

    def __init__(
        self,
        path: Path,
        checkpoints: Path,
        partitions: int,
        limits: RetentionLimits,
        clock: Callable[[], float],
    ) -> None:
        self._lock = _writer_lock(path)
        self._connection, log_id, self.partitions = open_log(path, partitions)
        self._connection.execute("PRAGMA secure_delete=OFF").fetchall()
        self._checkpoints = Checkpoints(checkpoints, log_id, self.partitions)
        self._reader = BlockReader(self._connection, self.partitions)
        self._codec = BlockCodec()
        self._limits = limits
        self._clock = clock
        self._swept = clock()
        self._load()

    def _load(self) -> None:
        newest = [self._reader.newest(partition) for partition in range(self.partitions)]
        self._ends = [(0, 0) if block is None else (block.end, block.offset + block.size) for block in newest]
        self._enqueued_time = max((block.enqueued_time for block in newest if block is not None), default=0)
        self._batches: OrderedDict[bytes, None] = OrderedDict()
        for partition in range(self.partitions):
            rows = self._connection.execute(
                "SELECT batch_id FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT ?",
                (partition << _PARTITION_SHIFT, ((partition + 1) << _PARTITION_SHIFT) - 1, _REMEMBERED_BATCHES),
            ).fetchall()
            self._batches.update(dict.fromkeys(batch_id for (batch_id,) in reversed(rows)))
        self._measure()
        self._stale = False

    def _measure(self) -> None:
        ((self._bytes,),) = self._connection.execute(
            "SELECT (page_count - freelist_count) * page_size"
            " FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
        ).fetchall()

    def ends(self) -> list[int]:
        """Return per partition the sequence number after its last durable event."""
        return [sequence for sequence, _ in self._ends]

    def append(self, batch_id: bytes, events: Mapping[int, Sequence[Event]]) -> dict[int, list[Block]]:
        """Make the events durable, all or none, and return their blocks; nothing for a batch that is there already.

        Raises EventLogFullError, and sqlite3.Error as it comes: the outcome is then unknown, and the same batch id
        may be given again.
        """
        if self._stale:
            self._load()
        if batch_id in self._batches:
            return {}
        self._make_room()
        blocks = self._lay_out(events)
        rows = [
            (partition << _PARTITION_SHIFT | b.first, len(b.bodies), b.offset, b.enqueued_time, batch_id, data)
            for partition, run in blocks.items()
            for b in run
            for data in (self._codec.encode(b),)
        ]
        if not rows:
            return {}
        self._stale = True
        self._connection.execute(
            "INSERT INTO blocks VALUES " + ",".join(["(?,?,?,?,?,?)"] * len(rows)),  # noqa: S608 (placeholders only)
            [value for row in rows for value in row],
        )
        self._stale = False
        self._note(batch_id, blocks)
        self._bytes += sum(len(row[-1]) + _ROW_OVERHEAD_BYTES for row in rows)
        return blocks

    def _lay_out(self, events: Mapping[int, Sequence[Event]]) -> dict[int, list[Block]]:
        enqueued_time = max(self._enqueued_time, int(self._clock() * 1000))
        return {
            partition: list(split(run, *self._ends[partition], enqueued_time))
            for partition, run in events.items()
            if run
        }

    def _note(self, batch_id: bytes, blocks: Mapping[int, list[Block]]) -> None:
        for partition, run in blocks.items():
            last = run[-1]
            self._ends[partition] = (last.end, last.offset + last.size)
            self._enqueued_time = last.enqueued_time
        self._batches[batch_id] = None
        if len(self._batches) > _REMEMBERED_BATCHES * self.partitions:
            self._batches.popitem(last=False)

    def _make_room(self) -> None:
        now = self._clock()
        if self._bytes < self._limits.max_bytes and abs(now - self._swept) < _SWEEP_SECONDS:
            return
        self._swept = now
        self._measure()
        excess = self._bytes - self._limits.max_bytes
        if self.sweep(now, excess + self._limits.max_bytes // _HEADROOM if excess >= 0 else 0):
            self._measure()
        if self._bytes >= self._limits.max_bytes:
            slowest = min(self._checkpoints.slowest().values(), default=(NOTHING_YET, "none"))
            raise EventLogFullError(
                f"the event log holds {self._bytes} of at most {self._limits.max_bytes} bytes, and consumer group "
                f"{slowest[1]!r} has not finished them: let it catch up, or raise the limit"
            )

    def sweep(self, now: float, excess: int) -> int:
        """Remove finished blocks older than the retention, and the oldest others until `excess` bytes are free."""
        cutoff = int((now - self._limits.seconds) * 1000)
        candidates = sorted(row for partition in range(self.partitions) for row in self._finished(partition))
        freed = 0
        doomed = []
        for enqueued_time, row_id, size in candidates:
            if enqueued_time >= cutoff and freed >= excess:
                break
            freed += size + _ROW_OVERHEAD_BYTES
            doomed.append((row_id,))
        if doomed:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("DELETE FROM blocks WHERE id = ?", doomed)
            self._connection.execute("COMMIT")
        return len(doomed)

    def _finished(self, partition: int) -> list[tuple[int, int, int]]:
        slowest = self._checkpoints.slowest()
        finished = slowest[partition][0] + 1 if partition in slowest else self._ends[partition][0]
        low = partition << _PARTITION_SHIFT
        return self._connection.execute(
            "SELECT enqueued_time, id, length(data) FROM blocks"
            " WHERE id BETWEEN ?1 AND ?1 + ?2 AND id + count <= ?1 + ?2"
            " AND id < (SELECT max(id) FROM blocks WHERE id BETWEEN ?1 AND ?1 + ?3) ORDER BY id LIMIT ?4",
            (low, finished, (1 << _PARTITION_SHIFT) - 1, _SWEEP_BLOCKS),
        ).fetchall()

    def close(self) -> None:
        """Close the files and let another process write."""
        self._checkpoints.close()
        self._reader.close()
        os.close(self._lock)


def _writer_lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(path.with_name(path.name + ".writer"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise EventLogInUseError(
            f"another process writes to {path}: stop it, or choose another data directory"
        ) from None
    return lock

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
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from localcloud.iothub.checkpoints import Checkpoints
from localcloud.iothub.event_blocks import Block, BlockCodec, CorruptBlockError, Event, split
from localcloud.sqlite import DatabaseFaultError, connect, explains

_logger = logging.getLogger(__name__)

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
_SWEEP_BLOCKS = 256  # at most so many per partition and sweep, which bounds the pause it makes
_READ_BYTES = 4 << 20
_CLOCK_TOLERANCE_SECONDS = 60.0
_HEADROOM = 64  # a sweep for room makes 1/64 of the limit free, so that not every commit needs one


class RetentionLimits(msgspec.Struct, frozen=True):
    """What is kept at most: events up to an age, and bytes of the file."""

    seconds: float
    max_bytes: int


class EventLogFullError(Exception):
    """The log has reached its size, and a consumer group still needs all of it: the operator must act."""


class EventLogInUseError(Exception):
    """Another process writes to this log: the operator must stop it or choose another data directory."""


class BlockReader:
    """Reads blocks by position, and where each partition ends. Creates the log where there is none."""

    WITHOUT = "Without it the events are lost that a function has not finished; what functions stored stays"

    def __init__(self, path: Path, partitions: int) -> None:
        self.path = path
        self.connection = connect(path, _MIGRATIONS, without=self.WITHOUT)
        self._codec = BlockCodec()
        self.connection.execute(
            "INSERT INTO log SELECT randomblob(16), ? WHERE NOT EXISTS (SELECT 1 FROM log)", (partitions,)
        )
        self.log_id: bytes
        self.partitions: int
        ((self.log_id, self.partitions),) = self.connection.execute("SELECT id, partitions FROM log").fetchall()

    @explains
    def blocks(self, partition: int, start: int, limit: int) -> list[Block]:
        """Return blocks that hold events from sequence number `start` on, until `limit` events or 4 MiB are met.

        The first may begin before `start`. Where retention took `start`, the oldest that is left comes first.
        """
        low, high = partition << _PARTITION_SHIFT, (partition + 1) << _PARTITION_SHIFT
        rows = self.connection.execute(
            "SELECT id, offset, enqueued_time, data FROM blocks WHERE id < ?1 AND id >= coalesce("
            "(SELECT max(id) FROM blocks WHERE id BETWEEN ?2 AND ?2 + ?3), ?2) ORDER BY id",
            (high, low, start),
        )
        found: list[Block] = []
        size = 0
        with closing(rows):
            for row_id, offset, enqueued_time, data in rows:
                block = self._decode(data, partition, row_id - low, offset, enqueued_time)
                if block.end > start:
                    found.append(block)
                    size += block.size
                    if block.end - start >= limit or size >= _READ_BYTES:
                        break
        return found

    def _decode(self, data: bytes, partition: int, first: int, offset: int, enqueued_time: int) -> Block:
        try:
            return self._codec.decode(data, first=first, offset=offset, enqueued_time=enqueued_time)
        except CorruptBlockError as error:
            raise DatabaseFaultError(
                f"{self.path} is damaged at partition {partition}, sequence number {first} ({error}): stop what uses "
                f"it, keep a copy, and restore it from a backup or move it away. {self.WITHOUT}"
            ) from error

    @explains
    def newest(self, partition: int) -> Block | None:
        """Return the partition's last block."""
        ends = self.connection.execute(
            "SELECT max(id) FROM blocks WHERE id BETWEEN ? AND ?",
            (partition << _PARTITION_SHIFT, ((partition + 1) << _PARTITION_SHIFT) - 1),
        ).fetchall()
        if ends[0][0] is None:
            return None
        return self.blocks(partition, ends[0][0] - (partition << _PARTITION_SHIFT), 1)[0]

    def ends(self) -> list[int]:
        """Return per partition the sequence number after its last event."""
        return [self._end(partition) for partition in range(self.partitions)]

    def _end(self, partition: int) -> int:
        low = partition << _PARTITION_SHIFT
        last = self.connection.execute(
            "SELECT id, count FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
            (low, low + (1 << _PARTITION_SHIFT) - 1),
        ).fetchall()
        return last[0][0] - low + last[0][1] if last else 0

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


class BlockWriter:
    """Appends blocks and removes old ones. Raises EventLogInUseError where another process does."""

    WITHOUT = BlockReader.WITHOUT

    def __init__(
        self, path: Path, checkpoints: Path, partitions: int, limits: RetentionLimits, clock: Callable[[], float]
    ) -> None:
        with ExitStack() as opened:
            opened.callback(os.close, _writer_lock(path))
            self._reader = BlockReader(path, partitions)
            opened.callback(self._reader.close)
            self.path, self.partitions = path, self._reader.partitions
            self._checkpoints = Checkpoints(checkpoints, self._reader.log_id, self.partitions)
            opened.callback(self._checkpoints.close)
            self._connection = self._reader.connection
            self._connection.execute("PRAGMA secure_delete=OFF").fetchall()
            self._codec = BlockCodec()
            self._limits = limits
            self._clock = clock
            self._swept = -math.inf
            self._is_clock_behind = False
            self._load()
            self._opened = opened.pop_all()

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
        """Return per partition the sequence number after its last durable event; any thread may ask."""
        return [sequence_number for sequence_number, _ in self._ends]

    @explains
    def append(self, batch_id: bytes, events: Mapping[int, Sequence[Event]]) -> dict[int, list[Block]]:
        """Make the events durable, all or none, and return their blocks; nothing for a batch that is there already.

        Raises EventLogFullError, DatabaseFaultError and other sqlite3.Error: the outcome is then unknown, and the same
        batch id may be given again.
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
        enqueued_time = max(self._enqueued_time, self._now())
        return {
            partition: list(split(run, *self._ends[partition], enqueued_time))
            for partition, run in events.items()
            if run
        }

    def _now(self) -> int:
        """The clock in ms; tell once where it is far behind the events that are there already."""
        now = int(self._clock() * 1000)
        behind = (self._enqueued_time - now) / 1000
        if (behind > _CLOCK_TOLERANCE_SECONDS) is not self._is_clock_behind:
            self._is_clock_behind = not self._is_clock_behind
            if self._is_clock_behind:
                _logger.warning(
                    "the clock is %.0f s behind the newest event: events get that one's time until it is there again. "
                    "Set the clock (for example by NTP)",
                    behind,
                )
            else:
                _logger.warning("the clock is no longer behind the newest event")
        return now

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
        self._measure()
        excess = self._bytes - self._limits.max_bytes
        slowest = self._checkpoints.slowest()
        if self._sweep(now, slowest, excess + self._limits.max_bytes // _HEADROOM if excess >= 0 else 0):
            self._measure()
        else:
            self._swept = now
        if self._bytes >= self._limits.max_bytes:
            _, group = max(
                ((self._ends[partition][0] - finished, group) for partition, (finished, group) in slowest.items()),
                default=(0, "none"),
            )
            raise EventLogFullError(
                f"the event log holds {self._bytes} of at most {self._limits.max_bytes} bytes, and consumer group "
                f"{group!r} has not finished them: let it catch up, raise the limit or, where no function reads by "
                "that name any more, remove the consumer group"
            )

    def _sweep(self, now: float, slowest: Mapping[int, tuple[int, str]], excess: int) -> bool:
        """Remove some finished blocks: those beyond their age, and the oldest others until `excess` bytes are free."""
        parameters = [int((now - self._limits.seconds) * 1000), excess]
        for partition in range(self.partitions):
            low = partition << _PARTITION_SHIFT
            end = self._ends[partition][0]
            finished = min(end, slowest[partition][0] + 1) if partition in slowest else end
            parameters += [low, low + finished, low + end]
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            doomed = self._connection.execute(_doomed(self.partitions), parameters).fetchall()
            for low, last in doomed:
                self._connection.execute("DELETE FROM blocks WHERE id BETWEEN ? AND ?", (low, last))
        return bool(doomed)

    def close(self) -> None:
        """Close the files and let another process write."""
        self._opened.close()


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


def _doomed(partitions: int) -> str:
    """Return the query for the blocks to remove, as one id range per partition: few rows, for rule 1's sake.

    ?1 is the age limit, ?2 the bytes to free; then per partition its lowest id, the first id that some group has yet
    to finish, and the first id beyond its end.
    """
    oldest = " UNION ALL ".join(
        "SELECT * FROM (SELECT id, enqueued_time, length(data) AS size FROM blocks"  # noqa: S608 (numbers only)
        f" WHERE id >= ?{n} AND id + count <= ?{n + 1} AND id < ?{n + 1} AND id + count < ?{n + 2}"
        f" ORDER BY id LIMIT {_SWEEP_BLOCKS})"
        for n in range(3, 3 + 3 * partitions, 3)
    )
    return (
        f"SELECT min(id), max(id) FROM (SELECT id, enqueued_time,"  # noqa: S608 (numbers only)
        f" sum(size) OVER (ORDER BY enqueued_time, id) - size AS freed_before FROM ({oldest}))"
        f" WHERE enqueued_time < ?1 OR freed_before < ?2 GROUP BY id >> {_PARTITION_SHIFT}"
    )

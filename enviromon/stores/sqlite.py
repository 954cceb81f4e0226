"""The stores in one SQLite file (WAL, synchronous=FULL), each call one transaction on the file's own thread.

Rules: every SELECT is read to its end (an open one lets the WAL grow without bound); writes BEGIN IMMEDIATE, so that
several processes take turns; the schema's version stands in the file and only ever moves forward.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from enviromon.calibration import Calibration, Version, from_columns, to_columns
from enviromon.device_state import DeviceState
from enviromon.errors import StorageError
from enviromon.stores import PAGE_SIZE, Change, DeadLetter, Page, Result, Stored, Stores, WriteOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")
IN_MEMORY: Final = ":memory:"
BUSY_TIMEOUT_SECONDS: Final = 10.0
DEAD_LETTERS_KEPT: Final = 100_000
"""Beyond that the oldest go: rubbish sent for months must not fill the disk. The ledger counts them all."""

_MIGRATIONS: Final = (
    """
    CREATE TABLE devices (
        site TEXT NOT NULL, device TEXT NOT NULL, revision INTEGER NOT NULL, state TEXT NOT NULL,
        PRIMARY KEY (site, device)
    );
    CREATE VIEW DeviceState AS SELECT
        site AS PartitionKey, device AS DeviceId,
        state ->> '$.labels.name.value' AS Name, state ->> '$.labels.geo.value' AS Geo,
        state ->> '$.metrics.temperature.value' AS Celsius, state ->> '$.metrics.humidity.value' AS Humidity,
        state ->> '$.metrics.pressure.value' AS hPa, state ->> '$.metrics.light.value' AS Light,
        state ->> '$.labels.messageId.value' AS Id,
        (state ->> '$.ledger.accepted') + (state ->> '$.ledger.late') AS Count,
        revision AS Revision, 1 AS Schema
    FROM devices;
    CREATE TABLE calibrations (
        site TEXT NOT NULL, device TEXT NOT NULL, valid_from INTEGER NOT NULL, columns TEXT NOT NULL,
        PRIMARY KEY (site, device, valid_from)
    ) WITHOUT ROWID;
    CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY, site TEXT NOT NULL, reason TEXT NOT NULL, device TEXT NOT NULL, stream TEXT NOT NULL,
        sequence INTEGER NOT NULL, item INTEGER NOT NULL, enqueued_time INTEGER NOT NULL,
        detail TEXT NOT NULL, body BLOB NOT NULL,
        UNIQUE (site, stream, sequence, item, enqueued_time, device, reason)
    );
    """,
)

_encode = msgspec.json.Encoder().encode
_decode_state = msgspec.json.Decoder(DeviceState).decode
_decode_columns = msgspec.json.Decoder(dict[str, float]).decode


def open_sqlite(path: str, site: str, *, dead_letters_kept: int = DEAD_LETTERS_KEPT) -> Stores:
    """Return the stores of one site in that file, `:memory:` for none; the file is made at the first use."""
    database = _Database(path)
    return Stores(
        SqliteDeviceStore(database, site),
        SqliteCalibrationStore(database, site),
        SqliteDeadLetterStore(database, site, dead_letters_kept),
        database.close,
    )


class _Database:
    """One connection on one thread of its own: the event loop never waits for a disk."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run the work on the thread; raises StorageError for whatever the database or the disk raises."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._on_thread, work)
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{self._path}: {error}") from error

    async def close(self) -> None:
        """Finish what runs and close the file; the last process to close it folds the WAL in."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _on_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self._connection = _connect(self._path)
        return work(self._connection)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SqliteDeviceStore:
    """States as JSON, the revision as etag: a row is never deleted, so a revision never comes back."""

    def __init__(self, database: _Database, site: str) -> None:
        self._run = database.run
        self._site = site

    async def load(self, device_ids: Iterable[str]) -> dict[str, Stored]:
        """Read the states of those devices that have one."""
        wanted = _encode(list(device_ids)).decode()
        rows = await self._run(
            lambda db: db.execute(
                "SELECT device, revision, state FROM devices"
                " WHERE site = ? AND device IN (SELECT value FROM json_each(?))",
                (self._site, wanted),
            ).fetchall()
        )
        return {device: _stored(revision, state) for device, revision, state in rows}

    async def compare_and_set(self, changes: Sequence[Change]) -> list[Result]:
        """Write the changes that find their etag in one transaction; each stands alone."""
        rows = [(change, _encode(change.state).decode()) for change in changes]
        return await self._run(lambda db: self._write(db, rows))

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[Stored]:
        """Read one page in the order of device ids."""
        rows = await self._run(
            lambda db: db.execute(
                "SELECT device, revision, state FROM devices WHERE site = ? AND device > ? ORDER BY device LIMIT ?",
                (self._site, after or "", limit),
            ).fetchall()
        )
        return Page([_stored(row[1], row[2]) for row in rows], rows[-1][0] if len(rows) == limit else None)

    def _write(self, db: sqlite3.Connection, rows: list[tuple[Change, str]]) -> list[Result]:
        with _transaction(db):
            return [self._write_one(db, change, state) for change, state in rows]

    def _write_one(self, db: sqlite3.Connection, change: Change, state: str) -> Result:
        revision = change.state.revision
        if change.etag is None:
            cursor = db.execute(
                "INSERT INTO devices VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (self._site, change.state.device_id, revision, state),
            )
        else:
            cursor = db.execute(
                "UPDATE devices SET revision = ?, state = ? WHERE site = ? AND device = ? AND revision = ?",
                (revision, state, self._site, change.state.device_id, int(change.etag)),
            )
        return Result(WriteOutcome.APPLIED, str(revision)) if cursor.rowcount else Result(WriteOutcome.CONFLICT)


class SqliteCalibrationStore:
    """One row per version, its columns as JSON."""

    def __init__(self, database: _Database, site: str) -> None:
        self._run = database.run
        self._site = site

    async def load(self, device_ids: Iterable[str]) -> dict[str, Calibration]:
        """Read the calibrations of those devices that have any version."""
        wanted = _encode(list(device_ids)).decode()
        rows = await self._run(
            lambda db: db.execute(
                "SELECT device, valid_from, columns FROM calibrations"
                " WHERE site = ? AND device IN (SELECT value FROM json_each(?)) ORDER BY device, valid_from",
                (self._site, wanted),
            ).fetchall()
        )
        versions: dict[str, tuple[Version, ...]] = {}
        for device, valid_from, columns in rows:
            versions[device] = (*versions.get(device, ()), from_columns(valid_from, _decode_columns(columns)))
        return {device: Calibration(found) for device, found in versions.items()}

    async def put(self, device_id: str, version: Version) -> None:
        """Add the version; one with the same valid-from is replaced."""
        row = (self._site, device_id, version.valid_from, _encode(to_columns(version)).decode())
        await self._run(lambda db: db.execute("INSERT OR REPLACE INTO calibrations VALUES (?, ?, ?, ?)", row))

    async def remove(self, device_id: str, valid_from: int | None = None) -> bool:
        """Remove that version, or all of them; tell whether there was any."""
        parameters = (self._site, device_id, valid_from)
        cursor = await self._run(
            lambda db: db.execute(
                "DELETE FROM calibrations WHERE site = ?1 AND device = ?2 AND (?3 IS NULL OR valid_from = ?3)",
                parameters,
            )
        )
        return cursor.rowcount > 0


class SqliteDeadLetterStore:
    """Letters in the order of their arrival, at most `kept` of them."""

    def __init__(self, database: _Database, site: str, kept: int) -> None:
        self._run = database.run
        self._site = site
        self._kept = kept

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep the letters; one whose key is there already changes nothing."""
        rows = [
            (self._site, x.reason, x.device_id, x.stream, x.sequence, x.index, x.enqueued_time, x.detail, x.body)
            for x in letters
        ]
        await self._run(lambda db: self._write(db, rows))

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[DeadLetter]:
        """Read one page, the oldest arrival first."""
        rows = await self._run(
            lambda db: db.execute(
                "SELECT id, reason, detail, device, stream, sequence, item, enqueued_time, body FROM dead_letters"
                " WHERE site = ? AND id > ? ORDER BY id LIMIT ?",
                (self._site, _number(after), limit),
            ).fetchall()
        )
        return Page([_letter(row) for row in rows], str(rows[-1][0]) if len(rows) == limit else None)

    def _write(self, db: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
        with _transaction(db):
            db.executemany(
                "INSERT INTO dead_letters"
                " (site, reason, device, stream, sequence, item, enqueued_time, detail, body)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                rows,
            )
            db.execute("DELETE FROM dead_letters WHERE id <= (SELECT max(id) FROM dead_letters) - ?", (self._kept,))


def _stored(revision: int, state: str) -> Stored:
    return Stored(_decode_state(state), str(revision))


def _letter(row: tuple[int, str, str, str, str, int, int, int, bytes]) -> DeadLetter:
    _, reason, detail, device_id, stream, sequence, index, enqueued_time, body = row
    return DeadLetter(
        reason=reason,
        detail=detail,
        device_id=device_id,
        stream=stream,
        sequence=sequence,
        index=index,
        enqueued_time=enqueued_time,
        body=body,
    )


def _number(token: str | None) -> int:
    return int(token) if token is not None and token.isdecimal() and len(token) < len(str(1 << 63)) else 0


@contextmanager
def _transaction(db: sqlite3.Connection) -> "Iterator[None]":
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _connect(path: str) -> sqlite3.Connection:
    if path == IN_MEMORY:
        return _migrated(sqlite3.connect(path, isolation_level=None, check_same_thread=False))
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Three processes that switch a fresh file to WAL at once fail with "database is locked" in spite of the timeout.
    lock = os.open(file.with_name(file.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileExistsError):
            # A file that exists must not be opened here: closing it would cancel the POSIX locks of this process's
            # connections, and another process that closes its own would take the WAL away under them.
            # https://www.sqlite.org/howtocorrupt.html, 2.2
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return _migrated(
            sqlite3.connect(file, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
        )
    finally:
        os.close(lock)


def _migrated(db: sqlite3.Connection) -> sqlite3.Connection:
    try:
        db.execute("PRAGMA journal_mode=WAL").fetchall()
        db.execute("PRAGMA synchronous=FULL")
        for number in range(_schema_version(db), len(_MIGRATIONS)):
            db.executescript(f"BEGIN IMMEDIATE;{_MIGRATIONS[number]};PRAGMA user_version={number + 1};COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def _schema_version(db: sqlite3.Connection) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(_MIGRATIONS):
        raise StorageError(
            f"the state file has schema version {version}, this program knows up to {len(_MIGRATIONS)}: "
            "upgrade the program, or choose another STORE_URL"
        )
    return version

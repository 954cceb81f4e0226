"""The stores in one SQLite file (WAL, synchronous=FULL), on the file's own thread.

Rules:
1. A call is few statements, whatever it carries. sqlite3 gives the interpreter's lock away for each row that it steps
   through, and beside a busy event loop it takes 5 ms to get it back: 1,000 rows written one by one took 4.3 s so, in
   one statement 18 ms. So rows go in as one VALUES list and come out as one JSON array.
2. Changes of states that wait for the thread are written together, in one statement that is a transaction by itself.
3. Every SELECT is read to its end: an open one lets the WAL grow without bound.
4. The schema's version stands in the file and only ever moves forward.
"""

import asyncio
import errno
import fcntl
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from enviromon.calibration import Calibration, Version, from_columns, to_columns
from enviromon.device_state import DeviceState
from enviromon.errors import StorageError
from enviromon.stores import PAGE_SIZE, Change, DeadLetter, Page, Result, Stored, Stores, WriteOutcome

T = TypeVar("T")
IN_MEMORY: Final = ":memory:"
BUSY_TIMEOUT_SECONDS: Final = 10.0
ROWS_PER_STATEMENT: Final = 3000
"""SQLite takes 32,766 parameters, and a row has up to 10."""
JOINED_ROWS: Final = 1000
"""What several calls may write together: a compiled statement keeps the values of its last call, a kilobyte a row."""
DEAD_LETTERS_KEPT: Final = 100_000
"""Beyond that the oldest go: rubbish sent for months must not fill the disk. The ledger counts them all."""
DEAD_LETTER_PAGE_BYTES: Final = 4 << 20

_MIGRATIONS: Final = (
    """
    CREATE TABLE devices (
        site TEXT NOT NULL, device TEXT NOT NULL, etag INTEGER NOT NULL, state TEXT NOT NULL,
        PRIMARY KEY (site, device)
    );
    CREATE VIEW DeviceState AS SELECT
        site AS PartitionKey, device AS DeviceId,
        json_extract(state, '$.labels.name.value') AS Name,
        json_extract(state, '$.labels.geo.value') AS Geo,
        json_extract(state, '$.metrics.temperature.value') AS Celsius,
        json_extract(state, '$.metrics.humidity.value') AS Humidity,
        json_extract(state, '$.metrics.pressure.value') AS hPa,
        json_extract(state, '$.metrics.light.value') AS Light,
        json_extract(state, '$.labels.messageId.value') AS Id,
        json_extract(state, '$.ledger.accepted') + json_extract(state, '$.ledger.late') AS Count,
        json_extract(state, '$.revision') AS Revision,
        1 AS Schema
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
    """
    ALTER TABLE dead_letters ADD COLUMN created TEXT;
    DROP VIEW DeviceState;
    CREATE VIEW DeviceState AS SELECT
        site AS PartitionKey, device AS DeviceId,
        json_extract(state, '$.labels.name.value') AS Name,
        json_extract(state, '$.labels.geo.value') AS Geo,
        json_extract(state, '$.metrics.temperature.value') AS Celsius,
        json_extract(state, '$.metrics.humidity.value') AS Humidity,
        json_extract(state, '$.metrics.pressure.value') AS hPa,
        json_extract(state, '$.metrics.light.value') AS Light,
        json_extract(state, '$.labels.messageId.value') AS Id,
        ifnull(json_extract(state, '$.baseline'), 0)
            + json_extract(state, '$.ledger.accepted') + json_extract(state, '$.ledger.late') AS Count,
        json_extract(state, '$.revision') AS Revision,
        1 AS Schema
    FROM devices;
    """,
)

_SELECT_STATES: Final = "SELECT json_group_array(json_array(device, etag, json(state))) FROM devices"

_LetterRow = tuple[int, str, str, str, str, int, int, int, str | None, str]

_encode = msgspec.json.Encoder().encode
_decode_states = msgspec.json.Decoder(list[tuple[str, int, DeviceState]]).decode
_decode_ids = msgspec.json.Decoder(list[str]).decode
_decode_calibrations = msgspec.json.Decoder(list[tuple[str, int, dict[str, float]]]).decode
_decode_letters = msgspec.json.Decoder(list[_LetterRow]).decode


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
            raise StorageError(f"{self._path}: {error}{_advice(error)}") from error

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


class _Write(msgspec.Struct, frozen=True):
    """Changes that wait for the thread, and who waits for what became of them."""

    changes: Sequence[Change]
    results: asyncio.Future[list[Result]]


class SqliteDeviceStore:
    """States as JSON; an etag is a number drawn at random for each statement."""

    def __init__(self, database: _Database, site: str) -> None:
        self._run = database.run
        self._site = site
        self._waiting: list[_Write] = []
        self._writer: asyncio.Task[None] | None = None

    async def load(self, device_ids: Iterable[str]) -> dict[str, Stored]:
        """Read the states of those devices that have one."""
        where = " WHERE site = ? AND device IN (SELECT value FROM json_each(?))"
        parameters = self._site, _encode(list(device_ids)).decode()
        found = await self._run(lambda db: _value(db, _SELECT_STATES + where, parameters))
        return {device: Stored(state, str(etag)) for device, etag, state in _decode_states(found)}

    async def compare_and_set(self, changes: Sequence[Change]) -> list[Result]:
        """Write the changes that find their etag, each for itself."""
        results: list[Result] = []
        for start in range(0, len(changes), ROWS_PER_STATEMENT):
            results += await self._wait_for(changes[start : start + ROWS_PER_STATEMENT])
        return results

    def _wait_for(self, changes: Sequence[Change]) -> asyncio.Future[list[Result]]:
        loop = asyncio.get_running_loop()
        write = _Write(changes, loop.create_future())
        self._waiting.append(write)
        if self._writer is None:
            self._writer = loop.create_task(self._write_all())
        return write.results

    async def _write_all(self) -> None:
        """Write what waits: what came during one write goes into the next one together."""
        try:
            while self._waiting:
                writes, self._waiting = _together(self._waiting)
                try:
                    results = iter(await self._write([change for write in writes for change in write.changes]))
                except Exception as error:  # noqa: BLE001  # it is theirs who wait
                    for write in writes:
                        if not write.results.done():
                            write.results.set_exception(error)
                    continue
                for write in writes:
                    theirs = list(islice(results, len(write.changes)))
                    if not write.results.done():
                        write.results.set_result(theirs)
        finally:
            self._writer = None

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[Stored]:
        """Read one page in the order of device ids."""
        within = " WHERE rowid IN (SELECT rowid FROM devices WHERE site = ? AND device > ? ORDER BY device LIMIT ?)"
        parameters = self._site, after or "", limit
        found = _decode_states(await self._run(lambda db: _value(db, _SELECT_STATES + within, parameters)))
        found.sort(key=lambda row: row[0])
        states = [Stored(state, str(etag)) for _, etag, state in found]
        return Page(states, found[-1][0] if len(found) == limit else None)

    async def _write(self, changes: Sequence[Change]) -> list[Result]:
        etag = secrets.randbits(63)
        applied = Result(WriteOutcome.APPLIED, str(etag))
        parameters: list[Any] = [self._site, etag]
        for change in changes:
            expected = None if change.etag is None else int(change.etag)
            parameters += (change.state.device_id, expected, _encode(change.state).decode())
        parameters += _padding(3, len(changes))
        written = await self._run(lambda db: self._written(db, parameters, len(changes)))
        if written is None:
            return [applied] * len(changes)
        lost = Result(WriteOutcome.CONFLICT)
        return [applied if change.state.device_id in written else lost for change in changes]

    def _written(self, db: sqlite3.Connection, parameters: Sequence[Any], rows: int) -> frozenset[str] | None:
        """Write; return which devices were written, or None for all of them."""
        with suppress(sqlite3.IntegrityError):  # one that has lost leaves its new etag null, which undoes all
            db.execute(_write_states("CASE WHEN held.etag IS new.column2 THEN ?2 END", "", rows), parameters)
            return None
        with _transaction(db):
            db.execute(_write_states("?2", "AND held.etag IS new.column2", rows), parameters)
            select = "SELECT json_group_array(device) FROM devices WHERE site = ? AND etag = ?"
            return frozenset(_decode_ids(_value(db, select, parameters[:2])))


class SqliteCalibrationStore:
    """One row per version, its columns as JSON."""

    def __init__(self, database: _Database, site: str) -> None:
        self._run = database.run
        self._site = site

    async def load(self, device_ids: Iterable[str]) -> dict[str, Calibration]:
        """Read the calibrations of those devices that have any version."""
        wanted = _encode(list(device_ids)).decode()
        return await self._select("site = ? AND device IN (SELECT value FROM json_each(?))", self._site, wanted)

    async def put(self, device_id: str, version: Version) -> None:
        """Add the version; one with the same valid-from is replaced."""
        row = (self._site, device_id, version.valid_from, _encode(to_columns(version)).decode())
        await self._run(lambda db: db.execute("INSERT OR REPLACE INTO calibrations VALUES (?, ?, ?, ?)", row))

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[tuple[str, Calibration]]:
        """Read one page in the order of device ids."""
        within = "SELECT DISTINCT device FROM calibrations WHERE site = ?1 AND device > ?2 ORDER BY device LIMIT ?3"
        found = sorted(
            (await self._select(f"site = ?1 AND device IN ({within})", self._site, after or "", limit)).items()
        )
        return Page(found, found[-1][0] if len(found) == limit else None)

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

    async def _select(self, where: str, *parameters: str | int) -> dict[str, Calibration]:
        rows = "SELECT json_group_array(json_array(device, valid_from, json(columns))) FROM calibrations"
        select = f"{rows} WHERE {where}"
        versions: dict[str, list[Version]] = {}
        for device, valid_from, columns in _decode_calibrations(
            await self._run(lambda db: _value(db, select, parameters))
        ):
            versions.setdefault(device, []).append(from_columns(valid_from, columns))
        return {
            device: Calibration(tuple(sorted(found, key=lambda version: version.valid_from)))
            for device, found in versions.items()
        }


class SqliteDeadLetterStore:
    """Letters in the order of their arrival, at most `kept` of them."""

    def __init__(self, database: _Database, site: str, kept: int) -> None:
        self._run = database.run
        self._site = site
        self._kept = kept

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep the letters; one whose key is there already changes nothing."""
        for start in range(0, len(letters), ROWS_PER_STATEMENT):
            rows = letters[start : start + ROWS_PER_STATEMENT]
            await self._run(lambda db, rows=rows: self._write(db, rows))  # type: ignore[misc]

    async def remove(self, letters: Sequence[DeadLetter]) -> None:
        """Forget the letters of these keys."""
        for start in range(0, len(letters), ROWS_PER_STATEMENT):
            keys = [self._key(letter) for letter in letters[start : start + ROWS_PER_STATEMENT]]
            # A row-value IN would scan the table; this join finds each row by its unique index.
            statement = (
                "DELETE FROM dead_letters WHERE id IN (SELECT held.id FROM"  # noqa: S608
                f" (VALUES {_placeholders(7, len(keys))}) AS gone CROSS JOIN dead_letters AS held"
                " ON held.site = gone.column1 AND held.reason = gone.column2 AND held.device = gone.column3"
                " AND held.stream = gone.column4 AND held.sequence = gone.column5 AND held.item = gone.column6"
                " AND held.enqueued_time = gone.column7)"
            )
            parameters = [*chain.from_iterable(keys), *_padding(7, len(keys))]
            await self._run(partial(_execute, statement=statement, parameters=parameters))

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[DeadLetter]:
        """Read one page, the oldest arrival first; large letters make it shorter."""
        select = (
            "SELECT json_group_array(json_array(id, reason, detail, device, stream, sequence, item, enqueued_time,"
            " created, hex(body))) FROM dead_letters WHERE id IN (SELECT id FROM ("
            "SELECT id, sum(length(body)) OVER (ORDER BY id) - length(body) AS bytes_before"
            " FROM (SELECT id, body FROM dead_letters WHERE site = ? AND id > ? ORDER BY id LIMIT ?)"
            ") WHERE bytes_before < ?)"
        )
        parameters = self._site, _number(after), limit, DEAD_LETTER_PAGE_BYTES
        rows = sorted(_decode_letters(await self._run(lambda db: _value(db, select, parameters))))
        letters = [_letter(row) for row in rows]
        is_cut = len(letters) == limit or sum(len(letter.body) for letter in letters) >= DEAD_LETTER_PAGE_BYTES
        return Page(letters, str(rows[-1][0]) if is_cut else None)

    def _write(self, db: sqlite3.Connection, letters: Sequence[DeadLetter]) -> None:
        statement = (
            "INSERT INTO dead_letters (site, reason, device, stream, sequence, item, enqueued_time, detail, body,"  # noqa: S608
            f" created) SELECT * FROM (VALUES {_placeholders(10, len(letters))}) WHERE column1 IS NOT NULL"
            " ON CONFLICT DO NOTHING"
        )
        parameters: list[Any] = []
        for x in letters:
            parameters += (*self._key(x), x.detail, x.body, x.created)
        parameters += _padding(10, len(letters))
        with _transaction(db):
            db.execute(statement, parameters)
            db.execute("DELETE FROM dead_letters WHERE id <= (SELECT max(id) FROM dead_letters) - ?", (self._kept,))

    def _key(self, letter: DeadLetter) -> tuple[str, str, str, str, int, int, int]:
        x = letter
        return self._site, x.reason, x.device_id, x.stream, x.sequence, x.index, x.enqueued_time


def _letter(row: _LetterRow) -> DeadLetter:
    _, reason, detail, device_id, stream, sequence, index, enqueued_time, created, body = row
    return DeadLetter(
        reason=reason,
        detail=detail,
        device_id=device_id,
        stream=stream,
        sequence=sequence,
        index=index,
        enqueued_time=enqueued_time,
        body=bytes.fromhex(body),
        created=created,
    )


def _number(token: str | None) -> int:
    return int(token) if token is not None and token.isdecimal() and len(token) < len(str(1 << 63)) else 0


def _placeholders(columns: int, rows: int) -> str:
    row = f"({','.join('?' * columns)})"
    return ",".join([row] * _padded(rows))


def _together(waiting: Sequence[_Write]) -> tuple[list[_Write], list[_Write]]:
    """Return the first ones that one statement can take, and the others: it writes a device once, and so many rows."""
    devices: set[str] = set()
    for number, write in enumerate(waiting):
        theirs = {change.state.device_id for change in write.changes}
        if number and (len(devices) + len(theirs) > JOINED_ROWS or not devices.isdisjoint(theirs)):
            return list(waiting[:number]), list(waiting[number:])
        devices |= theirs
    return list(waiting), []


def _write_states(etag: str, which: str, rows: int) -> str:
    return (
        f"INSERT INTO devices (site, device, etag, state) SELECT ?1, new.column1, {etag}, new.column3"  # noqa: S608
        f" FROM (VALUES {_placeholders(3, rows)}) AS new"
        " LEFT JOIN devices AS held ON held.site = ?1 AND held.device = new.column1"
        f" WHERE new.column1 IS NOT NULL {which}"
        " ON CONFLICT (site, device) DO UPDATE SET etag = excluded.etag, state = excluded.state"
    )


def _padding(columns: int, rows: int) -> list[None]:
    """Return the values of the rows that nobody asked for: all null, and left out by the statement."""
    return [None] * (columns * (_padded(rows) - rows))


def _padded(rows: int) -> int:
    """Round up to a power of two, or to one and a half of one.

    Every number of rows is a statement of its own, and sqlite3 keeps the last 128 that it compiled: those of 200 to
    1,000 rows held 84 MB, and to compile one took a tenth of the time per row.
    """
    power = 1 << (rows - 1).bit_length()
    less = power - power // 4
    return less if rows <= less else power


def _execute(db: sqlite3.Connection, statement: str, parameters: Sequence[Any]) -> None:
    db.execute(statement, parameters)


def _value(db: sqlite3.Connection, select: str, parameters: Sequence[Any]) -> Any:
    ((value,),) = db.execute(select, parameters).fetchall()
    return value


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _advice(error: sqlite3.Error | OSError) -> str:
    """Say what to do about a fault of the file or its disk; "" where that is not known."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = error.errno if isinstance(error, OSError) else None
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return (
            ". The file is damaged: stop what uses it, keep a copy, and restore it from a backup, or move it away with "
            "its -wal and -shm. States, calibrations and dead letters then begin anew; move checkpoints.db away as "
            "well, and the events that the log still holds are counted again"
        )
    if code == sqlite3.SQLITE_FULL or number in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return ". Free some space on its disk: nothing is lost, the events come again"
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN} or number in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return ". Let this user write to it and its directory, and see that its file system is not mounted read-only"
    return ""


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

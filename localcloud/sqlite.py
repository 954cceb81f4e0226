"""Opening SQLite files, one way for every store: WAL, a stated durability, schema versions with migrations.

One process should create a file before others open it: three that switch a fresh file to WAL at once fail with
"database is locked" despite a timeout. `connect` therefore takes a lock file around creation and migration.
"""

import contextlib
import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

BUSY_TIMEOUT_SECONDS = 10.0
_CACHE_KIB = 256  # per connection; what is not there is in the system's cache
Method = TypeVar("Method", bound=Callable[..., Any])

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FULL = frozenset({sqlite3.SQLITE_FULL})
_UNWRITABLE = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_RIGHT = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class DatabaseFaultError(Exception):
    """A file of the data directory cannot be used as it is; the operator must act on the sentence."""


class SchemaTooNewError(Exception):
    """The file was written by a newer version; the operator must upgrade or choose another data directory."""


def fault(error: sqlite3.Error | OSError, path: Path, without: str) -> DatabaseFaultError | None:
    """Say what is wrong with the file and what to do; `without` is what happens if it is moved away. None: unknown."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = error.errno if isinstance(error, OSError) else None
    if code in _DAMAGED:
        sentence = (
            f"{path} is damaged ({error}): stop what uses it, keep a copy, and restore it from a backup or move it "
            f"away with {path.name}-wal and {path.name}-shm. {without}"
        )
    elif code in _FULL or number in _NO_ROOM:
        sentence = f"no room is left for {path}: free some space on its disk. Nothing that was acknowledged is lost"
    elif code in _UNWRITABLE or number in _NO_RIGHT:
        sentence = (
            f"{path} cannot be written ({error}): let this user write to it and its directory, and see that its file "
            "system is not mounted read-only"
        )
    elif code == sqlite3.SQLITE_IOERR or number == errno.EIO:
        sentence = f"the disk failed at {path} ({error}): see to the disk. Nothing that was acknowledged is lost"
    else:
        return None
    return DatabaseFaultError(sentence)


@contextlib.contextmanager
def explained(path: Path, without: str) -> Iterator[None]:
    """Raise DatabaseFaultError for the faults that `fault` knows, and others as they come."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        known = fault(error, path, without)
        if known is None:
            raise
        raise known from error


def explains(method: Method) -> Method:
    """Do the same around a method of an object that has a `path` and says what it is `WITHOUT` it."""

    @wraps(method)
    def explaining(self: Any, *arguments: Any, **options: Any) -> Any:
        with explained(self.path, self.WITHOUT):
            return method(self, *arguments, **options)

    return cast("Method", explaining)


def connect(
    path: Path,
    migrations: Sequence[str],
    *,
    without: str,
    synchronous: Literal["FULL", "NORMAL"] = "FULL",
    check: bool = False,
) -> sqlite3.Connection:
    """Open (or create, mode 0600) the file and bring its schema to `len(migrations)`.

    `migrations[i]` is an SQL script that takes the schema from version i to i + 1; a published one never changes.
    The connection is in autocommit mode (write BEGIN IMMEDIATE yourself) and may be used from any one thread at a time.
    `without` tells what happens where the file is moved away; `check` reads it whole, for files that are small.
    Raises SchemaTooNewError where the file's version is beyond the migrations, DatabaseFaultError where the file or its
    disk is at fault, other OSError and sqlite3.Error as they come.
    """
    with explained(path, without):
        return _connect(path, migrations, synchronous, check=check)


def _connect(
    path: Path, migrations: Sequence[str], synchronous: Literal["FULL", "NORMAL"], *, check: bool
) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _create(path)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            _migrate(connection, path, migrations)
            if check:
                _check(connection)
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        os.close(lock)


def _check(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchall()
    if found != [("ok",)]:
        error = sqlite3.DatabaseError(found[0][0])
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _create(path: Path) -> None:
    """Make a missing file, private.

    One that exists must not be opened here: closing it would cancel the POSIX locks of this process's connections, and
    another process that closes its own would take the WAL away under them: https://sqlite.org/howtocorrupt.html, 2.2.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise SchemaTooNewError(
            f"{path} has schema version {version}, this program knows up to {len(migrations)}: "
            "upgrade the program, or choose another data directory"
        )
    for number in range(version, len(migrations)):
        connection.executescript(f"BEGIN IMMEDIATE;\n{migrations[number]};\nPRAGMA user_version={number + 1};\nCOMMIT;")

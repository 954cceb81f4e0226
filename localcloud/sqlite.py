"""Opening SQLite files, one way for every store: WAL, a stated durability, schema versions with migrations.

One process should create a file before others open it: three that switch a fresh file to WAL at once fail with
"database is locked" despite a timeout. `connect` therefore takes a lock file around creation and migration.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

BUSY_TIMEOUT_SECONDS = 10.0


class SchemaTooNewError(Exception):
    """The file was written by a newer version; the operator must upgrade or choose another data directory."""


def connect(
    path: Path, migrations: Sequence[str], *, synchronous: Literal["FULL", "NORMAL"] = "FULL"
) -> sqlite3.Connection:
    """Open (or create, mode 0600) the file and bring its schema to `len(migrations)`.

    `migrations[i]` is an SQL script that takes the schema from version i to i + 1; a published one never changes.
    The connection is in autocommit mode (write BEGIN IMMEDIATE yourself) and may be used from any one thread at a time.
    Raises SchemaTooNewError where the file's version is beyond the migrations, OSError and sqlite3.Error as they come.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _create(path)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
            connection.execute(f"PRAGMA synchronous={synchronous}")
            _migrate(connection, path, migrations)
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        os.close(lock)


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

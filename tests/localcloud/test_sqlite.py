import multiprocessing
import sqlite3
import stat
import subprocess
import sys

import pytest

from localcloud.sqlite import SchemaTooNewError, connect

MIGRATIONS = ["CREATE TABLE readings (id INTEGER PRIMARY KEY)", "ALTER TABLE readings ADD COLUMN value REAL"]


def test_a_new_file_is_private_durable_and_at_the_newest_schema(tmp_path):
    connection = connect(tmp_path / "new" / "a.db", MIGRATIONS, without="")
    assert stat.S_IMODE((tmp_path / "new" / "a.db").stat().st_mode) == 0o600
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.execute("INSERT INTO readings (id, value) VALUES (1, 0.0)")
    connection.close()


def test_an_older_file_is_migrated_and_keeps_its_rows(tmp_path):
    old = connect(tmp_path / "a.db", MIGRATIONS[:1], without="")
    old.execute("INSERT INTO readings (id) VALUES (7)")
    old.close()
    new = connect(tmp_path / "a.db", MIGRATIONS, without="")
    assert new.execute("SELECT id, value FROM readings").fetchall() == [(7, None)]
    new.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path):
    connect(tmp_path / "a.db", MIGRATIONS[:1], without="").close()
    with pytest.raises(sqlite3.Error):
        connect(
            tmp_path / "a.db",
            [MIGRATIONS[0], "CREATE TABLE half (id); SELECT no_such_column FROM readings"],
            without="",
        )
    connection = connect(tmp_path / "a.db", MIGRATIONS[:1], without="")
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchall() == []
    connection.close()


def test_a_file_of_a_newer_version_is_refused_with_what_to_do(tmp_path):
    connect(tmp_path / "a.db", MIGRATIONS, without="").close()
    with pytest.raises(SchemaTooNewError, match="upgrade the program"):
        connect(tmp_path / "a.db", MIGRATIONS[:1], without="")


def open_and_write(path, number):
    connection = connect(path, MIGRATIONS, without="")
    connection.execute("INSERT INTO readings (id) VALUES (?)", (number,))
    connection.close()


@pytest.mark.slow
def test_processes_that_open_one_fresh_file_at_once_all_succeed(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=open_and_write, args=(tmp_path / "a.db", number)) for number in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 6
    connection = connect(tmp_path / "a.db", MIGRATIONS, without="")
    assert connection.execute("SELECT count(*) FROM readings").fetchone() == (6,)
    connection.close()


def write_in_another_process(path, number):
    script = f"""
import sqlite3
from pathlib import Path
from localcloud.sqlite import connect
connection = connect(Path({str(path)!r}), {MIGRATIONS!r}, without='')
connection.execute("INSERT INTO readings (id) VALUES ({number})")
connection.close()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)


def test_a_second_connection_leaves_the_locks_of_the_first_in_place(tmp_path):
    first = connect(tmp_path / "a.db", MIGRATIONS, without="")
    first.execute("INSERT INTO readings (id) VALUES (1)")
    second = connect(tmp_path / "a.db", MIGRATIONS, without="")
    # Without locks, the first process to leave takes the WAL away, and what the second one writes is not seen here.
    for number in (2, 3):
        write_in_another_process(tmp_path / "a.db", number)
        assert first.execute("SELECT max(id) FROM readings").fetchone() == (number,)
    assert (tmp_path / "a.db-wal").exists()
    second.close()
    first.close()

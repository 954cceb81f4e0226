"""What is true of the SQLite adapter alone."""

import asyncio
import sqlite3
import stat
import subprocess
import sys

import pytest

from enviromon.device_state import DeviceState, Label, Ledger, Measurement, Moment
from enviromon.errors import SettingsError, StorageError
from enviromon.stores import Change, DeadLetter, WriteOutcome, each, open_stores
from enviromon.stores import sqlite as adapter

AT = Moment(1, 1, 0)


async def test_sites_in_one_file_do_not_see_each_other(tmp_path):
    url = f"sqlite://{tmp_path}/state.db"
    melbourne, sydney = open_stores(url, "Melbourne"), open_stores(url, "Sydney")
    await melbourne.devices.compare_and_set([Change(DeviceState("d1", revision=1), None)])
    assert await sydney.devices.load(["d1"]) == {}
    assert (await sydney.devices.page()).items == []
    await asyncio.gather(melbourne.close(), sydney.close())


async def test_the_file_is_the_owners_alone(tmp_path, stores):
    opened = open_stores(f"sqlite://{tmp_path}/new/state.db", "site")
    await opened.devices.page()
    assert stat.S_IMODE((tmp_path / "new" / "state.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    await opened.close()


async def test_a_file_of_a_newer_program_is_refused_and_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "state.db") as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    opened = open_stores(f"sqlite://{tmp_path}/state.db", "site")
    with pytest.raises(StorageError, match="schema version 99"):
        await opened.devices.page()
    await opened.close()


async def test_a_file_of_the_first_schema_is_taken_over_with_what_it_holds(tmp_path):
    """The state and the letter as that program wrote them."""
    state = (
        '{"device_id":"d1","labels":{},"metrics":{},"positions":{"s/0":[7,0,9]},"ledger":{"accepted":5,"duplicate":0'
    )
    state += ',"late":1,"rejected":2},"event_time":9,"enqueued_time":9,"revision":3,"removed_at":null}'
    with sqlite3.connect(tmp_path / "state.db") as file:
        file.executescript(f"{adapter._MIGRATIONS[0]};PRAGMA user_version = 1")
        file.execute("INSERT INTO devices VALUES ('site', 'd1', 1, ?)", (state,))
        file.execute("INSERT INTO dead_letters VALUES (1, 'site', 'json', 'd1', 's/0', 3, 0, 8, 'bad', x'7b')")
    file.close()
    opened = open_stores(f"sqlite://{tmp_path}/state.db", "site")
    taken = (await opened.devices.load(["d1"]))["d1"].state
    assert (taken.count, taken.ledger.rejected, taken.rejections, taken.baseline) == (6, 2, {}, 0)
    assert [(letter.body, letter.created) for letter in (await opened.dead_letters.page()).items] == [(b"{", None)]
    await opened.close()
    with sqlite3.connect(tmp_path / "state.db") as file:
        assert file.execute("SELECT Count FROM DeviceState").fetchall() == [(6,)]
    file.close()


async def test_a_failing_disk_is_a_storage_error_and_heals(tmp_path):
    (tmp_path / "in the way").write_text("a file, no directory")
    opened = open_stores(f"sqlite://{tmp_path}/in%20the%20way/state.db", "site")
    with pytest.raises(StorageError):
        await opened.devices.page()
    (tmp_path / "in the way").unlink()
    assert (await opened.devices.page()).items == []
    await opened.close()


async def test_a_view_tells_the_state_in_the_seeds_columns(tmp_path):
    opened = open_stores(f"sqlite://{tmp_path}/state.db", "Melbourne")
    state = DeviceState(
        "d1",
        labels={"geo": Label("Here", AT), "messageId": Label(7, AT)},
        metrics={"temperature": Measurement(0.0, 0.5, AT)},
        ledger=Ledger(accepted=3, late=2),
        revision=1,
    )
    await opened.devices.compare_and_set([Change(state, None)])
    await opened.close()
    file = sqlite3.connect(tmp_path / "state.db")
    columns = "PartitionKey, DeviceId, Geo, Celsius, Humidity, Id, Count"
    row = file.execute(f"SELECT {columns} FROM DeviceState").fetchone()
    file.close()
    assert row == ("Melbourne", "d1", "Here", 0.0, None, 7, 5)


async def test_only_the_newest_dead_letters_are_kept(tmp_path):
    opened = adapter.open_sqlite(f"{tmp_path}/state.db", "site", dead_letters_kept=3)
    for number in range(6):
        letter = DeadLetter(
            reason="json", detail="", device_id="d", stream="s", sequence=number, index=0, enqueued_time=0, body=b""
        )
        await opened.dead_letters.add([letter])
    assert [letter.sequence async for letter in each(opened.dead_letters.page)] == [3, 4, 5]
    await opened.close()


async def statements_for(opened, count):
    """How many statements SQLite runs to write and read `count` devices."""
    changes = [Change(DeviceState(f"{count}-{number}", revision=1), None) for number in range(count)]
    statements: list[str] = []
    await opened.devices._run(lambda db: db.set_trace_callback(statements.append))
    await opened.devices.compare_and_set(changes)
    await opened.devices.load([change.state.device_id for change in changes])
    await opened.devices._run(lambda db: db.set_trace_callback(None))
    return len(statements)


async def test_many_devices_take_no_more_statements_than_one(tmp_path):
    """Beside a busy event loop each statement may wait 5 ms for the interpreter's lock: row by row 2,000 took 9 s."""
    opened = open_stores(f"sqlite://{tmp_path}/state.db", "site")
    assert await statements_for(opened, 2000) == await statements_for(opened, 1)
    await opened.close()


@pytest.mark.slow
async def test_large_dead_letters_make_a_page_shorter(tmp_path):
    opened = open_stores(f"sqlite://{tmp_path}/state.db", "site")
    large = [
        DeadLetter(
            reason="json", detail="", device_id="d", stream="s", sequence=number, index=0, enqueued_time=0,
            body=b"x" * 1_000_000,
        )
        for number in range(12)
    ]  # fmt: skip
    await opened.dead_letters.add(large)
    assert len((await opened.dead_letters.page()).items) == 5
    assert [letter.sequence async for letter in each(opened.dead_letters.page)] == list(range(12))
    await opened.close()


@pytest.mark.slow
def test_processes_that_make_the_file_together_all_succeed(tmp_path):
    program = (
        "import asyncio; from enviromon.stores import open_stores\n"
        f"asyncio.run(open_stores('sqlite://{tmp_path}/state.db', 'site').devices.page())"
    )
    started = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(6)]
    assert [process.wait(30) for process in started] == [0] * 6


@pytest.mark.parametrize("url", ["", "state.db", "sqlite:", "sqlite://host/x", "mysql://x", "sqlite"])
def test_a_url_that_names_no_store_is_refused(url):
    with pytest.raises(SettingsError, match="STORE_URL"):
        open_stores(url, "site")


async def test_writes_that_come_at_once_are_few_transactions_and_each_knows_its_own(tmp_path, monkeypatch):
    made = []
    connect = adapter._connect

    def traced(path):
        database = connect(path)
        database.set_trace_callback(lambda text: made.append(text.split()[0]))
        return database

    monkeypatch.setattr(adapter, "_connect", traced)
    opened = open_stores(f"sqlite://{tmp_path}/state.db", "site")
    (held,) = await opened.devices.compare_and_set([Change(DeviceState("held", revision=1), None)])
    made.clear()
    calls = [[Change(DeviceState(f"{call}-{n}", revision=call), None) for n in range(call + 1)] for call in range(9)]
    outcomes = await asyncio.gather(*map(opened.devices.compare_and_set, calls))
    assert [len(results) for results in outcomes] == [len(changes) for changes in calls]
    assert {result.outcome for results in outcomes for result in results} == {WriteOutcome.APPLIED}
    assert made == ["INSERT"]
    stored = {item.state.device_id: item async for item in each(opened.devices.page)}
    for changes, results in zip(calls, outcomes, strict=True):
        assert all(
            stored[change.state.device_id].state == change.state and stored[change.state.device_id].etag == result.etag
            for change, result in zip(changes, results, strict=True)
        )
    first, lost, other = await asyncio.gather(
        opened.devices.compare_and_set([Change(DeviceState("held", revision=2), held.etag)]),
        opened.devices.compare_and_set([Change(DeviceState("held", revision=3), held.etag)]),
        opened.devices.compare_and_set([Change(DeviceState("new", revision=4), None)]),
    )
    assert [result.outcome for results in (first, lost, other) for result in results] == [
        WriteOutcome.APPLIED,
        WriteOutcome.CONFLICT,
        WriteOutcome.APPLIED,
    ]
    assert (await opened.devices.load(["held"]))["held"].state.revision == 2
    await opened.close()


async def test_who_gives_up_waiting_takes_no_other_with_it(tmp_path):
    opened = open_stores(f"sqlite://{tmp_path}/state.db", "site")
    impatient, patient = (
        asyncio.create_task(opened.devices.compare_and_set([Change(DeviceState(name, revision=1), None)]))
        for name in ("impatient", "patient")
    )
    await asyncio.sleep(0)
    impatient.cancel()
    (result,) = await patient
    assert result.outcome is WriteOutcome.APPLIED
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert set(await opened.devices.load(["impatient", "patient"])) == {"impatient", "patient"}
    await opened.close()


async def test_what_a_transaction_fails_with_reaches_all_who_wait_for_it(tmp_path):
    (tmp_path / "in the way").write_text("a file, no directory")
    opened = open_stores(f"sqlite://{tmp_path}/in%20the%20way/state.db", "site")
    changes = [[Change(DeviceState(name, revision=1), None)] for name in ("d1", "d2")]
    failures = await asyncio.gather(*map(opened.devices.compare_and_set, changes), return_exceptions=True)
    assert [type(failure) for failure in failures] == [StorageError, StorageError]
    (tmp_path / "in the way").unlink()
    assert [result.outcome for result in await opened.devices.compare_and_set(changes[0])] == [WriteOutcome.APPLIED]
    await opened.close()

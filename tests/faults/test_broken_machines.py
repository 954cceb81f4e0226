"""A full disk, a read-only one, damaged files, a clock set back, ended certificates: a sentence says what to do, and
nothing is lost.
"""

import asyncio
import signal
import sqlite3
import ssl
import time

import pytest

from enviromon.device_client import DeviceConnection, HubAddress, UntrustedHubError, sas_token
from localcloud.certificates import ensure_certificates
from localcloud.iothub.event_log import SqliteEventLog
from tests.faults.cycles import Rig
from tests.faults.machines import Clock, small_disk
from tests.system.systems import System, a_system
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
FILES = ("events.db", "checkpoints.db", "hub.db", "state.db")


async def log_says(system: System, words: str, seconds: float = 20) -> str:
    def look() -> str:
        text = system.log.read_text()
        return text if words in text else ""

    return await asyncio.to_thread(eventually, look, seconds)


def starts_or_says_why_not(system: System, words: str) -> bool:
    """A disk without room may still have some in the files that are there already."""
    told = len(system.log.read_text())
    try:
        system.start()
    except AssertionError:  # it ended instead of saying that it is ready
        assert system.process.wait(10) == 1
        assert words in system.log.read_text()[told:]
        assert "Traceback" not in system.log.read_text()[told:]
        system.process.stdout.close()
        system.process = None
        return False
    return True


async def test_a_full_disk_stops_the_acknowledgements_and_nothing_is_lost(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        rig = Rig(disk.path, own=3, sdk=0, seed=1)
        rig.system.log = tmp_path / "up.log"
        async with rig:
            pid = rig.system.process.pid
            rig.tap.is_open = True
            await asyncio.sleep(0.5)
            disk.fill(pid)
            told = await log_says(rig.system, "nothing is acknowledged")
            assert all(words in told for words in disk.full)
            held = rig.acknowledged()
            await asyncio.sleep(2)
            assert held == rig.acknowledged()
            assert rig.system.process.poll() is None
            disk.free(pid)
            await log_says(rig.system, "takes messages again")
            rig.tap.is_open = False
            await rig.settle(held)
            assert "a commit failed" not in rig.system.log.read_text(), "what is wrong is known, and said"
            assert rig.book.events > 0


async def test_a_system_that_dies_on_a_full_disk_starts_again_once_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        rig = Rig(disk.path, own=3, sdk=0, seed=1)
        rig.system.log = tmp_path / "up.log"
        async with rig:
            rig.tap.is_open = True
            await asyncio.sleep(0.5)
            pid = rig.system.process.pid
            disk.fill(pid)
            await log_says(rig.system, "nothing is acknowledged")
            held = rig.acknowledged()
            await asyncio.to_thread(rig.system.kill)
            is_running = await asyncio.to_thread(starts_or_says_why_not, rig.system, disk.full[0])
            disk.free(rig.system.process.pid if is_running else None)
            if not is_running:
                await asyncio.to_thread(rig.system.start)
            rig.tap.is_open = False
            await rig.settle(held)


def test_a_read_only_data_directory_is_named_with_what_to_do(tmp_path):
    with small_disk(tmp_path / "disk") as disk, a_system(disk.path / "data", tmp_path / "up.log") as system:
        system.start()
        system.cli("simulate", "--devices", "2", "--rate", "200", "--count", "40")
        eventually(lambda: system.ledger()["received"] >= 40)
        system.stop()
        with disk.read_only():
            refused = system.run("up", "--host", system.address)
        assert refused.returncode == 1
        assert "cannot be written" in refused.stderr
        assert "not mounted read-only" in refused.stderr
        assert "Traceback" not in refused.stderr
        system.start()
        assert system.ledger()["accepted"] == 40


@pytest.fixture
def used(tmp_path):
    """A system that has counted 60 readings and stands still, its files without journals."""
    with a_system(tmp_path / "data", tmp_path / "up.log") as system:
        system.start()
        system.cli("simulate", "--devices", "3", "--rate", "300", "--count", "60")
        eventually(lambda: system.ledger()["accepted"] >= 60)
        system.stop()
        for name in FILES:
            database = sqlite3.connect(system.data / name)
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            database.close()
        yield system


def damage(file, *, where: int, size: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(where)
        opened.write(b"\xa5" * size)


def move_away(system: System, *names: str) -> None:
    for name in names:
        for path in system.data.glob(f"{name}*"):
            if path.suffix not in {".lock", ".writer"}:
                path.rename(path.with_name(f"damaged-{path.name}"))


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_with_what_to_do_and_doing_it_helps(used, name):
    damage(used.data / name, where=0, size=4096)
    refused = used.run("up", "--host", used.address)
    assert refused.returncode == 1
    assert f"{name}" in refused.stderr
    assert "damaged" in refused.stderr
    assert "move it away" in refused.stderr
    assert "Traceback" not in refused.stderr
    doctor = used.run("doctor")
    assert doctor.returncode == 1
    assert name in doctor.stdout

    move_away(used, *((name, "checkpoints.db") if name == "state.db" else (name,)))
    used.start()
    eventually(lambda: used.ledger()["accepted"] >= 60)
    if name == "checkpoints.db":
        eventually(lambda: used.ledger()["duplicate"] >= 60)
    assert used.ledger()["accepted"] == 60
    if name == "hub.db":
        assert used.cli("device", "list") == []
    sent = used.cli("simulate", "--devices", "3", "--rate", "300", "--count", "30")
    assert sent["acknowledged"] == 30
    eventually(lambda: used.ledger()["accepted"] + used.ledger()["late"] >= 90)
    assert used.ledger()["accepted"] + used.ledger()["late"] == 90


@pytest.mark.parametrize("name", ["checkpoints.db", "hub.db"])
def test_damage_inside_a_small_file_is_found_at_the_start(used, name):
    size = (used.data / name).stat().st_size
    damage(used.data / name, where=4096, size=size - 4096)
    refused = used.run("up", "--host", used.address)
    assert refused.returncode == 1
    assert f"{name} is damaged" in refused.stderr


async def test_a_clock_set_back_an_hour_is_told_and_changes_no_count(tmp_path):
    clock = Clock(tmp_path / "clock")
    rig = Rig(tmp_path, own=3, sdk=0, seed=1)
    rig.system.environment = clock.environment
    async with rig:
        rig.tap.is_open = True
        await asyncio.sleep(0.7)
        clock.move(-3600)
        told = await log_says(rig.system, "behind the newest event")
        assert "the clock is 36" in told or "the clock is 35" in told
        assert "Set the clock" in told
        await asyncio.sleep(0.5)
        held = rig.acknowledged()
        await asyncio.to_thread(rig.system.kill)
        await asyncio.to_thread(rig.system.start)
        await asyncio.sleep(0.5)
        rig.tap.is_open = False
        await rig.settle(held)
        clock.move(0)
        rig.tap.is_open = True
        await log_says(rig.system, "no longer behind")
        rig.tap.is_open = False
        await rig.settle(held)
        await asyncio.to_thread(rig.system.stop, signal.SIGTERM)
        assert await enqueued_times_never_go_back(rig)


async def enqueued_times_never_go_back(rig: Rig) -> bool:
    log = await SqliteEventLog.open(rig.system.data)
    try:
        for partition in range(log.partitions):
            times = [event.enqueued_time for event in await log.read(partition, -1, 100_000)]
            if times != sorted(times):
                return False
        return True
    finally:
        await log.close()


@pytest.mark.parametrize(("years", "authority_stays"), [(2, True), (30, False)])
async def test_ended_certificates_are_replaced_and_devices_that_must_act_are_told(tmp_path, years, authority_stays):
    with a_system(tmp_path / "data", tmp_path / "up.log") as system:
        then = time.time() - years * 365 * 86_400
        files = ensure_certificates(system.data / "certificates", [system.address], clock=lambda: then)
        old = ssl.create_default_context(cafile=files.ca_file)
        await asyncio.to_thread(system.start)
        device = await asyncio.to_thread(system.device, "cellar")
        token = sas_token(f"{system.address}/devices/cellar", device["primaryKey"], int(time.time()) + 3600)
        new = ssl.create_default_context(cafile=device["caFile"])
        for context, is_trusted in ((old, authority_stays), (new, True)):
            connection = DeviceConnection("cellar")
            hub = HubAddress(system.address, system.ready["ports"]["mqtt"], context)
            if is_trusted:
                await connection.open(hub, token)
                await (await connection.publish(b'{"temperature": 20}'))
                connection.close()
            else:
                with pytest.raises(UntrustedHubError, match="give the device the CA file"):
                    await connection.open(hub, token)
        assert ("made a new certificate authority, for the old one has ended" in system.log.read_text()) is (
            not authority_stays
        )
        await asyncio.to_thread(system.stop)

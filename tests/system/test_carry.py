"""From a laptop to another system: devices, calibrations and states are carried over, and counting goes on."""

import json
import stat
import subprocess

import pytest

from tests.system.systems import ENVIROMON
from tests.waiting import eventually

pytestmark = pytest.mark.slow


def simulate(system, count):
    before = counted(system)
    done = system.cli("simulate", "--devices", 3, "--rate", 300, "--count", count)
    assert done["acknowledged"] == count
    eventually(lambda: counted(system) >= before + count)
    return done


def counted(system):
    ledger = system.ledger()
    return ledger["accepted"] + ledger["late"]


def export(system, file, *options):
    done = system.run("export", "--output", file, "--dead-letters", *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_laptop_is_carried_to_another_system_and_counting_goes_on_exactly(system, other, tmp_path):
    simulate(system, 300)
    assert system.run("calibration", "set", "sim-1", "--humidity-slope", "0.5").returncode == 0
    assert system.run("device", "disable", "sim-3").returncode == 0
    system.stop()
    before, file = system.ledger(), tmp_path / "carried.jsonl"
    export(system, file, "--with-keys")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    dry = other.run("import", file, "--dry-run")
    assert dry.returncode == 1
    first = other.cli("import", file)
    assert (first["device"], first["state"], first["calibration"]) == ({"written": 3}, {"written": 3}, {"written": 1})
    assert other.ledger() == before
    for device in ("sim-1", "sim-2", "sim-3"):
        ours, theirs = (one.cli("device", "show", device) for one in (system, other))
        assert [ours[name] for name in ("primaryKey", "secondaryKey", "status")] == [
            theirs[name] for name in ("primaryKey", "secondaryKey", "status")
        ]

    other.start()
    again = other.cli("import", file)
    assert (again["device"], again["state"], again["calibration"]) == (
        {"unchanged": 3}, {"unchanged": 3}, {"unchanged": 1}
    )  # fmt: skip
    assert other.run("device", "enable", "sim-3").returncode == 0
    simulate(other, 150)
    after = other.ledger()
    assert (after["accepted"] + after["late"], after["duplicate"], after["rejected"]) == (
        before["accepted"] + before["late"] + 150, before["duplicate"], 0
    )  # fmt: skip
    assert other.run("device", "disable", "sim-3").returncode == 0
    kept = other.cli("import", file)["state"]
    assert kept == {"newer": 3}
    assert other.ledger() == after
    other.stop()
    states = [one["state"] for one in export(other, tmp_path / "after.jsonl") if one["kind"] == "state"]
    assert {len(state["positions"]) for state in states} == {2}, "each hub has streams of its own name"


def test_devices_go_to_a_hub_over_its_registry_and_keys_only_where_they_were_asked_for(system, other, tmp_path):
    key = system.device("cellar")["primaryKey"]
    plain = tmp_path / "plain.jsonl"
    export(system, plain)
    assert key not in plain.read_text()
    piped = subprocess.run(
        [*ENVIROMON, "export", "--with-keys", "--data", system.data], capture_output=True, text=True, check=True
    )
    assert "whoever has them can send" in piped.stderr
    assert key in piped.stdout

    other.start()
    hub = other.cli("hub")
    arguments = ["--connection-string", hub["connectionString"], "--ca-file", hub["caFile"], "--data", system.data]
    command = [*ENVIROMON, "import", "-", "--json", *arguments]
    done = subprocess.run(command, input=piped.stdout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"] == {"written": 1}
    assert other.cli("device", "show", "cellar")["primaryKey"] == key

    assert other.run("device", "disable", "cellar").returncode == 0
    refused = other.run("import", plain)
    assert (refused.returncode, "cellar" in refused.stdout) == (1, True)
    assert other.cli("device", "show", "cellar")["status"] == "disabled"
    assert other.run("import", plain, "--overwrite").returncode == 0
    assert other.cli("device", "show", "cellar")["status"] == "enabled"
    assert other.cli("device", "show", "cellar")["primaryKey"] == key, "an export without keys leaves them as they are"


def test_an_export_that_was_cut_off_is_refused_with_what_to_do(system, other, tmp_path):
    system.device("cellar")
    file = tmp_path / "cut.jsonl"
    export(system, file)
    file.write_bytes(file.read_bytes()[:-20])
    done = other.run("import", file)
    assert done.returncode == 1
    assert "line 3" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_export_goes_only_where_it_can_be_written_and_leaves_no_half_of_itself(system, tmp_path):
    done = system.run("export", "--output", tmp_path / "nowhere" / "file.jsonl")
    assert (done.returncode, "cannot be written" in done.stderr) == (1, True)
    assert list(tmp_path.glob("*.new")) == []

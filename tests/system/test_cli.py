"""The command line, as a person and as a program use it."""

import json
import signal
import time

import pytest

pytestmark = pytest.mark.slow


def test_commands_say_what_to_do_before_there_is_any_data(stopped_system):
    for arguments in (["ledger"], ["state"], ["dead-letters"], ["simulate"]):
        done = stopped_system.run(*arguments)
        assert done.returncode == 1
        assert "enviromon up" in done.stderr
        assert "Traceback" not in done.stderr


def test_devices_are_managed_while_nothing_runs(stopped_system):
    system = stopped_system
    added = system.device("cellar")
    assert added["deviceId"] == "cellar"
    assert added["connectionString"].endswith(f";DeviceId=cellar;SharedAccessKey={added['primaryKey']}")
    assert system.cli("device", "list") == [{"deviceId": "cellar", "status": "enabled"}]
    again = system.run("device", "add", "cellar")
    assert (again.returncode, "cellar" in again.stderr) == (1, True)
    assert system.run("device", "disable", "cellar").returncode == 0
    assert system.cli("device", "show", "cellar")["status"] == "disabled"
    assert system.run("device", "remove", "cellar").returncode == 0
    assert system.run("device", "show", "cellar").returncode == 1


def test_a_damaged_registry_is_told_in_a_sentence(stopped_system):
    system = stopped_system
    system.device("cellar")
    for leftover in system.data.glob("hub.db-*"):
        leftover.unlink()
    (system.data / "hub.db").write_bytes(b"no database " * 1000)
    done = system.run("device", "list")
    assert done.returncode == 1
    assert "hub.db is damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_of_the_simulator_ends_with_everything_acknowledged_and_counted(system):
    done = system.cli("simulate", "--devices", 3, "--rate", 300, "--count", 90)
    assert (done["sent"], done["acknowledged"]) == (90, 90)
    deadline = time.monotonic() + 10
    while (ledger := system.ledger())["received"] < 90 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert {name: counts["accepted"] + counts["late"] for name, counts in ledger["devices"].items()} == {
        "sim-1": 30,
        "sim-2": 30,
        "sim-3": 30,
    }
    assert sorted(view["deviceId"] for view in system.cli("state")) == ["sim-1", "sim-2", "sim-3"]


def test_what_was_counted_can_be_read_after_the_system_stopped(system):
    system.cli("simulate", "--devices", 1, "--rate", 100, "--count", 10)
    assert system.stop() == 0
    system.start()
    system.stop()
    assert system.ledger()["received"] - system.ledger()["duplicate"] == 10
    assert system.cli("state", "sim-1")["count"] == 10


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_system_cleanly(system, signal_number):
    started = time.monotonic()
    assert system.stop(signal_number) == 0
    assert time.monotonic() - started < 2.5
    assert "Traceback" not in system.log.read_text()


def test_a_second_system_on_the_same_data_is_refused(system):
    done = system.run("up", "--host", "127.0.0.1", "--http-port", 0, "--mqtt-port", 0, "--signalr-port", 0)
    assert done.returncode == 1
    assert "another system runs on" in done.stderr


def test_a_port_in_use_is_named_with_what_to_do(system, other):
    done = other.run("up", "--host", system.address)
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert "-port" in done.stderr


def test_calibration_is_set_shown_and_removed_while_the_system_runs(system):
    system.cli("simulate", "--devices", 1, "--rate", 10, "--count", 1)
    assert system.run("calibration", "set", "sim-1", "--temperature-slope", "2").returncode == 0
    (version,) = system.cli("calibration", "show", "sim-1")["versions"]
    lines = {"temperature": {"slope": 2.0, "intercept": 0.0}}
    assert version == {"validFrom": "1970-01-01T00:00:00.000Z", "metrics": lines}
    assert system.run("calibration", "remove", "sim-1").returncode == 0
    assert system.cli("calibration", "show", "sim-1")["versions"] == []


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "much"])
def test_a_calibration_that_is_no_number_is_refused_by_name(system, value):
    done = system.run("calibration", "set", "sim-1", "--temperature-slope", value)
    assert done.returncode == 2
    assert "--temperature-slope" in done.stderr
    assert f"{value!r} is no finite number" in done.stderr
    assert system.cli("calibration", "show", "sim-1")["versions"] == []


def test_the_doctor_finds_a_running_system_well(system):
    findings = {finding["subject"]: finding for finding in system.cli("doctor")}
    assert findings["ports"]["well"]
    assert findings["permissions"]["well"], findings["permissions"]


def test_the_doctor_says_what_to_do_about_data_that_others_can_read(system):
    (system.data / "events.db").chmod(0o644)
    done = system.run("doctor", "--json")
    assert done.returncode == 1
    (permissions,) = (found for found in json.loads(done.stdout) if found["subject"] == "permissions")
    assert permissions["advice"].startswith("chmod")


def test_no_key_is_in_anything_that_the_system_prints(system):
    device = system.device("cellar")
    system.cli("simulate", "--devices", 1, "--rate", 10, "--count", 2)
    printed = json.dumps(system.ready) + system.log.read_text()
    keys = json.loads((system.data / "keys.json").read_text()).values()
    assert not [key for key in (*keys, device["primaryKey"], device["secondaryKey"]) if key in printed]


def test_what_it_costs_needs_nothing_that_runs_when_it_is_told_what_to_price(stopped_system):
    told = stopped_system.cli("cost", "--devices", 6, "--rate", 0.05, "--memory-mb", 512)
    assert (told["fitsFreeTier"], told["measured"], told["workload"]["rate"]) == (True, [], 0.05)
    load = ("--devices", 100, "--rate", 100, "--viewers", 10, "--memory-mb", 2048)
    deployed = stopped_system.run("cost", *load)
    assert "with news up to 5 s late" in " ".join(deployed.stdout.split())
    assert "may wait 1 s" not in deployed.stdout, "it may wait for 5 s already"
    people = stopped_system.run("cost", *load, "--min-batch", 1)
    assert people.returncode == 0, people.stderr
    assert "with news at once" in " ".join(people.stdout.split())
    assert "does not fit the free tiers" in people.stdout
    assert "AzureFunctionsJobHost__extensions__eventHubs__maxWaitTime=00:00:01" in people.stdout


def test_what_it_costs_without_a_system_and_without_figures_says_what_to_do(stopped_system):
    done = stopped_system.run("cost", "--devices", 6)
    assert done.returncode == 1
    assert "enviromon up" in done.stderr
    assert "--rate" in done.stderr


def test_more_than_a_hub_carries_is_no_traceback(stopped_system):
    done = stopped_system.run("cost", "--devices", 6, "--rate", "1e6")
    assert (done.returncode, "no single IoT Hub" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr


def test_what_it_costs_is_measured_where_a_system_runs(system):
    system.cli("simulate", "--devices", 3, "--rate", 300, "--count", 300)
    told = system.cli("cost", "--seconds", 0.2, "--viewers", 4)
    workload = told["workload"]
    assert {"devices", "rate", "message_bytes", "update_bytes", "seconds", "viewers"} - {*told["measured"]} == {
        "viewers"
    }
    assert (workload["devices"], workload["viewers"]) == (3, 4)
    assert 0 < workload["rate"] <= 300
    assert 50 < workload["messageBytes"] < 500
    assert 300 < workload["updateBytes"] < 900
    assert 0 < workload["seconds"] < 1

"""scripts/verify-azure, which proves a deployment, proves a local system too; and it can refute one."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/verify_azure.py"

pytestmark = pytest.mark.slow


def verify(hub_of, *arguments, api_of=None):
    hub = hub_of.cli("hub")
    where = [
        "--connection-string",
        hub["connectionString"],
        "--ca-file",
        hub["caFile"],
        "--api",
        (api_of or hub_of).url,
    ]
    command = [sys.executable, SCRIPT, *where, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


def test_a_system_that_works_is_proved_and_its_ledger_goes_on_from_run_to_run(system):
    for run in (1, 2):
        done = verify(system)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "The system does what it promises." in done.stdout
        ledger = system.ledger()["devices"]["verify-azure"]
        assert (ledger["received"], ledger["accepted"], ledger["rejected"]) == (100 * run, 100 * run, 0)
    assert system.cli("device", "list") == []


def test_a_system_that_wants_a_key_is_proved_with_it_and_not_without(stopped_system):
    stopped_system.environment = {"READ_ACCESS": "key", "READ_KEY": "open-sesame"}
    stopped_system.start()
    refused = verify(stopped_system, "--messages", "1")
    assert refused.returncode == 1
    assert "GET /api/ledger answered 401" in refused.stderr
    proved = verify(stopped_system, "--messages", "1", "--read-key", "open-sesame")
    assert proved.returncode == 0, proved.stdout + proved.stderr


def test_messages_that_do_not_arrive_refute_the_system(system, other):
    other.start()
    done = verify(system, "--messages", "5", "--patience", "2", api_of=other)
    assert done.returncode == 1
    assert "the viewer was shown nothing of verify-azure, not its count 5" in done.stderr
    assert system.cli("device", "list") == []


def test_a_hub_that_refuses_is_named(system):
    hub = system.cli("hub")
    wrong = hub["connectionString"].partition("SharedAccessKey=")[0] + "SharedAccessKey=d3Jvbmc="
    done = verify(system, "--connection-string", wrong)
    assert done.returncode == 1
    assert "401" in done.stderr

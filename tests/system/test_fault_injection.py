"""`--faults FILE`: announced, counted, refused where others could come, and exact all the same."""

import asyncio
import signal
import ssl
import urllib.request

import pytest

from enviromon.hub_registry import HubRegistry, RegistryError, parse_connection_string
from tests.waiting import eventually

pytestmark = pytest.mark.slow

PLAN = """
seed = 7
[[fault]]
point = "append.ended"
action = "fail"
probability = 0.05
[[fault]]
point = "read.begins"
action = "redeliver"
events = 30
probability = 0.3
[[fault]]
point = "function.returned"
action = "fail"
probability = 0.02
[[fault]]
point = "output.begins"
action = "time_out"
seconds = 0.1
probability = 0.1
times = 3
[app_settings]
STORE_FAULTS = "devices.compare_and_set=lose_answer:0.5 devices.load=fail:0.05"
STORE_FAULTS_UNLOCK = "this store fails on purpose"
"""


def write(tmp_path, text):
    file = tmp_path / "faults.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("workers", [0, 2])
def test_faults_are_announced_logged_and_counted_and_the_counts_stay_exact(stopped_system, tmp_path, workers):
    system = stopped_system
    system.start("--faults", write(tmp_path, PLAN), "--workers", workers)
    sent = system.cli("simulate", "--devices", 5, "--rate", 1000, "--count", 2000)
    assert sent["acknowledged"] == 2000
    eventually(lambda: (now := system.ledger())["accepted"] + now["late"] == 2000, seconds=30)
    for fault in ("append.ended fail", "read.begins redeliver", "devices.compare_and_set lose_answer"):
        # Workers report what they counted twice a second.
        eventually(lambda name=f'injected_faults_total{{fault="{fault}"}}': system.figures().get(name))
        assert f"{fault}" in system.log.read_text()
    assert "FAULTS ON PURPOSE" in system.log.read_text()
    assert "append.ended: fail, with probability 0.05" in system.log.read_text()


def test_without_the_option_nothing_is_injected_and_nothing_is_said(system):
    assert not [name for name in system.figures() if "fault" in name]
    assert "purpose" not in system.log.read_text().lower()


def test_faults_are_refused_where_other_machines_could_come(stopped_system, tmp_path):
    file = write(tmp_path, PLAN)
    done = stopped_system.run("up", "--faults", file, "--host", "0.0.0.0", "--http-port", "0")
    assert done.returncode == 1
    assert "leave --faults out" in done.stderr


def test_a_file_that_is_wrong_is_a_wrong_command_line(stopped_system, tmp_path):
    done = stopped_system.run("up", "--faults", write(tmp_path, '[[fault]]\npoint = "nowhere"\naction = "fail"'))
    assert done.returncode == 2
    assert "faults.toml: Invalid enum value 'nowhere'" in done.stderr


def test_store_faults_that_nobody_unlocked_stop_nothing_but_are_refused(stopped_system, tmp_path):
    system = stopped_system
    system.start("--faults", write(tmp_path, '[app_settings]\nSTORE_FAULTS = "devices.load=fail"'))
    with pytest.raises(urllib.error.HTTPError):
        system.get("/api/ledger")
    assert "STORE_FAULTS_UNLOCK" in eventually(lambda: "STORE" in (text := system.log.read_text()) and text)


def test_a_process_that_dies_at_a_point_ends_with_its_own_status_and_loses_nothing(stopped_system, tmp_path):
    system = stopped_system
    plan = '[[fault]]\npoint = "function.returned"\naction = "exit"\nfunction = "telemetry"\nskip = 3'
    system.start("--faults", write(tmp_path, plan), "--simulate", "3", "--rate", "100")
    assert system.process.wait(20) == 86
    system.process.stdout.close()
    assert "fault 1: function.returned exit" in system.log.read_text()
    stored = system.stored()
    assert stored > 0
    system.start()
    eventually(lambda: (now := system.ledger())["accepted"] + now["late"] == stored)
    assert system.stop(signal.SIGTERM) == 0


async def test_beyond_the_daily_quota_the_registry_answers_as_iot_hub_does(stopped_system, tmp_path):
    system = stopped_system
    plan = write(tmp_path, '[throttle]\ntier = "F1"\nsent_today = 8000')
    ready = await asyncio.to_thread(system.start, "--faults", plan)
    hub = await asyncio.to_thread(system.cli, "hub")
    tls = ssl.create_default_context(cafile=ready["caFile"])
    async with HubRegistry(parse_connection_string(hub["connectionString"]), tls) as registry:
        with pytest.raises(RegistryError, match=r"answered 403 .*IotHubQuotaExceeded.*'8000'"):
            await registry.ensure_device("cellar")

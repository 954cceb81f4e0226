"""paho-mqtt, in an environment of its own: azure-iot-device wants an older one."""

import subprocess
from pathlib import Path

import pytest

from tests.environments import python_of
from tests.waiting import eventually

pytestmark = pytest.mark.slow


def test_paho_mqtt_sends_telemetry_that_arrives(system):
    device = system.device("paho")
    command = [python_of("paho", "of requirements/paho.txt"), Path(__file__).with_name("paho_device.py")]
    arguments = [system.address, "8883", device["caFile"], "paho", device["primaryKey"], '{"temperature": -1.5}']
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert eventually(lambda: system.cli("state"))[0]["temperature"] == -1.5

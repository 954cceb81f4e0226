"""azure-iot-hub, the official SDK for services, in an environment of its own: its uamqp is for some Pythons only."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.environments import python_of
from tests.waiting import eventually

pytestmark = pytest.mark.slow


def test_the_service_sdk_manages_devices_by_the_connection_string_that_enviromon_hub_shows(system):
    hub = system.cli("hub")
    python = python_of("iot-hub-service", "on x86-64, with a Python 3.11, 3.12 or 3.13")
    done = subprocess.run(
        [python, Path(__file__).with_name("registry_service.py"), hub["connectionString"]],
        env={**os.environ, "REQUESTS_CA_BUNDLE": hub["caFile"]},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    took_the_given_key, made_key = told.pop("keys")
    assert took_the_given_key
    assert told == {
        "same when read": True,
        "twice": [409, "DeviceAlreadyExists"],
        "updated": ["disabled", True],
        "old etag": [412, "PreconditionFailed"],
        "bulk": True,
        "listed": ["bulk-0", "bulk-1", "bulk-2", "given", "made"],
        "statistics": [5, 2, 3],
        "connected": 0,
        "bulk removal": True,
        "removed": [404, "DeviceNotFound"],
        "left": ["given", "made"],
        "unknown policy": [401, "IotHubUnauthorizedAccess"],
    }
    paho = [python_of("paho", "of requirements/paho.txt"), Path(__file__).with_name("paho_device.py")]
    device = [system.address, "8883", hub["caFile"], "made", made_key, '{"temperature": 4.5}']
    assert subprocess.run([*paho, *device], timeout=20, check=False).returncode == 0
    assert eventually(lambda: system.cli("state"))[0]["temperature"] == 4.5

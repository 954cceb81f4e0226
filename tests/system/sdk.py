"""Microsoft's device SDK, unmodified, for devices as `System.device` tells of them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient

MARKS = [
    pytest.mark.usefixtures("device_sdk"),
    # Its paho-mqtt 1.6 leaves its wake-up sockets to the garbage collector, which may find them during the test.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""Of a test that uses it."""


def client_of(device: dict, kind: type = IoTHubDeviceClient, **options: Any) -> Any:
    """Return a client of that kind, which has not connected."""
    return kind.create_from_connection_string(
        device["connectionString"], server_verification_cert=Path(device["caFile"]).read_text(), **options
    )


@contextlib.contextmanager
def connected(device: dict) -> Iterator[IoTHubDeviceClient]:
    """Connect a client for as long as it is used."""
    client = client_of(device)
    client.connect()
    try:
        yield client
    finally:
        client.shutdown()

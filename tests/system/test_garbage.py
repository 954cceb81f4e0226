"""Whatever arrives on a port ends that connection, and nothing else."""

import asyncio
import json
import random
import re
import socket
import ssl
import time

import pytest

from enviromon.device_client import DeviceConnection, HubAddress, sas_token
from tests.system.sdk import MARKS, connected
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, *MARKS]

PORTS = {"functions": 7071, "mqtt": 8883, "https": 8443, "signalr": 8888}
TLS_PORTS = {"mqtt", "https"}


def connect(system, name, *, tls):
    raw = socket.create_connection((system.address, PORTS[name]), timeout=20)
    if not tls:
        return raw
    context = ssl.create_default_context(cafile=system.ready["caFile"])
    return context.wrap_socket(raw, server_hostname=system.address)


def read_to_end(connection):
    """True once the peer has closed; a reset is an end too."""
    try:
        while connection.recv(4096):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    return True


def garbage(seed, size=4096):
    return random.Random(seed).randbytes(size)


@pytest.fixture
def witness(system):
    """A device that was connected before the garbage came and must not notice it."""
    with connected(system.device("witness")) as client:
        disconnections = []
        client.on_connection_state_change = lambda: disconnections.append(client.connected)
        yield lambda number: (client.send_message(json.dumps({"temperature": number})), disconnections)[1]


@pytest.mark.parametrize("name", PORTS)
def test_random_bytes_end_their_connection_only(system, witness, name):
    for seed in range(20):
        for tls in {False, name in TLS_PORTS}:
            with connect(system, name, tls=tls) as connection:
                try:
                    connection.sendall(garbage(seed))
                    connection.sendall(b"\r\n\r\n")
                except (ConnectionError, ssl.SSLError):
                    continue
                assert read_to_end(connection)
    assert witness(1) == []
    eventually(lambda: system.ledger()["received"] == 1)


@pytest.mark.parametrize("name", PORTS)
def test_half_a_packet_that_never_goes_on_delays_nobody(system, witness, name):
    half = {"mqtt": b"\x10\x7f\x00\x04MQ"}.get(name, b"POST /api/devices HTTP/1.1\r\nHost: ")
    waiting = [connect(system, name, tls=name in TLS_PORTS) for _ in range(20)]
    try:
        for connection in waiting:
            connection.sendall(half)
        assert witness(2) == []
        eventually(lambda: system.cli("state", "witness")["temperature"] == 2)
    finally:
        for connection in waiting:
            connection.close()
    assert system.get("/health")["status"] == "ok"


def test_a_writer_of_one_byte_at_a_time_is_served_like_any_other(system):
    request = f"GET /health HTTP/1.1\r\nHost: {system.address}:7071\r\nConnection: close\r\n\r\n".encode()
    with connect(system, "functions", tls=False) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            connection.sendall(bytes([byte]))
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


async def send_oversized(system, device):
    """By hand: the SDK refuses to send so much."""
    hub = HubAddress(system.address, 8883, ssl.create_default_context(cafile=device["caFile"]))
    token = sas_token(f"{system.address}/devices/talker", device["primaryKey"], int(time.time()) + 60)
    connection = DeviceConnection("talker")
    await connection.open(hub, token)
    acknowledged = await connection.publish(b"[" + b" " * (257 * 1024) + b"]")
    await asyncio.wait_for(connection.closed, 10)
    return acknowledged.exception()


def test_a_message_of_257_kilobytes_ends_its_connection_is_logged_and_counted(system, witness):
    device = system.device("talker")
    assert isinstance(asyncio.run(send_oversized(system, device)), ConnectionError)
    assert witness(3) == []
    assert re.search(r"talker.*oversized", system.log.read_text())
    assert system.figures()['iothub_closed_total{reason="oversized"}'] == 1
    ledger = eventually(lambda: (now := system.ledger())["received"] == 1 and now)
    assert "talker" not in ledger["devices"]

"""kill -9 under load: nothing acknowledged is lost, nothing is counted twice."""

import asyncio
import json
import subprocess
import time
from collections import Counter

import pytest

from localcloud.iothub.event_log import SqliteEventLog
from tests.system.systems import ENVIROMON, eventually

pytestmark = pytest.mark.slow

DEVICES, MESSAGES, KILLS = 8, 6000, 3


async def stored_message_ids(data):
    """Every event of the log, as (device, message id), with its repetitions."""
    log = await SqliteEventLog.open(data, read_only=True)
    found = Counter()
    for partition in range(log.partitions):
        after = -1
        while batch := await log.read(partition, after, 10_000):
            after = batch[-1].sequence_number
            for event in batch:
                device = event.envelope.system_properties["iothub-connection-device-id"]
                found[device, json.loads(event.body)["messageId"]] += 1
    await log.close()
    return found


def test_a_system_killed_under_load_loses_nothing_and_counts_nothing_twice(stopped_system):
    system = stopped_system
    system.start()
    options = ["--devices", DEVICES, "--rate", 1500, "--count", MESSAGES, "--json", "--data", system.data]
    load = subprocess.Popen([*ENVIROMON, "simulate", *map(str, options)], stdout=subprocess.PIPE, text=True)
    for kill in range(1, KILLS + 1):
        eventually(lambda goal=kill * MESSAGES // (KILLS + 1): system.ledger()["received"] >= goal, seconds=30)
        system.kill()
        assert load.poll() is None, "the load must still be running when the system dies"
        system.start()
    out, _ = load.communicate(timeout=40)
    sent = json.loads(out)
    assert sent["sent"] == sent["acknowledged"] == MESSAGES

    stored = asyncio.run(stored_message_ids(system.data))
    expected = {(f"sim-{n}", m) for n in range(1, DEVICES + 1) for m in range(1, MESSAGES // DEVICES + 1)}
    assert set(stored) == expected, "every acknowledged message is in the log"

    events = sum(stored.values())
    deadline = time.monotonic() + 20
    while (ledger := system.ledger())["received"] - ledger["duplicate"] < events and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ledger["accepted"] + ledger["late"] == events, "each stored event is counted once"
    assert ledger["rejected"] == 0
    assert ledger["received"] == ledger["accepted"] + ledger["duplicate"] + ledger["late"]

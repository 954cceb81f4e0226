"""Function workers: a partition goes on when its worker dies, hangs or leaves, and every event counts once."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from localcloud.functions.worker_messages import Grant, Start, encode
from localcloud.keys import load_or_create_keys
from tests.system.systems import ENVIROMON, workers_of
from tests.waiting import eventually

pytestmark = pytest.mark.slow

DEVICES, RATE = 8, 400
WITHIN_SECONDS = 5.0


@contextmanager
def load_on(system, messages: int):
    """Simulated devices in a process of their own; what they sent is in the list at the end."""
    options = ["--devices", DEVICES, "--rate", RATE, "--count", messages, "--json", "--data", system.data]
    load = subprocess.Popen([*ENVIROMON, "simulate", *map(str, options)], stdout=subprocess.PIPE, text=True)
    sent: list[dict] = []
    try:
        yield sent
        out, _ = load.communicate(timeout=120)
        sent.append(json.loads(out))
    finally:
        load.kill()
        load.wait()
        load.stdout.close()


def received(system) -> dict[str, int]:
    return {device: counts["received"] for device, counts in system.ledger()["devices"].items()}


def every_device_goes_on(system, seconds: float = WITHIN_SECONDS) -> None:
    """Each device's count grows: whichever partition it is in is worked on."""
    before = received(system)
    assert len(before) == DEVICES
    eventually(lambda: all(count > before[device] for device, count in received(system).items()), seconds)


def counted_once(system, sent: dict) -> None:
    assert sent["acknowledged"] == sent["sent"]
    expected = sent["sent"]

    def ledger():
        found = system.ledger()
        return found if found["received"] - found["duplicate"] >= expected else None

    found = eventually(ledger, 20)
    assert found["accepted"] + found["late"] == expected
    assert found["rejected"] == 0


@pytest.mark.timeout(180)
def test_partitions_go_on_when_a_worker_dies_hangs_or_leaves(stopped_system):
    system = stopped_system
    system.start("--workers", "2")
    assert len(workers_of(system.process)) == 2
    with load_on(system, 12_000) as sent:
        eventually(lambda: len(received(system)) == DEVICES)
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP):
            victim = workers_of(system.process)[0]
            os.kill(victim, number)
            every_device_goes_on(system)
            eventually(lambda victim=victim: victim not in workers_of(system.process))
            eventually(lambda: len(workers_of(system.process)) == 2)
            assert f"function worker {victim} ended" in system.log.read_text()
    counted_once(system, *sent)
    assert system.figures()["function_workers"] == 2
    counted = system.figures()['function_events_total{function="telemetry"}']
    assert counted > 9000, "all but what a killed worker had not reported yet"
    eventually(lambda: sum(v for name, v in system.figures().items() if name.startswith("eventhub_lag")) == 0)
    pids = workers_of(system.process)
    assert system.stop() == 0
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_workers_end_with_a_killed_main_process_and_the_next_start_goes_on(stopped_system):
    system = stopped_system
    system.start("--workers", "2")
    with load_on(system, 2400) as sent:
        for goal in (500, 1200):
            eventually(lambda goal=goal: sum(received(system).values()) >= goal, 30)
            pids = workers_of(system.process)
            system.kill()
            eventually(lambda pids=pids: not any(Path(f"/proc/{pid}").exists() for pid in pids))
            system.start("--workers", "2")
    counted_once_or_sent_again(system, *sent)


def counted_once_or_sent_again(system, sent: dict) -> None:
    """A device that got no acknowledgement sends again, which makes a new event: more than sent, never fewer."""
    assert sent["acknowledged"] == sent["sent"]
    stored = system.stored()
    assert stored >= sent["sent"]
    eventually(lambda: (found := system.ledger())["accepted"] + found["late"] == stored, 20)
    assert system.ledger()["rejected"] == 0


def test_two_workers_that_both_believe_to_hold_all_partitions_count_exactly(stopped_system):
    system = stopped_system
    system.start("--workers", "1")
    keys = load_or_create_keys(system.data / "keys.json")
    with closing(sqlite3.connect(f"file:{system.data / 'events.db'}?mode=ro", uri=True)) as log:
        ((log_id,),) = log.execute("SELECT lower(hex(id)) FROM log").fetchall()
    start = Start(
        app_dir=str(Path(__file__).parents[2]),
        data=str(system.data),
        app_settings={"STORE_URL": f"sqlite:{system.data / 'state.db'}", "IoTHubEventHubName": "iothub-ehub-local"},
        connections={
            "eventHubTrigger": "Endpoint=sb://localcloud/;SharedAccessKeyName=a;SharedAccessKey=a2V5;"
            f"EntityPath=iothub-ehub-local-{log_id[:16]}",
            "signalR": f"Endpoint=http://{system.address};Port={system.ready['ports']['signalr']};"
            f"AccessKey={keys.signalr};Version=1.0;",
            "signalRConnectionInfo": "Endpoint=http://localhost;AccessKey=a2V5;Version=1.0;",
        },
        ca_file=None,
        verbose=False,
        only_failures=True,
        json_log=False,
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        rogue = subprocess.Popen(
            [sys.executable, "-m", "localcloud.functions.worker", str(theirs.fileno())], pass_fds=(theirs.fileno(),)
        )
        ours.sendall(encode(start) + b"\n" + encode(Grant([0, 1, 2, 3])) + b"\n")
        with load_on(system, 2400) as sent:
            pass
        counted_once(system, *sent)
        assert system.ledger()["duplicate"] > 0, "both have worked on the same events"
    assert rogue.wait(10) == 0

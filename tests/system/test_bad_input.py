"""What a device may get wrong, sent by the official SDK through the whole system."""

import json

import pytest

from tests.system.sdk import MARKS, connected
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, *MARKS]

BAD = {
    "malformed": b'{"temperature": 21',
    "invalid UTF-8": b'{"temperature": 21, "note": "\xff"}',
    "text for a number": b'{"temperature": "21"}',
    "true for a number": b'{"temperature": true}',
    "NaN": b'{"temperature": NaN}',
    "a message id beyond int64": b'{"temperature": 21, "messageId": %d}' % 2**70,
    "no metric at all": b'{"geo": "Porto"}',
    "deeply nested": b"[" * 10_000 + b"]" * 10_000,
    "an empty body": b"",
    "a reading from 2099": b'{"temperature": 21, "timestamp": "2099-01-01T00:00:00Z"}',
    "out of range": b'{"temperature": 80.5}',
}


@pytest.fixture
def client(system):
    with connected(system.device("clumsy")) as client:
        yield client


def test_each_bad_message_is_a_dead_letter_and_its_neighbours_are_unharmed(system, client):
    for body in BAD.values():
        client.send_message(body)
        client.send_message(json.dumps({"temperature": 20.0}))
    ledger = eventually(lambda: (now := system.ledger())["received"] == 2 * len(BAD) and now)
    assert (ledger["accepted"], ledger["rejected"]) == (len(BAD), len(BAD))
    letters = system.cli("dead-letters")
    assert {letter["deviceId"] for letter in letters} == {"clumsy"}
    assert all(letter["reason"] for letter in letters)
    assert [letter["body"].encode() for letter in letters if b"\\xff" not in letter["body"].encode()] == [
        body for body in BAD.values() if b"\xff" not in body
    ]


def test_one_bad_item_of_an_array_harms_no_other(system, client):
    client.send_message(json.dumps([{"temperature": 1}, {"temperature": "x"}, {"temperature": 3}]))
    ledger = eventually(lambda: (now := system.ledger())["received"] == 3 and now)
    assert (ledger["accepted"], ledger["rejected"]) == (2, 1)
    (letter,) = system.cli("dead-letters")
    assert (json.loads(letter["body"]), letter["index"]) == ({"temperature": "x"}, 1)


def test_the_log_as_json_says_which_reading_of_which_device_was_refused(stopped_system):
    system = stopped_system
    system.start("--log-format", "json", "--verbose")
    with connected(system.device("clumsy")) as client:
        client.send_message('{"temperature": 20}')
        client.send_message('{"temperature": 999}')
        eventually(lambda: system.ledger()["rejected"])
    system.stop()
    lines = [json.loads(line) for line in system.log.read_text().splitlines()]
    (refused,) = (line for line in lines if "readings rejected" in line["message"])
    assert (refused["level"], refused["device"], refused["sequence"]) == ("warning", "clumsy", 1)
    told = [line for line in lines if line.get("function") == "telemetry"]
    assert {line["partition"] for line in told} == {int(refused["partition"])}
    assert (told[0]["first_sequence"], told[-1]["last_sequence"]) == (0, 1)

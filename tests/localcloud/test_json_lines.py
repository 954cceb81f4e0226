import json
import logging
import sys

import pytest

from localcloud.functions.console import reporter
from localcloud.functions.invocation import Invocation
from localcloud.json_lines import JsonLinesFormatter


def record(message, *args, level=logging.WARNING, exc_info=None, **extra):
    made = logging.Logger("a.b").makeRecord("a.b", level, "f.py", 1, message, args, exc_info, extra=extra)  # noqa: LOG001
    made.created = 1_764_000_000.5
    return made


def test_a_record_is_one_object_with_what_it_was_given():
    line = JsonLinesFormatter().format(record("%s of %d", "one", 2, device="d1", partition="3", sequence=7))
    assert json.loads(line) == {
        "time": "2025-11-24T16:00:00.500Z",
        "level": "warning",
        "logger": "a.b",
        "message": "one of 2",
        "device": "d1",
        "partition": "3",
        "sequence": 7,
    }


def test_what_a_peer_sent_stays_in_its_line():
    text = 'd1\n{"level": "error"}\x1b[2J\u202eexe\ud800'
    line = JsonLinesFormatter().format(record("%s", text, device=text))
    assert line.isascii()
    assert "\n" not in line
    assert "\x1b" not in line
    assert json.loads(line)["device"] == text


def test_an_exception_and_a_value_that_json_lacks_are_told():
    try:
        raise ValueError("no")  # noqa: TRY301
    except ValueError:
        told = json.loads(JsonLinesFormatter().format(record("it failed", exc_info=sys.exc_info(), path={1})))
    assert told["exception"].endswith("ValueError: no")
    assert told["path"] == "{1}"


@pytest.fixture
def invocation():
    return Invocation(
        function="telemetry", trigger="eventHubTrigger", milliseconds=4.123456, invocation_id="i", count=3, partition=2,
        first_sequence=5, last_sequence=7,
    )  # fmt: skip


def test_an_invocation_is_told_with_its_partition_and_sequences(capsys, tmp_path, invocation):
    reporter(tmp_path, as_json=True)(invocation)
    captured = capsys.readouterr()
    told = json.loads(captured.err)
    assert captured.out == ""
    assert (told["level"], told["message"], told["milliseconds"]) == ("info", "telemetry ok", 4.123)
    assert (told["partition"], told["first_sequence"], told["last_sequence"], told["count"]) == (2, 5, 7, 3)


def test_only_failures_are_told_where_only_they_are_wanted_with_their_stack(capsys, tmp_path, invocation):
    from msgspec.structs import replace  # noqa: PLC0415

    report = reporter(tmp_path, only_failures=True, as_json=True)
    report(invocation)
    report(replace(invocation, outcome="failed", error=ValueError("a\nb"), retry_in=2.0))
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["error"], told["retry_in"]) == ("error", "ValueError: a\nb", 2.0)
    assert "ValueError" in told["exception"]

"""What a device chose, as the command line shows it: nothing in it steers the terminal."""

import json

import pytest
from rich.console import Console

from enviromon.cli import common, state

HOSTILE = "\x1b[2J\x9b31m[red]d1[/red]\u202e\r\n"


def is_harmless(shown: str) -> bool:
    return all(character == "\n" or character.isprintable() for character in shown)


def test_a_name_and_a_place_of_a_devices_choice_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    view = dict.fromkeys(("temperature", "humidity", "pressure", "light", "eventTime"))
    table = state._table([view | {"deviceId": "d1", "name": HOSTILE, "geo": HOSTILE, "count": 1}])
    Console(width=300, highlight=False).print(table)
    shown = capsys.readouterr().out
    assert is_harmless(shown)
    assert "[red]d1[/red]" in shown
    assert "\\x1b[2J" in shown


def test_json_for_programs_holds_no_control_character_and_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    common.print_json({"name": HOSTILE, "ö": "\udc80"})
    shown = capsys.readouterr().out
    assert is_harmless(shown)
    assert "ö" in shown
    assert json.loads(shown)["name"] == HOSTILE

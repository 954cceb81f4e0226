"""`enviromon dead-letters`, on a data directory that a system left behind."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from enviromon.calibration import Line, Version
from enviromon.cli import main
from enviromon.stores import open_stores
from tests.enviromon.world import World, body, delivery


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.delenv("STORE_URL", raising=False)
    (tmp_path / "lock").touch()

    async def fill():
        stores = open_stores(f"sqlite://{tmp_path}/state.db", "enviromon")
        await World(stores).send(delivery(1, body(temperature=210)), delivery(2, b"junk"), delivery(3, body(light=1)))
        await stores.calibrations.put("d1", Version(0, {"temperature": Line(0.1)}))
        await stores.close()

    asyncio.run(fill())
    return tmp_path


def run(*arguments):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_dry_run_tells_what_a_replay_would_do(data):
    dry = json.loads(run("dead-letters", "replay", "--dry-run", "--json", "--data", data))
    wet = json.loads(run("dead-letters", "replay", "--json", "--data", data))
    assert dry == wet | {"dryRun": True}
    assert wet["ledger"] == {"accepted": 0, "late": 1, "rejected": -1}
    assert wet["letters"] == {"replayed": 1, "failed": 1, "settled": 0, "pending": 0, "forgotten": 0}
    assert wet["stillRejected"] == {"json": 1}
    assert [letter["sequence"] for letter in json.loads(run("dead-letters", "--json", "--data", data))] == [2]


def test_people_are_told_in_words(data):
    told = run("dead-letters", "replay", "--data", data)
    assert "still rejected (json 1)" in told
    assert "the ledger changed: accepted +0, late +1, rejected -1" in told
    assert "No dead letters to replay." in run("dead-letters", "replay", "--device", "d2", "--data", data)
    assert "junk" in run("dead-letters", "--data", data)


def test_a_reason_that_does_not_exist_is_refused_with_those_that_do(data):
    done = CliRunner().invoke(main, ["dead-letters", "replay", "--reason", "mood", "--data", str(data)])
    assert done.exit_code == 2
    assert "'range'" in done.output

"""A seed's tables in a real table service, carried on."""

import asyncio
import json

import pytest
from azure.data.tables import EdmType, EntityProperty
from azure.data.tables.aio import TableServiceClient
from click.testing import CliRunner

from enviromon.cli import main
from enviromon.stores import open_stores
from tests.enviromon.world import World, body, delivery

pytestmark = pytest.mark.slow

ROWS = 1203
"""More than a page of the service."""


@pytest.fixture
def seed(azurite, table_prefix, monkeypatch):
    """The names of two fresh tables, filled; the account's connection is in SEED_STORAGE."""
    monkeypatch.setenv("SEED_STORAGE", azurite.connection_string())
    names = f"{table_prefix}State", f"{table_prefix}Calibration"

    async def fill():
        async with TableServiceClient.from_connection_string(azurite.connection_string()) as service:
            states, calibrations = [await service.create_table(one) for one in names]
            rows = [
                {
                    "PartitionKey": "Sydney", "RowKey": f"It's {n:04}", "DeviceId": f"It's {n:04}", "Geo": "Sydney",
                    "Celsius": 20.0 + n % 10, "Humidity": 0.0, "Id": n, "Schema": 1,
                    "Count": EntityProperty(2**40 + n, EdmType.INT64),
                }
                for n in range(ROWS)
            ]  # fmt: skip
            for start in range(0, ROWS, 100):
                await states.submit_transaction([("create", row) for row in rows[start : start + 100]])
            await calibrations.create_entity(
                {"PartitionKey": "Sydney", "RowKey": "It's 0001", "TemperatureSlope": 2.0, "TemperatureYIntercept": 1.0}
            )

    asyncio.run(fill())
    return names


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.delenv("STORE_URL", raising=False)
    return tmp_path / "data"


def run(*arguments, code=0):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def carry(seed, data, ids, *options, code=0):
    (data.parent / "ids.json").write_text(json.dumps(ids))
    return run(
        "import", "--seed-table", seed[0], "--seed-calibrations", seed[1], "--seed-account", "SEED_STORAGE",
        "--id-map", data.parent / "ids.json", "--data", data, *options, code=code,
    )  # fmt: skip


ALL = {f"It's {n:04}": f"d{n}" for n in range(ROWS)}


def test_every_row_is_carried_on_and_again_changes_nothing(seed, data):
    first = json.loads(carry(seed, data, ALL, "--json").stdout)
    assert (first["state"], first["calibration"]) == ({"written": ROWS}, {"written": 1})
    again = json.loads(carry(seed, data, ALL, "--json").stdout)
    assert (again["state"], again["calibration"]) == ({"unchanged": ROWS}, {"unchanged": 1})

    async def go_on():
        stores = open_stores(f"sqlite://{data}/state.db", "enviromon")
        world = World(stores)
        await world.send(delivery(10**6, body(temperature=10, deviceId="It's 0001"), enqueued=2**41, device="d1"))
        state = await world.state("d1")
        await stores.close()
        return state

    state = asyncio.run(go_on())
    assert (state.count, state.ledger.received, state.metrics["temperature"].value) == (2**40 + 2, 1, 21.0)
    shown = json.loads(run("state", "d1", "--json", "--data", data).stdout)
    assert (shown["count"], shown["name"], shown["humidity"]) == (2**40 + 2, "It's 0001", 0.0)
    assert json.loads(run("ledger", "--json", "--data", data).stdout)["received"] == 1


def test_rows_that_are_not_in_the_map_are_named_and_nothing_is_taken_over_unless_told(seed, data):
    some = {name: device for name, device in ALL.items() if name not in {"It's 0007", "It's 1202"}}
    done = carry(seed, data, some, code=1)
    assert "It's 0007, It's 1202" in done.output
    assert json.loads(run("state", "--json", "--data", data).stdout) == []
    done = carry(seed, data, some, "--skip-unmapped")
    assert "left behind: It's 0007, It's 1202" in done.stderr
    assert len(json.loads(run("state", "--json", "--data", data).stdout)) == ROWS - 2


def test_a_dry_run_writes_nothing(seed, data):
    data.mkdir()
    (data / "lock").touch()
    dry = json.loads(carry(seed, data, ALL, "--dry-run", "--json").stdout)
    assert (dry["dryRun"], dry["state"]) == (True, {"written": ROWS})
    assert json.loads(run("state", "--json", "--data", data).stdout) == []


def test_a_table_that_is_not_there_is_a_sentence_and_is_not_made(seed, data, azurite):
    done = carry(("Missing", seed[1]), data, ALL, code=1)
    assert "Missing" in done.output
    assert "Traceback" not in done.output

    async def names():
        async with TableServiceClient.from_connection_string(azurite.connection_string()) as service:
            return [table.name async for table in service.list_tables()]

    assert "Missing" not in asyncio.run(names())


def test_a_connection_that_is_not_set_is_named(data, tmp_path):
    (tmp_path / "ids.json").write_text("{}")
    done = run(
        "import", "--seed-table", "T", "--seed-account", "NOT_SET", "--id-map", tmp_path / "ids.json", "--data", data,
        code=1,
    )  # fmt: skip
    assert "NOT_SET" in done.output

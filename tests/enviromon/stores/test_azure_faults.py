"""Azure Tables under faults, on a real Azurite: nothing is lost, and everything is counted once."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from enviromon.device_state import Ledger
from enviromon.ingest import Ingest
from enviromon.settings import Settings
from enviromon.stores import each, open_stores
from enviromon.stores.azure_tables import open_azure_tables
from tests.azurite.server import Azurite
from tests.enviromon.stores import azure_run
from tests.enviromon.stores.azure_run import deliver, outcome, run_of, undisturbed
from tests.enviromon.stores.proxy import CHUNK, Proxy
from tests.enviromon.world import World, delivery

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[3]
FAST = Settings(occ_base_ms=1, occ_cap_ms=20)


@pytest.fixture
def own_azurite(tmp_path):
    """A server that may be stopped."""
    server = Azurite(tmp_path)
    server.start()
    yield server
    if server.process is not None:
        server.signal(signal.SIGCONT)
        server.stop()


def opened(server, *, port=None, prefix="faults", answer_seconds=30.0):
    environment = {"AZURITE": server.connection_string(port)}
    return open_azure_tables(f"AZURITE/{prefix}", "site", environment, answer_seconds=answer_seconds)


async def test_ten_thousand_messages_come_to_the_same_in_sqlite_and_in_tables(tables_url):
    batches = run_of(100)
    assert sum(len(one.deliveries) for one in batches) >= 10_000
    sqlite, tables = open_stores("sqlite::memory:", "site"), open_stores(tables_url, "site")
    for stores in (sqlite, tables):
        assert await deliver(Ingest(stores, Settings()), batches) == 0
    states = [
        {one.state.device_id: one.state async for one in each(stores.devices.page)} for stores in (sqlite, tables)
    ]
    assert len(states[0]) == azure_run.DEVICES
    assert states[0] == states[1]
    ledger = sum((state.ledger for state in states[1].values()), Ledger())
    assert min(ledger.accepted, ledger.duplicate, ledger.late, ledger.rejected) > 100
    assert await outcome(sqlite) == await outcome(tables)
    await asyncio.gather(sqlite.close(), tables.close())


async def test_four_processes_that_are_given_the_same_batches_count_exactly(tables_url):
    """The worst that rebalancing can do: every partition owned by four workers at once, all of them slow to notice."""
    command = [sys.executable, azure_run.__file__, tables_url, "20"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    workers = [await asyncio.create_subprocess_exec(*command, env=environment) for _ in range(4)]
    assert await asyncio.gather(*(worker.wait() for worker in workers)) == [0] * 4
    stores = open_stores(tables_url, "site")
    assert await outcome(stores) == await undisturbed(run_of(20))
    await stores.close()


class Underway:
    """Batches on their way: the first is in when `begun` is set, and the last three wait until the server is away."""

    def __init__(self, ingest, batches):
        self.begun, self.away = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._run(ingest, batches))

    async def _run(self, ingest, batches):
        failures = await deliver(ingest, batches[:1])
        self.begun.set()
        failures += await deliver(ingest, batches[1:-3])
        await self.away.wait()
        return failures + await deliver(ingest, batches[-3:])


async def test_a_server_that_stops_and_comes_back_loses_nothing(own_azurite):
    """A short outage is waited out; in a long one the batch fails and comes again."""
    batches = run_of(30)
    stores = opened(own_azurite)
    ingest = Ingest(stores, FAST)
    failures = await deliver(ingest, batches[:10])
    for part, seconds in ((batches[10:20], 0), (batches[20:], 6)):
        underway = Underway(ingest, part)
        await underway.begun.wait()
        await asyncio.to_thread(own_azurite.stop)
        underway.away.set()
        await asyncio.sleep(seconds)
        assert not underway.task.done()
        await asyncio.to_thread(own_azurite.start)
        failures += await underway.task
    assert failures > 0
    assert await outcome(stores) == await undisturbed(batches)
    await stores.close()


async def test_a_server_that_hangs_and_goes_on_loses_nothing(own_azurite):
    """What was sent to it while it hung is worked off when it goes on, after it was given up here."""
    batches = run_of(30)
    stores = opened(own_azurite, answer_seconds=0.4)
    ingest = Ingest(stores, FAST)
    await deliver(ingest, batches[:10])
    for part in (batches[10:20], batches[20:]):
        underway = Underway(ingest, part)
        await underway.begun.wait()
        own_azurite.signal(signal.SIGSTOP)
        underway.away.set()
        await asyncio.sleep(3.0)
        assert not underway.task.done()
        own_azurite.signal(signal.SIGCONT)
        await underway.task
    assert await outcome(stores) == await undisturbed(batches)
    await stores.close()


@pytest.mark.parametrize("seed", range(3))
async def test_connections_that_are_cut_anywhere_lose_nothing(azurite, table_prefix, seed):
    batches = run_of(60, seed=seed)
    async with Proxy(azurite.port, chance=0.12, seed=seed) as proxy:
        stores = opened(azurite, port=proxy.port, prefix=table_prefix)
        await deliver(Ingest(stores, FAST), batches, pause=0)
        await stores.close()
    assert min(proxy.cuts[where] for where in ("request", "before the answer", "answer")) > 0, proxy.cuts
    stores = opened(azurite, prefix=table_prefix)
    assert await outcome(stores) == await undisturbed(batches)
    await stores.close()


class DeafProxy(Proxy):
    """Cuts the next answers of transactions off, all of them applied."""

    def __init__(self, upstream, answers):
        super().__init__(upstream, chance=0, seed=0)
        self.answers = answers
        self._is_transaction = False

    async def _pump(self, reader, writer, what):
        while data := await reader.read(CHUNK):
            if what == "request" and b"$batch HTTP" in data:
                self._is_transaction = True
            if what == "answer" and self._is_transaction and self.answers:
                self.answers -= 1
                self.cuts["before the answer"] += 1
                self._is_transaction = False
                return
            if what == "answer":
                self._is_transaction = False
            writer.write(data)
            await writer.drain()


async def test_a_transaction_whose_answer_is_lost_is_unknown_and_counted_once(azurite, table_prefix):
    plain = opened(azurite, prefix=table_prefix)
    await World(plain).send(delivery(0), delivery(0, device="d2"))
    async with DeafProxy(azurite.port, answers=1) as proxy:
        stores = opened(azurite, port=proxy.port, prefix=table_prefix)
        world = World(stores)
        ingested = await world.send(delivery(1), delivery(2, device="d2"))
        assert proxy.cuts == {"before the answer": 1}
        assert ingested.counted == Ledger(accepted=2)
        await stores.close()
    assert await World(plain).total() == Ledger(accepted=4)
    await plain.close()

"""One run of telemetry for the proofs on Azure Tables, the same for whoever takes it; as a program, a worker's share.

python azure_run.py URL BATCHES: takes every batch in, each until it is stored, as the host's endless retries do.
"""

import asyncio
import random
import sys

from enviromon.errors import StorageError
from enviromon.ingest import Ingest
from enviromon.settings import Settings
from enviromon.stores import each, open_stores
from tests.enviromon.world import T0, batch, body, delivery

DEVICES = 40


def run_of(count, size=100, seed=1):
    """Batches with all that happens: good, bad and late readings, arrays, and suffixes that come again."""
    rng = random.Random(seed)
    deliveries = [
        delivery(number, _content(rng, number), device=f"d{number % DEVICES:02}", enqueued=T0 + number * 50)
        for number in range(size * count)
    ]
    batches = []
    for start in range(0, len(deliveries), size):
        replayed = rng.randrange(20) if start and rng.random() < 0.2 else 0
        batches.append(batch(*deliveries[start - replayed : start + size]))
    return batches


def _content(rng, number):
    dice = rng.random()
    if dice < 0.02:
        return b"{no json"
    if dice < 0.04:
        return body(temperature=1000)
    if dice < 0.06:
        return b'[{"light": 1}, {"humidity": "wet"}, {"pressure": 1000.5}]'
    late = {"timestamp": T0 - 5000} if dice < 0.1 else {}
    return body(temperature=round(rng.uniform(-40, 80), 2), humidity=rng.randrange(100), messageId=number, **late)


async def deliver(ingest, batches, pause=0.05):
    """Take every batch in, however often it must come again; return how many deliveries failed."""
    failures = 0
    for one in batches:
        while True:
            try:
                await ingest.ingest(one)
                break
            except StorageError:
                failures += 1
                await asyncio.sleep(pause)
    return failures


async def outcome(stores):
    """What is stored, but for what depends on how often something was delivered and written."""
    devices = {}
    async for stored in each(stores.devices.page):
        state, ledger = stored.state, stored.state.ledger
        counted = (ledger.accepted, ledger.late, ledger.rejected)
        devices[state.device_id] = (
            state.metrics, state.labels, state.positions, state.rejections, state.event_time, state.enqueued_time,
            counted,
        )  # fmt: skip
    letters = {
        (letter.sequence, letter.index, letter.reason, letter.body) async for letter in each(stores.dead_letters.page)
    }
    return devices, letters


async def undisturbed(batches):
    """The outcome in SQLite."""
    stores = open_stores("sqlite::memory:", "site")
    await deliver(Ingest(stores, Settings()), batches)
    try:
        return await outcome(stores)
    finally:
        await stores.close()


async def main(url, count):
    stores = open_stores(url, "site")
    await deliver(Ingest(stores, Settings(occ_base_ms=1, occ_cap_ms=50, occ_attempts=100)), run_of(count))
    await stores.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))

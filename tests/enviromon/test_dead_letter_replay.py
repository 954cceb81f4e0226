"""Replays over real stores: cut off anywhere, run side by side, and beside live telemetry."""

import asyncio
import signal
import subprocess
import sys

import pytest
from msgspec import structs

from enviromon.calibration import Line, Version
from enviromon.dead_letter_replay import replay_dead_letters
from enviromon.device_state import Ledger
from enviromon.errors import StorageError
from enviromon.replay import Fate
from enviromon.settings import Settings
from enviromon.stores import open_stores
from tests.enviromon.world import T0, Troubled, World, body, delivery, with_devices

SETTINGS = Settings(occ_base_ms=0, occ_cap_ms=1, occ_attempts=100)
TENTH = Version(0, {"temperature": Line(0.1)})


@pytest.fixture
async def stores(lasting_url):
    opened = open_stores(lasting_url, "site")
    yield opened
    await opened.close()


def replayed(stores, **options):
    return replay_dead_letters(stores, SETTINGS, **options)


async def filled(stores, devices=2, each=6):
    """Each device sends readings of 10 times the temperature, the last of them 10,000."""
    world = World(stores)
    number = 0
    for _ in range(each):
        for device in range(devices):
            await world.send(delivery(number, body(temperature=200 + number), device=f"d{device}"))
            number += 1
    for device in range(devices):
        await world.send(delivery(number, body(temperature=10_000), device=f"d{device}"))
        number += 1
    return world


async def calibrate(stores, *devices):
    for device in devices:
        await stores.calibrations.put(device, TENTH)


async def test_after_a_calibration_what_was_out_of_range_is_counted_and_shown(stores):
    world = await filled(stores)
    assert await world.total() == Ledger(rejected=14)
    await calibrate(stores, "d0")
    report = await replayed(stores)
    assert (report.fates, report.reasons) == ({Fate.REPLAYED: 6, Fate.FAILED: 8}, {"range": 8})
    assert report.counted == Ledger(accepted=6, rejected=-6)
    state = await world.state("d0")
    assert state.ledger == Ledger(accepted=6, rejected=1)
    assert state.metrics["temperature"].value == pytest.approx(21.0)
    assert state.metrics["temperature"].raw == 210
    assert len(await world.letters()) == 8


async def test_what_the_device_said_since_is_not_overwritten(stores):
    world = await filled(stores, devices=1)
    await world.send(delivery(100, body(temperature=5, humidity=50), device="d0"))
    await calibrate(stores, "d0")
    await replayed(stores)
    state = await world.state("d0")
    assert state.ledger == Ledger(accepted=1, late=6, rejected=1)
    assert (state.metrics["temperature"].value, state.event_time) == (5.0, T0 + 100_000)


async def test_items_of_one_message_keep_their_order(stores):
    world = World(stores)
    items = [{"temperature": 201}, {"humidity": 1}, {"temperature": 203}, {"temperature": 202}]
    await world.send(delivery(1, b"[" + b",".join(body(**item) for item in items) + b"]"))
    await calibrate(stores, "d1")
    await replayed(stores)
    state = await world.state()
    assert state.ledger == Ledger(accepted=4)
    assert state.metrics["temperature"].raw == 202
    assert state.metrics["temperature"].at.index == 3


async def test_a_filter_leaves_the_others_for_later_and_nothing_is_lost_by_it(stores):
    world = await filled(stores)
    await world.send(delivery(90, b"junk", device="d0"))
    await calibrate(stores, "d0", "d1")
    assert (await replayed(stores, reason="json")).fates == {Fate.FAILED: 1}
    assert (await replayed(stores, device_id="d1")).fates == {Fate.REPLAYED: 6, Fate.FAILED: 1}
    assert (await replayed(stores, device_id="d1", reason="value")).fates == {}
    assert (await replayed(stores)).fates == {Fate.REPLAYED: 6, Fate.FAILED: 3}
    assert await world.total() == Ledger(accepted=12, rejected=3)


async def test_a_dry_run_tells_the_same_and_changes_nothing(stores):
    world = await filled(stores)
    await calibrate(stores, "d0")
    before, letters = await world.state("d0"), await world.letters()
    dry = await replayed(stores, is_dry_run=True)
    assert (await world.state("d0"), await world.letters()) == (before, letters)
    assert dry == await replayed(stores)


async def test_what_was_replayed_and_comes_again_is_a_duplicate_and_its_letter_goes(stores):
    world = await filled(stores, devices=1)
    await calibrate(stores, "d0")
    await replayed(stores)
    again = World(stores, calibration_ttl_seconds=0)
    await stores.calibrations.remove("d0")
    await again.send(*(delivery(number, body(temperature=200 + number), device="d0") for number in range(6)))
    assert len(await world.letters()) == 7
    await calibrate(stores, "d0")
    assert (await replayed(stores)).fates == {Fate.SETTLED: 6, Fate.FAILED: 1}
    assert await world.total() == Ledger(accepted=6, rejected=1, duplicate=6)
    assert len(await world.letters()) == 1


async def test_a_batch_that_was_cut_off_and_came_again_under_another_calibration_leaves_a_letter_that_counts_nothing(
    stores,
):
    troubled = World(with_devices(stores, Troubled(stores.devices, "outage")), calibration_ttl_seconds=0)
    sent = [delivery(1, b"junk"), delivery(2, body(temperature=250)), delivery(3, b"junk")]
    with pytest.raises(StorageError):
        await troubled.send(*sent)
    await calibrate(stores, "d1")
    await troubled.send(*sent)
    assert await troubled.total() == Ledger(accepted=1, rejected=2)
    assert await troubled.reasons() == ["json", "range", "json"]
    report = await replayed(stores)
    assert report.fates == {Fate.FAILED: 2, Fate.SETTLED: 1}
    assert await troubled.total() == Ledger(accepted=1, rejected=2)
    assert await troubled.reasons() == ["json", "json"]


class CutOffError(Exception):
    pass


class CutLetters:
    """A dead-letter store whose process dies at a named point."""

    def __init__(self, store, point):
        self._store = store
        self._point = point

    async def page(self, after=None, limit=1000):
        return await self._store.page(after, limit)

    async def add(self, letters):
        await self._store.add(letters)
        if self._point == "after the new reasons":
            raise CutOffError

    async def remove(self, letters):
        if self._point == "after the state":
            raise CutOffError
        if self._point == "halfway through the removal":
            await self._store.remove(letters[: len(letters) // 2])
            raise CutOffError
        await self._store.remove(letters)
        if self._point == "after the removal":
            raise CutOffError


POINTS = ["after the new reasons", "after the state", "halfway through the removal", "after the removal"]


@pytest.mark.parametrize("point", POINTS)
async def test_a_replay_that_is_cut_off_is_finished_by_the_next_and_counts_nothing_twice(stores, point):
    world = await filled(stores, devices=3)
    # The next judge finds another reason: it is no longer JSON that is wrong.
    letters = await world.letters()
    await stores.dead_letters.remove(letters)
    await stores.dead_letters.add([structs.replace(letter, reason="json") for letter in letters])
    await calibrate(stores, "d0", "d1", "d2")
    for _ in range(2):
        cut = structs.replace(stores, dead_letters=CutLetters(stores.dead_letters, point))
        with pytest.raises(CutOffError):
            await replayed(cut, page_size=5)
    await replayed(stores)
    assert await world.total() == Ledger(accepted=18, rejected=3)
    assert await world.reasons() == ["range"] * 3
    assert (await replayed(stores)).fates == {Fate.FAILED: 3}


@pytest.mark.parametrize("trouble", ["crash", "outage"])
async def test_a_store_that_fails_at_the_states_write_loses_and_doubles_nothing(stores, trouble):
    world = await filled(stores)
    await calibrate(stores, "d0", "d1")
    with pytest.raises(StorageError):
        await replayed(with_devices(stores, Troubled(stores.devices, None, trouble)))
    await replayed(stores)
    assert await world.total() == Ledger(accepted=12, rejected=2)
    assert len(await world.letters()) == 2


@pytest.mark.parametrize("trouble", ["lost", "conflict", "neighbour"])
async def test_a_write_without_a_sure_answer_is_tried_again_and_counted_once(stores, trouble):
    world = await filled(stores)
    await calibrate(stores, "d0", "d1")
    await replayed(with_devices(stores, Troubled(stores.devices, trouble, trouble)))
    assert await world.total() == Ledger(accepted=12, rejected=2)
    assert len(await world.letters()) == 2


@pytest.mark.slow
async def test_replays_side_by_side_and_live_telemetry_count_exactly(tmp_path):
    opened = [open_stores(f"sqlite://{tmp_path}/state.db", "site") for _ in range(4)]
    world = await filled(opened[0], devices=3, each=40)
    await calibrate(opened[0], "d0", "d1", "d2")
    live = World(opened[3], occ_attempts=100, calibration_ttl_seconds=0)

    async def send():
        for number in range(1000, 1080, 4):
            sent = [delivery(number + d, body(temperature=210), device=f"d{d}") for d in range(3)]
            await live.send(*sent, delivery(number + 3, b"junk", device="d0"))

    await asyncio.gather(send(), *(replayed(stores, page_size=7) for stores in opened[:3]))
    total = await world.total()
    assert (total.count, total.rejected, total.duplicate) == (3 * 40 + 60, 3 + 20, 0)
    await replayed(opened[0])
    assert len(await world.letters()) == 23
    await asyncio.gather(*(stores.close() for stores in opened))


PROGRAM = """
import asyncio, os, signal, sys
from enviromon.dead_letter_replay import replay_dead_letters
from enviromon.settings import Settings
from enviromon.stores import open_stores

url, point = sys.argv[1:]

def dying(store, name, when):
    real = getattr(store, name)
    async def call(*arguments):
        if when == "before": os.kill(os.getpid(), signal.SIGKILL)
        result = await real(*arguments)
        if when == "after": os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

async def run():
    stores = open_stores(url, "site")
    if point:
        name, when = point.split()
        store = stores.devices if name == "compare_and_set" else stores.dead_letters
        setattr(store, name, dying(store, name, when))
    await replay_dead_letters(stores, Settings(occ_base_ms=0, occ_cap_ms=5, occ_attempts=100), page_size=20)
    await stores.close()

asyncio.run(run())
"""


def process(tmp_path, point=""):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, f"sqlite://{tmp_path}/state.db", point])


@pytest.mark.slow
@pytest.mark.parametrize("point", ["compare_and_set before", "compare_and_set after", "remove before", "remove after"])
async def test_a_process_that_is_killed_at_a_named_point_leaves_what_the_next_one_finishes(tmp_path, point):
    stores = open_stores(f"sqlite://{tmp_path}/state.db", "site")
    world = await filled(stores)
    await calibrate(stores, "d0", "d1")
    for _ in range(2):
        assert await asyncio.to_thread(process(tmp_path, point).wait, 30) == -signal.SIGKILL
        total = await world.total()
        assert total.received == 14
    assert await asyncio.to_thread(process(tmp_path).wait, 30) == 0
    assert await world.total() == Ledger(accepted=12, rejected=2)
    assert len(await world.letters()) == 2
    await stores.close()


@pytest.mark.slow
async def test_two_processes_that_replay_the_same_letters_while_devices_send_count_exactly(tmp_path):
    stores = open_stores(f"sqlite://{tmp_path}/state.db", "site")
    world = await filled(stores, devices=4, each=100)
    await calibrate(stores, *(f"d{n}" for n in range(4)))
    live = World(stores, occ_attempts=100, calibration_ttl_seconds=0)
    started = [process(tmp_path) for _ in range(2)]
    sent = 0
    while sent < 50 or any(one.poll() is None for one in started):
        await live.send(delivery(5000 + sent, body(temperature=210), device=f"d{sent % 4}"))
        sent += 1
    assert [one.wait() for one in started] == [0, 0]
    total = await world.total()
    assert (total.count, total.rejected, total.duplicate) == (400 + sent, 4, 0)
    assert len(await world.letters()) == 4
    await stores.close()

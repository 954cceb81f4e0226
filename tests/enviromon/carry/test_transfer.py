"""Exports and imports between real stores, of the same kind and of different ones."""

import pytest
from msgspec import structs

from enviromon.calibration import Line, Version
from enviromon.carry.merging import Fate
from enviromon.carry.records import FORMAT, KINDS, VERSION, End, ExportError, Header, StateRecord, line, read
from enviromon.carry.transfer import Importer, exported
from enviromon.dead_letter_replay import replay_dead_letters
from enviromon.device_state import DeviceState, Ledger
from enviromon.errors import ContentionError, StorageError
from enviromon.stores import each, open_stores
from tests.enviromon.world import Troubled, World, body, delivery, with_devices

CALIBRATION = [Version(0, {"temperature": Line(0.1)}), Version(10, {"temperature": Line(0.1), "light": Line(2.0, 1.0)})]


@pytest.fixture
async def target(lasting_url):
    opened = open_stores(lasting_url, "target")
    yield opened
    await opened.close()


async def filled(stores):
    world = World(stores)
    await world.send(*(delivery(number, device=f"d{number % 7}") for number in range(70)))
    await world.send(delivery(70, body(temperature=210), device="d0"), delivery(71, b"junk", device="d1"))
    await world.send(delivery(10, device="d3"))
    for version in CALIBRATION:
        await stores.calibrations.put("d0", version)
    await stores.calibrations.put("unseen", CALIBRATION[0])
    return world


async def export_of(stores, *, dead_letters=True):
    header = Header(format=FORMAT, version=VERSION, site="site", exported_at="now", program="0")
    written, counts = [line(header)], dict.fromkeys(KINDS.values(), 0)
    async for record in exported(stores, dead_letters=dead_letters):
        written.append(line(record))
        counts[KINDS[type(record)]] += 1
    return [*written, line(End(counts=counts))]


async def imported(stores, export, **options):
    return await Importer(stores, None, **options).run(read(export))


async def everything(stores):
    states = {one.state.device_id: structs.replace(one.state, revision=0) async for one in each(stores.devices.page)}
    calibrations = dict([one async for one in each(stores.calibrations.page)])
    letters = [one async for one in each(stores.dead_letters.page)]
    return states, calibrations, sorted(letters, key=lambda one: one.sequence)


async def test_everything_arrives_and_a_second_import_changes_nothing(stores, target):
    await filled(stores)
    export = await export_of(stores)
    report = await imported(target, export)
    assert report.fates == {
        "calibration": {Fate.WRITTEN: 3}, "state": {Fate.WRITTEN: 7}, "deadLetter": {Fate.PRESENT: 2}
    }  # fmt: skip
    assert await everything(target) == await everything(stores)
    again = await imported(target, export)
    assert again.fates["state"] == {Fate.UNCHANGED: 7}
    assert again.fates["calibration"] == {Fate.UNCHANGED: 3}
    assert await everything(target) == await everything(stores)


async def test_back_again_to_another_store_is_the_same(stores, target, tmp_path):
    await filled(stores)
    await imported(target, await export_of(stores))
    back = open_stores(f"sqlite://{tmp_path}/back.db", "back")
    await imported(back, await export_of(target))
    assert await everything(back) == await everything(stores)
    await back.close()


async def test_counting_goes_on_exactly_on_another_hub(stores, target):
    """Its sequence numbers begin at 0 again, and its first events are older than what the old hub took last."""
    old = await filled(stores)
    before = await old.total()
    await imported(target, await export_of(stores))
    new = World(target)
    for _ in range(2):
        for number in range(14):
            sent = delivery(number, device=f"d{number % 7}", enqueued=1_700_000_000_000 + number)
            await new.send(sent, stream="localcloud/another-log/0")
    assert await new.total() == before + Ledger(late=14, duplicate=14)


async def test_on_the_same_hub_what_it_delivers_again_is_a_duplicate(stores, target):
    old = await filled(stores)
    before = await old.total()
    await imported(target, await export_of(stores))
    new = World(target)
    await new.send(*(delivery(number, device=f"d{number % 7}") for number in range(60, 70)), delivery(80, device="d0"))
    assert await new.total() == before + Ledger(accepted=1, duplicate=10)


async def test_dead_letters_are_replayed_where_they_were_carried_to(stores, target):
    await filled(stores)
    await imported(target, await export_of(stores))
    report = await replay_dead_letters(target, World(target).settings)
    assert report.counted == Ledger(accepted=1, rejected=-1)
    # The old export again, with the letter that was replayed: its reading stays counted once.
    again = await imported(target, await export_of(stores))
    assert again.fates["state"] == {Fate.UNCHANGED: 6, Fate.NEWER: 1}
    await replay_dead_letters(target, World(target).settings)
    assert (await World(target).state("d0")).ledger == Ledger(accepted=11, rejected=0)


async def test_what_went_on_here_stays_and_what_is_different_is_refused(stores, target):
    await filled(stores)
    export = await export_of(stores)
    await imported(target, export)
    gone_on = World(target)
    await gone_on.send(delivery(100, device="d2"))
    await target.calibrations.put("d0", Version(10, {"light": Line(3.0)}))
    report = await imported(target, export)
    assert report.fates["state"] == {Fate.UNCHANGED: 6, Fate.NEWER: 1}
    assert report.fates["calibration"] == {Fate.UNCHANGED: 2, Fate.REFUSED: 1}
    assert report.refused == {"calibration": ["d0"]}
    forced = await imported(target, export, overwrite=True)
    assert (forced.fates["state"][Fate.REPLACED], forced.fates["calibration"][Fate.REPLACED]) == (1, 1)
    assert (await everything(target))[:2] == (await everything(stores))[:2]


async def test_devices_that_spoke_to_both_systems_are_refused_by_name(stores, target):
    await filled(stores)
    here = World(target)
    await here.send(delivery(5, device="d3"), stream="other/hub/0")
    report = await imported(target, await export_of(stores))
    assert report.fates["state"] == {Fate.WRITTEN: 6, Fate.REFUSED: 1}
    assert report.refused == {"state": ["d3"]}
    assert (await here.state("d3")).ledger == Ledger(accepted=1)


async def test_a_dry_run_tells_the_same_and_writes_nothing(stores, target):
    await filled(stores)
    export = await export_of(stores)
    dry = await imported(target, export, is_dry_run=True)
    assert await everything(target) == ({}, {}, [])
    assert dry.fates == (await imported(target, export)).fates


@pytest.mark.parametrize("trouble", ["lost", "conflict", "neighbour"])
async def test_a_write_without_a_sure_answer_is_tried_again(stores, tmp_path, trouble):
    await filled(stores)
    opened = open_stores(f"sqlite://{tmp_path}/target.db", "target")
    report = await imported(with_devices(opened, Troubled(opened.devices, trouble, trouble)), await export_of(stores))
    assert report.fates["state"].total() == 7
    assert await everything(opened) == await everything(stores)
    await World(opened).send(delivery(100, device="d2"))
    contended = with_devices(opened, Troubled(opened.devices, *["conflict"] * 20))
    export = await export_of(stores)
    with pytest.raises(ContentionError, match="d2"):
        await imported(contended, export, overwrite=True)
    await opened.close()


async def test_an_import_that_is_cut_off_is_finished_by_the_next(stores, tmp_path):
    await filled(stores)
    export = await export_of(stores)
    opened = open_stores(f"sqlite://{tmp_path}/target.db", "target")
    with pytest.raises(ExportError, match="cut off"):
        await imported(opened, export[:7])
    with pytest.raises(StorageError):
        await imported(with_devices(opened, Troubled(opened.devices, "crash")), export)
    await imported(opened, export)
    assert await everything(opened) == await everything(stores)
    await opened.close()


async def test_what_waits_in_memory_is_a_page(stores, tmp_path):
    opened = open_stores(f"sqlite://{tmp_path}/target.db", "target")
    importer = Importer(opened, None)
    most = 0

    def records():
        nonlocal most
        for number in range(1000):
            most = max(most, len(importer._states))
            yield StateRecord(state=DeviceState(f"d{number}", revision=1))

    await importer.run(records())
    assert most < 100
    assert importer.report.fates["state"] == {Fate.WRITTEN: 1000}
    await opened.close()

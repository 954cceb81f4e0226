"""The contract of CalibrationStore."""

from enviromon.calibration import Calibration, Line, Version
from enviromon.stores import each

FIRST = Version(1000, {"temperature": Line(1.5, -2.0)})
SECOND = Version(2000, {"temperature": Line(1.25, 0.0), "humidity": Line(1.0, 3.5)})


async def test_versions_come_back_by_rising_valid_from(stores):
    await stores.calibrations.put("d1", SECOND)
    await stores.calibrations.put("d1", FIRST)
    assert await stores.calibrations.load(["d1", "d2"]) == {"d1": Calibration((FIRST, SECOND))}


async def test_the_same_valid_from_replaces_the_version(stores):
    await stores.calibrations.put("d1", FIRST)
    replaced = Version(FIRST.valid_from, {"light": Line(2.0, 1.0)})
    await stores.calibrations.put("d1", replaced)
    assert await stores.calibrations.load(["d1"]) == {"d1": Calibration((replaced,))}


async def test_one_version_can_be_removed(stores):
    await stores.calibrations.put("d1", FIRST)
    await stores.calibrations.put("d1", SECOND)
    assert await stores.calibrations.remove("d1", FIRST.valid_from)
    assert not await stores.calibrations.remove("d1", FIRST.valid_from)
    assert await stores.calibrations.load(["d1"]) == {"d1": Calibration((SECOND,))}


async def test_all_versions_of_one_device_can_be_removed(stores):
    for device in ("d1", "d2"):
        await stores.calibrations.put(device, FIRST)
        await stores.calibrations.put(device, SECOND)
    assert await stores.calibrations.remove("d1")
    assert not await stores.calibrations.remove("d1")
    assert set(await stores.calibrations.load(["d1", "d2"])) == {"d2"}


async def test_pages_tell_every_device_once_with_all_its_versions(stores):
    names = [f"d{number:02}" for number in range(12)]
    for name in reversed(names):
        await stores.calibrations.put(name, FIRST)
        await stores.calibrations.put(name, SECOND)
    pages = [one async for one in each(lambda after: stores.calibrations.page(after, 5))]
    assert pages == [(name, Calibration((FIRST, SECOND))) for name in names]


async def test_pages_without_calibrations_are_empty(stores):
    assert [one async for one in each(stores.calibrations.page)] == []

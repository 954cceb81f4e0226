"""Twenty cycles of faults; `scripts/soak` runs more of the same, a line for each."""

import itertools

import pytest

from tests.faults.cycles import Rig, schedule
from tests.system.sdk import MARKS

pytestmark = [pytest.mark.slow, *MARKS]
CYCLES, SEED = 20, 2


@pytest.mark.timeout(400)
async def test_nothing_acknowledged_is_lost_and_nothing_counts_twice_whatever_dies(tmp_path):
    rig = Rig(tmp_path, own=4, sdk=1, seed=SEED)
    async with rig:
        deaths = 0
        for number, kind, workers, is_rough in itertools.islice(schedule(SEED), CYCLES):
            try:
                report = await rig.cycle(number, kind, workers=workers, is_rough=is_rough and number % 8 == 0)
            except AssertionError as error:
                raise AssertionError(f"cycle {number}, {kind}, {workers} workers: {error}") from error
            print(report.line())  # noqa: T201 - the figures of a failed run
            deaths += report.deaths
        assert deaths >= CYCLES
        assert rig.book.events > 100 * CYCLES

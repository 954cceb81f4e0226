import pytest

from localcloud.faults.tiers import DAY_SECONDS, Meter, Tier


def meter(tier: Tier, units: int = 1, *, sent_today: int = 0) -> Meter:
    return Meter(tier, units, burst_seconds=1, sent_today=sent_today, now=0, wall=10)


@pytest.mark.parametrize(
    ("tier", "units", "rate", "quota"),
    [
        ("F1", 1, 100, 8_000),
        ("S1", 2, 100, 800_000),
        ("S1", 9, 108, 3_600_000),
        ("B2", 1, 120, 6_000_000),
        ("S3", 2, 12_000, 600_000_000),
    ],
)
def test_limits_are_those_of_the_documentation(tier: Tier, units: int, rate: float, quota: int) -> None:
    found = meter(tier, units)
    assert (found.rate, found.quota) == (rate, quota)


def test_beyond_the_burst_a_sender_waits_for_its_turn() -> None:
    s1 = meter("S1")
    assert s1.take([1] * 99, now=0) == 0
    assert s1.take([1] * 50, now=0) == pytest.approx(0.5)
    assert s1.take([1], now=2) == 0


@pytest.mark.parametrize(
    ("tier", "size", "metered"), [("F1", 512, 1), ("F1", 513, 2), ("S1", 4096, 1), ("S1", 4097, 2)]
)
def test_the_quota_counts_by_the_tiers_meter(tier: Tier, size: int, metered: int) -> None:
    found = meter(tier)
    found.take([size], now=0)
    assert found.sent_today == metered


def test_a_used_up_quota_comes_back_with_the_next_day_in_utc() -> None:
    f1 = meter("F1", sent_today=7_999)
    assert not f1.is_used_up(10)
    f1.take([1], now=0)
    assert f1.is_used_up(10)
    assert not f1.is_used_up(DAY_SECONDS)

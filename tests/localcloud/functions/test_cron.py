from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.functions.cron import ScheduleError, parse_schedule


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "due"),
    [
        ("0 */5 * * * *", "2026-11-24T12:00:00", "2026-11-24T12:05:00"),
        ("0 */5 * * * *", "2026-11-24T12:03:20.5", "2026-11-24T12:05:00"),
        ("*/5 * * * *", "2026-11-24T12:03:20", "2026-11-24T12:05:00"),
        ("* * * * * *", "2026-11-24T12:00:00.9", "2026-11-24T12:00:01"),
        ("0 0 * * * *", "2026-11-24T23:30:00", "2026-11-25T00:00:00"),
        ("0 30 9 * * Mon-Fri", "2026-11-27T10:00:00", "2026-11-30T09:30:00"),
        ("0 30 9 * Jan Sun", "2026-11-24T00:00:00", "2027-01-03T09:30:00"),
        ("0 0 0 13 * 5", "2026-11-24T00:00:00", "2027-08-13T00:00:00"),
        ("0 0 0 29 2 *", "2097-01-01T00:00:00", "2104-02-29T00:00:00"),
        ("10/20 0 0 1 1 *", "2026-12-31T23:59:59", "2027-01-01T00:00:10"),
        ("5,1 0 12 * * *", "2026-11-24T12:00:01", "2026-11-24T12:00:05"),
        ("0 0 20-22/2 * * *", "2026-11-24T20:00:00", "2026-11-24T22:00:00"),
        ("00:30:00", "2026-11-24T12:00:00", "2026-11-24T12:30:00"),
        ("1.00:00:00", "2026-11-24T12:00:00", "2026-11-25T12:00:00"),
    ],
)
def test_the_next_time(schedule: str, after: str, due: str) -> None:
    assert parse_schedule(schedule).next(at(after)) == at(due)


def test_a_day_that_never_comes_is_told() -> None:
    assert parse_schedule("0 0 0 30 2 *").next(at("2026-01-01T00:00:00")) is None


@pytest.mark.parametrize(
    ("schedule", "word"),
    [
        ("60 * * * * *", "second"),
        ("* * 24 * * *", "hour"),
        ("* * * 0 * *", "day"),
        ("* * * * Foo *", "month"),
        ("* * * * * 7", "day of week"),
        ("*/0 * * * * *", "second"),
        ("5-1 * * * * *", "second"),
        ("* * *", "3 fields"),
        ("often", "interval"),
        ("00:00:00", "interval"),
        ("-1", "interval"),
    ],
)
def test_what_cannot_be_read_is_named(schedule: str, word: str) -> None:
    with pytest.raises(ScheduleError, match=word):
        parse_schedule(schedule)


@given(st.integers(1, 59), st.integers(1, 23), st.integers(0, 4_000_000_000))
def test_the_next_time_is_the_first_that_matches(step: int, hour: int, unix_time: int) -> None:
    after = datetime.fromtimestamp(unix_time, UTC)
    due = parse_schedule(f"0 */{step} {hour} * * *").next(after)
    assert due is not None
    candidate = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
    while candidate.hour != hour or candidate.minute % step:
        candidate += timedelta(minutes=1)
    assert due == candidate

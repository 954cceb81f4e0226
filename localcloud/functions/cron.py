"""NCRONTAB schedules, as the timer trigger reads them. Pure.

`second minute hour day month day-of-week`, or five fields without the seconds; names of months and days in English.
A time must match every field: unlike in cron, day and day-of-week are both required. `n/step` runs from n upwards.
Instead of an expression there may be an interval `hh:mm:ss`.
"""

from datetime import datetime, timedelta

import msgspec

from localcloud.functions.configuration import time_span

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_HORIZON = timedelta(days=366 * 8 + 1)  # a 29 February may be eight years away


class ScheduleError(ValueError):
    """The expression cannot be read; the programmer of the app must act."""


class Cron(msgspec.Struct, frozen=True):
    """The numbers that each field allows, ascending."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    def next(self, after: datetime) -> datetime | None:
        """Return the first time later than `after`, None where there is none within eight years."""
        start = after.replace(microsecond=0) + timedelta(seconds=1)
        day = start.replace(hour=0, minute=0, second=0)
        last = day + _HORIZON
        while day <= last:
            if self._allows_day(day):
                found = self._first_in_day(day, start)
                if found is not None:
                    return found
            day += timedelta(days=1)
        return None

    def _allows_day(self, day: datetime) -> bool:
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays

    def _first_in_day(self, day: datetime, start: datetime) -> datetime | None:
        for hour in self.hours:
            for minute in self.minutes:
                if day.replace(hour=hour, minute=minute, second=59) < start:
                    continue
                for second in self.seconds:
                    candidate = day.replace(hour=hour, minute=minute, second=second)
                    if candidate >= start:
                        return candidate
        return None


class Interval(msgspec.Struct, frozen=True):
    """A constant number of seconds between the end of one invocation and the next."""

    seconds: float

    def next(self, after: datetime) -> datetime | None:
        """Return `after` and the interval."""
        return after + timedelta(seconds=self.seconds)


def parse_schedule(text: str) -> Cron | Interval:
    """Read a timer trigger's schedule. Raises ScheduleError naming the field that is wrong."""
    fields = text.split()
    if len(fields) == 1:
        return Interval(_interval(text))
    if len(fields) not in (5, 6):
        raise ScheduleError(
            f'the schedule "{text}" has {len(fields)} fields: NCRONTAB has six, or five without seconds'
        )
    if len(fields) == 5:  # noqa: PLR2004
        fields.insert(0, "0")
    seconds, minutes, hours, days, months, weekdays = (
        _numbers(field, *rule) for field, rule in zip(fields, _FIELDS, strict=True)
    )
    return Cron(seconds, minutes, hours, frozenset(days), frozenset(months), frozenset(weekdays))


def _interval(text: str) -> float:
    try:
        seconds = time_span(text)
    except ValueError:
        seconds = None
    if not seconds:
        raise ScheduleError(f'the schedule "{text}" is neither an NCRONTAB expression nor an interval hh:mm:ss')
    return seconds


def _numbers(field: str, name: str, low: int, high: int, names: dict[str, int]) -> tuple[int, ...]:
    numbers: set[int] = set()
    for part in field.split(","):
        try:
            numbers.update(_range(part, low, high, names))
        except ValueError:
            raise ScheduleError(f'"{part}" is not a {name} from {low} to {high} in the schedule') from None
    return tuple(sorted(numbers))


def _range(part: str, low: int, high: int, names: dict[str, int]) -> range:
    body, slash, step_text = part.partition("/")
    step = int(step_text) if slash else 1
    if body == "*":
        first, last = low, high
    else:
        first_text, dash, last_text = body.partition("-")
        first = _number(first_text, names)
        last = _number(last_text, names) if dash else (high if slash else first)
    if step < 1 or not low <= first <= last <= high:
        raise ValueError(part)
    return range(first, last + 1, step)


def _number(text: str, names: dict[str, int]) -> int:
    known = names.get(text.lower()[:3]) if text.isalpha() else None
    return int(text) if known is None else known

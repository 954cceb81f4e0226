"""Which readings of a device are counted as rejected: what a replay of its dead letters may count anew.

Rules:
1. A reading that is counted as rejected lies in one run; one that is counted otherwise lies in none. The runs are part
   of the state, written together with its ledger. A dead letter proves nothing by itself: it is kept before its reading
   is counted, may come back by a redelivery, and another worker may have judged the same reading otherwise.
2. A run is unbroken: whatever the device said on the stream from its first to its last was rejected. So a sensor that
   fails for a week costs as much as one bad reading.
3. Older runs are written as differences, some 8 bytes each. What is beyond LIMIT_BYTES is forgotten, the oldest first:
   these readings stay rejected for good.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct, structs

if TYPE_CHECKING:
    from enviromon.device_state import Position

LIMIT_BYTES: Final = 18_000
"""For all streams of a device: it bounds what the row of a flaky one weighs, which is written with every batch."""
SPLIT_LIMIT: Final = 100

_FIELDS: Final = 6

Place = tuple[int, int, int]
"""Sequence, index, enqueued time (ms)."""


class Run(Struct, frozen=True, gc=False, array_like=True, order=True):
    """From the first to the last reading of a run; the times (ms) are the least and the greatest enqueued time."""

    first_sequence: int
    first_index: int
    last_sequence: int
    last_index: int
    first_time: int
    last_time: int

    def holds(self, place: Place) -> bool:
        """Tell whether the reading at that place is of this run."""
        sequence, index, time = place
        return (
            (self.first_sequence, self.first_index) <= (sequence, index) <= (self.last_sequence, self.last_index)
            and self.first_time <= time <= self.last_time
        )  # fmt: skip


class Rejections(Struct, frozen=True, gc=False, array_like=True):
    """The runs of one stream: all that was rejected from `since` on, or where `is_cut` from the oldest run on.

    `split` holds (sequence, enqueued time) of bodies that a replay took for several readings of which the first failed
    again: the dead letter of the whole body speaks for the first one alone from then on.
    """

    since: Place
    newest: Run | None
    earlier: bytes = b""
    is_cut: bool = False
    split: tuple[tuple[int, int], ...] = ()


class Refused(Struct, frozen=True, gc=False):
    """A rejected reading: where the stream stood before it and stands after it, and its own enqueued time (ms)."""

    before: "Position | None"
    after: "Position"
    enqueued_time: int


def with_refused(
    rejections: Mapping[str, Rejections], stream: str, refused: Iterable[Refused]
) -> dict[str, Rejections]:
    """Remember more rejected readings of a stream, in their order."""
    known = rejections.get(stream)
    for one in refused:
        known = _with_one(known, one)
    return dict(rejections) if known is None else limited({**rejections, stream: known})


def _with_one(known: Rejections | None, one: Refused) -> Rejections:
    sequence, index, time = place = one.after.sequence, one.after.index, one.enqueued_time
    run = Run(sequence, index, sequence, index, time, one.after.enqueued_time)
    if known is None:
        return Rejections(place, run)
    newest, before = known.newest, one.before
    # A hub that was made anew counts from 0: what is known of it begins here.
    since = known.since if place[:2] > known.since[:2] else place
    if newest is None:
        return structs.replace(known, since=since, newest=run)
    ends = (newest.last_sequence, newest.last_index)
    if (
        before is not None
        and (before.sequence, before.index, before.enqueued_time) == (*ends, newest.last_time)
        and place[:2] > ends
    ):
        grown = structs.replace(
            newest,
            last_sequence=sequence,
            last_index=index,
            first_time=min(newest.first_time, time),
            last_time=run.last_time,
        )
        return structs.replace(known, newest=grown)
    return structs.replace(known, since=since, newest=run, earlier=_token(newest, run) + known.earlier)


def limited(rejections: dict[str, Rejections]) -> dict[str, Rejections]:
    """Forget the oldest runs beyond the limit."""
    limit = LIMIT_BYTES // max(1, len(rejections))
    return {
        stream: known
        if len(known.earlier) <= limit
        else structs.replace(known, earlier=known.earlier[:limit], is_cut=True)
        for stream, known in rejections.items()
    }


def runs_of(known: Rejections) -> list[Run]:
    """Return the runs, the oldest first."""
    if known.newest is None:
        return []
    runs = [known.newest]
    numbers: list[int] = []
    for number in _numbers(known.earlier):
        numbers.append(number)
        if len(numbers) == _FIELDS:
            runs.append(_run(numbers, runs[-1]))
            numbers.clear()
    return runs[::-1]


def from_runs(since: Place, runs: list[Run], split: tuple[tuple[int, int], ...]) -> Rejections:
    """Write runs, the oldest first."""
    pairs = zip(runs[-2::-1], runs[:0:-1], strict=True)
    earlier = b"".join(_token(older, newer) for older, newer in pairs)
    return Rejections(since, runs[-1] if runs else None, earlier, split=split)


def horizon(known: Rejections) -> Place:
    """Return the place from which on the runs tell everything."""
    if not known.is_cut:
        return known.since
    oldest = runs_of(known)[0]
    return oldest.first_sequence, oldest.first_index, oldest.first_time


def _token(run: Run, newer: Run) -> bytes:
    """Write a run by its distance from the one after it."""
    numbers = (
        newer.first_sequence - run.last_sequence,
        run.last_index,
        run.last_sequence - run.first_sequence,
        run.first_index,
        newer.first_time - run.last_time,
        run.last_time - run.first_time,
    )
    return b"".join(map(_varint, numbers))


def _run(numbers: list[int], newer: Run) -> Run:
    gap, last_index, length, first_index, pause, duration = numbers
    last_sequence, last_time = newer.first_sequence - gap, newer.first_time - pause
    return Run(last_sequence - length, first_index, last_sequence, last_index, last_time - duration, last_time)


def _varint(number: int) -> bytes:
    """Write a number of any sign, 7 bits a byte, the lowest first, all but the last with the high bit set."""
    rest = number << 1 if number >= 0 else (-number << 1) - 1
    written = bytearray()
    while rest > 0x7F:  # noqa: PLR2004
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)


def _numbers(written: bytes) -> Iterator[int]:
    """Read them back; a last one that was cut off is left out."""
    number = shift = 0
    for byte in written:
        number |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
        else:
            yield -((number + 1) >> 1) if number & 1 else number >> 1
            number = shift = 0

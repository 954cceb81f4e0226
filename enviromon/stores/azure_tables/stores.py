"""The ports over one account's tables: states, calibrations and dead letters of one site."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from enviromon.calibration import Calibration, Version
from enviromon.errors import SettingsError, StorageError
from enviromon.stores import PAGE_SIZE, Change, DeadLetter, Page, Result, Stored, WriteOutcome
from enviromon.stores.azure_tables import keys
from enviromon.stores.azure_tables.batch import Kind, Operation
from enviromon.stores.azure_tables.entities import (
    Entity,
    calibration_entity,
    letter_entity,
    state_entity,
    to_letter,
    to_state,
    to_version,
)
from enviromon.stores.azure_tables.keys import Range
from enviromon.stores.azure_tables.service import (
    ROWS_PER_QUERY,
    Account,
    LostError,
    RefusedError,
)

T = TypeVar("T")
STATES: Final = "DeviceState"
CALIBRATIONS: Final = "Calibration"
DEAD_LETTERS: Final = "DeadLetters"

ROWS_PER_TRANSACTION: Final = 100
BYTES_PER_TRANSACTION: Final = 640 << 10
"""Of texts and bodies. Tables takes 4 MiB; 1 MiB, after base64, goes out without stalling the event loop."""
LETTERS_PER_QUERY: Final = 100
LETTER_PAGE_BYTES: Final = 4 << 20
CALLS_AT_ONCE: Final = 16
VERSIONS_EACH: Final = 5
SPARSE: Final = 4
"""Where less than a row in so many is wanted, each is asked for by itself."""
WRITE_ATTEMPTS: Final = 5

_PAGE_TOKEN: Final = re.compile(rf"([0-9]{{1,3}})/({keys.ROW_KEY.pattern})")
Row = Mapping[str, Any]
_log = logging.getLogger(__name__)


class TablesDeviceStore:
    """States, a row each; a row's etag is Tables' own."""

    def __init__(self, account: Account, site: str, buckets: int) -> None:
        self._account = account
        self._site = site
        self._buckets = buckets
        self._partitions = keys.partition_keys(site, buckets)
        self._layout_checked = False

    async def load(self, device_ids: Iterable[str]) -> dict[str, Stored]:
        """Read the states of those devices that have one."""
        await self._check_layout()
        wanted: dict[str, list[str]] = {}
        for device_id in device_ids:
            wanted.setdefault(self._partition(device_id), []).append(keys.row_key(device_id))
        found = await _together(
            _read(self._account, STATES, partition, [(key, key) for key in sorted(set(row_keys))])
            for partition, row_keys in wanted.items()
        )
        stored = [_stored(row) for rows in found for row in rows]
        return {item.state.device_id: item for item in stored}

    async def compare_and_set(self, changes: Sequence[Change]) -> list[Result]:
        """Write the changes in transactions; one that fails takes its neighbours with it."""
        await self._check_layout()
        partitions: dict[str, list[tuple[int, Operation]]] = {}
        for number, change in enumerate(changes):
            partition = self._partition(change.state.device_id)
            partitions.setdefault(partition, []).append((number, _to_operation(partition, change)))
        chunks = [chunk for found in partitions.values() for chunk in _chunks(found, lambda item: item[1].entity)]
        results = [Result(WriteOutcome.NOT_APPLIED)] * len(changes)
        await _together(self._write(dict(chunk), results) for chunk in chunks)
        return results

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[Stored]:
        """Read one page, bucket by bucket, in the order of row keys."""
        await self._check_layout()
        bucket, first = _page_start(after)
        items: list[Stored] = []
        while bucket < self._buckets:
            where = f"{_partition_is(self._partitions[bucket])} and RowKey ge '{first}'"
            top = min(limit - len(items), ROWS_PER_QUERY)
            rows, is_more = await self._account.query(STATES, where, top=top)
            items += map(_stored, rows)
            if is_more:
                first = keys.after(rows[-1]["RowKey"])
            else:
                bucket, first = bucket + 1, keys.FIRST_ROW
            if len(items) == limit:
                break
        return Page(items, f"{bucket}/{first}" if bucket < self._buckets else None)

    def _partition(self, device_id: str) -> str:
        return self._partitions[keys.bucket_of(device_id, self._buckets)]

    async def _write(self, operations: dict[int, Operation], results: list[Result]) -> None:
        """Write one transaction; what the store can never take is left out, and the rest tried again at once."""
        while operations:
            numbers = list(operations)
            try:
                etags = await self._account.transact(STATES, list(operations.values()))
            except RefusedError as error:
                offender = numbers[error.index]
                if error.is_conflict:
                    results[offender] = Result(WriteOutcome.CONFLICT)
                    return
                _log.error("%s: %s", operations.pop(offender).entity["DeviceId"], error)
                results[offender] = Result(WriteOutcome.REFUSED)
            except LostError as error:
                _log.warning("whether %d states were written is unknown, they are read: %s", len(numbers), error)
                for number in numbers:
                    results[number] = Result(WriteOutcome.UNKNOWN)
                return
            else:
                for number, etag in zip(numbers, etags, strict=True):
                    results[number] = Result(WriteOutcome.APPLIED, etag)
                return

    async def _check_layout(self) -> None:
        """Remember the number of buckets with the site, and refuse another one: the rows would not be found."""
        if self._layout_checked:
            return
        where = f"{_partition_is(self._site)} and RowKey eq '{keys.LAYOUT_ROW}'"
        for _ in range(WRITE_ATTEMPTS):
            rows, _more = await self._account.query(STATES, where)
            if rows:
                self._compare_layout(rows[0]["Buckets"])
                self._layout_checked = True
                return
            layout = {"PartitionKey": self._site, "RowKey": keys.LAYOUT_ROW, "Buckets": self._buckets}
            await _try(self._account, STATES, [Operation(Kind.INSERT, layout)])
        raise StorageError(f"{STATES}: the layout of the site {self._site!r} cannot be written")

    def _compare_layout(self, buckets: int) -> None:
        if buckets != self._buckets:
            raise SettingsError(
                f"STATE_BUCKETS is {self._buckets}, but the site {self._site!r} was begun with {buckets}: set it back, "
                "or begin anew under another prefix (STORE_URL=azure-tables:NAME/PREFIX) and carry the states there"
            )


class TablesCalibrationStore:
    """A row per version."""

    def __init__(self, account: Account, site: str) -> None:
        self._account = account
        self._site = site

    async def load(self, device_ids: Iterable[str]) -> dict[str, Calibration]:
        """Read the calibrations of those devices that have any version."""
        return _calibrations(await self._rows(device_ids))

    async def put(self, device_id: str, version: Version) -> None:
        """Add the version; one with the same valid-from is replaced."""
        await _put(self._account, CALIBRATIONS, calibration_entity(self._site, device_id, version))

    async def remove(self, device_id: str, valid_from: int | None = None) -> bool:
        """Remove that version, or all of them; tell whether there was any."""
        rows = [row for row in await self._rows([device_id]) if valid_from in {None, to_version(row)[1].valid_from}]
        await _settle(
            self._account,
            CALIBRATIONS,
            self._site,
            Kind.DELETE,
            _keys_only(self._site, (row["RowKey"] for row in rows)),
        )
        return bool(rows)

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[tuple[str, Calibration]]:
        """Read one page in the order of row keys."""
        first = after if after is not None and keys.ROW_KEY.fullmatch(after) else ""
        found: list[Row] = []
        while True:
            where = f"{_partition_is(self._site)} and RowKey ge '{first}'"
            rows, is_more = await self._account.query(CALIBRATIONS, where)
            found += rows
            items = list(_calibrations(found).items())
            if not is_more and len(items) <= limit:
                return Page(items, None)
            if len(items) > limit:
                last = items[limit - 1][0]
                return Page(items[:limit], keys.after(keys.calibration_range(last)[1]))
            first = keys.after(rows[-1]["RowKey"])

    async def _rows(self, device_ids: Iterable[str]) -> list[Row]:
        ranges = sorted(set(map(keys.calibration_range, device_ids)))
        return await _read(self._account, CALIBRATIONS, self._site, ranges, rows_each=VERSIONS_EACH)


class TablesDeadLetterStore:
    """A row per letter, in the order of their arrival at the hub; all are kept until somebody deletes them."""

    def __init__(self, account: Account, site: str) -> None:
        self._account = account
        self._site = site

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep the letters; one whose key is there already changes nothing."""
        entities: dict[str, Entity] = {}
        for letter in letters:
            entity = letter_entity(self._site, letter)
            entities.setdefault(entity["RowKey"], entity)
        await _settle(self._account, DEAD_LETTERS, self._site, Kind.INSERT, entities)

    async def remove(self, letters: Sequence[DeadLetter]) -> None:
        """Forget the letters of these keys; one that is not there is no error."""
        doomed = _keys_only(self._site, map(keys.letter_key, letters))
        await _settle(self._account, DEAD_LETTERS, self._site, Kind.DELETE, doomed)

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[DeadLetter]:
        """Read one page, the oldest arrival first; large letters make it shorter."""
        first = after if after is not None and keys.ROW_KEY.fullmatch(after) else ""
        letters: list[DeadLetter] = []
        size = 0
        while True:
            where = f"{_partition_is(self._site)} and RowKey ge '{first}'"
            rows, is_more = await self._account.query(
                DEAD_LETTERS, where, top=min(limit - len(letters), LETTERS_PER_QUERY)
            )
            for row in rows:
                letters.append(to_letter(row))
                first = keys.after(row["RowKey"])
                size += len(letters[-1].body)
                if size >= LETTER_PAGE_BYTES:
                    return Page(letters, first)
            if not is_more:
                return Page(letters, None)
            if len(letters) == limit:
                return Page(letters, first)


def _keys_only(partition: str, row_keys: Iterable[str]) -> dict[str, Entity]:
    return {key: {"PartitionKey": partition, "RowKey": key} for key in row_keys}


async def _settle(account: Account, table: str, partition: str, kind: Kind, entities: Mapping[str, Entity]) -> None:
    """Bring it about that the rows, by RowKey, are there or are not; some may be as they shall be already."""
    for chunk in _chunks([entities[key] for key in sorted(entities)], lambda entity: entity):
        left = chunk
        for _ in range(WRITE_ATTEMPTS):
            if await _try(account, table, [Operation(kind, entity) for entity in left]):
                break
            ranges = [(row["RowKey"], row["RowKey"]) for row in left]
            held = {row["RowKey"] for row in await _read(account, table, partition, ranges, ["RowKey"])}
            left = [row for row in left if (row["RowKey"] in held) == (kind is Kind.DELETE)]
            if not left:
                break
        else:
            raise StorageError(f"{table}: {len(left)} rows cannot be written or removed")


async def _read(
    account: Account,
    table: str,
    partition: str,
    ranges: Sequence[Range],
    select: list[str] | None = None,
    *,
    rows_each: int = 1,
) -> list[Row]:
    """Read the rows of rising ranges, with few calls: across neighbours, or one by one where they lie far apart.

    `rows_each` is how many rows a range may well have.
    """
    found: list[Row] = []
    while len(ranges) > 1:
        where = _between(partition, ranges[0][0], ranges[-1][1])
        rows, is_more = await account.query(
            table, where, top=min(ROWS_PER_QUERY, 2 * rows_each * len(ranges)), select=select
        )
        hits = [row for row, hit in zip(rows, keys.within(ranges, [row["RowKey"] for row in rows]), strict=True) if hit]
        found += hits
        if not is_more:
            return found
        ranges = keys.ranges_after(ranges, rows[-1]["RowKey"])
        if SPARSE * len(hits) < len(rows):
            break
    for rows in await _together(_read_range(account, table, partition, wanted, select) for wanted in ranges):
        found += rows
    return found


async def _read_range(
    account: Account, table: str, partition: str, wanted: Range, select: list[str] | None
) -> list[Row]:
    found: list[Row] = []
    first, last = wanted
    while True:
        rows, is_more = await account.query(table, _between(partition, first, last), select=select)
        found += rows
        if not is_more:
            return found
        first = keys.after(rows[-1]["RowKey"])


async def _try(account: Account, table: str, operations: Sequence[Operation]) -> bool:
    """Apply all; False where a row is not as it must be, or nobody knows. Raises StorageError for all else."""
    try:
        await account.transact(table, operations)
    except RefusedError as error:
        if not error.is_conflict:
            raise StorageError(str(error)) from error
        return False
    except LostError:
        return False
    return True


async def _put(account: Account, table: str, entity: Entity) -> None:
    """Write a row, whatever is there; raise StorageError where that cannot be done."""
    for attempt in range(WRITE_ATTEMPTS):
        try:
            await account.transact(table, [Operation(Kind.PUT, entity)])
        except RefusedError as error:
            raise StorageError(str(error)) from error
        except LostError as error:
            if attempt == WRITE_ATTEMPTS - 1:
                raise StorageError(str(error)) from error
        else:
            return


async def _together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all, a few at once; raises what one of them raised after all have ended."""
    waiting = list(calls)
    if len(waiting) == 1:
        return [await waiting[0]]
    gate = asyncio.Semaphore(CALLS_AT_ONCE)

    async def one(call: Awaitable[T]) -> T:
        async with gate:
            return await call

    results = await asyncio.gather(*map(one, waiting), return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done


def _chunks(items: Sequence[T], entity_of: Callable[[T], Entity]) -> Iterator[list[T]]:
    """Cut the items into what transactions hold."""
    chunk: list[T] = []
    size = 0
    for item in items:
        length = sum(len(value) for value in entity_of(item).values() if isinstance(value, str | bytes))
        if chunk and (len(chunk) == ROWS_PER_TRANSACTION or size + length > BYTES_PER_TRANSACTION):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += length
    if chunk:
        yield chunk


def _calibrations(rows: Iterable[Row]) -> dict[str, Calibration]:
    versions: dict[str, list[Version]] = {}
    for device_id, version in map(to_version, rows):
        versions.setdefault(device_id, []).append(version)
    return {device_id: Calibration(tuple(found)) for device_id, found in versions.items()}


def _to_operation(partition: str, change: Change) -> Operation:
    kind = Kind.INSERT if change.etag is None else Kind.REPLACE
    return Operation(kind, state_entity(partition, change.state), change.etag)


def _stored(row: Row) -> Stored:
    return Stored(to_state(row), row.metadata["etag"])  # type: ignore[attr-defined]


def _partition_is(partition: str) -> str:
    return f"PartitionKey eq '{keys.escaped(partition)}'"


def _between(partition: str, first: str, last: str) -> str:
    if first == last:
        return f"{_partition_is(partition)} and RowKey eq '{first}'"
    return f"{_partition_is(partition)} and RowKey ge '{first}' and RowKey le '{last}'"


def _page_start(after: str | None) -> tuple[int, str]:
    """Read a page's token: bucket and RowKey; any other text begins with the first page."""
    token = _PAGE_TOKEN.fullmatch(after or "")
    return (int(token[1]), token[2]) if token else (0, keys.FIRST_ROW)

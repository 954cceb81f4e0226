"""The ports: where device states, calibrations and dead letters are kept, and what every adapter guarantees.

All methods raise StorageError where the store does not answer or fails; whether a write was applied is unknown then.
SettingsError where what is stored shows that a setting is wrong.
A method may be called by several tasks and processes at once. `page` reads one page in a fixed order: pass its `next`
as `after` to go on; an item that stays the whole time is seen exactly once.
The contract suite in tests/enviromon/stores runs against every adapter.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from enviromon.calibration import Calibration, Version
from enviromon.device_state import DeviceState
from enviromon.errors import SettingsError

T = TypeVar("T")
PAGE_SIZE = 1000


class Page(Struct, Generic[T], frozen=True):
    """Some items and the token of what follows them, None at the end."""

    items: list[T]
    next: str | None


class Stored(Struct, frozen=True, gc=False):
    """A state as the store holds it; the etag changes with every write."""

    state: DeviceState
    etag: str


class Change(Struct, frozen=True, gc=False):
    """A state to be written if the row still has that etag; None: if there is no row yet."""

    state: DeviceState
    etag: str | None


class WriteOutcome(StrEnum):
    """What became of a change."""

    APPLIED = "applied"
    CONFLICT = "conflict"
    """The row has another etag (or exists already): read it and fold again."""
    NOT_APPLIED = "not applied"
    """A neighbour in the same transaction failed; the change itself may be sound."""
    REFUSED = "refused"
    """The store can never take this state, e.g. for its size: trying again is of no use."""
    UNKNOWN = "unknown"
    """The answer was lost: read the row, its position tells."""


class Result(Struct, frozen=True, gc=False):
    """A change's outcome, and the row's new etag where it was applied."""

    outcome: WriteOutcome
    etag: str | None = None


class DeviceStore(Protocol):
    """States under optimistic concurrency."""

    async def load(self, device_ids: Iterable[str]) -> dict[str, Stored]:
        """Read the states of those devices that have one."""

    async def compare_and_set(self, changes: Sequence[Change]) -> list[Result]:
        """Write each change wholly or not at all, one result per change in their order, durable once it is applied.

        A device may occur once. A change that conflicts leaves its row as it was.
        """

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[Stored]:
        """Read one page, removed devices included; in the order of device ids, or nearly so."""


class CalibrationStore(Protocol):
    """Calibrations, versioned by valid-from."""

    async def load(self, device_ids: Iterable[str]) -> dict[str, Calibration]:
        """Read the calibrations of those devices that have any version."""

    async def put(self, device_id: str, version: Version) -> None:
        """Add the version; one with the same valid-from is replaced."""

    async def remove(self, device_id: str, valid_from: int | None = None) -> bool:
        """Remove that version, or all of them; tell whether there was any."""

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[tuple[str, Calibration]]:
        """Read one page in the order of device ids, each device once with all its versions."""


class DeadLetter(Struct, frozen=True, kw_only=True):
    """What was rejected and why. `body` is the item as the device sent it.

    `reason` is a short code, `detail` a sentence. `stream` is namespace/hub/partition. `created` is the creation time
    that the device gave its message, as text. Other times are ms since 1970. The key is all but detail, body, created.
    """

    reason: str
    detail: str
    device_id: str
    stream: str
    sequence: int
    index: int
    enqueued_time: int
    body: bytes
    created: str | None = None

    @property
    def partition(self) -> str:
        """The stream's partition."""
        return self.stream.rpartition("/")[2]


class DeadLetterStore(Protocol):
    """Rejected readings, for people to look at."""

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep the letters, durable on return; one whose key is there already changes nothing."""

    async def remove(self, letters: Sequence[DeadLetter]) -> None:
        """Forget the letters of these keys; one that is not there is no error."""

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[DeadLetter]:
        """Read one page, the oldest arrival first."""


class Stores(Struct, frozen=True):
    """The solution's stores of one site; close them when done."""

    devices: DeviceStore
    calibrations: CalibrationStore
    dead_letters: DeadLetterStore
    close: Callable[[], Awaitable[None]]


def open_stores(
    url: str, site: str, *, buckets: int = 1, environment: Mapping[str, str] = MappingProxyType(os.environ)
) -> Stores:
    """Choose the adapter by the URL; nothing is opened before its first use, from whichever loop that happens in.

    `sqlite:///absolute/path`, `sqlite:relative/path` or `sqlite::memory:` (percent-encoded); `azure-tables:CONNECTION`
    or `azure-tables:CONNECTION/PREFIX`, the connection's settings being in the environment. `buckets` is how many
    partitions of a table a site's states are spread over. Several sites may share a store without seeing each other.
    Raises SettingsError where no adapter fits.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite" and parts.path and not parts.netloc:
        from enviromon.stores.sqlite import open_sqlite  # noqa: PLC0415  # an adapter's packages load when it is chosen

        return open_sqlite(unquote(parts.path), site)
    if parts.scheme == "azure-tables":
        try:
            from enviromon.stores.azure_tables import open_azure_tables  # noqa: PLC0415  # the same
        except ModuleNotFoundError as error:
            raise SettingsError(f"STORE_URL is {url}, which needs: pip install 'enviromon[azure]'") from error

        return open_azure_tables(unquote(parts.path), site, environment, buckets=buckets)
    raise SettingsError("STORE_URL must look like sqlite:///absolute/path/state.db or azure-tables:CONNECTION")


async def each(read: Callable[[str | None], Awaitable[Page[T]]]) -> AsyncIterator[T]:
    """Yield every item of all pages, e.g. `each(stores.devices.page)`."""
    after = None
    while True:
        page = await read(after)
        for item in page.items:
            yield item
        if page.next is None:
            return
        after = page.next

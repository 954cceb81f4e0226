"""Exports a site's stores as records, and imports records into them. What is in memory at once is a page."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from typing import Final, Protocol

from msgspec import Struct, field

from enviromon.calibration import Version
from enviromon.carry.merging import Fate, Merged, merged
from enviromon.carry.records import (
    KINDS,
    CalibrationRecord,
    DeadLetterRecord,
    DeviceRecord,
    ExportError,
    Header,
    Record,
    StateRecord,
    calibration_record,
    dead_letter_record,
)
from enviromon.carry.registry import DeviceRegistry, bring_device
from enviromon.device_state import DeviceState
from enviromon.errors import ContentionError
from enviromon.stores import Change, DeadLetter, Stores, WriteOutcome, each

STATES_AT_ONCE: Final = 100
LETTERS_AT_ONCE: Final = 1000
LETTER_BYTES_AT_ONCE: Final = 4 << 20
ATTEMPTS: Final = 20
SHOWN: Final = 20


async def exported(stores: Stores, *, dead_letters: bool) -> AsyncIterator[Record]:
    """Yield calibrations, states and, where they are wanted, dead letters.

    While telemetry comes in, a device's records are as they were when they were read: stop it first for a move.
    """
    async for device_id, calibration in each(stores.calibrations.page):
        for version in calibration.versions:
            yield calibration_record(device_id, version)
    async for stored in each(stores.devices.page):
        yield StateRecord(state=stored.state)
    if dead_letters:  # after the states: a letter that no state knows of waits, a state without its letter does not
        async for letter in each(stores.dead_letters.page):
            yield dead_letter_record(letter)


class Join(Protocol):
    """How a brought state meets the one that is here."""

    def __call__(self, held: DeviceState | None, brought: DeviceState, /, *, overwrite: bool) -> Merged:
        """Return the fate of the brought state, and what is to be written."""


class Report(Struct):
    """What an import came to: records by kind and fate, and the devices, by kind, whose records were refused."""

    fates: defaultdict[str, Counter[Fate]] = field(default_factory=lambda: defaultdict(Counter))
    refused: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, device_id: str, fate: Fate) -> None:
        """Note a record's fate."""
        self.fates[kind][fate] += 1
        if fate is Fate.REFUSED and len(self.refused[kind]) < SHOWN:
            self.refused[kind].append(device_id)


class Importer:
    """Brings records into stores, and devices into a registry where there is one. Importing again changes nothing.

    What is there and newer or different stays unless `overwrite` says otherwise. A dry run writes nothing. `join` says
    what becomes of a state that is brought to one that is here.
    """

    def __init__(
        self,
        stores: Stores,
        registry: DeviceRegistry | None,
        *,
        overwrite: bool = False,
        is_dry_run: bool = False,
        join: Join = merged,
    ) -> None:
        self.report = Report()
        self._stores = stores
        self._registry = registry
        self._overwrite = overwrite
        self._is_dry_run = is_dry_run
        self._join = join
        self._states: dict[str, DeviceState] = {}
        self._letters: list[DeadLetter] = []
        self._letter_bytes = 0

    async def run(self, records: Iterable[Header | Record]) -> Report:
        """Import them all. Raises ExportError where they cannot be read, StorageError, RegistryError.

        What came before the failure is imported; after its cause is gone, import all of it again.
        """
        try:
            for record in records:
                await self._take(record)
        finally:
            await self.finish()
        return self.report

    async def _take(self, record: Header | Record) -> None:
        match record:
            case DeviceRecord():
                await self._bring_device(record)
            case CalibrationRecord():
                await self._bring_calibration(record)
            case StateRecord():
                await self.bring_state(record.state)
            case DeadLetterRecord():
                self._letters.append(record.letter())
                self._letter_bytes += len(record.body)
                if len(self._letters) == LETTERS_AT_ONCE or self._letter_bytes > LETTER_BYTES_AT_ONCE:
                    await self._bring_letters()

    async def bring_state(self, brought: DeviceState) -> None:
        """Bring a state in, at the latest when all is finished. Raises StorageError."""
        if brought.device_id in self._states:
            await self._bring_states()
        self._states[brought.device_id] = brought
        if len(self._states) == STATES_AT_ONCE:
            await self._bring_states()

    async def finish(self) -> None:
        """Bring in what still waits. Raises StorageError."""
        await self._bring_states()
        await self._bring_letters()

    async def _bring_device(self, record: DeviceRecord) -> None:
        if self._registry is None:
            self.report.skipped[KINDS[DeviceRecord]] += 1
            return
        fate = await bring_device(self._registry, record, overwrite=self._overwrite, is_dry_run=self._is_dry_run)
        self.report.add(KINDS[DeviceRecord], record.device_id, fate)

    async def _bring_calibration(self, record: CalibrationRecord) -> None:
        try:
            brought = record.version()
        except ValueError as error:
            raise ExportError(f"the calibration of {record.device_id} is not acceptable: {error}") from None
        await self.bring_version(record.device_id, brought)

    async def bring_version(self, device_id: str, brought: Version) -> None:
        """Add one version of a calibration; another one of the same time is replaced only with `overwrite`."""
        calibration = (await self._stores.calibrations.load([device_id])).get(device_id)
        versions = calibration.versions if calibration else ()
        held = next((version for version in versions if version.valid_from == brought.valid_from), None)
        if held == brought:
            fate = Fate.UNCHANGED
        elif held is not None and not self._overwrite:
            fate = Fate.REFUSED
        else:
            fate = Fate.WRITTEN if held is None else Fate.REPLACED
            if not self._is_dry_run:
                await self._stores.calibrations.put(device_id, brought)
        self.report.add(KINDS[CalibrationRecord], device_id, fate)

    async def _bring_states(self) -> None:
        waiting, self._states = self._states, {}
        for _ in range(ATTEMPTS):
            if not waiting:
                return
            held = await self._stores.devices.load(waiting)
            changes: list[Change] = []
            fates: list[Fate] = []
            for device_id, brought in list(waiting.items()):
                stored = held.get(device_id)
                found = self._join(None if stored is None else stored.state, brought, overwrite=self._overwrite)
                if found.state is None or self._is_dry_run:
                    self.report.add(KINDS[StateRecord], device_id, found.fate)
                    del waiting[device_id]
                else:
                    changes.append(Change(found.state, None if stored is None else stored.etag))
                    fates.append(found.fate)
            results = await self._stores.devices.compare_and_set(changes) if changes else []
            for change, fate, result in zip(changes, fates, results, strict=True):
                if result.outcome is WriteOutcome.APPLIED:
                    self.report.add(KINDS[StateRecord], change.state.device_id, fate)
                    del waiting[change.state.device_id]
        if waiting:
            raise ContentionError(f"{', '.join(sorted(waiting)[:SHOWN])}: others write these states all the time")

    async def _bring_letters(self) -> None:
        letters, self._letters, self._letter_bytes = self._letters, [], 0
        if letters and not self._is_dry_run:
            await self._stores.dead_letters.add(letters)
        for letter in letters:
            self.report.add(KINDS[DeadLetterRecord], letter.device_id, Fate.PRESENT)

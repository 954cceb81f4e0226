"""Stores that go wrong on purpose, around any adapter: for those who try out what happens then.

`STORE_FAULTS` says what: rules `STORE.METHOD=ACTION[:PROBABILITY[:CALLS]]`, separated by spaces, for example
`devices.load=fail:0.01 devices.compare_and_set=lose_answer:0.1 dead_letters.add=full:0.01:20`. CALLS is how many calls
in a row fail once one does: an outage. Never on Azure, and never without `STORE_FAULTS_UNLOCK`. Each fault is one line
of the logger `faults.stores`.

    fail         StorageError before anything happens
    time_out     the same after a second
    read_only    a write fails, in the words of a file system that is read-only
    full         a write fails, in the words of a full disk
    lose_answer  the write is done, and its answer lost: an unknown outcome, or StorageError where there are no outcomes
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from enviromon.calibration import Calibration, Version
from enviromon.errors import SettingsError, StorageError
from enviromon.host_settings import AZURE_MARKS
from enviromon.stores import (
    PAGE_SIZE,
    CalibrationStore,
    Change,
    DeadLetter,
    DeadLetterStore,
    DeviceStore,
    Page,
    Result,
    Stored,
    Stores,
    WriteOutcome,
)

T = TypeVar("T")
UNLOCKED: Final = "this store fails on purpose"
TIME_OUT_SECONDS: Final = 1.0

_READS: Final = frozenset(
    {"devices.load", "devices.page", "calibrations.load", "calibrations.page", "dead_letters.page"}
)
_WRITES: Final = frozenset(
    {"devices.compare_and_set", "calibrations.put", "calibrations.remove", "dead_letters.add", "dead_letters.remove"}
)
_log = logging.getLogger("faults.stores")


class StoreAction(StrEnum):
    """What may go wrong."""

    FAIL = "fail"
    TIME_OUT = "time_out"
    READ_ONLY = "read_only"
    FULL = "full"
    LOSE_ANSWER = "lose_answer"


_SENTENCES: Final = {
    StoreAction.FAIL: "it does not answer",
    StoreAction.TIME_OUT: f"no answer within {TIME_OUT_SECONDS:g} s",
    StoreAction.READ_ONLY: "attempt to write a readonly database",
    StoreAction.FULL: "database or disk is full",
    StoreAction.LOSE_ANSWER: "the answer was lost",
}


class Rule(Struct, frozen=True):
    """One rule of STORE_FAULTS."""

    call: str
    action: StoreAction
    probability: float
    calls: int


def parse_rules(text: str) -> list[Rule]:
    """Read STORE_FAULTS. Raises SettingsError."""
    return [_parse_rule(part) for part in text.split()]


def _parse_rule(text: str) -> Rule:
    call, _, rest = text.partition("=")
    action, probability, calls = (*rest.split(":"), "1", "1")[:3] if rest.count(":") < 3 else ("", "", "")  # noqa: PLR2004
    try:
        rule = Rule(call, StoreAction(action), float(probability), int(calls))
    except ValueError:
        rule = Rule("", StoreAction.FAIL, 0, 0)
    writes_only = rule.action in {StoreAction.READ_ONLY, StoreAction.FULL, StoreAction.LOSE_ANSWER}
    if rule.call not in (_WRITES if writes_only else _READS | _WRITES) or not (
        0 <= rule.probability <= 1 <= rule.calls
    ):
        raise SettingsError(
            f"STORE_FAULTS: {text!r} is no STORE.METHOD=ACTION[:PROBABILITY[:CALLS]], such as "
            "devices.compare_and_set=lose_answer:0.1 (read_only, full and lose_answer are for writes)"
        )
    return rule


def faulty(stores: Stores, text: str, *, seed: int, unlock: str, environment: Mapping[str, str]) -> Stores:
    """Wrap the stores by the rules in `text`. Raises SettingsError: also where nobody unlocked it, and on Azure."""
    rules = parse_rules(text)
    marks = [name for name in AZURE_MARKS if environment.get(name)]
    if marks or unlock != UNLOCKED:
        why = f"this is Azure ({marks[0]} is set)" if marks else f"STORE_FAULTS_UNLOCK is not {UNLOCKED!r}"
        raise SettingsError(f"STORE_FAULTS makes stores fail, and {why}: remove STORE_FAULTS")
    faults = _Faults(rules, seed)
    _log.warning("stores fail on purpose: %s", text, extra={"fault": "stores unlocked"})
    return msgspec.structs.replace(
        stores,
        devices=FaultyDevices(stores.devices, faults),
        calibrations=FaultyCalibrations(stores.calibrations, faults),
        dead_letters=FaultyDeadLetters(stores.dead_letters, faults),
    )


class _Faults:
    """Decides call by call. The n-th call of a rule comes out the same in every run with the same seed."""

    def __init__(self, rules: Iterable[Rule], seed: int) -> None:
        self._rules = [
            (rule, random.Random(f"{seed}/{number}"))  # noqa: S311 - to be repeated, not to be secret
            for number, rule in enumerate(rules)
        ]
        self._left = [0] * len(self._rules)

    async def before(self, call: str) -> bool:
        """Let a call fail, or tell whether its answer is to be lost. Raises StorageError."""
        action = self._draw(call)
        if action is None or action is StoreAction.LOSE_ANSWER:
            return action is not None
        if action is StoreAction.TIME_OUT:
            await asyncio.sleep(TIME_OUT_SECONDS)
        raise _error(call, action)

    async def around(self, call: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work, unless it fails; raise StorageError where its answer is lost."""
        loses = await self.before(call)
        done = await work()
        if loses:
            raise _error(call, StoreAction.LOSE_ANSWER)
        return done

    def _draw(self, call: str) -> StoreAction | None:
        for number, (rule, source) in enumerate(self._rules):
            if rule.call == call:
                draw = source.random()
                if self._left[number]:
                    self._left[number] -= 1
                elif draw < rule.probability:
                    self._left[number] = rule.calls - 1
                else:
                    continue
                _log.error("on purpose, %s %s", call, rule.action, extra={"fault": f"{call} {rule.action}"})
                return rule.action
        return None


def _error(call: str, action: StoreAction) -> StorageError:
    return StorageError(f"{call}, on purpose: {_SENTENCES[action]}")


class FaultyDevices:
    """See DeviceStore."""

    def __init__(self, store: DeviceStore, faults: _Faults) -> None:
        self._store, self._faults = store, faults

    async def load(self, device_ids: Iterable[str]) -> dict[str, Stored]:
        """Read the states."""
        return await self._faults.around("devices.load", lambda: self._store.load(device_ids))

    async def compare_and_set(self, changes: Sequence[Change]) -> list[Result]:
        """Write the changes; a lost answer is the outcome UNKNOWN of each."""
        loses = await self._faults.before("devices.compare_and_set")
        results = await self._store.compare_and_set(changes)
        return [Result(WriteOutcome.UNKNOWN) for _ in results] if loses else results

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[Stored]:
        """Read one page."""
        return await self._faults.around("devices.page", lambda: self._store.page(after, limit))


class FaultyCalibrations:
    """See CalibrationStore."""

    def __init__(self, store: CalibrationStore, faults: _Faults) -> None:
        self._store, self._faults = store, faults

    async def load(self, device_ids: Iterable[str]) -> dict[str, Calibration]:
        """Read the calibrations."""
        return await self._faults.around("calibrations.load", lambda: self._store.load(device_ids))

    async def put(self, device_id: str, version: Version) -> None:
        """Add the version."""
        await self._faults.around("calibrations.put", lambda: self._store.put(device_id, version))

    async def remove(self, device_id: str, valid_from: int | None = None) -> bool:
        """Remove the version."""
        return await self._faults.around("calibrations.remove", lambda: self._store.remove(device_id, valid_from))

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[tuple[str, Calibration]]:
        """Read one page."""
        return await self._faults.around("calibrations.page", lambda: self._store.page(after, limit))


class FaultyDeadLetters:
    """See DeadLetterStore."""

    def __init__(self, store: DeadLetterStore, faults: _Faults) -> None:
        self._store, self._faults = store, faults

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep the letters."""
        await self._faults.around("dead_letters.add", lambda: self._store.add(letters))

    async def remove(self, letters: Sequence[DeadLetter]) -> None:
        """Forget the letters."""
        await self._faults.around("dead_letters.remove", lambda: self._store.remove(letters))

    async def page(self, after: str | None = None, limit: int = PAGE_SIZE) -> Page[DeadLetter]:
        """Read one page."""
        return await self._faults.around("dead_letters.page", lambda: self._store.page(after, limit))

"""What the event log holds, read as it grows, and whether everything else agrees with it.

1. Each partition is numbered without gaps.
2. Each device's messages are in order: the next number, or one that was there already (a device that got no
   acknowledgement, or a duplicate made on purpose). A gap would be a message that was acknowledged and lost.
3. Each event is counted once, by its own kind: accepted or late where it is good, rejected where it is bad.
4. Each bad event has exactly one dead letter, and nothing else has one.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from enviromon.device_state import Ledger
from enviromon.stores import Stores, each
from localcloud.iothub.event_log import SqliteEventLog
from tests.faults.fleet import is_bad


class Account(msgspec.Struct):
    """What the log holds of one device."""

    last: int = 0
    highest: int = 0
    good: int = 0
    bad: int = 0


class Book:
    def __init__(self, data: Path) -> None:
        self.data = data
        self.accounts: dict[str, Account] = {}
        self.bad_events: set[tuple[str, int]] = set()
        self._positions: dict[int, int] = {}

    @property
    def events(self) -> int:
        return sum(account.good + account.bad for account in self.accounts.values())

    async def read(self) -> None:
        """Read what has been appended since the last time. Raises AssertionError where rule 1 or 2 does not hold."""
        log = await SqliteEventLog.open(self.data, read_only=True)
        try:
            for partition in range(log.partitions):
                after = self._positions.get(partition, -1)
                while batch := await log.read(partition, after, 5_000):
                    for event in batch:
                        after += 1
                        assert event.sequence_number == after, (
                            f"partition {partition}: {event.sequence_number}, {after=}"
                        )
                        self._enter(partition, after, event.envelope.system_properties, event.body)
                self._positions[partition] = after
        finally:
            await log.close()

    def _enter(self, partition: int, sequence: int, properties: dict[str, str], body: bytes) -> None:
        device_id, number = properties["iothub-connection-device-id"], json.loads(body)["messageId"]
        account = self.accounts.setdefault(device_id, Account())
        assert number <= account.last or number == account.last + 1, (
            f"{device_id}: message {number} stands after {account.last} (partition {partition}, #{sequence})"
        )
        account.last = number
        account.highest = max(account.highest, number)
        if is_bad(number):
            account.bad += 1
            self.bad_events.add((str(partition), sequence))
        else:
            account.good += 1

    def holds(self, acknowledged: Iterable[tuple[str, int]]) -> None:
        """Raise AssertionError where something acknowledged is not in the log."""
        for device_id, number in acknowledged:
            highest = self.accounts[device_id].highest if device_id in self.accounts else 0
            assert highest >= number, f"{device_id}: message {number} was acknowledged, the log ends at {highest}"

    async def is_counted(self, stores: Stores) -> bool:
        """Tell whether all is counted. Raises AssertionError where more is than there was."""
        ledgers = {stored.state.device_id: stored.state.ledger async for stored in each(stores.devices.page)}
        for device_id, ledger in ledgers.items():
            account = self.accounts[device_id]
            assert ledger.accepted + ledger.late <= account.good, f"{device_id} counts twice: {ledger}, {account}"
            assert ledger.rejected <= account.bad, f"{device_id} rejects twice: {ledger}, {account}"
        return all(
            (ledger := ledgers.get(device_id, Ledger())).accepted + ledger.late == account.good
            and ledger.rejected == account.bad
            for device_id, account in self.accounts.items()
        )

    async def has_its_dead_letters(self, stores: Stores) -> None:
        """Raise AssertionError where a bad event has not exactly one dead letter, or a good one has any."""
        letters = Counter([(letter.partition, letter.sequence) async for letter in each(stores.dead_letters.page)])
        twice = [place for place, times in letters.items() if times > 1]
        assert not twice, f"dead letters twice: {twice[:5]}"
        assert set(letters) == self.bad_events, (
            f"dead letters missing: {sorted(self.bad_events - set(letters))[:5]}, "
            f"too many: {sorted(set(letters) - self.bad_events)[:5]}"
        )

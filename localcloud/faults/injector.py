"""Puts faults where the plan wants them, by wrapping a cloud's parts as they are put together.

What no fault is planned for is handed back as it came: without a plan nothing of this is in an event's way.
Each fault that strikes is one line of the logger `faults`. An app that makes faults of its own logs them there as well,
with the fault's name as the record's `fault`; all are counted alike (`FaultCounts`).
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from localcloud.faults.plan import Chance, Fault, FaultPlan, Point

if TYPE_CHECKING:
    from localcloud.functions.app import AppFunction
    from localcloud.iothub.event_log import Event, EventLog, StoredEvent

EXIT_STATUS = 86
"""How a process ends that dies on purpose."""

logger = logging.getLogger("faults")
OutputSink = Callable[[Any], Awaitable[None]]


class InjectedFaultError(Exception):
    """Something failed on purpose."""


class FaultCounts(logging.Handler):
    """Counts by name what the logger `faults` says from its construction on."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Count one fault."""
        name = getattr(record, "fault", record.name)
        self.counts[name] = self.counts.get(name, 0) + 1

    def close(self) -> None:
        """Count no more."""
        logger.removeHandler(self)
        super().close()


class FaultInjector:
    """Wraps the parts of a cloud, or of a worker, by one plan. Chances begin anew with each process."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan

    def event_log(self, log: "EventLog") -> "EventLog":
        """Return the log with its faults."""
        points = [self._at(point) for point in _LOG_POINTS]
        return FaultyEventLog(log, *points) if any(points) else log

    def function(self, function: "AppFunction") -> "AppFunction":
        """Return the function with its faults."""
        begins, returned = (self._at(point, function.name) for point in ("function.begins", "function.returned"))
        if not begins and not returned:
            return function
        call = function.call
        if function.shape.is_async:

            async def faulty(**arguments: Any) -> Any:
                await begins.meet()
                value = await call(**arguments)
                await returned.meet()
                return value

            return msgspec.structs.replace(function, call=faulty)

        def faulty_in_thread(**arguments: Any) -> Any:
            begins.meet_in_thread()
            value = call(**arguments)
            returned.meet_in_thread()
            return value

        return msgspec.structs.replace(function, call=faulty_in_thread)

    def output(self, function: str, sink: OutputSink) -> OutputSink:
        """Return what sends a function's output, with its faults."""
        begins, sent = self._at("output.begins", function), self._at("output.sent", function)
        if not begins and not sent:
            return sink

        async def faulty(output: Any) -> None:
            await begins.meet()
            await sink(output)
            await sent.meet()

        return faulty

    def _at(self, point: Point, function: str = "") -> "_Spot":
        found = [
            (number, fault)
            for number, fault in enumerate(self._plan.fault, start=1)
            if fault.point == point and fault.function in {"", function}
        ]
        return _Spot(found, f"{self._plan.seed}/{function}")


class FaultyEventLog:
    """An EventLog whose appends, reads and checkpoints go wrong on purpose; see EventLog for the methods."""

    def __init__(
        self,
        log: "EventLog",
        append_begins: "_Spot",
        append_ended: "_Spot",
        read_begins: "_Spot",
        checkpoint_begins: "_Spot",
        checkpoint_ended: "_Spot",
    ) -> None:
        self.partitions = log.partitions
        self._log = log
        self._append_begins, self._append_ended = append_begins, append_ended
        self._read_begins = read_begins
        self._checkpoint_begins, self._checkpoint_ended = checkpoint_begins, checkpoint_ended
        self._redelivers_until = [-1] * log.partitions

    async def append(self, batch_id: bytes, events: "Mapping[int, Sequence[Event]]") -> None:
        """Append, with faults. A doubled batch stays one batch: it is stored wholly or not at all."""
        for fault in await self._append_begins.meet():
            assert fault.action == "duplicate"
            events = {partition: [*run, *run] for partition, run in events.items()}
        await self._log.append(batch_id, events)
        await self._append_ended.meet()

    async def read(self, partition: int, after: int, limit: int) -> "list[StoredEvent]":
        """Read, with faults; a redelivery begins earlier, and may end before what was asked for.

        It comes with something new, and not while an earlier one goes on: the reader gets ahead.
        """
        found = await self._log.read(partition, after, limit)
        if not found or after < self._redelivers_until[partition]:
            return found
        for fault in await self._read_begins.meet():
            assert fault.action == "redeliver"
            self._redelivers_until[partition] = after
            found = await self._log.read(partition, max(-1, after - fault.events), limit)
        return found

    async def wait(self, partition: int, after: int) -> None:
        """Wait."""
        await self._log.wait(partition, after)

    async def register(self, group: str) -> None:
        """Register."""
        await self._log.register(group)

    async def checkpoint(self, group: str, partition: int) -> int:
        """Tell the checkpoint."""
        return await self._log.checkpoint(group, partition)

    async def commit(self, group: str, partition: int, sequence_number: int) -> None:
        """Checkpoint, with faults."""
        await self._checkpoint_begins.meet()
        await self._log.commit(group, partition, sequence_number)
        await self._checkpoint_ended.meet()

    async def close(self) -> None:
        """Close."""
        await self._log.close()


_LOG_POINTS: tuple[Point, ...] = (
    "append.begins",
    "append.ended",
    "read.begins",
    "checkpoint.begins",
    "checkpoint.ended",
)


class _Spot:
    """All faults of one point; false where there are none."""

    def __init__(self, faults: Sequence[tuple[int, Fault]], seed: str) -> None:
        self._chances = [(number, fault, Chance(fault, f"{seed}/{number}")) for number, fault in faults]
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._chances)

    async def meet(self) -> list[Fault]:
        """Let faults strike; return those that are the caller's to carry out. Raises InjectedFaultError."""
        left = []
        for number, fault in self._struck():
            if fault.action in {"delay", "time_out"}:
                await asyncio.sleep(fault.seconds)
            if _ends_here(number, fault):
                left.append(fault)
        return left

    def meet_in_thread(self) -> None:
        """Do the same where waiting blocks."""
        for number, fault in self._struck():
            if fault.action in {"delay", "time_out"}:
                time.sleep(fault.seconds)
            _ends_here(number, fault)

    def _struck(self) -> list[tuple[int, Fault]]:
        with self._lock:
            struck = [(number, fault) for number, fault, chance in self._chances if chance.strikes()]
        for number, fault in struck:
            logger.error("on purpose, fault %d: %s", number, fault.name, extra={"fault": fault.name})
        return struck


def _ends_here(number: int, fault: Fault) -> bool:
    """Carry out what is the same everywhere; tell whether the caller has something left to do."""
    if fault.action == "exit":
        logging.shutdown()
        os._exit(EXIT_STATUS)
    if fault.action in {"fail", "time_out"}:
        what = "failed" if fault.action == "fail" else f"did not answer within {fault.seconds:g} s"
        raise InjectedFaultError(f"{fault.point} {what} on purpose (fault {number} of the faults file)")
    return fault.action != "delay"

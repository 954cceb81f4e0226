"""The eventHubTrigger: reads a consumer group's events from the log and feeds them to one function.

Rules, those of EventHubListener.PartitionProcessor in Azure/azure-sdk-for-net:
1. Within a partition one batch at a time, in order; partitions run in parallel.
2. A batch is **checkpointed** after the function has finished it: when it succeeded, or when its retries are used up
   (loudly: those events are lost to the function). Never after a cancellation, so a batch may come twice.
   Checkpoints are written at most every CHECKPOINT_SECONDS and at a stop: what a crash repeats is no more than that.
3. After a batch of MANY_EVENTS or more a partition **rests** for as long as the function took, LONGEST_REST_SECONDS at
   most, while more come in: the next batch is larger, which costs the function less per event. Not after a full one.
4. A fault of the log itself is retried for ever, with growing pauses; it never skips an event.
"""

import asyncio
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from localcloud.functions.bindings import EventHubAddress
from localcloud.functions.events import EventFactory
from localcloud.functions.invocation import Invocation, Invoker
from localcloud.functions.retrying import Report, invoke_with_retries
from localcloud.sqlite import DatabaseFaultError

if TYPE_CHECKING:
    from localcloud.iothub.event_log import EventLog, StoredEvent

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 0.05
MANY_EVENTS = 64
LONGEST_REST_SECONDS = 0.03
_FAULT_DELAYS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds


class BatchLimits(msgspec.Struct, frozen=True):
    """host.json's `eventHubs`: a batch waits up to `max_wait` seconds for `minimum` events."""

    maximum: int = 100
    minimum: int = 1
    max_wait: float = 60.0


def rest(events: int, most: int, seconds: float) -> float:
    """Return how many seconds to rest after a batch of so many events, of `most` possible, that took `seconds`."""
    return min(seconds, LONGEST_REST_SECONDS) if MANY_EVENTS <= events < most else 0.0


class EventHubTrigger:
    """Feeds one function from one event hub; `report` gets one line per invocation."""

    def __init__(
        self, invoker: Invoker, log: "EventLog", address: EventHubAddress, *, limits: BatchLimits, report: Report
    ) -> None:
        self.invoker = invoker
        self.address = address
        self.group = invoker.function.trigger.text("consumerGroup", "$Default")
        self._log = log
        self._limits = limits
        self._report = report
        self._running: dict[int, tuple[_Partition, asyncio.Task[None]]] = {}

    async def start(self, partitions: Collection[int] | None = None) -> None:
        """Register the consumer group and read these partitions, all by default. Raises what the log raises."""
        await self._log.register(self.group)
        await self.run(range(self._log.partitions) if partitions is None else partitions, 0.0)

    @property
    def partitions(self) -> Collection[int]:
        """The partitions that are read, those that are about to end included."""
        return self._running.keys()

    async def run(self, partitions: Collection[int], grace: float) -> None:
        """Read these partitions and no others.

        A batch of another may end within `grace` seconds; then it is cancelled, without a checkpoint.
        """
        for number in partitions:
            if number not in self._running:
                partition = _Partition(self, number)
                task = asyncio.create_task(partition.run(), name=f"{self.invoker.function.name}/{number}")
                self._running[number] = partition, task
        leaving = [number for number in self._running if number not in partitions]
        for number in leaving:
            partition, task = self._running[number]
            partition.stopping = True
            if not partition.busy:
                task.cancel()
        tasks = [self._running[number][1] for number in leaving]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for number in leaving:
            del self._running[number]

    async def stop(self, grace: float) -> None:
        """Read nothing any more; see `run`."""
        await self.run((), grace)

    @property
    def most(self) -> int:
        """How many events a batch may hold."""
        return self._limits.maximum

    async def next_batch(self, partition: int, position: int) -> "list[StoredEvent]":
        """Wait for 1 to `maximum` events beyond `position`; fewer than `minimum` only after `max_wait`."""
        limits = self._limits
        batch: list[StoredEvent] = []
        while not batch:
            await self._log.wait(partition, position)
            batch = await self._log.read(partition, position, limits.maximum)
        if len(batch) < limits.minimum:
            try:
                async with asyncio.timeout(limits.max_wait):
                    await self._fill(batch, partition)
            except TimeoutError:
                pass
        return batch

    async def _fill(self, batch: "list[StoredEvent]", partition: int) -> None:
        while len(batch) < self._limits.minimum:
            last = batch[-1].sequence_number
            await self._log.wait(partition, last)
            batch += await self._log.read(partition, last, self._limits.maximum - len(batch))

    async def position(self, partition: int) -> int:
        """Return the last sequence number that the function has finished."""
        return await self._log.checkpoint(self.group, partition)

    async def checkpoint(self, partition: int, position: int) -> None:
        """Note that the function has finished everything up to `position`."""
        await self._log.commit(self.group, partition, position)

    @property
    def positions(self) -> dict[int, int]:
        """By partition that is read the last sequence number that the function has finished, -1 before the first."""
        return {number: partition.position for number, (partition, _) in self._running.items()}

    def report(self, invocation: Invocation) -> None:
        """Hand a line to the report."""
        self._report(invocation)


class _Partition:
    """One partition's loop. `busy` while a batch must not be cancelled lightly."""

    def __init__(self, trigger: EventHubTrigger, number: int) -> None:
        function = trigger.invoker.function
        self.stopping = False
        self.busy = False
        self.position = -1
        self._saved = -1
        self._save_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._trigger = trigger
        self._number = number
        self._name = function.name
        self._many = function.trigger.text("cardinality", "ONE").upper() == "MANY"
        self._factory = EventFactory(
            namespace=trigger.address.namespace,
            event_hub=trigger.address.name,
            group=trigger.group,
            partition=number,
            data_type=function.trigger.text("dataType").upper(),
        )

    async def run(self) -> None:
        """Process batches until stopped, whatever the log does; what was finished is checkpointed in the end."""
        try:
            await self._run()
        finally:
            if self.position > self._saved:
                try:
                    await self._save()
                except Exception:
                    logger.exception(
                        "function %s, partition %d: what was finished could not be checkpointed, and will come again",
                        *(self._name, self._number),
                    )

    async def _run(self) -> None:
        faults = 0
        while not self.stopping:
            try:
                self.position = self._saved = await self._trigger.position(self._number)
                while not self.stopping:
                    self.position = await self._step(self.position)
                    faults = 0
            except Exception as error:
                delay = _FAULT_DELAYS[min(faults, len(_FAULT_DELAYS) - 1)]
                faults += 1
                known = isinstance(error, DatabaseFaultError)
                logger.error(  # noqa: TRY400 - a known fault is a sentence
                    "function %s, partition %d, trying again in %s s: %s",
                    *(self._name, self._number, delay, error if known else "the event log failed"),
                    exc_info=None if known else error,
                )
                await asyncio.sleep(delay)

    async def _step(self, position: int) -> int:
        """Process one batch, and checkpoint when it is time. Raises what the log raises; the batch comes again then."""
        batch = await self._next_batch(position)
        started = self._loop.time()
        self.busy = True
        try:
            self.position = await self._process(batch)
            if self._loop.time() >= self._save_at:
                await self._save()
        finally:
            self.busy = False
        seconds = rest(len(batch), self._trigger.most, self._loop.time() - started)
        if self._many and seconds and not self.stopping:
            await asyncio.sleep(seconds)
        return self.position

    async def _next_batch(self, position: int) -> "list[StoredEvent]":
        """Wait for a batch; checkpoint meanwhile what has been waiting for it long enough."""
        if self._saved < position:
            try:
                async with asyncio.timeout_at(self._save_at):
                    return await self._trigger.next_batch(self._number, position)
            except TimeoutError:
                await self._save()
        return await self._trigger.next_batch(self._number, position)

    async def _save(self) -> None:
        position = self.position
        await self._trigger.checkpoint(self._number, position)
        self._saved, self._save_at = position, self._loop.time() + CHECKPOINT_SECONDS

    async def _process(self, batch: "list[StoredEvent]") -> int:
        """Return the last sequence number that the function has finished: less than all on a stop."""
        if self._many:
            await self._invoke(batch)
            return batch[-1].sequence_number
        for event in batch:
            await self._invoke([event])
            if self.stopping:
                break
        return event.sequence_number

    async def _invoke(self, batch: "list[StoredEvent]") -> None:
        first, last = batch[0].sequence_number, batch[-1].sequence_number
        about = Invocation(
            function=self._name,
            trigger="eventHubTrigger",
            count=len(batch),
            partition=self._number,
            first_sequence=first,
            last_sequence=last,
        )
        trigger = self._trigger
        result = await invoke_with_retries(
            trigger.invoker,
            lambda: self._factory.many(batch) if self._many else self._factory.one(batch[0]),
            about,
            report=trigger.report,
            pause=self._pause,
        )
        if result.error is not None:
            logger.error(
                "function %s failed for good: partition %d, sequence numbers %d to %d are checkpointed and will not "
                "come again (%s)",
                *(self._name, self._number, first, last, type(result.error).__name__),
            )

    async def _pause(self, seconds: float) -> None:
        """Wait before a retry; a stop need not wait for it."""
        if self.stopping:
            raise asyncio.CancelledError
        self.busy = False
        await asyncio.sleep(seconds)
        self.busy = True

"""The timerTrigger: runs a function by its schedule, in UTC as Azure does, never twice at once.

Rule: the next time is looked for when an invocation has ended, so what fell due meanwhile is not made up for.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from localcloud.functions.cron import parse_schedule
from localcloud.functions.invocation import Invocation, Invoker
from localcloud.functions.retrying import Report, invoke_with_retries

logger = logging.getLogger(__name__)

_LONGEST_SLEEP = 60.0  # seconds; the wall clock may be set meanwhile


class TimerTrigger:
    """Runs one function. Raises ScheduleError where its schedule cannot be read."""

    def __init__(
        self,
        invoker: Invoker,
        *,
        report: Report,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        trigger = invoker.function.trigger
        self.invoker = invoker
        self.schedule_text = trigger.text("schedule")
        self._schedule = parse_schedule(self.schedule_text)
        self._run_on_startup = bool(trigger.options.get("runOnStartup"))
        self._monitored = trigger.options.get("useMonitor") is not False
        self._report = report
        self._clock = clock
        self._sleep = sleep
        self._last = datetime.min.replace(tzinfo=UTC)  # .NET's default, which Azure sends before the first run
        self._busy = False
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to wait for the first time."""
        self._task = asyncio.create_task(self._run(), name=self.invoker.function.name)

    async def stop(self, grace: float) -> None:
        """Let a running invocation end within `grace` seconds, then cancel it."""
        self._stopping = True
        if self._task is None:
            return
        if not self._busy:
            self._task.cancel()
        _, late = await asyncio.wait([self._task], timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    async def _run(self) -> None:
        if self._run_on_startup:
            await self._fire()
        while not self._stopping:
            due = self._schedule.next(self._now())
            if due is None:
                logger.warning("function %s: the schedule %s is never due", *self._names())
                return
            while (remaining := (due - self._now()).total_seconds()) > 0:
                await self._sleep(min(remaining, _LONGEST_SLEEP))
            await self._fire()

    def _names(self) -> tuple[str, str]:
        return self.invoker.function.name, self.schedule_text

    async def _fire(self) -> None:
        self._busy = True
        try:
            about = Invocation(function=self.invoker.function.name, trigger="timerTrigger")
            await invoke_with_retries(self.invoker, self._request, about, report=self._report)
            self._last = self._now()
        finally:
            self._busy = False

    def _request(self) -> Any:
        from azure.functions.timer import TimerRequest  # noqa: PLC0415  # loaded with the app anyway

        if not self._monitored:
            return TimerRequest()
        last, due = self._last.isoformat(), self._schedule.next(self._now())
        status = {"Last": last, "LastUpdated": last, "Next": due.isoformat() if due else None}
        return TimerRequest(schedule_status=status, schedule={"AdjustForDST": True})

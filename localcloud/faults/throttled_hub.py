"""An IoT Hub with the limits of a tier, answering a device that is beyond them as the real one does."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from localcloud.faults.injector import logger as faults
from localcloud.faults.plan import Throttle
from localcloud.faults.tiers import Meter
from localcloud.iothub.connection import Connection, Pause
from localcloud.iothub.event_log import Event
from localcloud.iothub.rest import RestError
from localcloud.iothub.server import HubServer
from localcloud.iothub.session import Commit, Reason

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ThrottledHub(HubServer):
    """HubServer whose devices together keep to one tier's limits. What was used of the quota is not kept on disk."""

    def __init__(self, throttle: Throttle, *, clock: Callable[[], float] = time.time, **options: Any) -> None:
        super().__init__(clock=clock, **options)
        self.throttle = throttle
        self.clock = clock
        self.meter = Meter(
            throttle.tier,
            throttle.units,
            burst_seconds=throttle.burst_seconds,
            sent_today=throttle.sent_today,
            now=asyncio.get_running_loop().time(),
            wall=clock(),
        )
        self._is_slow = False

    def make_connection(self) -> Connection:
        """Return the protocol of a new socket."""
        return _ThrottledConnection(self)

    def slow_down(self, seconds: float) -> None:
        """Tell once that the hub has begun to slow its devices down."""
        if bool(seconds) != self._is_slow:
            self._is_slow = bool(seconds)
            if self._is_slow:
                _tell("throttle slowed", f"more than {self.meter.rate:g} messages/s: devices are slowed down to that")

    @web.middleware
    async def refuse_beyond_quota(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Refuse every request with 403002 once the quota is used up. Raises RestError."""
        if not self.meter.is_used_up(self.clock()):
            return await handler(request)
        _tell("throttle quota", "a request beyond the day's quota: 403")
        raise RestError(
            403,
            "IotHubQuotaExceeded",
            f"Total number of messages on IotHub exceeded the allocated quota. Max allowed message count : "
            f"'{self.meter.quota}', current message count : '{self.meter.sent_today}'.",
        )


class _ThrottledConnection(Connection):
    """Meters each read's messages before they are made durable."""

    _hub: ThrottledHub

    def _commit(self, action: Commit) -> None:
        hub, now = self._hub, self._loop.time()
        if action.events:
            if hub.meter.is_used_up(hub.clock()):
                _tell("throttle quota", f"the day's {hub.meter.quota} messages are used up: {self.peer} is closed")
                self.close(Reason.THROTTLED, "the day's quota is used up")
                return
            wait = hub.meter.take([_size(event) for event in action.events], now)
            hub.slow_down(wait)
            if wait > hub.throttle.queue_seconds:
                _tell("throttle closed", f"{self.peer} would have to wait {wait:.0f} s: it is closed")
                self.close(Reason.THROTTLED, "too much is waiting already")
                return
            if wait and not self._pause & Pause.THROTTLE:
                self.pause(Pause.THROTTLE)
                self._loop.call_later(wait, self.resume, Pause.THROTTLE)
        super()._commit(action)


def _size(event: Event) -> int:
    """What IoT Hub meters: the body and the application's properties."""
    return len(event.body) + sum(len(name) + len(value) for name, value in event.envelope.properties.items())


def _tell(name: str, sentence: str) -> None:
    faults.error("on purpose, %s", sentence, extra={"fault": name})

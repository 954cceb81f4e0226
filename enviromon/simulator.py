"""A fleet of simulated devices that send telemetry over IoT Hub's MQTT, to the local hub or to a real one.

Message k goes to device k modulo the fleet's size, k / rate seconds after the start, so that a fleet's rate is even.
What is not acknowledged is sent again, as a device would: a run that ends by its count has every message acknowledged.
Values are walks inside each metric's typical range, and the same seed gives the same values.
"""

import asyncio
import datetime as dt
import logging
import random
import time
from collections.abc import Callable, Iterator

import msgspec

from enviromon.device_client import DeviceConnection, HubAddress, RefusedError, sas_token
from enviromon.metrics import METRICS, Metric

TOKEN_SECONDS = 3600
RENEW_BEFORE_SECONDS = 120
RECONNECT_SECONDS = (0.2, 30.0)
FORGIVEN_SECONDS = 5.0
_BAG = "%24.ct=application%2Fjson&%24.ce=utf-8"
_PLACES = ("Sydney", "Berlin", "Nairobi", "Lima", "Osaka", "Oslo", "Toronto", "Pune", "Porto", "Austin")

_log = logging.getLogger(__name__)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run sends: `rate` messages per second of the whole fleet, `count` in all (None: until cancelled)."""

    devices: int
    rate: float
    count: int | None = None
    seed: int = 0


class Tally(msgspec.Struct):
    """What has happened so far; `sent` counts messages, not the repetitions after a lost connection."""

    sent: int = 0
    acknowledged: int = 0
    reconnects: int = 0
    connected: int = 0


def device_ids(count: int) -> list[str]:
    """The fleet's ids: sim-1 to sim-N."""
    return [f"sim-{number}" for number in range(1, count + 1)]


def readings(device_id: str, index: int, seed: int, now: Callable[[], float]) -> Iterator[bytes]:
    """Telemetry bodies without end; the clock (unix seconds) stamps each when it is taken."""
    source = random.Random(f"{seed}/{device_id}")  # noqa: S311 - weather, not secrets
    walks = [(metric, _walk(metric, source)) for metric in METRICS]
    message_id = 0
    while True:
        message_id += 1
        stamp = dt.datetime.fromtimestamp(now(), dt.UTC).isoformat(timespec="milliseconds")
        body = {"messageId": message_id, "deviceId": device_id, "geo": _PLACES[index % len(_PLACES)]}
        values = {metric.name: round(next(walk), metric.decimals + 1) for metric, walk in walks}
        yield msgspec.json.encode(body | values | {"timestamp": stamp})


def _walk(metric: Metric, source: random.Random) -> Iterator[float]:
    low, high = metric.usual
    home = source.uniform(low + (high - low) * 0.2, high - (high - low) * 0.2)
    value = home
    while True:
        value += (home - value) * 0.02 + source.gauss(0, (high - low) * 0.008)
        value = min(high, max(low, value))
        yield value


class Simulator:
    """One run of a fleet against one hub; `tally` can be read while it goes."""

    def __init__(
        self, hub: HubAddress, keys: dict[str, str], plan: Plan, clock: Callable[[], float] = time.time
    ) -> None:
        """`keys` holds the base64 primary key of each device of the plan."""
        self.tally = Tally()
        self._hub, self._keys, self._plan, self._clock = hub, keys, plan, clock

    async def run(self) -> Tally:
        """Send until the count is acknowledged or the caller cancels. Raises RefusedError when a device is refused."""
        start = asyncio.get_running_loop().time()
        try:
            async with asyncio.TaskGroup() as fleet:
                for index, device_id in enumerate(device_ids(self._plan.devices)):
                    bodies = readings(device_id, index, self._plan.seed, self._clock)
                    device = _Device(self._hub, device_id, self._keys[device_id], bodies, self.tally, self._clock)
                    fleet.create_task(device.run(self._schedule(index, start)))
        except* RefusedError as refusals:
            raise refusals.exceptions[0] from None
        return self.tally

    def _schedule(self, index: int, start: float) -> "_Schedule":
        plan = self._plan
        share = None if plan.count is None else len(range(index, plan.count, plan.devices))
        return _Schedule(start + index / plan.rate, plan.devices / plan.rate, share)


class _Schedule:
    """When one device sends next, in the loop's time; a device that fell far behind starts its rhythm anew."""

    def __init__(self, first: float, interval: float, remaining: int | None) -> None:
        self._next, self._interval, self.remaining = first, interval, remaining

    @property
    def finished(self) -> bool:
        return self.remaining == 0

    def delay(self, now: float) -> float:
        if now - self._next > FORGIVEN_SECONDS:
            self._next = now
        return self._next - now

    def advance(self) -> None:
        self._next += self._interval
        if self.remaining is not None:
            self.remaining -= 1


class _Device:
    """One device: sends by its schedule, and after a lost connection sends again what was not acknowledged."""

    def __init__(
        self,
        hub: HubAddress,
        device_id: str,
        key: str,
        bodies: Iterator[bytes],
        tally: Tally,
        clock: Callable[[], float],
    ) -> None:
        self._hub, self._id, self._key, self._bodies = hub, device_id, key, bodies
        self._tally, self._clock = tally, clock
        self._unacknowledged: list[bytes] = []
        self._pending: set[asyncio.Future[None]] = set()

    async def run(self, schedule: _Schedule) -> None:
        shortest, longest = RECONNECT_SECONDS
        delay = shortest
        while True:
            try:
                connection = DeviceConnection(self._id)
                await connection.open(self._hub, self._token())
                delay = shortest
                await self._session(connection, schedule)
            except RefusedError as refusal:
                if not refusal.retry:
                    raise
            except OSError as error:  # TimeoutError and ssl.SSLError among them
                _log.info("%s: %s", self._id, error)
            if schedule.finished and not self._unacknowledged:
                return
            self._tally.reconnects += 1
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            delay = min(longest, delay * 2)

    def _token(self) -> str:
        resource = f"{self._hub.hostname}/devices/{self._id}"
        return sas_token(resource, self._key, int(self._clock()) + TOKEN_SECONDS)

    async def _session(self, connection: DeviceConnection, schedule: _Schedule) -> None:
        """Send over this connection until everything is acknowledged, the connection ends or the token grows old."""
        loop = asyncio.get_running_loop()
        renewal = loop.call_later(TOKEN_SECONDS - RENEW_BEFORE_SECONDS, connection.close)
        self._tally.connected += 1
        try:
            for body in list(self._unacknowledged):
                await self._publish(connection, body)
            while not schedule.finished:
                if (delay := schedule.delay(loop.time())) > 0:
                    await asyncio.wait([connection.closed], timeout=delay)
                if connection.closed.done():
                    return
                body = next(self._bodies)
                self._unacknowledged.append(body)
                self._tally.sent += 1
                schedule.advance()
                await self._publish(connection, body)
            await asyncio.gather(*self._pending)
        finally:
            renewal.cancel()
            self._tally.connected -= 1
            connection.close()

    async def _publish(self, connection: DeviceConnection, body: bytes) -> None:
        def settle(acknowledged: asyncio.Future[None]) -> None:
            self._pending.discard(acknowledged)
            if not acknowledged.cancelled() and acknowledged.exception() is None:
                self._unacknowledged.remove(body)
                self._tally.acknowledged += 1

        acknowledged = await connection.publish(body, _BAG)
        self._pending.add(acknowledged)
        acknowledged.add_done_callback(settle)

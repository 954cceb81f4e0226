"""The hub for devices: listeners, who is connected, and what the parts of the hub tell each other.

Devices come in by MQTT 3.1.1 over TLS (`connection`, `session`); what they publish goes to the event log by group
commit. One device has one connection: a new one drops the old, a device that keeps reconnecting waits for its CONNACK.
A sweep a few times a second sees to keepalives, expired tokens and what other processes changed in the registry.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial

import msgspec

from localcloud.door import Door
from localcloud.iothub import auth
from localcloud.iothub.connection import Connection, Pause
from localcloud.iothub.event_log import Event, EventLog
from localcloud.iothub.group_commit import GroupCommit
from localcloud.iothub.limits import HubLimits
from localcloud.iothub.packets import UNAVAILABLE, Connect
from localcloud.iothub.registry import Device, Registry
from localcloud.iothub.session import Reason, Save
from localcloud.iothub.session_store import SessionStore
from localcloud.iothub.topics import DeviceTopics
from localcloud.token_bucket import TokenBucket

_SWEEP_SECONDS = 0.25
_DRAIN_SECONDS = 1.0
_SHARES = 4

_QUIET = (Reason.DISCONNECTED, Reason.LOST, Reason.STOPPED, Reason.TAKEN_OVER, Reason.EXPIRED)
_logger = logging.getLogger(__name__)


class HubCounters(msgspec.Struct):
    """What the hub has done since its start. `connections` is the number of open sockets; `closed` is by reason."""

    connections: int = 0
    accepted: int = 0
    messages: int = 0
    bytes: int = 0
    turned_away: int = 0
    delayed: int = 0
    closed: dict[str, int] = msgspec.field(default_factory=lambda: {reason.value: 0 for reason in Reason})


class HubServer:
    """The device side of one hub. Belongs to the event loop in which it is started.

    `hostnames` are the names that user names and tokens may carry; `policies` the hub's keys by name, with which
    whoever holds one may connect as any device.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        log: EventLog,
        hostnames: Collection[str],
        policies: Mapping[str, str] | None = None,
        limits: HubLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or HubLimits()
        self.counters = HubCounters()
        self.partitions = log.partitions
        self.hostnames = frozenset(name.lower() for name in hostnames)
        self.policies = dict(policies or {})
        self.sessions = SessionStore(registry)
        self._registry = registry
        self._clock = clock
        self._group_commit = GroupCommit(
            log, max_pending_bytes=self.limits.pending_bytes, on_full=self._on_full, on_room=self._on_room
        )
        self._little_pending = self.limits.pending_bytes - _SHARES * self.limits.in_flight_bytes
        self._is_full = False
        self._is_stopping = False
        self._connections: set[Connection] = set()
        self._devices: dict[str, Connection] = {}
        self._connects: dict[str, TokenBucket] = {}
        self._held: dict[Connection, int] = {}
        self._held_bytes = 0
        self._to_flush: list[Connection] = []
        self._door = Door(
            places=lambda: self.limits.connections - len(self._connections),
            handshake_seconds=self.limits.handshake_seconds,
            handshakes_per_second=self.limits.handshakes_per_second,
            on_refused=self._turn_away,
        )
        self._listeners: list[asyncio.Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._sweep: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, ssl_context: ssl.SSLContext | None) -> int:
        """Listen, with TLS where a context is given, and return the port. May be called for several listeners.

        Raises OSError where the address cannot be bound.
        """
        listener = await self._door.listen(self.make_connection, host, port, ssl_context)
        self._listeners.append(listener)
        if self._sweep is None:
            self._tasks = [asyncio.create_task(part.run()) for part in (self._group_commit, self.sessions)]
            self._sweep = asyncio.create_task(self._run_sweep())
        bound: int = listener.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop reading, let what was read become durable (for a second at most), acknowledge it, close everything.

        A second call does nothing.
        """
        if self._is_stopping:
            return
        self._is_stopping = True
        for listener in self._listeners:
            listener.close()
        self._door.close()
        for connection in list(self._connections):
            connection.pause(Pause.HUB_FULL)
        if self._sweep is not None:
            self._sweep.cancel()
            await asyncio.wait([self._sweep])
        await self._drain()
        self._flush()
        for connection in list(self._connections):
            connection.close(Reason.STOPPED, "the hub stops")
        self.sessions.release()

    @property
    def share(self) -> int:
        """Return how many bytes one connection may have in flight now: a part of what is free, so that some stays free.

        However many flood, a quiet device finds room and is read (the dynamic thresholds of shared-memory switches,
        Choudhury and Hahne 1998).
        """
        pending = self._group_commit.pending_bytes
        if pending <= self._little_pending:  # nearly always, and it is asked three times a read
            return self.limits.in_flight_bytes
        return min(self.limits.in_flight_bytes, max(0, self.limits.pending_bytes - pending) // _SHARES)

    @property
    def connected_devices(self) -> int:
        """Return how many devices are connected."""
        return len(self._devices)

    def is_connected(self, device_id: str) -> bool:
        """Say whether the device has a connection."""
        return device_id in self._devices

    def make_connection(self) -> Connection:
        """Return the protocol of a new socket."""
        return Connection(self)

    def admit(self, connection: Connection) -> bool:
        """Take in a new socket; False where there is no place."""
        if self._is_stopping:
            return False
        self._connections.add(connection)
        self.counters.connections = len(self._connections)
        return True

    def _turn_away(self, peer: str) -> None:
        self.counters.turned_away += 1
        _logger.warning("%s turned away: %d connections are open", peer, self.limits.connections)

    def judge(self, connection: Connection, connect: Connect) -> None:
        """Decide on a CONNECT, at once or, for a device that connects too often, after a while."""
        connection.pause(Pause.JUDGING)
        try:
            login = auth.read_login(connect, self.hostnames)
            grant = self._prove(login)
        except auth.RefusedError as error:
            self._refuse(connection, connect, error)
            return
        wait = self._wait_of(grant.device_id)
        if wait > self.limits.connect_delay_seconds:
            refusal = auth.RefusedError(UNAVAILABLE, "it connects too often")
            self._refuse(connection, connect, refusal)
        elif wait:
            self.counters.delayed += 1
            asyncio.get_running_loop().call_later(wait, self._accept_late, connection, connect, login)
        else:
            self._accept(connection, connect, grant)

    def save(self, connection: Connection, action: Save, on_saved: Callable[[bytes], None]) -> None:
        """Store the subscriptions of the connection's device, then call `on_saved` with the answer."""
        assert connection.grant is not None
        self.sessions.save(connection.grant.device_id, action.subscriptions, partial(on_saved, action.answer))

    def hold(self, connection: Connection, change: int, *, moved_on: bool) -> None:
        """Note that a connection holds `change` bytes more of a large unfinished packet.

        Where all together hold too much, those end that have gone longest without finishing one.
        """
        self._held_bytes += change
        held = self._held.pop(connection, 0) if moved_on else self._held.get(connection, 0)
        if held + change:
            self._held[connection] = held + change
        else:
            self._held.pop(connection, None)
        while self._held_bytes > self.limits.unfinished_bytes:
            slowest = next(iter(self._held))
            slowest.close(Reason.UNFINISHED, f"{self._held[slowest]} bytes of a packet, and no room for more")

    def submit(self, partition: int, events: list[Event], size: int, on_durable: Callable[[], None]) -> None:
        """Hand events, which hold `size` bytes, to the group commit."""
        self._group_commit.submit(partition, events, size, on_durable)

    def flush_soon(self, connection: Connection) -> None:
        """Call the connection's `flush` once the current commit has told everyone."""
        if not self._to_flush:
            asyncio.get_running_loop().call_soon(self._flush)
        self._to_flush.append(connection)

    def leave(self, connection: Connection, reason: Reason, detail: str) -> None:
        """Note that a connection ends: its device's place is free."""
        self.counters.closed[reason.value] += 1
        grant = connection.grant
        if grant is not None and self._devices.get(grant.device_id) is connection:
            del self._devices[grant.device_id]
        level = logging.INFO if reason in _QUIET else logging.WARNING
        device = grant.device_id if grant else "no device"
        _logger.log(level, "%s (%s) closed, %s: %s", connection.peer, device, reason.value, detail)

    def discard(self, connection: Connection) -> None:
        """Forget a connection whose socket is gone."""
        self._connections.discard(connection)
        self.counters.connections = len(self._connections)

    def _prove(self, login: auth.Login) -> auth.Grant:
        device = self._registry.get(login.device_id)
        return auth.judge(login, device, hostnames=self.hostnames, policies=self.policies, now=self._clock())

    def _wait_of(self, device_id: str) -> float:
        now = asyncio.get_running_loop().time()
        bucket = self._connects.get(device_id)
        if bucket is None:
            bucket = TokenBucket(self.limits.connects_per_second, self.limits.connect_burst, now)
            self._connects[device_id] = bucket
        wait = bucket.wait(now)
        if wait <= self.limits.connect_delay_seconds:
            bucket.take(1, now)
        return wait

    def _accept_late(self, connection: Connection, connect: Connect, login: auth.Login) -> None:
        """Prove again what was proved before the wait, and accept."""
        if connection.closed:
            return
        try:
            grant = self._prove(login)
        except auth.RefusedError as error:
            self._refuse(connection, connect, error)
        else:
            self._accept(connection, connect, grant)

    def _accept(self, connection: Connection, connect: Connect, grant: auth.Grant) -> None:
        device_id = grant.device_id
        if device_id in self._devices:
            self._devices[device_id].close(Reason.TAKEN_OVER, f"the device connected again from {connection.peer}")
        self._devices[device_id] = connection
        self.counters.accepted += 1
        _logger.info("%s connected as %s", connection.peer, device_id)
        stored = self.sessions.load(device_id)
        if connect.clean_session and stored is not None:
            self.sessions.save(device_id, None, _nothing)
        topics = DeviceTopics(device_id, grant.generation_id, grant.auth_method, self.limits)
        connection.accept(grant, topics, stored, connect.keepalive)
        if self._is_full:
            connection.pause(Pause.HUB_FULL)

    def _refuse(self, connection: Connection, connect: Connect, error: auth.RefusedError) -> None:
        connection.refuse(error.code, f"{connect.client_id[:130]!r}: {error}")

    def _on_full(self) -> None:
        _logger.warning("%d MiB wait for the disk: no device is read", self.limits.pending_bytes >> 20)
        self._is_full = True
        for connection in self._connections:
            connection.pause(Pause.HUB_FULL)

    def _on_room(self) -> None:
        _logger.info("the disk has caught up: devices are read again")
        self._is_full = False
        if not self._is_stopping:
            for connection in self._connections:
                connection.resume(Pause.HUB_FULL)

    def _flush(self) -> None:
        connections, self._to_flush = self._to_flush, []
        for connection in connections:
            connection.flush()

    async def _run_sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                self._check_all()
            except Exception:
                _logger.exception("a sweep failed; the next one tries again")

    def _check_all(self) -> None:
        now, wall = asyncio.get_running_loop().time(), self._clock()
        for connection in [*self._connections]:
            if not connection.closed:
                connection.check(now, wall)
        self._connects = {name: bucket for name, bucket in self._connects.items() if not bucket.is_full(now)}
        if self._registry.changed():
            self._drop_revoked(self._registry.get_many(self._devices))

    def _drop_revoked(self, devices: Mapping[str, Device]) -> None:
        for device_id, connection in list(self._devices.items()):
            why = connection.grant.why_void(devices.get(device_id)) if connection.grant else None
            if why:
                connection.close(Reason.REVOKED, why)

    async def _drain(self) -> None:
        await self._group_commit.close()
        await self.sessions.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_DRAIN_SECONDS)
            for task in late:
                _logger.error("what was read is not durable yet: it is not acknowledged, the devices send it again")
                task.cancel()
            await asyncio.wait(self._tasks)


def _nothing() -> None:
    """Nobody waits for a session to be forgotten."""

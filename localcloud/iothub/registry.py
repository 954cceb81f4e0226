"""The identity registry: which devices may connect, their keys, and the MQTT sessions that outlive a connection.

One SQLite file (hub.db), synchronous calls; the command line uses it beside a running hub, which notices by
`changed()`. Every write is one durable transaction. A device deleted and made again has another generation id, so that
nothing granted to the first holds for the second.
Device ids: 1 to 128 ASCII letters, digits and - . % _ * ? ! ( ) , : = @ $ ' as IoT Hub states; they are case-sensitive.
"""

import base64
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self

import msgspec

from localcloud import sqlite
from localcloud.iothub.sas import decode_key
from localcloud.keys import new_key

Status = Literal["enabled", "disabled"]

_DEVICE_ID = re.compile(r"[A-Za-z0-9\-.%_*?!(),:=@$']{1,128}")
_TICKS_AT_EPOCH = 621_355_968_000_000_000
_MIGRATIONS = (
    """
    CREATE TABLE devices (
        device_id TEXT PRIMARY KEY,
        generation_id TEXT NOT NULL,
        etag TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('enabled', 'disabled')),
        status_reason TEXT,
        status_updated_ms INTEGER,
        primary_key TEXT NOT NULL,
        secondary_key TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE sessions (
        device_id TEXT PRIMARY KEY,
        subscriptions TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)


_WITHOUT = "Without it every device must be registered anew, with its old key or another; no telemetry is lost"


class RegistryError(Exception):
    """A call to the registry that cannot be done as asked; the caller must act."""


class InvalidDeviceError(RegistryError):
    """The device id or a key is not as IoT Hub allows."""


class DeviceExistsError(RegistryError):
    """A device of this id is registered already."""


class DeviceNotFoundError(RegistryError):
    """No device of this id is registered."""


class EtagMismatchError(RegistryError):
    """The device was changed since the caller read it."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One registered device, its keys base64; times in unix milliseconds."""

    device_id: str
    generation_id: str
    etag: str
    status: Status
    status_reason: str | None
    status_updated_ms: int | None
    primary_key: str
    secondary_key: str

    @property
    def enabled(self) -> bool:
        """Say whether the device may connect."""
        return self.status == "enabled"

    def __repr__(self) -> str:
        """Return a repr without the keys, so that no log or traceback shows them."""
        return f"Device({self.device_id!r}, {self.status})"


def device_connection_string(host: str, device: Device) -> str:
    """Return what a device needs to connect: it holds the primary key."""
    return f"HostName={host};DeviceId={device.device_id};SharedAccessKey={device.primary_key}"


class Registry:
    """An open hub.db. Use it from one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, path: Path, clock: Callable[[], float]) -> None:
        self.path = path
        self._connection = connection
        self._clock = clock
        self._seen = self._version()

    @classmethod
    def open(cls, path: Path, *, clock: Callable[[], float] = time.time) -> Self:
        """Open or create the file. Raises what localcloud.sqlite.connect raises."""
        return cls(sqlite.connect(path, _MIGRATIONS, without=_WITHOUT, check=True), path, clock)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def changed(self) -> bool:
        """Say whether any process has written since the last call; costs microseconds."""
        seen, self._seen = self._seen, self._version()
        return seen != self._seen

    def get(self, device_id: str) -> Device | None:
        """Return the device, or None."""
        return next(self._select("WHERE device_id = ?", device_id), None)

    def get_many(self, device_ids: Iterable[str]) -> dict[str, Device]:
        """Return those that are registered, by id."""
        ids = msgspec.json.encode(sorted(device_ids)).decode()
        found = self._select("WHERE device_id IN (SELECT value FROM json_each(?))", ids)
        return {device.device_id: device for device in found}

    def add(
        self,
        device_id: str,
        *,
        primary_key: str | None = None,
        secondary_key: str | None = None,
        status: Status = "enabled",
        status_reason: str | None = None,
    ) -> Device:
        """Register a device; keys not given are made. Raises InvalidDeviceError, DeviceExistsError."""
        if not _DEVICE_ID.fullmatch(device_id):
            raise InvalidDeviceError(
                f"{device_id[:140]!r} is no device id: 1 to 128 ASCII letters, digits and -.%_*?!(),:=@$'"
            )
        device = Device(
            device_id=device_id,
            generation_id=str(_TICKS_AT_EPOCH + time.time_ns() // 100),
            etag=_new_etag(),
            status=status,
            status_reason=status_reason,
            status_updated_ms=None,
            primary_key=_checked_key(primary_key) or new_key(),
            secondary_key=_checked_key(secondary_key) or new_key(),
        )
        try:
            self._connection.execute(
                "INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(device)
            )
        except sqlite3.IntegrityError:
            raise DeviceExistsError(f"device {device_id} exists already") from None
        return device

    def update(
        self,
        device_id: str,
        *,
        primary_key: str | None = None,
        secondary_key: str | None = None,
        status: Status | None = None,
        status_reason: str | None = None,
        etag: str | None = None,
    ) -> Device:
        """Change what is given and keep the rest; with an etag only where it still fits.

        Raises InvalidDeviceError, DeviceNotFoundError, EtagMismatchError.
        """
        with self._transaction():
            device = self._expect(device_id, etag)
            moved = status is not None and status != device.status
            changed = msgspec.structs.replace(
                device,
                etag=_new_etag(),
                status=status or device.status,
                status_reason=device.status_reason if status_reason is None else status_reason,
                status_updated_ms=round(self._clock() * 1000) if moved else device.status_updated_ms,
                primary_key=_checked_key(primary_key) or device.primary_key,
                secondary_key=_checked_key(secondary_key) or device.secondary_key,
            )
            self._connection.execute(
                "REPLACE INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(changed)
            )
        return changed

    def set_status(self, device_id: str, status: Status) -> Device:
        """Enable or disable a device. Raises DeviceNotFoundError."""
        return self.update(device_id, status=status)

    def remove(self, device_id: str, etag: str | None = None) -> bool:
        """Forget the device and its session; False where there is none. Raises EtagMismatchError."""
        with self._transaction():
            try:
                self._expect(device_id, etag)
            except DeviceNotFoundError:
                return False
            self._connection.execute("DELETE FROM sessions WHERE device_id = ?", (device_id,))
            self._connection.execute("DELETE FROM devices WHERE device_id = ?", (device_id,))
        return True

    def count(self) -> dict[str, int]:
        """Return how many devices there are by status."""
        rows = self._connection.execute("SELECT status, COUNT(*) FROM devices GROUP BY status").fetchall()
        return {"enabled": 0, "disabled": 0} | dict(rows)

    def session(self, device_id: str) -> dict[str, int] | None:
        """Return the subscriptions (filter -> granted QoS) of the device's stored MQTT session, or None."""
        row = self._connection.execute(
            "SELECT subscriptions FROM sessions WHERE device_id = ?", (device_id,)
        ).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=dict[str, int])

    def save_sessions(self, sessions: Mapping[str, Mapping[str, int] | None]) -> None:
        """Store, or with None forget, sessions of devices in one transaction; those of removed devices are skipped."""
        with self._transaction():
            for device_id, subscriptions in sessions.items():
                if subscriptions is None:
                    self._connection.execute("DELETE FROM sessions WHERE device_id = ?", (device_id,))
                else:
                    self._connection.execute(
                        "REPLACE INTO sessions SELECT device_id, ? FROM devices WHERE device_id = ?",
                        (msgspec.json.encode(subscriptions).decode(), device_id),
                    )

    def list(self, after: str = "", limit: int = 1000) -> list[Device]:
        """Return up to `limit` devices by id, from the first beyond `after`."""
        return [*self._select("WHERE device_id > ? ORDER BY device_id LIMIT ?", after, limit)]

    def _select(self, where: str, *values: str | int) -> Iterator[Device]:
        names = ", ".join(Device.__struct_fields__)
        rows = self._connection.execute(f"SELECT {names} FROM devices {where}", values).fetchall()  # noqa: S608
        return (Device(**dict(zip(Device.__struct_fields__, row, strict=True))) for row in rows)

    def _expect(self, device_id: str, etag: str | None) -> Device:
        device = self.get(device_id)
        if device is None:
            raise DeviceNotFoundError(f"there is no device {device_id[:140]!r}")
        if etag is not None and etag != device.etag:
            raise EtagMismatchError(f"device {device_id} was changed in the meantime")
        return device

    def _version(self) -> tuple[int, int]:
        (others,) = self._connection.execute("PRAGMA data_version").fetchone()
        return others, self._connection.total_changes

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _checked_key(key: str | None) -> str | None:
    """Return the key where one is given; empty is IoT Hub's way of asking for a new one."""
    if not key:
        return None
    try:
        decode_key(key)
    except ValueError as error:
        raise InvalidDeviceError(str(error)) from None
    return key


def _new_etag() -> str:
    return base64.b64encode(str(secrets.randbits(32)).encode()).decode()

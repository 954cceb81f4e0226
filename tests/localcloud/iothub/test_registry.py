import base64
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.iothub.registry import (
    Device,
    DeviceExistsError,
    DeviceNotFoundError,
    EtagMismatchError,
    InvalidDeviceError,
    Registry,
    device_connection_string,
)

KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry.open(tmp_path / "hub.db", clock=lambda: 1700000000.0)
    yield opened
    opened.close()


def test_a_device_is_added_with_two_keys_of_its_own(registry: Registry) -> None:
    device = registry.add("d1")
    assert registry.get("d1") == device
    assert device.enabled
    assert len({device.primary_key, device.secondary_key}) == 2
    assert [len(base64.b64decode(key)) for key in (device.primary_key, device.secondary_key)] == [32, 32]
    assert device_connection_string("localhost", device) == (
        f"HostName=localhost;DeviceId=d1;SharedAccessKey={device.primary_key}"
    )


def test_a_second_device_of_the_same_id_is_refused_and_changes_nothing(registry: Registry) -> None:
    device = registry.add("d1")
    with pytest.raises(DeviceExistsError, match="d1 exists already"):
        registry.add("d1", primary_key=KEY)
    assert registry.get("d1") == device


@pytest.mark.parametrize("device_id", ["", "a/b", "a b", "a#", "a+", "ä", "a\n", "x" * 129])
def test_an_id_that_iot_hub_would_refuse_is_refused(registry: Registry, device_id: str) -> None:
    with pytest.raises(InvalidDeviceError, match="is no device id"):
        registry.add(device_id)


def test_every_character_that_iot_hub_allows_is_allowed(registry: Registry) -> None:
    for device_id in ("Az09-.%_*?!(),:=@$'", "x" * 128, "D1", "d1"):
        assert registry.add(device_id).device_id == device_id


@pytest.mark.parametrize(
    "key", ["not base64!", base64.b64encode(b"x" * 15).decode(), base64.b64encode(b"x" * 65).decode()]
)
def test_a_key_that_is_no_key_is_refused(registry: Registry, key: str) -> None:
    with pytest.raises(InvalidDeviceError, match="a key must"):
        registry.add("d1", primary_key=key)


def test_an_update_keeps_what_is_not_given_and_moves_the_etag(registry: Registry) -> None:
    before = registry.add("d1", primary_key=KEY, status_reason="new")
    after = registry.update("d1", status="disabled")
    assert (after.primary_key, after.secondary_key, after.status_reason) == (KEY, before.secondary_key, "new")
    assert (after.enabled, after.status_updated_ms) == (False, 1700000000000)
    assert after.etag != before.etag
    assert registry.get("d1") == after


def test_an_update_with_a_stale_etag_changes_nothing(registry: Registry) -> None:
    stale = registry.add("d1").etag
    current = registry.set_status("d1", "disabled")
    with pytest.raises(EtagMismatchError):
        registry.update("d1", status="enabled", etag=stale)
    with pytest.raises(EtagMismatchError):
        registry.remove("d1", etag=stale)
    assert registry.get("d1") == current
    assert registry.remove("d1", etag=current.etag)


def test_what_is_not_registered_cannot_be_changed(registry: Registry) -> None:
    with pytest.raises(DeviceNotFoundError):
        registry.set_status("d1", "disabled")
    assert registry.remove("d1") is False
    assert registry.get("d1") is None


def test_a_device_made_again_has_another_generation_and_no_session(registry: Registry) -> None:
    first = registry.add("d1")
    registry.save_sessions({"d1": {"f": 1}})
    registry.remove("d1")
    assert registry.add("d1").generation_id != first.generation_id
    assert registry.session("d1") is None


def test_pages_follow_the_order_of_ids(registry: Registry) -> None:
    for number in (3, 1, 2):
        registry.add(f"d{number}")
    registry.set_status("d2", "disabled")
    assert [device.device_id for device in registry.list(limit=2)] == ["d1", "d2"]
    assert [device.device_id for device in registry.list(after="d2")] == ["d3"]
    assert registry.count() == {"enabled": 2, "disabled": 1}
    assert sorted(registry.get_many(["d3", "d1", "gone"])) == ["d1", "d3"]


def test_sessions_are_stored_replaced_and_forgotten(registry: Registry, tmp_path: Path) -> None:
    registry.add("d1")
    registry.save_sessions({"d1": {"a": 1}, "gone": {"a": 1}})
    registry.save_sessions({"d1": {"a": 0, "b": 1}})
    again = Registry.open(tmp_path / "hub.db")
    assert (again.session("d1"), again.session("gone")) == ({"a": 0, "b": 1}, None)
    again.save_sessions({"d1": None})
    again.close()
    assert registry.session("d1") is None


def test_a_change_by_this_or_another_connection_is_noticed_once(registry: Registry, tmp_path: Path) -> None:
    assert not registry.changed()
    other = Registry.open(tmp_path / "hub.db")
    other.add("d1")
    assert [registry.changed(), registry.changed()] == [True, False]
    registry.set_status("d1", "disabled")
    assert [registry.changed(), registry.changed()] == [True, False]
    other.close()


def test_the_file_is_private_and_no_repr_shows_a_key(registry: Registry, tmp_path: Path) -> None:
    device = registry.add("d1")
    assert (tmp_path / "hub.db").stat().st_mode & 0o777 == 0o600
    assert device.primary_key not in repr(device)


def test_a_failed_write_leaves_no_transaction_open(registry: Registry) -> None:
    registry.add("d1")
    with pytest.raises(InvalidDeviceError):
        registry.update("d1", primary_key="no")
    assert isinstance(registry.set_status("d1", "disabled"), Device)
    with pytest.raises(sqlite3.IntegrityError):
        registry.update("d1", status="odd")  # type: ignore[arg-type]
    assert registry.remove("d1")

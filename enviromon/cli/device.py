"""`enviromon device`: the devices that the local hub knows. Works while `up` runs and while it does not."""

import time
from collections.abc import Callable
from pathlib import Path

import click

from enviromon.cli.common import (
    Result,
    console,
    data_option,
    json_option,
    print_facts,
    print_json,
    running_system,
    table,
    with_stores,
)
from enviromon.errors import EnviromonError
from enviromon.reports import mark_removed
from localcloud.iothub.registry import Device, Registry, RegistryError, device_connection_string

DEFAULT_HOSTNAME = "localhost"


@click.group()
def device() -> None:
    """Add, list, show, remove, disable and enable devices."""


@device.command()
@click.argument("device_id")
@data_option
@json_option
def add(device_id: str, data: Path, as_json: bool) -> None:  # noqa: FBT001 - click's signature
    """Register DEVICE_ID and print what it needs to connect."""
    from localcloud.certificates import ensure_certificates  # noqa: PLC0415

    hostname = _hostname(data)
    certificates = ensure_certificates(data / "certificates", [hostname])
    added = _with_registry(data, lambda registry: registry.add(device_id))
    _show(added, hostname, certificates.ca_file, as_json=as_json)


@device.command(name="list")
@data_option
@json_option
def list_(data: Path, as_json: bool) -> None:  # noqa: FBT001
    """List the registered devices."""
    devices = _with_registry(data, _all_devices)
    if as_json:
        print_json([{"deviceId": each.device_id, "status": each.status} for each in devices])
        return
    if not devices:
        console().print("No devices yet. Add one: [bold]enviromon device add ID[/bold]")
        return
    rows = table("device", "status")
    for each in devices:
        rows.add_row(each.device_id, each.status)
    console().print(rows)


@device.command()
@click.argument("device_id")
@data_option
@json_option
def show(device_id: str, data: Path, as_json: bool) -> None:  # noqa: FBT001
    """Show DEVICE_ID's status and what it needs to connect."""
    found = _with_registry(data, lambda registry: registry.get(device_id))
    if found is None:
        raise _unknown(device_id)
    _show(found, _hostname(data), data / "certificates" / "ca.pem", as_json=as_json)


@device.command()
@click.argument("device_id")
@data_option
def remove(device_id: str, data: Path) -> None:
    """Remove DEVICE_ID from the hub, which drops its connection; it is no longer shown, and its counts stay."""
    if not _with_registry(data, lambda registry: registry.remove(device_id)):
        raise _unknown(device_id)
    if (data / "state.db").exists():
        now = round(time.time() * 1000)
        with_stores(data, lambda stores: mark_removed(stores.devices, device_id, now))
    console().print(f"{device_id} is removed")


@device.command()
@click.argument("device_id")
@data_option
def disable(device_id: str, data: Path) -> None:
    """Refuse DEVICE_ID from now on; its connection ends within a second."""
    _with_registry(data, lambda registry: registry.set_status(device_id, "disabled"))
    console().print(f"{device_id} is disabled")


@device.command()
@click.argument("device_id")
@data_option
def enable(device_id: str, data: Path) -> None:
    """Let DEVICE_ID connect again."""
    _with_registry(data, lambda registry: registry.set_status(device_id, "enabled"))
    console().print(f"{device_id} is enabled")


def _hostname(data: Path) -> str:
    running = running_system(data)
    return running["hostname"] if running else DEFAULT_HOSTNAME


def _with_registry(data: Path, work: Callable[[Registry], Result]) -> Result:
    registry = Registry.open(data / "hub.db")
    try:
        return work(registry)
    except RegistryError as error:
        raise EnviromonError(str(error)) from error
    finally:
        registry.close()


def _all_devices(registry: Registry) -> list[Device]:
    devices: list[Device] = []
    while page := registry.list(after=devices[-1].device_id if devices else ""):
        devices += page
    return devices


def _unknown(device_id: str) -> EnviromonError:
    return EnviromonError(f"the hub knows no device {device_id!r}: `enviromon device list` shows those it knows")


def _show(found: Device, hostname: str, ca_file: Path, *, as_json: bool) -> None:
    facts = {
        "deviceId": found.device_id,
        "status": found.status,
        "primaryKey": found.primary_key,
        "secondaryKey": found.secondary_key,
        "connectionString": device_connection_string(hostname, found),
        "caFile": str(ca_file),
    }
    print_facts(facts, as_json=as_json)

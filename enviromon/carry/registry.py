"""Devices brought into a hub's registry."""

from typing import Protocol

from enviromon.carry.merging import Fate
from enviromon.carry.records import DeviceRecord
from enviromon.hub_registry import RegisteredDevice


class DeviceRegistry(Protocol):
    """The part of a registry that an import needs: HubRegistry has it."""

    async def get(self, device_id: str) -> RegisteredDevice | None:
        """Return the device, None where there is none."""

    async def add(self, device: RegisteredDevice) -> RegisteredDevice:
        """Register a device; empty keys are made."""

    async def update(self, device: RegisteredDevice) -> RegisteredDevice:
        """Change status and keys if the device still has the etag."""


async def bring_device(registry: DeviceRegistry, record: DeviceRecord, *, overwrite: bool, is_dry_run: bool) -> Fate:
    """Register the device, or find it there as it is; a different one is replaced only with `overwrite`."""
    brought = RegisteredDevice(record.device_id, record.status, record.primary_key or "", record.secondary_key or "")
    held = await registry.get(record.device_id)
    if held is None:
        if not is_dry_run:
            await registry.add(brought)
        return Fate.WRITTEN
    if not brought.primary_key:  # an export without keys says nothing of them
        brought = brought._replace(primary_key=held.primary_key, secondary_key=held.secondary_key)
    brought = brought._replace(etag=held.etag)
    if brought == held:
        return Fate.UNCHANGED
    if not overwrite:
        return Fate.REFUSED
    if not is_dry_run:
        await registry.update(brought)
    return Fate.REPLACED

"""A service written with nothing but azure-iot-hub: manages devices, by a connection string, and tells what came."""

import json
import sys

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.protocol.models import ExportImportDevice
from msrest.exceptions import HttpOperationError

registry = IoTHubRegistryManager.from_connection_string(sys.argv[1])


def refused(call, *arguments):
    """The status and the error's code with which the hub refuses a call."""
    try:
        call(*arguments)
    except HttpOperationError as error:
        return error.response.status_code, error.response.headers.get("iothub-errorcode")
    return None


def ids():
    return sorted(device.device_id for device in registry.get_devices())


told = {}
made = registry.create_device_with_sas("made", None, None, "enabled")
key = "a2V5LW9mLTMyLWJ5dGVzLWZvci10aGlzLXRlc3QtISE="
given = registry.create_device_with_sas("given", key, key, "enabled")
told["keys"] = [given.authentication.symmetric_key.primary_key == key, made.authentication.symmetric_key.primary_key]
told["same when read"] = registry.get_device("made").as_dict() == made.as_dict()
told["twice"] = refused(registry.create_device_with_sas, "made", None, None, "enabled")

keys = made.authentication.symmetric_key
updated = registry.update_device_with_sas("made", made.etag, keys.primary_key, keys.secondary_key, "disabled")
told["updated"] = [updated.status, updated.etag != made.etag]
told["old etag"] = refused(
    registry.update_device_with_sas, "made", made.etag, keys.primary_key, keys.secondary_key, "enabled"
)
registry.update_device_with_sas("made", updated.etag, keys.primary_key, keys.secondary_key, "enabled")

bulk = [ExportImportDevice(id=f"bulk-{number}", import_mode="create", status="disabled") for number in range(3)]
told["bulk"] = registry.bulk_create_or_update_devices(bulk).is_successful
told["listed"] = ids()
statistics = registry.get_device_registry_statistics()
told["statistics"] = [statistics.total_device_count, statistics.enabled_device_count, statistics.disabled_device_count]
told["connected"] = registry.get_service_statistics().connected_device_count

registry.delete_device("bulk-0")
bulk = [ExportImportDevice(id=f"bulk-{number}", import_mode="delete") for number in (1, 2)]
told["bulk removal"] = registry.bulk_create_or_update_devices(bulk).is_successful
told["removed"] = refused(registry.get_device, "bulk-0")
told["left"] = ids()

name = sys.argv[1].replace("iothubowner", "nobody")
told["unknown policy"] = refused(IoTHubRegistryManager.from_connection_string(name).get_device, "made")
json.dump(told, sys.stdout)

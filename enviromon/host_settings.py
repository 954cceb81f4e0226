"""What the Functions host is told about batches: host.json, and the app settings that override it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from enviromon.cost import Batching
from enviromon.errors import SettingsError

OVERRIDE: Final = "AzureFunctionsJobHost__extensions__eventHubs__"
"""Before a name of host.json's eventHubs, in the app settings: such a setting wins over the file."""

DEPLOYED: Final = {
    "maxEventBatchSize": "1000",
    "minEventBatchSize": "100",
    "maxWaitTime": "00:00:05",
}
"""What the deployment sets in these settings unless it is told otherwise (tests hold it against infra/)."""
AZURE_MARKS: Final = ("WEBSITE_INSTANCE_ID", "WEBSITE_SITE_NAME")
"""Set by Azure wherever it runs a function app."""

_TIME_SPAN: Final = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})")


class _EventHubs(Struct, rename="camel"):
    max_event_batch_size: Annotated[int, Meta(ge=1)] = 100
    min_event_batch_size: Annotated[int, Meta(ge=1)] = 1
    max_wait_time: str = "00:01:00"


def read_batching(app_directory: Path, environment: Mapping[str, str]) -> Batching:
    """Read how the host makes batches; raises SettingsError where that cannot be said."""
    path = app_directory / "host.json"
    try:
        options: dict[str, Any] = msgspec.json.decode(path.read_bytes()).get("extensions", {}).get("eventHubs", {})
        known = {field.encode_name.lower(): field.encode_name for field in msgspec.structs.fields(_EventHubs)}
        for name, value in environment.items():
            if name.lower().startswith(OVERRIDE.lower()):
                options[known.get(name[len(OVERRIDE) :].lower(), name)] = value
        chosen = msgspec.convert(options, _EventHubs, strict=False)
    except (OSError, msgspec.DecodeError, AttributeError) as error:
        raise SettingsError(f"{path} does not say how events become batches: {error}") from None
    return Batching(
        minimum=chosen.min_event_batch_size,
        maximum=chosen.max_event_batch_size,
        max_wait=_seconds(chosen.max_wait_time),
    )


def batching_on_azure(app_directory: Path, environment: Mapping[str, str]) -> Batching:
    """Read how Azure's host makes batches, or would.

    Elsewhere host.json is set for speed, and a deployment overrides it. Raises SettingsError as `read_batching` does.
    """
    is_azure = any(environment.get(mark) for mark in AZURE_MARKS)
    deployed = {} if is_azure else {OVERRIDE + name: value for name, value in DEPLOYED.items()}
    return read_batching(app_directory, {**deployed, **environment})


def _seconds(text: str) -> float:
    if (match := _TIME_SPAN.fullmatch(text)) is None:
        raise SettingsError(f"maxWaitTime is {text!r}, and must be hh:mm:ss")
    hours, minutes, seconds = map(int, match.groups())
    return float((hours * 60 + minutes) * 60 + seconds)

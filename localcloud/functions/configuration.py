"""host.json and local.settings.json: what they may say, their defaults, and what overrides what.

Rules: an environment variable wins over local.settings.json, which wins over the defaults that the caller gives.
`AzureFunctionsJobHost__a__b` in the settings overrides `{"a": {"b": ...}}` of host.json, as in Azure.
"""

import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import msgspec

_OVERRIDE = "azurefunctionsjobhost__"
_TIME_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2}(?:\.\d+)?))?")


class ConfigurationError(ValueError):
    """host.json or local.settings.json cannot be used; the programmer of the app must act."""


class EventHubsOptions(msgspec.Struct, frozen=True, rename="camel"):
    """`extensions.eventHubs`."""

    max_event_batch_size: int = 100
    min_event_batch_size: int = 1
    max_wait_time: str = "00:01:00"


class HttpOptions(msgspec.Struct, frozen=True, rename="camel"):
    """`extensions.http`. Without limit is -1."""

    route_prefix: str = "api"
    max_outstanding_requests: int = 200


class Extensions(msgspec.Struct, frozen=True, rename="camel"):
    """`extensions`: those that this host reads; others may stand there."""

    event_hubs: EventHubsOptions = EventHubsOptions()
    http: HttpOptions = HttpOptions()


class HostJson(msgspec.Struct, frozen=True, rename="camel"):
    """host.json."""

    version: str
    extensions: Extensions = Extensions()
    function_timeout: str = "00:30:00"


class LocalHost(msgspec.Struct, frozen=True, rename="pascal"):
    """The `Host` section of local.settings.json."""

    cors: str | None = msgspec.field(name="CORS", default=None)
    cors_credentials: bool = msgspec.field(name="CORSCredentials", default=False)


class LocalSettings(msgspec.Struct, frozen=True, rename="pascal"):
    """local.settings.json."""

    is_encrypted: bool = False
    values: dict[str, str] = {}
    host: LocalHost = LocalHost()


def read_host_json(directory: Path, settings: Mapping[str, str]) -> HostJson:
    """Read host.json with the overrides that the settings hold. Raises ConfigurationError."""
    path = directory / "host.json"
    try:
        raw = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise ConfigurationError(f"{directory} has no host.json: it is not the directory of a function app") from None
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    for name, value in settings.items():
        if name.lower().startswith(_OVERRIDE):
            _override(raw, name[len(_OVERRIDE) :].split("__"), value)
    try:
        host = msgspec.convert(raw, HostJson, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    _check(path, host)
    return host


def _override(raw: Any, keys: list[str], value: str) -> None:
    for key in keys[:-1]:
        raw = raw.setdefault(_spelled(raw, key), {})
    raw[_spelled(raw, keys[-1])] = value


def _spelled(raw: Mapping[str, Any], key: str) -> str:
    """Return the key as it is spelled in the file, whatever its case; a new one begins with a small letter."""
    return next((known for known in raw if known.lower() == key.lower()), key[:1].lower() + key[1:])


def _check(path: Path, host: HostJson) -> None:
    if host.version != "2.0":
        raise ConfigurationError(f'{path}: "version" must be "2.0", not "{host.version}"')
    hubs = host.extensions.event_hubs
    if not 1 <= hubs.min_event_batch_size <= hubs.max_event_batch_size:
        raise ConfigurationError(f"{path}: eventHubs needs 1 <= minEventBatchSize <= maxEventBatchSize")
    try:
        time_span(hubs.max_wait_time)
        time_span(host.function_timeout)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def read_local_settings(directory: Path) -> LocalSettings:
    """Read local.settings.json, which may be absent. Raises ConfigurationError."""
    path = directory / "local.settings.json"
    try:
        local = msgspec.json.decode(path.read_bytes(), type=LocalSettings)
    except FileNotFoundError:
        return LocalSettings()
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    if local.is_encrypted:
        raise ConfigurationError(f"{path} is encrypted: decrypt it with `func settings decrypt`")
    return local


def apply_settings(environment: MutableMapping[str, str], local: LocalSettings, defaults: Mapping[str, str]) -> None:
    """Put the app settings into the environment, where an app of the worker's model reads them."""
    for name, value in {**defaults, **local.values}.items():
        environment.setdefault(name, value)


def time_span(text: str) -> float | None:
    """Read .NET's `[d.]hh:mm[:ss]` as seconds; "-1" is no limit and None. Raises ValueError."""
    if text.strip() == "-1":
        return None
    match = _TIME_SPAN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'"{text}" is not a time span hh:mm:ss')
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds

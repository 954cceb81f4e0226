"""What may stand in a binding's attributes: `%SETTING%`, `{expression}`, and names of connection strings. Pure.

Settings are resolved once, when the app is indexed; expressions at each invocation, from the trigger's data.
"""

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec

_SETTING = re.compile(r"%([^%]*)%")
_EXPRESSION = re.compile(r"\{([^{}]*)\}")


class SettingError(ValueError):
    """An app setting is missing or cannot be read; the operator must set it."""


class BindingExpressionError(ValueError):
    """An expression names something that this invocation does not have; Azure answers 500 then."""


class BindingData(msgspec.Struct, frozen=True):
    """What expressions may refer to: route parameters, headers (lower case names) and query parameters."""

    route: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}


def resolve_settings(text: str, settings: Mapping[str, str], where: str) -> str:
    """Replace each `%NAME%` by the setting. Raises SettingError that names the setting and `where` it was wanted."""

    def replace(match: re.Match[str]) -> str:
        value = settings.get(match[1])
        if value is None:
            raise SettingError(f"'%{match[1]}%' does not resolve to a value: set the app setting {match[1]} ({where})")
        return value

    return _SETTING.sub(replace, text)


def compile_expression(text: str) -> Callable[[BindingData], str]:
    """Compile text with `{routeParameter}`, `{headers.name}` and `{query.name}`.

    The result raises BindingExpressionError for what the invocation lacks.
    """
    parts = _EXPRESSION.split(text)
    literals, names = parts[::2], parts[1::2]

    def evaluate(data: BindingData) -> str:
        values = [*(_look_up(name.strip(), data) for name in names), ""]
        return "".join(literal + value for literal, value in zip(literals, values, strict=True))

    return evaluate


def _look_up(name: str, data: BindingData) -> str:
    source, _, key = name.partition(".")
    if key and source.lower() in ("headers", "query"):
        values = data.headers if source.lower() == "headers" else data.query
    else:
        key, values = name, data.route
    wanted = key.lower()
    for candidate, value in values.items():
        if candidate.lower() == wanted and value:
            return value
    raise BindingExpressionError(f"Error while accessing '{name}': property doesn't exist.")


class EventHubAddress(msgspec.Struct, frozen=True):
    """Where an eventHubTrigger reads: the namespace's host name and the event hub's name."""

    namespace: str
    name: str


def connection_setting(name: str, settings: Mapping[str, str], what: str) -> str:
    """Return the connection string that the setting holds. Raises SettingError naming the setting."""
    value = settings.get(name)
    if not value:
        raise SettingError(f"the {what} connection string '{name}' does not exist: set the app setting {name}")
    return value


def event_hub_address(connection: str, event_hub_name: str, settings: Mapping[str, str]) -> EventHubAddress:
    """Read the connection string in the setting `connection`; its EntityPath wins over the trigger's event hub name.

    Raises SettingError, which never shows the string itself.
    """
    text = connection_setting(connection, settings, "Event Hub")
    pairs = (part.partition("=") for part in text.split(";") if part)
    parts = {key.strip().lower(): value.strip() for key, _, value in pairs}
    namespace = urlsplit(parts.get("endpoint", "")).hostname
    if not namespace:
        raise SettingError(f"the app setting {connection} is not an Event Hub connection string: it has no Endpoint")
    return EventHubAddress(namespace=namespace, name=parts.get("entitypath") or event_hub_name)

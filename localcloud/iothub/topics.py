"""The topics of one device, by IoT Hub's rules.

1. Telemetry: `devices/{id}/messages/events/{bag}`. The device id is never percent-encoded; the bag is everything after
   the prefix, for values may hold a `/`.
2. The bag: `name=value&...`, names and values percent-encoded. `$.` marks a system property, which also comes
   as `%24.`: decoded before comparing. A device cannot set the system properties that are the hub's to set.
3. Four filters may be subscribed to; the rest is refused.

Sources: learn.microsoft.com, "Communicate with your IoT hub using the MQTT protocol" and "Create and read IoT Hub
messages"; azure-iot-device 2.14.
"""

from sys import intern
from urllib.parse import unquote

import msgspec

from localcloud.iothub.event_log import Envelope
from localcloud.iothub.limits import HubLimits

METHOD_FILTER = "$iothub/methods/POST/#"
TWIN_RESPONSE_FILTER = "$iothub/twin/res/#"
TWIN_PATCH_FILTER = "$iothub/twin/PATCH/properties/desired/#"
_FILTERS = frozenset({METHOD_FILTER, TWIN_RESPONSE_FILTER, TWIN_PATCH_FILTER})

CREATION_TIME = "iothub-creation-time-utc"
SYSTEM_PROPERTIES = {
    "$.mid": "message-id",
    "$.cid": "correlation-id",
    "$.uid": "user-id",
    "$.to": "to",
    "$.ct": "content-type",
    "$.ce": "content-encoding",
    "$.exp": "absolute-expiry-time",
    "$.on": "iothub-outputname",
    "$.ifid": "iothub-interface-id",
    "$.sub": "dt-subject",
    "$.schema": "iothub-message-schema",
    "$.ctime": CREATION_TIME,
    CREATION_TIME: CREATION_TIME,
}
_TWIN_REQUESTS = (b"$iothub/twin/GET/?", b"$iothub/twin/PATCH/properties/reported/?")
_NO_PROPERTIES: dict[str, str] = {}
_METHOD_RESPONSE = b"$iothub/methods/res/"


class ForeignTopicError(Exception):
    """A device may not publish here, or not like this; IoT Hub closes the connection."""


class TwinRequest(msgspec.Struct, frozen=True):
    """A publish that asks for the twin, or to change it; the answer carries the request id."""

    request_id: str


class MethodResponse(msgspec.Struct, frozen=True):
    """A publish that answers a direct method."""


class DeviceTopics:
    """What one authenticated device may publish and subscribe to. Made per connection, most of which are idle."""

    __slots__ = ("_auth_method", "_device_id", "_generation_id", "_limits")

    def __init__(self, device_id: str, generation_id: str, auth_method: str, limits: HubLimits) -> None:
        self._device_id = device_id
        self._generation_id = generation_id
        self._auth_method = auth_method
        self._limits = limits

    @property
    def prefix(self) -> bytes:
        """Return what every topic of this device's telemetry begins with."""
        return f"devices/{self._device_id}/messages/events/".encode()

    def may_subscribe(self, topic_filter: str) -> bool:
        """Say whether the hub grants this filter."""
        return topic_filter in _FILTERS or topic_filter == f"devices/{self._device_id}/messages/devicebound/#"

    def resolve(self, topic: bytes, *, retain: bool = False) -> Envelope | TwinRequest | MethodResponse:
        """Return what a publish to the topic means. Raises ForeignTopicError."""
        if len(topic) > self._limits.topic_bytes:
            raise ForeignTopicError(f"a topic of {len(topic)} bytes")
        telemetry = self.prefix
        if topic.startswith(telemetry) or topic == telemetry[:-1]:
            return self._envelope(topic[len(telemetry) :], retain=retain)
        for prefix in _TWIN_REQUESTS:
            if topic.startswith(prefix):
                return TwinRequest(_request_id(topic[len(prefix) :]))
        if topic.startswith(_METHOD_RESPONSE):
            return MethodResponse()
        raise ForeignTopicError(f"the topic {topic[:200]!r}")

    def will(self, topic: bytes, *, retain: bool) -> Envelope:
        """Return the envelope of a will. Raises ForeignTopicError where the topic is not for telemetry."""
        envelope = self.resolve(topic, retain=retain)
        if not isinstance(envelope, Envelope):
            raise ForeignTopicError(f"a will for the topic {topic[:200]!r}")
        return Envelope(envelope.system_properties, envelope.properties | {"iothub-MessageType": "Will"})

    def _envelope(self, bag: bytes, *, retain: bool) -> Envelope:
        properties = {}
        system = {
            "iothub-connection-device-id": self._device_id,
            "iothub-connection-auth-method": self._auth_method,
            "iothub-connection-auth-generation-id": self._generation_id,
            "iothub-message-source": "Telemetry",
        }
        for name, value in _pairs(bag, self._limits.properties):
            known = SYSTEM_PROPERTIES.get(name)
            if known is None:
                properties[name] = value
            else:
                system[known] = intern(value)  # what most devices say, their content type, is kept once
        if retain:
            properties["mqtt-retain"] = "true"
        return Envelope(system, properties or _NO_PROPERTIES)


def twin_response(status: int, request_id: str) -> str:
    """Return the topic of an answer to a twin request."""
    return f"$iothub/twin/res/{status}/?$rid={request_id}"


def _pairs(bag: bytes, limit: int) -> list[tuple[str, str]]:
    try:
        parts = [part for part in bag.decode().split("&") if part]
    except UnicodeDecodeError:
        raise ForeignTopicError("a topic that is not UTF-8") from None
    if len(parts) > limit:
        raise ForeignTopicError(f"{len(parts)} properties")
    return [(unquote(name), unquote(value)) for name, _, value in (part.partition("=") for part in parts)]


def _request_id(query: bytes) -> str:
    """Return the request id as sent, still encoded: it goes back in a topic."""
    for field in query.decode(errors="replace").split("&"):
        if field.startswith("$rid="):
            return field.removeprefix("$rid=")
    raise ForeignTopicError("a twin request without $rid")

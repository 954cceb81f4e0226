"""Compares our events with those of azure-functions' own converter, by every public field that its class has.

Run as a script, by any Python that has azure-functions and msgspec, it tells the release, the fields and what differs.
"""

import inspect
import json
import sys
from types import SimpleNamespace
from typing import Any

import azure.functions
import msgspec
from azure.functions import EventHubEvent
from azure.functions.eventhub import EventHubTriggerConverter
from azure.functions.meta import Datum

from localcloud.functions.events import EventFactory
from tests.localcloud.functions import azure_messages

NOON = 1_795_521_600_000  # 2026-11-24T12:00:00Z in ms
CONTEXT = {
    "FullyQualifiedNamespace": "shop.example",
    "EventHubName": "orders",
    "ConsumerGroup": "billing",
    "PartitionId": "3",
}
CASES = [("many", "BINARY"), ("many", "STRING"), ("many", ""), ("one", "BINARY"), ("one", "STRING")]
FIELDS = sorted(name for name, _ in inspect.getmembers(EventHubEvent, lambda member: isinstance(member, property)))


def stored_events(envelope: Any, stored_event: Any) -> list[Any]:
    """Make three events of two devices; the log's own classes need more than azure-functions."""
    till = envelope(
        {"iothub-connection-device-id": "till-1", "iothub-message-source": "Telemetry", "message-id": "m1"}, {"a": "b"}
    )
    other = envelope({"iothub-connection-device-id": "till-2"}, {})
    return [
        stored_event(7, 700, NOON, till, b'{"order": 1}'),
        stored_event(8, 776, NOON + 120, other, b'{"order":2}'),
        stored_event(9, 840, NOON + 123, till, b'"\xc3\xa4"'),
    ]


def factory(data_type: str) -> EventFactory:
    return EventFactory(namespace="shop.example", event_hub="orders", group="billing", partition=3, data_type=data_type)


def ours(stored: list[Any], cardinality: str, data_type: str) -> list[EventHubEvent]:
    made = factory(data_type)
    return made.many(stored) if cardinality == "many" else [made.one(event) for event in stored]


def theirs(stored: list[Any], cardinality: str, data_type: str) -> list[EventHubEvent]:
    if cardinality == "many":
        events: list[EventHubEvent] = _decoded(azure_messages.many(stored, CONTEXT, data_type))
        return events
    return [_decoded(azure_messages.one(event, CONTEXT, data_type)) for event in stored]


def _decoded(message: azure_messages.Message) -> Any:
    metadata = {name: _datum(*value) for name, value in message.metadata.items()}
    return EventHubTriggerConverter.decode(_datum(*message.data), trigger_metadata=metadata)


def _datum(kind: str, value: Any) -> Datum:
    collection, _, items = kind.partition("_")
    return Datum(SimpleNamespace(**{items: value}) if collection == "collection" else value, kind)


def fields(event: EventHubEvent) -> dict[str, Any]:
    """Every public field, with the type where a value is plain (1 is not "1", and a naive time is not an aware one)."""
    values = {"body": event.get_body(), **{name: getattr(event, name) for name in FIELDS}}
    return {name: value if isinstance(value, dict) else (type(value), value) for name, value in values.items()}


class _Envelope(msgspec.Struct):
    system_properties: dict[str, str]
    properties: dict[str, str]


class _StoredEvent(msgspec.Struct):
    sequence_number: int
    offset: int
    enqueued_time: int
    envelope: _Envelope
    body: bytes


def main() -> None:
    stored = stored_events(_Envelope, _StoredEvent)
    pairs = [(case, *pair) for case in CASES for pair in zip(ours(stored, *case), theirs(stored, *case), strict=True)]
    told = {
        "azure-functions": azure.functions.__version__,
        "fields": FIELDS,
        "compared": len(pairs),
        "different": [
            [*case, name] for case, a, b in pairs for name in fields(b) if fields(a)[name] != fields(b)[name]
        ],
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()

"""Our events equal, field by field, what azure-functions' own converter makes of the real host's message."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from azure.functions import EventHubEvent
from azure.functions.eventhub import EventHubTriggerConverter
from azure.functions.meta import Datum

from localcloud.functions.events import EmptyBodyError, EventFactory
from localcloud.iothub.event_log import Envelope, StoredEvent

NOON = 1_795_521_600_000  # 2026-11-24T12:00:00Z in ms
CONTEXT = {
    "FullyQualifiedNamespace": "shop.example",
    "EventHubName": "orders",
    "ConsumerGroup": "billing",
    "PartitionId": "3",
}
TILL = Envelope(
    {"iothub-connection-device-id": "till-1", "iothub-message-source": "Telemetry", "message-id": "m1"}, {"a": "b"}
)
OTHER = Envelope({"iothub-connection-device-id": "till-2"}, {})
STORED = [
    StoredEvent(7, 700, NOON, TILL, b'{"order": 1}'),
    StoredEvent(8, 776, NOON + 120, OTHER, b'{"order":2}'),
    StoredEvent(9, 840, NOON + 123, TILL, b'"\xc3\xa4"'),
]
TIMES = ["2026-11-24T12:00:00", "2026-11-24T12:00:00.12", "2026-11-24T12:00:00.123"]


def system_properties(event: StoredEvent, time: str) -> dict[str, Any]:
    return {
        **event.envelope.system_properties,
        "iothub-enqueuedtime": time + "Z",
        "x-opt-sequence-number": event.sequence_number,
        "x-opt-offset": str(event.offset),
        "x-opt-enqueued-time": time + "+00:00",
        "SequenceNumber": event.sequence_number,
        "Offset": event.offset,
        "OffsetString": str(event.offset),
        "PartitionKey": None,
        "EnqueuedTimeUtc": time,
    }


def as_json(value: Any) -> Datum:
    return Datum(json.dumps(value), "json")


def strings(values: list[str]) -> Datum:
    return Datum(SimpleNamespace(string=values), "collection_string")


def azures_batch(data: Datum) -> list[EventHubEvent]:
    """What the worker makes of the message that the real host sends for this batch."""
    offsets = [str(event.offset) for event in STORED]
    metadata = {
        "PartitionContext": as_json(CONTEXT),
        "TriggerPartitionContext": as_json(CONTEXT),
        "PartitionKeyArray": strings([]),
        "OffsetArray": strings(offsets),
        "OffsetStringArray": strings(offsets),
        "SequenceNumberArray": Datum(SimpleNamespace(sint64=[7, 8, 9]), "collection_sint64"),
        "EnqueuedTimeUtcArray": as_json(TIMES),
        "PropertiesArray": as_json([event.envelope.properties for event in STORED]),
        "SystemPropertiesArray": as_json([system_properties(*pair) for pair in zip(STORED, TIMES, strict=True)]),
    }
    events: list[EventHubEvent] = EventHubTriggerConverter.decode(data, trigger_metadata=metadata)
    return events


def fields(event: EventHubEvent) -> dict[str, Any]:
    names = ("sequence_number", "offset", "enqueued_time", "partition_key", "iothub_metadata", "metadata")
    return {"body": event.get_body(), **{name: getattr(event, name) for name in names}}


def factory(data_type: str) -> EventFactory:
    return EventFactory(namespace="shop.example", event_hub="orders", group="billing", partition=3, data_type=data_type)


@pytest.mark.parametrize(
    ("data_type", "data"),
    [
        ("BINARY", Datum(SimpleNamespace(bytes=[event.body for event in STORED]), "collection_bytes")),
        ("STRING", strings([event.body.decode() for event in STORED])),
        ("", as_json([json.loads(event.body) for event in STORED])),
    ],
)
def test_a_batch_equals_the_converters_field_by_field(data_type: str, data: Datum) -> None:
    ours, theirs = factory(data_type).many(STORED), azures_batch(data)
    assert [fields(event) for event in ours] == [fields(event) for event in theirs]
    assert [type(event.offset) for event in ours] == [type(event.offset) for event in theirs]


@pytest.mark.parametrize("data_type", ["BINARY", "STRING"])
def test_a_single_event_equals_the_converters_field_by_field(data_type: str) -> None:
    event, time = STORED[2], TIMES[2]
    metadata = {
        "PartitionContext": as_json(CONTEXT),
        "TriggerPartitionContext": as_json(CONTEXT),
        "Offset": Datum("840", "string"),
        "OffsetString": Datum("840", "string"),
        "SequenceNumber": as_json(9),
        "EnqueuedTimeUtc": as_json(time),
        "Properties": as_json(event.envelope.properties),
        "SystemProperties": as_json(system_properties(event, time)),
    }
    data = Datum(event.body, "bytes") if data_type == "BINARY" else Datum(event.body.decode(), "string")
    theirs = EventHubTriggerConverter.decode(data, trigger_metadata=metadata)
    assert fields(factory(data_type).one(event)) == fields(theirs)


def test_an_event_that_a_function_changes_changes_no_other() -> None:
    first, _, third = factory("BINARY").many(STORED)
    first.iothub_metadata["connection-device-id"] = "forged"
    assert third.iothub_metadata["connection-device-id"] == "till-1"
    assert TILL.system_properties["iothub-connection-device-id"] == "till-1"


def test_data_type_string_fails_a_batch_with_an_empty_body_and_replaces_bad_utf8() -> None:
    empty = StoredEvent(1, 0, NOON, TILL, b"")
    with pytest.raises(EmptyBodyError, match="Number of bodies and metadata mismatched"):
        factory("STRING").many([*STORED, empty])
    (event,) = factory("STRING").many([StoredEvent(1, 0, NOON, TILL, b"\xff")])
    assert event.get_body() == "\ufffd".encode()


def test_without_a_data_type_one_body_that_is_not_json_fails_the_batch() -> None:
    with pytest.raises(ValueError, match=r'sequence number 1 is not JSON.*data_type="binary"'):
        factory("").many([*STORED, StoredEvent(1, 0, NOON, TILL, b"not json")])

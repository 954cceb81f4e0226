"""What Azure's host sends to its Python worker for events of the log, as (kind, value) with TypedData's kinds.

Sources: EventHubTriggerBindingStrategy.cs of Azure/azure-sdk-for-net, and GrpcMessageConversionExtensions.cs of
Azure/azure-functions-host, by which an array of strings loses its empty entries and may so be shorter than the batch.
Needs nothing installed: it runs under the worker's Python as well.
"""

import json
from datetime import datetime, timedelta
from typing import Any, NamedTuple

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # the host's times are UTC and do not say so

Value = tuple[str, Any]


class Message(NamedTuple):
    """The trigger's data and its metadata by name."""

    data: Value
    metadata: dict[str, Value]


def many(stored: Any, context: dict[str, str], data_type: str) -> Message:
    """Shape a batch of cardinality "many"; `data_type` is "BINARY", "STRING" or ""."""
    bodies = [event.body for event in stored]
    data = {
        "BINARY": lambda: ("collection_bytes", bodies),
        "STRING": lambda: strings([body.decode() for body in bodies]),
        "": lambda: as_json([json.loads(body) for body in bodies]),
    }[data_type]()
    system = [system_properties(event) for event in stored]
    return Message(
        data,
        {
            "PartitionContext": as_json(context),
            "TriggerPartitionContext": as_json(context),
            "PartitionKeyArray": strings([properties["PartitionKey"] for properties in system]),
            "OffsetArray": strings([properties["OffsetString"] for properties in system]),
            "OffsetStringArray": strings([properties["OffsetString"] for properties in system]),
            "SequenceNumberArray": ("collection_sint64", [event.sequence_number for event in stored]),
            "EnqueuedTimeUtcArray": as_json([properties["EnqueuedTimeUtc"] for properties in system]),
            "PropertiesArray": as_json([event.envelope.properties for event in stored]),
            "SystemPropertiesArray": as_json(system),
        },
    )


def one(event: Any, context: dict[str, str], data_type: str) -> Message:
    """Shape an event of cardinality "one"."""
    system = system_properties(event)
    return Message(
        ("bytes", event.body) if data_type == "BINARY" else ("string", event.body.decode()),
        {
            "PartitionContext": as_json(context),
            "TriggerPartitionContext": as_json(context),
            "Offset": ("string", system["OffsetString"]),
            "OffsetString": ("string", system["OffsetString"]),
            "SequenceNumber": as_json(event.sequence_number),
            "EnqueuedTimeUtc": as_json(system["EnqueuedTimeUtc"]),
            "Properties": as_json(event.envelope.properties),
            "SystemProperties": as_json(system),
        },
    )


def system_properties(event: Any) -> dict[str, Any]:
    """Write them as Json.NET does."""
    time = (EPOCH + timedelta(milliseconds=event.enqueued_time)).isoformat(timespec="milliseconds")
    time = time.rstrip("0").rstrip(".")
    return {
        **event.envelope.system_properties,
        "iothub-enqueuedtime": time + "Z",
        "x-opt-sequence-number": event.sequence_number,
        "x-opt-offset": str(event.offset),
        "x-opt-enqueued-time": time + "+00:00",
        "SequenceNumber": event.sequence_number,
        "Offset": event.offset,
        "OffsetString": str(event.offset),
        "PartitionKey": None,  # IoT Hub gives none
        "EnqueuedTimeUtc": time,
    }


def as_json(value: Any) -> Value:
    return "json", json.dumps(value)


def strings(values: list[str | None]) -> Value:
    return "collection_string", [value for value in values if value]

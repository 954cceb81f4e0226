"""Builds what an eventHubTrigger's function receives from events of the log, as Azure's host and worker would.

The library's own converter costs 19 to 145 us per event (strptime); building the events directly costs about 2 us.
Rule: every field equals what the converter makes of the real host's message; what is rarely read (the arrays of
`event.metadata`) is made when it is first asked for. The source followed for the metadata is
EventHubTriggerBindingStrategy.cs of Azure/azure-sdk-for-net.
"""

from collections.abc import ItemsView, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from azure.functions import EventHubEvent
from azure.functions.meta import Datum

if TYPE_CHECKING:
    from localcloud.iothub.event_log import Envelope, StoredEvent

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # naive UTC: what the worker makes of the host's times
_MILLISECOND = timedelta(milliseconds=1)
_IOT_HUB = "iothub-"
_MAX_SHARED = 1024


class EmptyBodyError(AssertionError):
    """The host leaves out empty bodies of data type "string", and the worker refuses the batch then."""


class EventFactory:
    """Builds events of one partition for one function. `data_type` is "BINARY", "STRING" or "" (none given)."""

    def __init__(self, *, namespace: str, event_hub: str, group: str, partition: int, data_type: str) -> None:
        self._context = {
            "FullyQualifiedNamespace": namespace,
            "EventHubName": event_hub,
            "ConsumerGroup": group,
            "PartitionId": str(partition),
        }
        self._data_type = data_type
        self._shared: dict[int, tuple[Envelope, dict[str, str]]] = {}

    def many(self, stored: "Sequence[StoredEvent]") -> list[EventHubEvent]:
        """Build a batch. Raises EmptyBodyError and ValueError where Azure's host or worker would fail the batch."""
        metadata = _LazyMetadata(self._context, stored)
        bodies = [event.body for event in stored] if self._data_type == "BINARY" else self._decoded(stored)
        shared, events = self._shared, []
        milliseconds, when, enqueued = -1, _EPOCH, ""
        for event, body in zip(stored, bodies, strict=True):
            if event.enqueued_time != milliseconds:
                milliseconds = event.enqueued_time
                when = _EPOCH + milliseconds * _MILLISECOND
                enqueued = _json_time(when) + "Z"
            found = shared.get(id(event.envelope)) or self._remember(event.envelope)
            about = found[1].copy()
            about["enqueuedtime"] = enqueued
            events.append(
                EventHubEvent(
                    body=body,
                    trigger_metadata=metadata,  # type: ignore[arg-type]
                    enqueued_time=when,
                    sequence_number=event.sequence_number,
                    offset=event.offset,  # type: ignore[arg-type]  # an int, as the converter gives it
                    iothub_metadata=about,
                )
            )
        return events

    def _remember(self, envelope: "Envelope") -> "tuple[Envelope, dict[str, str]]":
        """Keep what the messages of one device share; with its envelope, so that no other gets the same id."""
        if len(self._shared) >= _MAX_SHARED:
            self._shared.clear()
        found = self._shared[id(envelope)] = envelope, _iot_hub_metadata(envelope)
        return found

    def one(self, event: "StoredEvent") -> EventHubEvent:
        """Build the single event of cardinality "one"; its offset is text there."""
        when = _EPOCH + event.enqueued_time * _MILLISECOND
        about = _iot_hub_metadata(event.envelope)
        about["enqueuedtime"] = _json_time(when) + "Z"
        return EventHubEvent(
            body=event.body if self._data_type == "BINARY" else event.body.decode(errors="replace").encode(),
            trigger_metadata=_LazyMetadata(self._context, [event], single=True),  # type: ignore[arg-type]
            enqueued_time=when,
            sequence_number=event.sequence_number,
            offset=str(event.offset),
            iothub_metadata=about,
        )

    def _decoded(self, stored: "Sequence[StoredEvent]") -> list[bytes]:
        if self._data_type == "STRING":
            if not all(event.body for event in stored):
                raise EmptyBodyError("Number of bodies and metadata mismatched")
            return [event.body.decode(errors="replace").encode() for event in stored]
        return [_reformatted(event) for event in stored]


def _reformatted(event: "StoredEvent") -> bytes:
    """Do what becomes of a body without a data type: the host parses it, the worker writes it anew."""
    import json  # noqa: PLC0415  # the worker's own writer, for its spacing; this path is rare

    try:
        return json.dumps(json.loads(event.body)).encode()
    except ValueError as error:
        raise ValueError(
            f"the body of sequence number {event.sequence_number} is not JSON, which fails the batch: "
            f'give the trigger data_type="binary" ({error})'
        ) from None


def _iot_hub_metadata(envelope: "Envelope") -> dict[str, str]:
    cut = len(_IOT_HUB)
    return {key[cut:]: value for key, value in envelope.system_properties.items() if key.startswith(_IOT_HUB)}


def _json_time(when: datetime) -> str:
    """Write a time as Json.NET does: fractions without trailing zeros."""
    text = when.isoformat(timespec="milliseconds")
    return text.rstrip("0").rstrip(".")


def _system_properties(event: "StoredEvent") -> dict[str, Any]:
    when = _json_time(_EPOCH + event.enqueued_time * _MILLISECOND)
    return {
        **event.envelope.system_properties,
        "iothub-enqueuedtime": when + "Z",
        "x-opt-sequence-number": event.sequence_number,
        "x-opt-offset": str(event.offset),
        "x-opt-enqueued-time": when + "+00:00",
        "SequenceNumber": event.sequence_number,
        "Offset": event.offset,
        "OffsetString": str(event.offset),
        "PartitionKey": None,
        "EnqueuedTimeUtc": when,
    }


class _LazyMetadata:
    """The trigger metadata that all events of a batch share: EventHubEvent asks for its `items` only."""

    def __init__(self, context: Mapping[str, str], stored: "Sequence[StoredEvent]", *, single: bool = False) -> None:
        self._context = context
        self._stored = stored
        self._single = single
        self._data: dict[str, Datum] | None = None

    def items(self) -> ItemsView[str, Datum]:
        """Return the metadata's items, as azure-functions' Datum of type "object": its value is taken as it is."""
        if self._data is None:
            values = _single(self._stored[0]) if self._single else _arrays(self._stored)
            values["PartitionContext"] = dict(self._context)
            values["TriggerPartitionContext"] = dict(self._context)
            self._data = {name: Datum(value, "object") for name, value in values.items()}
        return self._data.items()


def _arrays(stored: "Sequence[StoredEvent]") -> dict[str, Any]:
    system = [_system_properties(event) for event in stored]
    offsets = [properties["OffsetString"] for properties in system]
    return {
        "PartitionKeyArray": [],  # IoT Hub gives no partition key, and the host leaves empty ones out
        "OffsetArray": offsets,
        "OffsetStringArray": list(offsets),
        "SequenceNumberArray": [event.sequence_number for event in stored],
        "EnqueuedTimeUtcArray": [properties["EnqueuedTimeUtc"] for properties in system],
        "PropertiesArray": [dict(event.envelope.properties) for event in stored],
        "SystemPropertiesArray": system,
    }


def _single(event: "StoredEvent") -> dict[str, Any]:
    system = _system_properties(event)
    return {
        "Offset": system["OffsetString"],
        "OffsetString": system["OffsetString"],
        "SequenceNumber": event.sequence_number,
        "EnqueuedTimeUtc": system["EnqueuedTimeUtc"],
        "Properties": dict(event.envelope.properties),
        "SystemProperties": system,
    }

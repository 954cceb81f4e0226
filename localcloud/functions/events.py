"""Builds what an eventHubTrigger's function receives from events of the log, as Azure's host and worker would.

The library's own converter costs 19 to 145 us per event (strptime); building the events directly costs about 2 us.
Rule: every field equals what the converter makes of the real host's message; what is rarely read (the arrays of
`event.metadata`) is made when it is first asked for. The source followed for the metadata is
EventHubTriggerBindingStrategy.cs of Azure/azure-sdk-for-net.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from sys import intern
from typing import TYPE_CHECKING, Any

from azure.functions import EventHubEvent
from azure.functions.meta import Datum
from msgspec import structs

from localcloud.functions.lazy_dict import LazyDict

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
        if self._data_type != "BINARY":
            stored = self._decoded(stored)
        metadata = _metadata(self._context, lambda: _arrays(stored))
        shared: dict[tuple[int, int], dict[str, str]] = {}
        events: list[EventHubEvent] = []
        milliseconds, when, envelope, about = -1, _EPOCH, None, {}
        for event in stored:
            if event.envelope is not envelope or event.enqueued_time != milliseconds:
                if event.enqueued_time != milliseconds:
                    milliseconds = event.enqueued_time
                    when = _EPOCH + milliseconds * _MILLISECOND
                envelope = event.envelope
                key = milliseconds, id(envelope)
                found = shared.get(key)
                if found is None:
                    found = shared[key] = {**self._about(envelope), "enqueuedtime": _json_time(when) + "Z"}
                about = found
            events.append(_StoredEvent(event.body, event.sequence_number, event.offset, when, about, metadata))
        return events

    def _about(self, envelope: "Envelope") -> dict[str, str]:
        """Keep what the messages of one device share; with its envelope, so that no other gets the same id."""
        found = self._shared.get(id(envelope))
        if found is None:
            if len(self._shared) >= _MAX_SHARED:
                self._shared.clear()
            found = self._shared[id(envelope)] = envelope, _iot_hub_metadata(envelope)
        return found[1]

    def one(self, event: "StoredEvent") -> EventHubEvent:
        """Build the single event of cardinality "one"; its offset is text there."""
        when = _EPOCH + event.enqueued_time * _MILLISECOND
        about = _iot_hub_metadata(event.envelope)
        about["enqueuedtime"] = _json_time(when) + "Z"
        metadata = _metadata(self._context, lambda: _single(event))
        single = EventHubEvent(
            body=event.body if self._data_type == "BINARY" else event.body.decode(errors="replace").encode(),
            trigger_metadata=_AsDatums(metadata),  # type: ignore[arg-type]
            enqueued_time=when,
            sequence_number=event.sequence_number,
            offset=str(event.offset),
            iothub_metadata=about,
        )
        single._trigger_metadata_pyobj = metadata  # noqa: SLF001 - a cache; without it the datums give the same
        return single

    def _decoded(self, stored: "Sequence[StoredEvent]") -> "list[StoredEvent]":
        if self._data_type == "STRING":
            if not all(event.body for event in stored):
                raise EmptyBodyError("Number of bodies and metadata mismatched")
            bodies = [event.body.decode(errors="replace").encode() for event in stored]
        else:
            bodies = [_reformatted(event) for event in stored]
        return [structs.replace(event, body=body) for event, body in zip(stored, bodies, strict=True)]


class _StoredEvent(EventHubEvent):
    """An event of a batch, its fields plain attributes: EventHubEvent's own take three times as long to make and read.

    The events of one device and time share `iothub_metadata`, all of a batch `metadata`; read-only to functions.
    """

    __slots__ = ("_body", "enqueued_time", "iothub_metadata", "metadata", "offset", "sequence_number")
    partition_key = None  # IoT Hub gives none

    def __init__(
        self,
        body: bytes,
        sequence_number: int,
        offset: int,  # an int, as the converter gives it
        enqueued_time: datetime,
        iothub_metadata: dict[str, str],
        metadata: LazyDict,
    ) -> None:
        self._body = body
        # What EventHubEvent has as properties are slots here.
        self.sequence_number = sequence_number  # type: ignore[misc]
        self.offset = offset  # type: ignore[misc, assignment]
        self.enqueued_time = enqueued_time  # type: ignore[misc]
        self.iothub_metadata = iothub_metadata  # type: ignore[misc]
        self.metadata = metadata  # type: ignore[misc]

    def get_body(self) -> bytes:
        """See EventHubEvent."""
        return self._body


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
    return {intern(key[cut:]): value for key, value in envelope.system_properties.items() if key.startswith(_IOT_HUB)}


def _json_time(when: datetime) -> str:
    """Write a time as Json.NET does: fractions without trailing zeros."""
    text = when.isoformat(timespec="milliseconds")
    return text.rstrip("0").rstrip(".")


class _SystemProperties:
    """Writes the system properties of a batch's events; what a device's events of one time share is made once."""

    def __init__(self) -> None:
        self._time = ""
        self._milliseconds = -1
        self._shared: dict[int, dict[str, Any]] = {}

    def of(self, event: "StoredEvent") -> dict[str, Any]:
        if event.enqueued_time != self._milliseconds:
            self._milliseconds = event.enqueued_time
            self._time, self._shared = _json_time(_EPOCH + event.enqueued_time * _MILLISECOND), {}
        shared = self._shared.get(id(event.envelope))
        if shared is None:
            shared = self._shared[id(event.envelope)] = {
                **event.envelope.system_properties,
                "iothub-enqueuedtime": self._time + "Z",
                "x-opt-enqueued-time": self._time + "+00:00",
                "PartitionKey": None,
                "EnqueuedTimeUtc": self._time,
            }
        number, offset = event.sequence_number, event.offset
        return {
            **shared,
            "x-opt-sequence-number": number,
            "x-opt-offset": str(offset),
            "SequenceNumber": number,
            "Offset": offset,
            "OffsetString": str(offset),
        }


class _AsDatums:
    """Trigger metadata in the form in which EventHubEvent takes it."""

    def __init__(self, values: LazyDict) -> None:
        self._values = values

    def items(self) -> Iterator[tuple[str, Datum]]:
        """Yield azure-functions' Datums of type "object", whose values are taken as they are."""
        return ((name, Datum(value, "object")) for name, value in self._values.items())


def _metadata(context: Mapping[str, str], rest: Callable[[], dict[str, Any]]) -> LazyDict:
    return LazyDict({"PartitionContext": dict(context), "TriggerPartitionContext": dict(context)}, rest)


def _arrays(stored: "Sequence[StoredEvent]") -> dict[str, Any]:
    write = _SystemProperties().of
    system = [write(event) for event in stored]
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
    system = _SystemProperties().of(event)
    return {
        "Offset": system["OffsetString"],
        "OffsetString": system["OffsetString"],
        "SequenceNumber": event.sequence_number,
        "EnqueuedTimeUtc": system["EnqueuedTimeUtc"],
        "Properties": dict(event.envelope.properties),
        "SystemProperties": system,
    }

"""From what Azure Functions hands to an Event Hub trigger to what ingest works on."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    import azure.functions as func

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NAIVE_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # Azure's times are naive and mean UTC
_MILLISECOND: Final = dt.timedelta(milliseconds=1)


class Delivery(Struct, frozen=True, gc=False):
    """One event: who sent it by the hub's word (None where no IoT Hub stands before it), where, when (ms) and what.

    `created` is the creation time that the device gave its message, as text.
    """

    device_id: str | None
    sequence: int
    enqueued_time: int
    created: str | None
    body: bytes


class Batch(Struct, frozen=True):
    """Deliveries of one stream (namespace/hub/partition) in their order; the last ones may have come before."""

    stream: str
    deliveries: list[Delivery]


def to_batch(events: Sequence["func.EventHubEvent"]) -> Batch:
    """Read a trigger's batch of at least one event.

    Raises ValueError where the host does not say which partition it is: nothing could be counted exactly then.
    """
    metadata = events[0].metadata
    # Only whether it is None is asked: a host may make the rest of it at a closer look.
    return Batch(_stream({} if metadata is None else metadata), list(_deliveries(events)))


def _stream(metadata: Mapping[str, Any]) -> str:
    context = metadata.get("PartitionContext")
    if isinstance(context, str):
        context = msgspec.json.decode(context)
    if not isinstance(context, Mapping) or "PartitionId" not in context:
        raise ValueError("the trigger's metadata holds no PartitionContext with a PartitionId")
    names = (context.get("FullyQualifiedNamespace"), context.get("EventHubName"), context["PartitionId"])
    return "/".join("" if name is None else str(name) for name in names)


def _deliveries(events: Sequence["func.EventHubEvent"]) -> Iterator[Delivery]:
    seen: dt.datetime | None = None
    milliseconds = 0
    about: Mapping[str, str] | None = None
    device_id = created = None
    for event in events:
        hub = event.iothub_metadata
        if hub is not about:  # so may the messages of one device
            about = hub
            device_id, created = (
                (hub.get("connection-device-id"), hub.get("creation-time-utc")) if hub else (None, None)
            )
        sequence, enqueued = event.sequence_number, event.enqueued_time
        if sequence is None or enqueued is None:
            raise ValueError("an event has no sequence number or no enqueued time")
        if enqueued is not seen:  # events that became durable together share it
            seen = enqueued
            milliseconds = (enqueued - (_NAIVE_EPOCH if enqueued.tzinfo is None else _EPOCH)) // _MILLISECOND
        yield Delivery(device_id, sequence, milliseconds, created, event.get_body())

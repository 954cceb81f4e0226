"""What viewers are sent: views of devices, many in one message.

A view always tells the whole device as it is stored, so viewers merge by `revision` and may miss any message. SignalR
takes messages below 1 MB, bills every started 2 KB, and drops slow viewers; a chunk of 200 KB is well within.
"""

import datetime as dt
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec

from enviromon.device_state import DeviceState, Ledger, is_visible
from enviromon.metrics import METRICS, Metric

TARGET: Final = "newMessage"
CHUNK_BYTES: Final = 200_000

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@lru_cache(maxsize=4096)
def iso(milliseconds: int) -> str:
    """Write a time (ms since 1970) as ISO 8601 in UTC with milliseconds."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_iso_seconds(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=1024)
def _iso_seconds(seconds: int) -> str:
    return (_EPOCH + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def view(state: DeviceState, metrics: Iterable[Metric] = METRICS) -> dict[str, Any]:
    """Describe a device for viewers; a metric that it never reported is null, 0.0 is a value."""
    labels, shown = state.labels, state.metrics
    values = {metric.name: shown[metric.name].value if metric.name in shown else None for metric in metrics}
    return {
        "deviceId": state.device_id,
        "name": labels["name"].value if "name" in labels else state.device_id,
        "geo": labels["geo"].value if "geo" in labels else None,
        **values,
        "raw": {name: measurement.raw for name, measurement in shown.items() if name in values},
        "times": {name: iso(measurement.at.event_time) for name, measurement in shown.items() if name in values},
        "count": state.count,
        "revision": state.revision,
        "eventTime": None if state.event_time is None else iso(state.event_time),
        "enqueuedTime": None if state.enqueued_time is None else iso(state.enqueued_time),
        "ledger": ledger_view(state.ledger),
    }


def ledger_view(ledger: Ledger) -> dict[str, int]:
    """Write a ledger with its sum."""
    return {
        "received": ledger.received,
        "accepted": ledger.accepted,
        "duplicate": ledger.duplicate,
        "late": ledger.late,
        "rejected": ledger.rejected,
    }


def messages(
    states: Iterable[DeviceState], metrics: Iterable[Metric] = METRICS, *, viewer: str | None = None
) -> str | None:
    """Write the SignalR output that tells viewers of these devices, or one viewer alone; None if there is no news."""
    addressee = {} if viewer is None else {"userId": viewer}
    visible = (msgspec.json.encode(view(state, metrics)) for state in states if is_visible(state))
    written = [
        {**addressee, "target": TARGET, "arguments": [[msgspec.Raw(one) for one in chunk]]}
        for chunk in _chunks(visible)
    ]
    return msgspec.json.encode(written).decode() if written else None


def _chunks(views: Iterable[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for one in views:
        if chunk and size + len(one) > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += len(one) + 1
    if chunk:
        yield chunk

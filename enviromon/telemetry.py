"""From a message's bytes to readings: the only judge of what a device may say.

Rules:
1. A body is one JSON object or an array of at most 1,000; each item of an array stands alone.
2. A field may go by several names; the first that is not null counts. Unknown fields are ignored.
3. A metric's value is a finite JSON number, and believable once it is calibrated. One bad field rejects its reading,
   and a reading needs at least one metric.
4. Event time is the device's timestamp, else the creation time it gave its message, else the hub's enqueued time.
5. What cannot be believed is a `Rejection`, a value: nothing here raises for a device's sake.
"""

import datetime as dt
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from enviromon.calibration import Calibration, calibrated
from enviromon.device_state import Reading
from enviromon.metrics import METRICS, Metric, by_name

MAX_ITEMS: Final = 1000
MAX_MESSAGE_ID_LENGTH: Final = 128
MAX_NAME_LENGTH: Final = 128
MAX_GEO_LENGTH: Final = 256
MAX_TIMESTAMP_LENGTH: Final = 64
MAX_SHOWN_LENGTH: Final = 60
EARLIEST: Final = 946_684_800_000
"""2000-01-01: a device's clock that says less was never set."""

REASONS: Final[Mapping[str, str]] = {
    "encoding": "the body is not UTF-8",
    "json": "the body, or an item of it, is not JSON",
    "shape": "an item is not an object",
    "empty": "an array without items, or an item without any metric",
    "items": "an array of too many items",
    "value": "a metric is not a finite number",
    "range": "a metric is beyond what is believable",
    "device_id": "the deviceId in the body is not a string of 1 to 128",
    "geo": "the geo is not a string of at most 256",
    "message_id": "the message id is neither an int64 nor a string of at most 128",
    "timestamp": "the device's time cannot be read, lies before 2000 or too far ahead of the hub's",
    "identity": "nothing trustworthy says which device it is",
    "refused": "the store can never take the state that the reading makes",
    "internal": "a fault of this program; its log says more",
}
"""Every reason a dead letter may have."""

_NUMBER: Final = float | None
_LABEL_TYPES: Final = (
    Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)] | None,
    Annotated[str, Meta(max_length=MAX_GEO_LENGTH)] | None,
    Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
    | Annotated[str, Meta(max_length=MAX_MESSAGE_ID_LENGTH)]
    | None,
)
"""What is acceptable at once, for each of _LABELS; _CHECKS have the word on the rest."""
_TIME: Final = int | float | str | None
_LABELS: Final = {"name": ("deviceId", "DeviceId"), "geo": ("geo", "Geo"), "messageId": ("messageId", "Id")}
_TIMESTAMP: Final = "timestamp"

_INT64: Final = range(-(1 << 63), 1 << 63)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND: Final = dt.timedelta(milliseconds=1)
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Rejection(Struct, frozen=True, gc=False):
    """Why an item is not believed: a short code of REASONS, a sentence, and the item as it was sent."""

    reason: str
    detail: str
    body: bytes


class Telemetry(Struct, frozen=True, gc=False):
    """One item as sent, its fields checked; `timestamp` in ms, None where the device gave no time."""

    values: dict[str, float]
    labels: dict[str, str | int]
    timestamp: int | None
    body: bytes


class Refusal(Exception):  # noqa: N818  # a verdict, no fault; `read` and `judge` turn it into a Rejection
    """An item's field is not acceptable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Fields:
    """Where an item's fields stand once it is decoded: a slot (start, stop) holds a field's spellings, in their order.

    The last field is the timestamp. `bounds` are the metrics' ranges, ends included; comparing with them refuses what
    is not finite as well.
    """

    def __init__(self, metrics: Iterable[Metric] = METRICS) -> None:
        self.metrics = by_name(tuple(metrics))
        spellings = [*(metric.aliases for metric in self.metrics.values()), *_LABELS.values(), (_TIMESTAMP,)]
        ends = list(accumulate(len(aliases) for aliases in spellings))
        slots = list(zip([0, *ends], ends, strict=False))
        self.metric_slots = list(zip(self.metrics, slots, strict=False))
        self.label_slots = list(zip(_LABELS, slots[len(self.metrics) :], strict=False))
        self.bounds = {
            name: (
                -sys.float_info.max if metric.minimum is None else metric.minimum,
                sys.float_info.max if metric.maximum is None else metric.maximum,
            )
            for name, metric in self.metrics.items()
        }
        self._spellings = spellings

    def item(self) -> type[Struct]:
        """Return a type of which a field may hold anything. A decoder of a type skips what it does not know unbuilt."""
        return self._defined([Any] * len(self._spellings))

    def typed_item(self, *, in_range: bool) -> type[Struct]:
        """Return a type of which each field is absent, null or acceptable, but for the time's range.

        A metric is within its own where `in_range` says so.
        """
        ranges = [Annotated[float, Meta(ge=lowest, le=highest)] | None for lowest, highest in self.bounds.values()]
        return self._defined([*(ranges if in_range else [_NUMBER] * len(ranges)), *_LABEL_TYPES, _TIME])

    def _defined(self, kinds: list[Any]) -> type[Struct]:
        spelled = [(alias, kind) for aliases, kind in zip(self._spellings, kinds, strict=True) for alias in aliases]
        fields = [(f"field{number}", kind, None) for number, (_, kind) in enumerate(spelled)]
        rename = {f"field{number}": alias for number, (alias, _) in enumerate(spelled)}
        return msgspec.defstruct("Item", fields, rename=rename, gc=False)


class TelemetryReader:
    """Reads and judges by one table of metrics."""

    def __init__(self, metrics: Iterable[Metric] = METRICS) -> None:
        fields = Fields(metrics)
        self._metrics = fields.metrics
        self._bounds = fields.bounds
        self._metric_slots = fields.metric_slots
        self._label_slots = [
            (name, check, slot) for (name, slot), check in zip(fields.label_slots, _CHECKS, strict=True)
        ]
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(fields.item()).decode

    def read(self, body: bytes) -> list[Telemetry | Rejection]:
        """Read all items of a body, at least one, in their order; field types are checked, ranges and times not yet."""
        try:
            if not body.isascii():
                body.decode()  # msgspec does not look at what it skips
            if body[:1] == b"{" or body.lstrip()[:1] != b"[":
                return [self._item(body)]
            return [self._item(item) for item in _split(body)]
        except Refusal as refusal:
            return [Rejection(refusal.reason, str(refusal), body)]
        except UnicodeDecodeError as error:
            return [Rejection("encoding", f"the body is not UTF-8: {error.reason} at byte {error.start}", body)]

    def judge(
        self, item: Telemetry, enqueued_time: int, created: str | None, lead: int, calibration: Calibration | None
    ) -> Reading | Rejection:
        """Date and calibrate an item and check its ranges.

        `created` is the message's iothub-creation-time-utc; a device's time may be `lead` ms after the enqueued time.
        """
        raw = item.values
        try:
            event_time = event_time_of(item.timestamp, created, enqueued_time, lead)
            values = raw if calibration is None else calibrated(raw, calibration.at(event_time))
            for name, value in values.items():
                lowest, highest = self._bounds[name]
                if not lowest <= value <= highest:
                    sentence = _range_sentence(self._metrics[name], value, raw[name])
                    return Rejection("range", sentence, item.body)
        except Refusal as refusal:
            return Rejection(refusal.reason, str(refusal), item.body)
        return Reading(event_time, values, raw, item.labels)

    def _item(self, body: bytes) -> Telemetry | Rejection:
        try:
            return self._telemetry(self._decode(body), body)
        except Refusal as refusal:
            return Rejection(refusal.reason, str(refusal), body)
        except msgspec.ValidationError as error:
            reason = "value" if body.lstrip()[:1] == b"{" else "shape"
            return Rejection(reason, f"an item is not acceptable: {error}", body)
        except RecursionError:
            return Rejection("json", "an item is nested too deeply", body)
        except msgspec.DecodeError as error:
            return Rejection("json", f"an item is not JSON: {error}", body)

    def _telemetry(self, item: Any, body: bytes) -> Telemetry:
        found = msgspec.structs.astuple(item)
        values: dict[str, float] = {}
        for name, (start, stop) in self._metric_slots:
            value = found[start]
            if value is None and (value := _first(found[start:stop])) is None:
                continue
            values[name] = value if type(value) is float else _number(name, value)
        if not values:
            raise Refusal("empty", "an item carries none of the metrics")
        labels: dict[str, str | int] = {}
        for name, check, (start, stop) in self._label_slots:
            value = found[start]
            if value is None and (value := _first(found[start:stop])) is None:
                continue
            labels[name] = check(value)
        timestamp = found[-1]
        return Telemetry(values, labels, None if timestamp is None else milliseconds(timestamp), body)


def _split(body: bytes) -> list[bytes]:
    try:
        items = _decode_items(body)
    except RecursionError:
        raise Refusal("json", "the body is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise Refusal("json", f"the body is not JSON: {error}") from None
    if not items:
        raise Refusal("empty", "the body is an array without items")
    if len(items) > MAX_ITEMS:
        raise Refusal("items", f"the body has {len(items):,} items, at most {MAX_ITEMS:,} are read")
    return [bytes(item) for item in items]


def _first(found: tuple[Any, ...]) -> Any:
    for value in found:
        if value is not None:
            return value
    return None


def _number(name: str, value: Any) -> float:
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            pass
    raise Refusal("value", f"{name} must be a finite number, not {_shown(value)}")


def _name(value: Any) -> str:
    if type(value) is str and 1 <= len(value) <= MAX_NAME_LENGTH:
        return value
    raise Refusal("device_id", f"deviceId must be a string of 1 to {MAX_NAME_LENGTH} characters, not {_shown(value)}")


def _geo(value: Any) -> str:
    if type(value) is str and len(value) <= MAX_GEO_LENGTH:
        return value
    raise Refusal("geo", f"geo must be a string of at most {MAX_GEO_LENGTH} characters, not {_shown(value)}")


def _message_id(value: Any) -> str | int:
    if (type(value) is int and value in _INT64) or (type(value) is str and len(value) <= MAX_MESSAGE_ID_LENGTH):
        return value
    limit = f"an int64 or a string of at most {MAX_MESSAGE_ID_LENGTH} characters"
    raise Refusal("message_id", f"messageId must be {limit}, not {_shown(value)}")


_CHECKS: Final[tuple[Callable[[Any], str | int], ...]] = (_name, _geo, _message_id)
"""One for each of _LABELS."""


def milliseconds(value: Any) -> int:
    """Read ISO 8601 (no zone means UTC) or a number of ms since 1970, cut to the millisecond."""
    if type(value) in {int, float}:
        return int(value)
    if type(value) is str and len(value) <= MAX_TIMESTAMP_LENGTH:
        try:
            moment = dt.datetime.fromisoformat(value)
            return ((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)) - _EPOCH) // _MILLISECOND
        except (ValueError, OverflowError):
            pass
    raise Refusal("timestamp", f"a time must be ISO 8601 or milliseconds since 1970, not {_shown(value)}")


def event_time_of(timestamp: Any, created: str | None, enqueued_time: int, lead: int) -> int:
    """Choose the event time (rule 4), in ms. Raises Refusal where it cannot be read or believed."""
    if timestamp is None:
        if not created:
            return enqueued_time
        timestamp = created
    time = milliseconds(timestamp)
    if EARLIEST <= time <= enqueued_time + lead:
        return time
    if time < EARLIEST:
        raise Refusal("timestamp", f"{time} ms since 1970 lies before 2000: are these seconds, or a clock unset?")
    raise Refusal("timestamp", f"{time} ms since 1970 lies {time - enqueued_time:,} ms ahead of the hub's time")


def _range_sentence(metric: Metric, value: float, raw: float) -> str:
    low = "-infinity" if metric.minimum is None else metric.minimum
    high = "infinity" if metric.maximum is None else metric.maximum
    as_sent = "" if value == raw else f" ({raw:g} before calibration)"
    return f"{metric.name} must lie within {low} and {high} {metric.unit}, not at {value:g}{as_sent}"


def _shown(value: Any) -> str:
    text = repr(value) if type(value) is int else msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[:MAX_SHOWN_LENGTH]}..."

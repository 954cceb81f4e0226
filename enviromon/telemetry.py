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
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

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
    "internal": "a fault of this program; its log says more",
}
"""Every reason a dead letter may have."""

_NAMES: Final = ("deviceId", "DeviceId")
_GEOS: Final = ("geo", "Geo")
_MESSAGE_IDS: Final = ("messageId", "Id")
_TIMESTAMPS: Final = ("timestamp",)

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


class TelemetryReader:
    """Reads and judges by one table of metrics."""

    def __init__(self, metrics: Iterable[Metric] = METRICS) -> None:
        self._metrics = by_name(tuple(metrics))
        aliases = [alias for metric in self._metrics.values() for alias in metric.aliases]
        renamed = {
            f"field{index}": alias
            for index, alias in enumerate((*aliases, *_NAMES, *_GEOS, *_MESSAGE_IDS, *_TIMESTAMPS))
        }
        # A typed decoder skips unknown fields without building them, whatever numbers they hold.
        item = msgspec.defstruct("Item", [(name, Any, None) for name in renamed], rename=renamed, gc=False)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(item).decode
        fields = {alias: name for name, alias in renamed.items()}
        self._values = [(name, [fields[alias] for alias in metric.aliases]) for name, metric in self._metrics.items()]
        self._name, self._geo, self._message_id, self._timestamp = (
            [fields[alias] for alias in names] for names in (_NAMES, _GEOS, _MESSAGE_IDS, _TIMESTAMPS)
        )

    def read(self, body: bytes) -> list[Telemetry | Rejection]:
        """Read all items of a body, at least one, in their order; field types are checked, ranges and times not yet."""
        try:
            if not body.isascii():
                body.decode()  # msgspec does not look at what it skips
            if body.lstrip()[:1] != b"[":
                return [self._item(body)]
            return [self._item(item) for item in _split(body)]
        except Refusal as refusal:
            return [Rejection(refusal.reason, str(refusal), body)]
        except UnicodeDecodeError as error:
            return [Rejection("encoding", f"the body is not UTF-8: {error.reason} at byte {error.start}", body)]

    def judge(
        self, item: Telemetry, *, enqueued_time: int, created: str | None, lead: int, calibration: Calibration | None
    ) -> Reading | Rejection:
        """Date and calibrate an item and check its ranges.

        `created` is the message's iothub-creation-time-utc; a device's time may be `lead` ms after the enqueued time.
        """
        try:
            event_time = _event_time(item.timestamp, created, enqueued_time, lead)
            version = None if calibration is None else calibration.at(event_time)
            values = calibrated(item.values, version)
            self._check_ranges(values, item.values)
        except Refusal as refusal:
            return Rejection(refusal.reason, str(refusal), item.body)
        return Reading(event_time, values, item.values, item.labels)

    def _check_ranges(self, values: dict[str, float], raw: dict[str, float]) -> None:
        for name, value in values.items():
            metric = self._metrics[name]
            if not metric.admits(value):
                raise Refusal("range", _range_sentence(metric, value, raw[name]))

    def _item(self, body: bytes) -> Telemetry | Rejection:
        try:
            item = self._decode(body)
            return Telemetry(self._read_values(item), self._read_labels(item), self._read_timestamp(item), body)
        except Refusal as refusal:
            return Rejection(refusal.reason, str(refusal), body)
        except msgspec.ValidationError as error:
            reason = "value" if body.lstrip()[:1] == b"{" else "shape"
            return Rejection(reason, f"an item is not acceptable: {error}", body)
        except RecursionError:
            return Rejection("json", "an item is nested too deeply", body)
        except msgspec.DecodeError as error:
            return Rejection("json", f"an item is not JSON: {error}", body)

    def _read_values(self, item: Any) -> dict[str, float]:
        values = {}
        for name, fields in self._values:
            for field in fields:
                value = getattr(item, field)
                if value is not None:
                    values[name] = value if type(value) is float else _number(name, value)
                    break
        if not values:
            raise Refusal("empty", "an item carries none of the metrics")
        return values

    def _read_labels(self, item: Any) -> dict[str, str | int]:
        labels: dict[str, str | int] = {}
        if (name := _first(item, self._name)) is not None:
            labels["name"] = _text("device_id", "deviceId", name, 1, MAX_NAME_LENGTH)
        if (geo := _first(item, self._geo)) is not None:
            labels["geo"] = _text("geo", "geo", geo, 0, MAX_GEO_LENGTH)
        if (message_id := _first(item, self._message_id)) is not None:
            labels["messageId"] = _message_id(message_id)
        return labels

    def _read_timestamp(self, item: Any) -> int | None:
        value = _first(item, self._timestamp)
        return None if value is None else milliseconds(value)


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


def _first(item: Any, fields: list[str]) -> Any:
    for field in fields:
        if (value := getattr(item, field)) is not None:
            return value
    return None


def _number(name: str, value: Any) -> float:
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            pass
    raise Refusal("value", f"{name} must be a finite number, not {_shown(value)}")


def _text(reason: str, name: str, value: Any, shortest: int, longest: int) -> str:
    if type(value) is str and shortest <= len(value) <= longest:
        return value
    raise Refusal(reason, f"{name} must be a string of {shortest} to {longest} characters, not {_shown(value)}")


def _message_id(value: Any) -> str | int:
    if type(value) is int and value in _INT64:
        return value
    if type(value) is str and len(value) <= MAX_MESSAGE_ID_LENGTH:
        return value
    raise Refusal(
        "message_id",
        f"messageId must be an int64 or a string of at most {MAX_MESSAGE_ID_LENGTH} characters, not {_shown(value)}",
    )


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


def _event_time(timestamp: int | None, created: str | None, enqueued_time: int, lead: int) -> int:
    if timestamp is None:
        if not created:
            return enqueued_time
        timestamp = milliseconds(created)
    if EARLIEST <= timestamp <= enqueued_time + lead:
        return timestamp
    if timestamp < EARLIEST:
        raise Refusal("timestamp", f"{timestamp} ms since 1970 lies before 2000: are these seconds, or a clock unset?")
    raise Refusal(
        "timestamp", f"{timestamp} ms since 1970 lies {timestamp - enqueued_time:,} ms ahead of the hub's time"
    )


def _range_sentence(metric: Metric, value: float, raw: float) -> str:
    low = "-infinity" if metric.minimum is None else metric.minimum
    high = "infinity" if metric.maximum is None else metric.maximum
    as_sent = "" if value == raw else f" ({raw:g} before calibration)"
    return f"{metric.name} must lie within {low} and {high} {metric.unit}, not at {value:g}{as_sent}"


def _shown(value: Any) -> str:
    text = repr(value) if type(value) is int else msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[:MAX_SHOWN_LENGTH]}..."

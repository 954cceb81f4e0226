"""The export format, version 1: JSON lines, each with its `kind`; docs/carry-data.md describes it for others. Pure.

Rules:
1. The first line is the header, the last one the end with the number of records of each kind: a file that was cut off
   has none, and is refused.
2. A newer version is refused, and so is an unknown kind or field of a record: nothing is left behind unseen.
3. A state is written as the stores keep it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from enviromon.calibration import Version, from_columns, to_columns
from enviromon.device_state import UNIDENTIFIED, DeviceState, is_device_id
from enviromon.errors import EnviromonError
from enviromon.stores import DeadLetter

FORMAT: Final = "enviromon-export"
VERSION: Final = 1
MAX_LINE_BYTES: Final = 16 << 20
_MAX_SHOWN: Final = 200


class ExportError(EnviromonError):
    """An export cannot be read; the sentence names the line."""


class _Record(Struct, frozen=True, kw_only=True, tag_field="kind", rename="camel", forbid_unknown_fields=True):
    pass


class Header(_Record, frozen=True, kw_only=True, tag="header"):
    """The first line; `exported_at` is ISO 8601, `program` the version of enviromon."""

    format: str
    version: int
    site: str
    exported_at: str
    program: str


class DeviceRecord(_Record, frozen=True, kw_only=True, tag="device", omit_defaults=True):
    """A device of the hub's registry; its keys (base64) only where they were asked for."""

    device_id: str
    status: str
    primary_key: str | None = None
    secondary_key: str | None = None

    def __repr__(self) -> str:
        """Leave the keys out, so that no log or traceback shows them."""
        return f"DeviceRecord({self.device_id!r}, {self.status})"


class CalibrationRecord(_Record, frozen=True, kw_only=True, tag="calibration"):
    """One version of a device's calibration from `valid_from` (ms since 1970) on; columns as in the stores."""

    device_id: str
    valid_from: int
    columns: dict[str, float]

    def version(self) -> Version:
        """Return the version; raises ValueError where a number is not finite."""
        return from_columns(self.valid_from, self.columns)


class StateRecord(_Record, frozen=True, kw_only=True, tag="state"):
    """A device's state with its ledger, positions and revision."""

    state: DeviceState


class DeadLetterRecord(_Record, frozen=True, kw_only=True, tag="deadLetter", omit_defaults=True):
    """A dead letter; the body is base64, the enqueued time ms since 1970."""

    reason: str
    detail: str
    device_id: str
    stream: str
    sequence: int
    index: int
    enqueued_time: int
    body: bytes
    created: str | None = None

    def letter(self) -> DeadLetter:
        """Return the letter."""
        return DeadLetter(**{name: getattr(self, name) for name in DeadLetter.__struct_fields__})


class End(_Record, frozen=True, kw_only=True, tag="end"):
    """The last line: how many records of each kind there are."""

    counts: dict[str, int]


Record = DeviceRecord | CalibrationRecord | StateRecord | DeadLetterRecord
KINDS: Final[Mapping[type[Record], str]] = {
    DeviceRecord: "device",
    CalibrationRecord: "calibration",
    StateRecord: "state",
    DeadLetterRecord: "deadLetter",
}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Header | Record | End).decode
_decode_version = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def calibration_record(device_id: str, version: Version) -> CalibrationRecord:
    """Write a version."""
    return CalibrationRecord(device_id=device_id, valid_from=version.valid_from, columns=to_columns(version))


def dead_letter_record(letter: DeadLetter) -> DeadLetterRecord:
    """Write a letter."""
    return DeadLetterRecord(**{name: getattr(letter, name) for name in DeadLetter.__struct_fields__})


def line(record: Header | Record | End) -> bytes:
    """Write one line."""
    return _encode(record) + b"\n"


def read(lines: Iterable[bytes]) -> Iterator[Header | Record]:
    """Read an export: the header first, then its records. Raises ExportError naming the line."""
    counts = dict.fromkeys(KINDS.values(), 0)
    ended = False
    number = 0
    for number, text in enumerate(lines, 1):
        if ended:
            raise ExportError(f"line {number}: something follows the end of the export")
        found = _read_line(number, text)
        if (number == 1) != isinstance(found, Header):
            raise ExportError(f"line {number}: an export has one header, its first line")
        if isinstance(found, End):
            ended = True
            if found.counts != counts:
                raise ExportError(f"line {number}: records are missing: the end tells {found.counts}, found {counts}")
        else:
            if not isinstance(found, Header):
                counts[KINDS[type(found)]] += 1
            yield found
    if not ended:
        raise ExportError(f"the export is cut off after line {number}: it has no end; export again")


def _read_line(number: int, text: bytes) -> Header | Record | End:
    if len(text) > MAX_LINE_BYTES:
        raise ExportError(f"line {number} is longer than {MAX_LINE_BYTES:,} bytes: that is no export of enviromon")
    try:
        if number == 1:
            _check_header(text)
        found: Header | Record | End = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ExportError(f"line {number} is not what version {VERSION} of the format has there: {error}") from None
    if isinstance(found, StateRecord | DeviceRecord):
        device_id = found.state.device_id if isinstance(found, StateRecord) else found.device_id
        if not is_device_id(device_id) and device_id != UNIDENTIFIED:
            raise ExportError(f"line {number}: {device_id[:_MAX_SHOWN]!r} is no device id")
    return found


def _check_header(text: bytes) -> None:
    """Say plainly where a file is of another kind or of a newer program, whatever else its header holds."""
    fields = _decode_version(text)
    if bytes(fields.get("format", b"")) != _encode(FORMAT):
        raise ExportError("line 1: that is no export of enviromon: it must begin with its header")
    version = bytes(fields.get("version", b""))
    if version != _encode(VERSION):
        raise ExportError(
            f"line 1: the export has version {version.decode(errors='replace')[:_MAX_SHOWN]}, this program reads "
            f"{VERSION}: import it with the program that wrote it, or with a newer one"
        )

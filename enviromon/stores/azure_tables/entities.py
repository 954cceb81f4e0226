"""Rows: states, calibrations and dead letters as entities of Azure Tables, in the form of azure-data-tables.

A state's row holds the columns that people read (those of the system this one grew from, and Name and Revision) and
`State`, which holds everything and alone is read back. A property holds at most 64 KiB (strings are counted in
UTF-16), an entity 1 MiB: so a long state goes on in `State1` and so on, and a dead letter's body is cut into parts.
https://learn.microsoft.com/rest/api/storageservices/payload-format-for-table-service-operations
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from enviromon.calibration import Version, from_columns, to_columns
from enviromon.device_state import DeviceState
from enviromon.errors import StorageError
from enviromon.metrics import title
from enviromon.stores import DeadLetter
from enviromon.stores.azure_tables.keys import calibration_key, letter_key, row_key

Entity = dict[str, Any]
"""Property names to str, float (Edm.Double), bytes, int (Edm.Int32), or a pair of an int and "Edm.Int64"."""

SCHEMA: Final = 1
PART_CHARACTERS: Final = 16_000
"""One may be two units of UTF-16."""
PART_BYTES: Final = 65_536
BODY_BYTES: Final = 15 * PART_BYTES
"""What an entity of 1 MiB can hold of a body. IoT Hub's largest message is 256 KiB; an Event Hub's may be 1 MiB."""

_TYPE: Final = "@odata.type"
_COLUMNS: Final = {"temperature": "Celsius", "pressure": "hPa"}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PART: Final = "Body{}"

_encode = msgspec.json.Encoder().encode
_decode_state = msgspec.json.Decoder(DeviceState).decode


def column_of(metric: str) -> str:
    """Return the column of a state's row that holds the metric of that name."""
    return _COLUMNS.get(metric) or title(metric)


def state_entity(partition_key: str, state: DeviceState) -> Entity:
    """Write a state as a row."""
    entity: Entity = {}
    for name, measurement in state.metrics.items():
        entity[column_of(name)] = float(measurement.value)
    for column, name in (("Name", "name"), ("Geo", "geo"), ("Id", "messageId")):
        if (label := state.labels.get(name)) is not None:
            entity[column] = _text(label.value)
    entity["Count"] = _int64(state.count)
    entity["Revision"] = _int64(state.revision)
    entity["Schema"] = SCHEMA
    entity["DeviceId"] = state.device_id
    text = _encode(state).decode()
    entity["State"] = text[:PART_CHARACTERS]
    for number, start in enumerate(range(PART_CHARACTERS, len(text), PART_CHARACTERS), 1):
        entity[f"State{number}"] = text[start : start + PART_CHARACTERS]
    entity["PartitionKey"] = partition_key
    entity["RowKey"] = row_key(state.device_id)
    return entity


def to_state(row: Mapping[str, Any]) -> DeviceState:
    """Read a state back. Raises StorageError where the row is not one that this program wrote."""
    schema = row.get("Schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise StorageError(
            f"the device's row {row['RowKey']!r} has schema {schema}, this program knows up to {SCHEMA}: upgrade it"
        )
    try:
        text = row["State"]
        number = 1
        while (part := row.get(f"State{number}")) is not None:
            text += part
            number += 1
        return _decode_state(text)
    except (KeyError, TypeError, msgspec.MsgspecError) as error:
        raise StorageError(f"the device's row {row['RowKey']!r} holds no state of enviromon: {error}") from error


def calibration_entity(site: str, device_id: str, version: Version) -> Entity:
    """Write a version of a device's calibration as a row."""
    return {
        **{column: float(value) for column, value in to_columns(version).items()},
        "ValidFrom": _int64(version.valid_from),
        "DeviceId": device_id,
        "PartitionKey": site,
        "RowKey": calibration_key(device_id, version.valid_from),
    }


def to_version(row: Mapping[str, Any]) -> tuple[str, Version]:
    """Read a version back, with its device's id."""
    columns = {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
    return row["DeviceId"], from_columns(row["ValidFrom"][0], columns)


def letter_entity(site: str, letter: DeadLetter) -> Entity:
    """Write a dead letter as a row; a body that no row can hold is cut, and the detail says so."""
    detail, body = letter.detail, letter.body
    if len(body) > BODY_BYTES:
        detail = f"{detail} (of {len(body):,} bytes the first {BODY_BYTES:,} are kept)"
        body = body[:BODY_BYTES]
    parts = [body[start : start + PART_BYTES] for start in range(0, len(body), PART_BYTES)]
    return {
        "Reason": letter.reason,
        "Detail": detail,
        "DeviceId": letter.device_id,
        "Stream": letter.stream,
        "Sequence": _int64(letter.sequence),
        "Index": letter.index,
        "EnqueuedTime": _int64(letter.enqueued_time),
        **({} if letter.created is None else {"Created": letter.created}),
        **{_PART.format(number): part for number, part in enumerate(parts)},
        "PartitionKey": site,
        "RowKey": letter_key(letter),
    }


def to_letter(row: Mapping[str, Any]) -> DeadLetter:
    """Read a dead letter back."""
    parts: list[bytes] = []
    while (part := row.get(_PART.format(len(parts)))) is not None:
        parts.append(part)
    return DeadLetter(
        reason=row["Reason"],
        detail=row["Detail"],
        device_id=row["DeviceId"],
        stream=row["Stream"],
        sequence=row["Sequence"][0],
        index=int(row["Index"]),
        enqueued_time=row["EnqueuedTime"][0],
        body=b"".join(parts),
        created=row.get("Created"),
    )


def _text(value: str | int) -> Any:
    return _int64(value) if isinstance(value, int) else _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value)


def _int64(value: int) -> tuple[int, str]:
    return value, "Edm.Int64"

"""Entity group transactions on the wire: operations to the body of a `$batch` request, and its answer back.

The SDK writes the same body, through a request object for each row: 30 ms of work for 100 rows, against 2 ms here.
https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions
"""

import base64
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

import msgspec
from msgspec import Struct

from enviromon.stores.azure_tables.entities import Entity
from enviromon.stores.azure_tables.keys import escaped

_BATCH_PART: Final = b"--%b\r\nContent-Type: multipart/mixed; boundary=%b\r\n\r\n"
_ROW_PART: Final = b"--%b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
_ROW_HEADERS: Final = (
    b" HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\nDataServiceVersion: 3.0\r\n"
    b"Accept: application/json;odata=minimalmetadata\r\n%b\r\n%b\r\n"
)
_BOUNDARY: Final = re.compile(r'multipart/mixed;\s*boundary="?([^";\s]+)"?', re.IGNORECASE)
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")
_ETAG: Final = re.compile(rb"^etag:[ \t]*(.*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_OFFENDER: Final = re.compile(r"([0-9]{1,3}):")
_TYPE: Final = "@odata.type"
_ACCEPTED: Final = 202

_encode = msgspec.json.Encoder().encode


class Kind(StrEnum):
    """What a transaction does with a row."""

    INSERT = "insert"
    REPLACE = "replace"
    """Where it still has the etag."""
    PUT = "put"
    """Insert, or replace whatever is there."""
    DELETE = "delete"
    """Whatever is there."""


class Operation(Struct, frozen=True):
    """One row of a transaction; to delete one takes its keys."""

    kind: Kind
    entity: Entity
    etag: str | None = None


class Fault(Struct, frozen=True):
    """An answer that says no: the HTTP status, Tables' error code and sentence, and which operation it is about."""

    status: int
    code: str
    message: str
    index: int | None = None
    retry_after: float | None = None


def write_batch(table_url: str, operations: Sequence[Operation], boundary: str) -> bytes:
    """Write a request's body; its content type is `multipart/mixed; boundary=BOUNDARY`."""
    batch, changeset = b"batch_" + boundary.encode(), b"changeset_" + boundary.encode()
    row_part = _ROW_PART % changeset
    parts = [_BATCH_PART % (batch, changeset)]
    for operation in operations:
        parts += (row_part, _row(table_url, operation))
    parts.append(b"--%b--\r\n\r\n--%b--\r\n" % (changeset, batch))
    return b"".join(parts)


def _row(table_url: str, operation: Operation) -> bytes:
    kind, entity = operation.kind, operation.entity
    if kind is Kind.INSERT:
        body = _encode(to_wire(entity))
        return b"POST %b" % table_url.encode() + _ROW_HEADERS % (len(body), b"Prefer: return-no-content\r\n", body)
    url = f"{table_url}(PartitionKey='{_key(entity['PartitionKey'])}',RowKey='{_key(entity['RowKey'])}')".encode()
    if kind is Kind.DELETE:
        return b"DELETE %b" % url + _ROW_HEADERS % (0, b"If-Match: *\r\n", b"")
    body = _encode(to_wire(entity))
    condition = b"" if operation.etag is None else b"If-Match: %b\r\n" % operation.etag.encode()
    return b"PUT %b" % url + _ROW_HEADERS % (len(body), condition, body)


def to_wire(entity: Entity) -> dict[str, Any]:
    """Write an entity's properties in JSON's types, with the types that JSON does not tell."""
    wire: dict[str, Any] = {}
    for name, value in entity.items():
        if isinstance(value, float):
            wire[name + _TYPE] = "Edm.Double"
            wire[name] = value
        elif isinstance(value, tuple):
            wire[name + _TYPE] = value[1]
            wire[name] = str(value[0])
        elif isinstance(value, bytes):
            wire[name + _TYPE] = "Edm.Binary"
            wire[name] = base64.b64encode(value).decode()
        else:
            wire[name] = value
    return wire


def read_answer(status: int, headers: Mapping[str, str], body: bytes, count: int) -> list[str] | Fault:
    """Return the etags of `count` rows ("" where one was deleted), or what went wrong.

    Raises ValueError where the answer tells neither: it was cut off, or is none of Tables'.
    """
    if status != _ACCEPTED:
        return _fault(status, headers, body)
    answers = _parts(headers, body)
    etags = []
    for answer in answers:
        head, _, content = answer.partition(b"\r\n\r\n")
        found = _STATUS.match(head)
        if found is None:
            raise ValueError("a part of the answer has no status")
        if not found[1].startswith(b"2"):
            return _fault(int(found[1]), headers, content, is_of_row=True)
        etag = _ETAG.search(head)
        etags.append(etag[1].decode("ascii") if etag else "")
    if len(etags) != count:
        raise ValueError(f"the answer tells of {len(etags)} rows, not of {count}")
    return etags


def _parts(headers: Mapping[str, str], body: bytes) -> list[bytes]:
    """Return the HTTP answers within the changeset of a whole answer."""
    outer = _split(headers.get("Content-Type", ""), body)
    if len(outer) != 1:
        raise ValueError("the answer is not one changeset")
    head, _, content = outer[0].partition(b"\r\n\r\n")
    return [part.partition(b"\r\n\r\n")[2] for part in _split(head.decode("latin-1"), content)]


def _split(content_type: str, body: bytes) -> list[bytes]:
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise ValueError("the answer is not multipart")
    mark = b"--" + boundary[1].encode("latin-1")
    start, _, rest = body.partition(mark)
    if start.strip():
        raise ValueError("something stands before the answer's first part")
    parts = rest.split(b"\r\n" + mark)
    if not parts[-1].startswith(b"--"):
        raise ValueError("the answer was cut off")
    return [part.removeprefix(b"\r\n") for part in parts[:-1]]


def _fault(status: int, headers: Mapping[str, str], body: bytes, *, is_of_row: bool = False) -> Fault:
    code, message = headers.get("x-ms-error-code", ""), ""
    try:
        error = msgspec.json.decode(body)["odata.error"]
        code, message = str(error["code"]), str(error["message"]["value"])
    except (msgspec.DecodeError, KeyError, TypeError):
        message = body[:200].decode(errors="replace")
    offender = _OFFENDER.match(message)
    index = (int(offender[1]) if offender else 0) if is_of_row else None
    return Fault(status, code, f"{code}: {' '.join(message.split())}", index, seconds(headers.get("Retry-After")))


def seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header that gives seconds; Tables gives no dates."""
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None


def _key(value: str) -> str:
    return quote(escaped(value), safe="")

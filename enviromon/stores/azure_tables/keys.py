"""Where each row lies: PartitionKey and RowKey of states, calibrations and dead letters, and ranges of RowKeys.

Tables refuses slashes, `#`, `?`, control characters and more than 1 KiB in a key, and a transaction holds one
PartitionKey. So a state's PartitionKey is the site, or site and bucket where a fleet outgrows one partition, and a
RowKey is made of letters, digits and `-._~` alone: it needs no escaping in a URL or in a filter.
https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model
"""

import hashlib
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from enviromon.errors import SettingsError
from enviromon.stores import DeadLetter

LAYOUT_ROW: Final = "!layout"
"""The row that holds how a site is laid out; `!` sorts before all that a device's RowKey is made of."""
FIRST_ROW: Final = "-"

ROW_KEY: Final = re.compile(r"[A-Za-z0-9\-._~!]*")
"""All that a RowKey of this program is made of."""

_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._")
_ESCAPED: Final = [chr(byte) if byte in _PLAIN else f"~{byte:02X}" for byte in range(256)]
_FORBIDDEN: Final = re.compile(r"[/\\#?\x00-\x1f\x7f-\x9f]|:[0-9]+\Z")
_INT64: Final = 1 << 63

Range = tuple[str, str]
"""The first and the last RowKey of a range, both of them in it."""


def check_site(site: str) -> None:
    """Raise SettingsError where the site cannot be a PartitionKey, or could be taken for a bucket of another site."""
    if _FORBIDDEN.search(site):
        raise SettingsError(
            f"PartitionKey is {site!r}: in Azure Tables it holds none of / \\ # ?, no control characters, "
            "and does not end with a colon and a number"
        )


def partition_keys(site: str, buckets: int) -> list[str]:
    """Return all PartitionKeys of a site's states."""
    return [site] if buckets == 1 else [f"{site}:{bucket}" for bucket in range(buckets)]


def bucket_of(device_id: str, buckets: int) -> int:
    """Return which of the PartitionKeys is the device's."""
    return zlib.crc32(device_id.encode(errors="surrogatepass")) % buckets


def row_key(device_id: str) -> str:
    """Write a device id so that Tables takes it: at most 3 characters for a byte, 384 for an id of IoT Hub."""
    return "".join([_ESCAPED[byte] for byte in device_id.encode(errors="surrogatepass")])


def calibration_key(device_id: str, valid_from: int) -> str:
    """Return a version's RowKey; a device's versions lie together, by rising `valid_from` (ms)."""
    return f"{row_key(device_id)}!{valid_from + _INT64:020}"


def calibration_range(device_id: str) -> Range:
    """Return where all versions of a device lie."""
    key = row_key(device_id)
    return f"{key}!", f"{key}!~"


def letter_key(letter: DeadLetter) -> str:
    """Return a dead letter's RowKey: by arrival at the hub, and the same for the same letter."""
    identity = (
        letter.stream, letter.sequence, letter.index, letter.enqueued_time, letter.device_id, letter.reason,
    )  # fmt: skip
    digest = hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:32]
    return f"{max(0, letter.enqueued_time):015}-{max(0, letter.sequence):019}-{max(0, letter.index):04}-{digest}"


def escaped(text: str) -> str:
    """Write a text so that it can stand between the apostrophes of a filter or of an entity's address."""
    return text.replace("'", "''")


def after(key: str) -> str:
    """Return what follows the RowKey immediately."""
    return key + "!"


def ranges_after(ranges: Sequence[Range], key: str) -> list[Range]:
    """Return what is left of rising ranges beyond the RowKey."""
    rest = after(key)
    return [(max(first, rest), last) for first, last in ranges if last >= rest]


def within(ranges: Sequence[Range], keys: Iterable[str]) -> list[bool]:
    """Tell of each of the rising RowKeys whether it lies in one of the rising ranges."""
    told = []
    number = 0
    for key in keys:
        while number < len(ranges) and ranges[number][1] < key:
            number += 1
        told.append(number < len(ranges) and ranges[number][0] <= key)
    return told

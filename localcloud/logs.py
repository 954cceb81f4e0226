"""How the log is written: nothing a peer sent steers the terminal or forges a line, and no peer fills the disk.

1. Control characters, line breaks and marks that turn the direction of text are escaped, in a record's message.
2. Of records with one text (before its arguments), below ERROR or of the HTTP library, so many are written a second;
   how many were left out stands at the next one that is written.
3. A request that breaks HTTP is its sender's fault: it leaves a line, and no traceback.
"""

import logging
import re
import sys
import time
from collections.abc import Callable

import msgspec

from localcloud.json_lines import JsonLinesFormatter
from localcloud.token_bucket import TokenBucket

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_PER_SECOND, _BURST = 2.0, 50.0
_HTTP, _BAD_REQUEST = "aiohttp.server", 400


def printable(text: str) -> str:
    """Escape what is no visible character, as a Python literal would."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class PrintableFormatter(logging.Formatter):
    """Rule 1; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Escape the message."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Escape what a traceback's lines hold."""
        text = super().formatException(ei)  # type: ignore[arg-type]
        return "\n".join(map(printable, text.split("\n")))


class _Seen(msgspec.Struct):
    bucket: TokenBucket
    left_out: int = 0


class Damper(logging.Filter):
    """Rule 2."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is written."""
        if record.name == _HTTP:
            _shorten(record)
        elif record.levelno >= logging.ERROR:
            return True
        now = self._clock()
        seen = self._seen.setdefault(str(record.msg), _Seen(TokenBucket(_PER_SECOND, _BURST, now)))
        if seen.bucket.wait(now):
            seen.left_out += 1
            return False
        seen.bucket.take(1, now)
        if seen.left_out:
            record.msg, record.args = f"{record.getMessage()} (and {seen.left_out:,} more like it)", ()
            seen.left_out = 0
        return True


def _shorten(record: logging.LogRecord) -> None:
    """Rule 3; aiohttp's exceptions of that kind have a `code`."""
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if error is not None and getattr(error, "code", None) == _BAD_REQUEST:
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "a request broke HTTP: %s", (type(error).__name__,)


def set_up_logging(*, verbose: bool, as_json: bool = False) -> None:
    """Send the log to stderr, as text or as JSON lines: warnings, and with `verbose` what happens besides."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLinesFormatter() if as_json else PrintableFormatter(_FORMAT))
    handler.addFilter(Damper())
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])

"""The log as JSON, one object a line, for programs that collect logs.

What a record was given as `extra` stands beside `time`, `level`, `logger` and `message`; an invocation's line has the
fields of localcloud.functions.invocation. Everything beyond ASCII is escaped, so nothing a peer sent forges a line.
"""

import datetime as dt
import json
import logging
import time
from typing import Any

from localcloud.functions.invocation import Invocation

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLinesFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        given = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line = _line(record.created, record.levelname, record.name, record.getMessage()) | given
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def invocation_line(invocation: Invocation, stack: str | None) -> str:
    """Tell one invocation; `stack` is the traceback to show where it failed."""
    level = "INFO" if invocation.error is None else "ERROR"
    line = _line(time.time(), level, "localcloud.functions", f"{invocation.function} {invocation.outcome}")
    for name in invocation.__struct_fields__:
        value = getattr(invocation, name)
        if value is not None and name != "error":
            line[name] = round(value, 3) if isinstance(value, float) else value
    if invocation.error is not None:
        line |= {"error": f"{type(invocation.error).__name__}: {invocation.error}", "exception": stack}
    return json.dumps(line, default=str)


def _line(seconds: float, level: str, logger: str, message: str) -> dict[str, Any]:
    written = dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"time": written, "level": level.lower(), "logger": logger, "message": message}

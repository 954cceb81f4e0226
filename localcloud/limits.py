"""All bounds on peers in one place, as a file may set them, and as the system's own bound on open files allows them.

The file is JSON: `{"iothub": {"connections": 500}, "signalr": {...}, "functions": {...}, "web": {...}}`; what it does
not name keeps its default.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from localcloud.functions.http import HttpLimits
from localcloud.iothub.limits import HubLimits
from localcloud.signalr.limits import Limits
from localcloud.web_server import WebLimits

OTHER_FILES = 256
"""Open files that are no peer's: databases, the application's own connections."""


class LimitsError(ValueError):
    """The file of limits is not what it must be; the operator must act."""


class CloudLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of each service; `web` holds for the functions' port and for the registry's, each."""

    iothub: HubLimits = HubLimits()
    signalr: Limits = Limits()
    functions: HttpLimits = HttpLimits()
    web: WebLimits = WebLimits()

    def sockets(self) -> int:
        """Return how many sockets peers may open in all."""
        return self.iothub.connections + self.signalr.max_sockets + 2 * self.web.sockets


def read_limits(path: Path) -> CloudLimits:
    """Read a file of limits. Raises LimitsError, which names the file, the field and the rule."""
    try:
        given = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LimitsError(f"{path}: {error}") from None
    known = {name: type(getattr(CloudLimits(), name)) for name in CloudLimits.__struct_fields__}
    for service, fields in given.items():
        _check(path, service, fields, known)
    try:
        return msgspec.convert(given, CloudLimits)
    except msgspec.ValidationError as error:
        raise LimitsError(f"{path}: {error}") from None


def within(limits: CloudLimits, open_files: int) -> CloudLimits:
    """Return limits whose sockets fit into so many open files; devices may have two thirds, the others share the rest.

    A listener that runs out of files can accept nothing more, and a database cannot be opened: it must not happen.
    """
    most = max(open_files - OTHER_FILES, 0)
    if limits.sockets() <= most:
        return limits
    devices = min(limits.iothub.connections, most * 2 // 3)
    share = (most - devices) / (limits.sockets() - limits.iothub.connections)
    replace = msgspec.structs.replace
    return replace(
        limits,
        iothub=replace(limits.iothub, connections=devices),
        signalr=replace(limits.signalr, max_sockets=int(limits.signalr.max_sockets * share)),
        web=replace(limits.web, sockets=int(limits.web.sockets * share)),
    )


def _check(path: Path, service: str, fields: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    if service not in known:
        raise LimitsError(f"{path}: there is no {service!r}; there are {', '.join(known)}")
    for name, value in fields.items():
        if name not in known[service].__struct_fields__:
            raise LimitsError(f"{path}: {service} has no {name!r}; docs/security.md lists what it has")
        may_be_zero = isinstance(value, bool) or not isinstance(value, int | float) or value > 0
        if not may_be_zero and not (name == "outstanding_requests" and value == -1):
            raise LimitsError(f"{path}: {service}.{name} must be above 0, not {value}")

"""Who may call: the Host and Origin headers, CORS, and function keys. Pure.

Rules: a Host header that names no host of ours is refused, and so is an Origin that is neither ours nor allowed: else
a page of a stranger could reach this host by rebinding its DNS name (or by plain requests) with the user's browser.
Keys are compared in constant time.
"""

import hmac
from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import urlsplit

import msgspec

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

AuthLevel = Literal["ANONYMOUS", "FUNCTION", "ADMIN"]


def host_name(host_header: str) -> str | None:
    """Return the name in a Host header, lower case, without port and brackets; None where it is malformed."""
    try:
        parts = urlsplit(f"//{host_header}")
        _ = parts.port
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname and parts.hostname.lower()  # urlsplit leaves what follows a % as it is


def origin_host(origin: str) -> str | None:
    """Return the host's name in an Origin header; None where it is no origin of a web page."""
    scheme, separator, host = origin.lower().partition("://")
    return host_name(host) if separator and scheme in {"http", "https"} else None


class CorsRules(msgspec.Struct, frozen=True):
    """Which origins may call. `origins` None: those on loopback; "*" in it: every one."""

    hosts: frozenset[str] = LOOPBACK_HOSTS
    origins: frozenset[str] | None = None
    credentials: bool = True

    def allows_host(self, host_header: str) -> bool:
        """Tell whether a request with this Host header is for us."""
        return host_name(host_header) in self.hosts

    def allows_origin(self, origin: str, host_header: str) -> bool:
        """Tell whether a page of this origin may call us; a page of our own always may."""
        if origin.lower().partition("://")[2] == host_header.lower():
            return True
        if self.origins is not None:
            return "*" in self.origins or origin.lower() in self.origins
        return origin_host(origin) in LOOPBACK_HOSTS

    def response_headers(self, origin: str) -> dict[str, str]:
        """Return the headers by which a browser lets the page read the answer: the origin itself, never "*"."""
        headers = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        if self.credentials:
            headers["Access-Control-Allow-Credentials"] = "true"
        return headers

    def preflight_headers(self, origin: str, method: str, request_headers: str) -> dict[str, str]:
        """Return the headers of the answer to a preflight request."""
        headers = self.response_headers(origin)
        headers["Access-Control-Allow-Methods"] = method
        headers["Access-Control-Max-Age"] = "600"
        if request_headers:
            headers["Access-Control-Allow-Headers"] = request_headers
        return headers


def cors_rules(hosts: Iterable[str], cors: str | None, *, credentials: bool) -> CorsRules:
    """Read local.settings.json's `Host.CORS`; without it loopback origins may call, with credentials."""
    names = frozenset(name.lower() for name in hosts)
    if cors is None:
        return CorsRules(hosts=names)
    origins = frozenset(origin.strip().rstrip("/").lower() for origin in cors.split(",") if origin.strip())
    return CorsRules(hosts=names, origins=origins, credentials=credentials)


def is_authorized(level: AuthLevel, key: str | None, *, master: str, default: str) -> bool:
    """Tell whether a key opens a function: the master key opens all, the default key all but ADMIN."""
    if level == "ANONYMOUS":
        return True
    if key is None:
        return False
    given = key.encode(errors="surrogateescape")  # a header's bytes that are not UTF-8 arrive as such
    is_master = hmac.compare_digest(given, master.encode())
    is_default = hmac.compare_digest(given, default.encode())
    return is_master or (is_default and level == "FUNCTION")


def given_key(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """Return the key that a request carries: the header's before the query's."""
    return headers.get("x-functions-key") or query.get("code")

"""Connection strings and access tokens of Azure SignalR Service: made and judged, without a clock of its own.

The rules, as the service's documentation and SDKs state them:
1. A token is a JWT, signed HS256 with the connection string's AccessKey as it is written (not decoded). `exp` and `aud`
   are required.
2. `aud` of a client's token is `{endpoint}/client/?hub={hub}`; of a REST call it is the URL called, without the query.
   Scheme, host and port are not compared: SDKs leave out `Port=`, viewers come by other host names, and the key itself
   says for which service the token is.
3. The user id is the claim `nameid` (newer .NET libraries write its full URI, persistent SDKs `asrs.s.uid`).
4. Hub names are compared in lower case.

The few lines of JWT are here instead of in a library because PyJWT imports cryptography: 28 ms of the start and 9 MB,
both unused for HS256. The tests check them against PyJWT in both directions.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

MAX_TOKEN_LENGTH = 8192
MAX_USER_ID_LENGTH = 1024
NOT_BEFORE_LEEWAY_SECONDS = 300
USER_ID_CLAIMS = (
    "asrs.s.uid",
    "nameid",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier",
)
HIGHEST_PORT = 65535
_LATEST = 1e15


class InvalidTokenError(Exception):
    """The token opens nothing; the sentence names the rule and holds no secret."""


class ConnectionString(msgspec.Struct, frozen=True, kw_only=True):
    """Where a SignalR service is and the key that opens it. `endpoint` and `client_endpoint` end without a slash."""

    endpoint: str
    access_key: str
    port: int | None = None
    client_endpoint: str | None = None

    @property
    def base_url(self) -> str:
        """The service's URL for REST calls, with the port where one was named."""
        return self.endpoint if self.port is None else f"{self.endpoint}:{self.port}"

    def client_url(self, hub: str) -> str:
        """Return the URL to which a hub's clients are sent; it is also the audience of their tokens."""
        return f"{self.client_endpoint or self.base_url}/client/?hub={hub.lower()}"

    def __repr__(self) -> str:
        """A repr without the key, so that no log or traceback shows it."""
        return f"ConnectionString(endpoint={self.base_url!r})"


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid token says. Whom it opens the door for: `opens_hub` and `opens_path`."""

    audiences: tuple[str, ...]
    expires: float
    user_id: str | None = None

    def opens_hub(self, hub: str) -> bool:
        """Say whether a client may connect to the hub (lower case) with this token."""
        return any(_audience_hub(audience) == hub for audience in self.audiences)

    def opens_path(self, path: str) -> bool:
        """Say whether a REST call of this decoded path may be made with this token."""
        return any(_audience_path(audience) == _canonical(path) for audience in self.audiences)


def parse_connection_string(text: str) -> ConnectionString:
    """Read `Endpoint=...;AccessKey=...;Version=1.0;[Port=...;][ClientEndpoint=...;]`, names in any case and order.

    Raises ValueError, which names the rule and never the key.
    """
    parts = (part.partition("=") for part in text.split(";") if part.strip())
    fields = {name.strip().lower(): value.strip() for name, _, value in parts}
    if not fields.get("accesskey"):
        raise ValueError("a SignalR connection string needs AccessKey=...")
    client_endpoint = fields.get("clientendpoint")
    return ConnectionString(
        endpoint=_parse_endpoint("Endpoint", fields.get("endpoint", "")),
        access_key=fields["accesskey"],
        port=_parse_port(fields["port"]) if fields.get("port") else None,
        client_endpoint=_parse_endpoint("ClientEndpoint", client_endpoint) if client_endpoint else None,
    )


def make_token(
    access_key: str, audience: str, *, lifetime_seconds: int = 3600, now: float, user_id: str | None = None
) -> str:
    """Sign a token for an audience (rule 2), valid from `now` (unix seconds) for its lifetime."""
    claims: dict[str, Any] = {"aud": audience, "iat": int(now), "exp": int(now) + lifetime_seconds}
    if user_id is not None:
        claims["nameid"] = user_id
    signed = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
    return f"{signed}.{_base64url(_sign(access_key, signed))}"


def verify_token(token: str, access_key: str, *, now: float) -> Claims:
    """Judge signature and times of a token. Raises InvalidTokenError; `now` is in unix seconds."""
    if len(token) > MAX_TOKEN_LENGTH:
        raise InvalidTokenError(f"the token is longer than {MAX_TOKEN_LENGTH} characters")
    if not token.isascii():
        raise InvalidTokenError("the token is no JWT")
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    if _decode(header).get("alg") != "HS256":
        raise InvalidTokenError("the token is not signed with HS256")
    if not hmac.compare_digest(_sign(access_key, signed), _unbase64url(signature)):
        raise InvalidTokenError("the token's signature does not fit the access key")
    return _judge(_decode(payload), now)


def _judge(claims: Mapping[str, Any], now: float) -> Claims:
    expires, not_before = _time(claims, "exp"), _time(claims, "nbf")
    if expires is None:
        raise InvalidTokenError("the token lacks exp")
    if expires <= now:
        raise InvalidTokenError(f"the token expired {now - expires:.0f} s ago")
    if not_before is not None and not_before > now + NOT_BEFORE_LEEWAY_SECONDS:
        raise InvalidTokenError("the token is not valid yet")
    return Claims(audiences=_audiences(claims), expires=expires, user_id=_user_id(claims))


def _audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    value = claims.get("aud")
    audiences = value if isinstance(value, list) else [value]
    if not audiences or not all(isinstance(audience, str) for audience in audiences):
        raise InvalidTokenError("the token lacks aud")
    return tuple(audiences)


def _user_id(claims: Mapping[str, Any]) -> str | None:
    value = next((claims[name] for name in USER_ID_CLAIMS if claims.get(name)), None)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_USER_ID_LENGTH:
        raise InvalidTokenError(f"the token's user id is no string of at most {MAX_USER_ID_LENGTH} characters")
    return value


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTokenError(f"the token's {name} is no number")
    if not -_LATEST <= value <= _LATEST:
        raise InvalidTokenError(f"the token's {name} is no time")
    return float(value)


def _audience_hub(audience: str) -> str | None:
    if _audience_path(audience) != "/client":
        return None
    return parse_qs(urlsplit(audience).query).get("hub", [""])[0].lower()


def _audience_path(audience: str) -> str | None:
    try:
        return _canonical(unquote(urlsplit(audience).path))
    except ValueError:  # urlsplit refuses some malformed hosts
        return None


def _canonical(path: str) -> str:
    return path.rstrip("/").lower()


def _parse_endpoint(name: str, value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"a SignalR connection string needs {name}=http(s)://HOST")
    return value.rstrip("/")


def _parse_port(value: str) -> int:
    if not (value.isascii() and value.isdigit() and 0 < int(value) <= HIGHEST_PORT):
        raise ValueError(f"a SignalR connection string's Port is a number from 1 to {HIGHEST_PORT}")
    return int(value)


def _encode(value: Mapping[str, Any]) -> str:
    return _base64url(msgspec.json.encode(value))


def _decode(part: str) -> Mapping[str, Any]:
    try:
        decoded = msgspec.json.decode(_unbase64url(part), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise InvalidTokenError("the token is no JWT") from None
    return decoded


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64url(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise InvalidTokenError("the token is no JWT") from None


def _sign(access_key: str, text: str) -> bytes:
    return hmac.digest(access_key.encode(), text.encode(), hashlib.sha256)

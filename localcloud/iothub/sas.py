r"""Shared access signatures: made and judged, without a clock or a registry of its own.

The rules, as Azure IoT Hub states them and its SDKs produce them:
1. `SharedAccessSignature sr={resource}&sig={signature}&se={expiry}[&skn={policy}]`, every value percent-encoded, fields
   in any order.
2. signature = base64(HMAC-SHA256(key, sr + "\n" + se)) over `sr` as it was sent, still encoded: encoders differ.
3. A device's key is base64 and signs decoded. A policy's key signs decoded (azure-iot-hub) or as its text
   (azure-eventhub).
4. Every comparison takes the same time whatever it finds; nothing here tells a peer why it was refused.
"""

import base64
import hashlib
import hmac
from collections.abc import Collection, Iterable
from urllib.parse import quote, unquote

import msgspec

SCHEME = "SharedAccessSignature "
MAX_TOKEN_LENGTH = 4096
MAX_EXPIRY_DIGITS = 12
MIN_KEY_BYTES, MAX_KEY_BYTES = 16, 64


class InvalidTokenError(Exception):
    """The token proves nothing; the sentence is for the operator's log and holds no secret."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token as parsed; it proves nothing before `verify`."""

    resource: str
    signed_text: bytes
    signature: bytes
    expiry: int
    policy: str | None

    def __repr__(self) -> str:
        """Return a repr without the signature, so that no log or traceback shows it."""
        return f"Token(resource={self.resource!r}, expiry={self.expiry}, policy={self.policy!r})"


def decode_key(key: str) -> bytes:
    """Return the bytes of a base64 key. Raises ValueError unless they are 16 to 64, as IoT Hub asks."""
    try:
        decoded = base64.b64decode(key, validate=True)
    except ValueError:
        raise ValueError("a key must be base64") from None
    if not MIN_KEY_BYTES <= len(decoded) <= MAX_KEY_BYTES:
        raise ValueError(f"a key must hold {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes, base64-encoded")
    return decoded


def policy_secrets(key: str) -> tuple[bytes, bytes]:
    """Return both forms in which clients sign with a policy's key: decoded, and its text."""
    return decode_key(key), key.encode()


def make_token(resource: str, key: str, expiry: int, policy: str | None = None) -> str:
    """Sign a resource such as `localhost/devices/d1` until `expiry` (unix seconds). Raises ValueError for a bad key."""
    encoded = quote(resource, safe="")
    signature = base64.b64encode(_sign(decode_key(key), f"{encoded}\n{expiry}".encode())).decode()
    token = f"{SCHEME}sr={encoded}&sig={quote(signature, safe='')}&se={expiry}"
    return token if policy is None else f"{token}&skn={quote(policy, safe='')}"


def parse_token(text: str) -> Token:
    """Read a token without judging it. Raises InvalidTokenError."""
    if len(text) > MAX_TOKEN_LENGTH:
        raise InvalidTokenError(f"the token is longer than {MAX_TOKEN_LENGTH} characters")
    if not text.isascii():
        raise InvalidTokenError("the token holds more than ASCII")
    if not text.startswith(SCHEME):
        raise InvalidTokenError("the password is no SharedAccessSignature")
    fields = _fields(text.removeprefix(SCHEME))
    resource, signature, expiry = (_required(fields, name) for name in ("sr", "sig", "se"))
    if not (expiry.isascii() and expiry.isdigit() and len(expiry) <= MAX_EXPIRY_DIGITS):
        raise InvalidTokenError("the token's se is no unix time")
    try:
        decoded = base64.b64decode(unquote(signature), validate=True)
    except ValueError:
        raise InvalidTokenError("the token's sig is no base64") from None
    return Token(
        resource=unquote(resource),
        signed_text=f"{resource}\n{expiry}".encode(),
        signature=decoded,
        expiry=int(expiry),
        policy=unquote(fields.get("skn", "")) or None,
    )


def verify(token: Token, secrets: Iterable[bytes], *, now: float) -> int:
    """Return which of the secrets signed the token. Raises InvalidTokenError where none did or it has expired."""
    matches = [hmac.compare_digest(_sign(secret, token.signed_text), token.signature) for secret in secrets]
    if True not in matches:
        raise InvalidTokenError("the token's signature fits no key")
    if token.expiry <= now:
        raise InvalidTokenError(f"the token expired {now - token.expiry:.0f} s ago")
    return matches.index(True)


def covers(token: Token, hostnames: Collection[str], path: str, *, exactly: bool = False) -> bool:
    """Say whether the token is for host/path, host one of the names (lower case), or for a whole-segment prefix of it.

    A device's own token must name the device: `exactly`.
    """
    host, _, scope = token.resource.partition("/")
    if without_port(host) not in hostnames:
        return False
    return scope == path if exactly else not scope or f"{path}/".startswith(f"{scope.rstrip('/')}/")


def without_port(host: str) -> str:
    """`LocalHost:8443` -> `localhost`; IPv6 addresses keep their colons and lose their brackets."""
    name, colon, port = host.lower().rpartition(":")
    bare = name if colon and port.isdigit() and (":" not in name or name.endswith("]")) else host.lower()
    return bare.removeprefix("[").removesuffix("]")


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for part in text.split("&"):
        name, _, value = part.partition("=")
        if name in fields:
            raise InvalidTokenError(f"the token holds {name[:8]!r} twice")
        fields[name] = value
    return fields


def _required(fields: dict[str, str], name: str) -> str:
    value = fields.get(name)
    if not value:
        raise InvalidTokenError(f"the token lacks {name}")
    return value


def _sign(secret: bytes, text: bytes) -> bytes:
    return hmac.digest(secret, text, hashlib.sha256)

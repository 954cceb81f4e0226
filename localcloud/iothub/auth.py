"""Who a CONNECT is from: what it claims, what proves it, and when a proof that was good no longer is. Pure.

1. User name `{host}/{device id}/?api-version=...`, host one of the hub's names; the client id is the device id.
2. Password: a SAS token for `{host}/devices/{device id}` by one of the device's keys, or for a prefix of that by a
   policy of the hub.
3. The peer learns a number, never a reason; an unknown device costs it the same time as a wrong key.
"""

import re
import secrets
from collections.abc import Collection, Mapping
from urllib.parse import parse_qs

import msgspec

from localcloud.iothub import sas
from localcloud.iothub.packets import BAD_CREDENTIALS, NOT_AUTHORIZED, Connect
from localcloud.iothub.registry import Device

_API_VERSION = re.compile(r"\d{4}-\d\d-\d\d(-preview)?")
_USERNAME_PARTS = 3
_DECOY = secrets.token_bytes(32)


class RefusedError(Exception):
    """A CONNECT that is not accepted: the code for the peer, the sentence for the operator's log, without secrets."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class Login(msgspec.Struct, frozen=True):
    """What a CONNECT claims; nothing of it is proved."""

    device_id: str
    token: sas.Token


_AUTH_METHODS = {
    scope: f'{{"scope":"{scope}","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}}'
    for scope in ("device", "hub")
}


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A proved login. `device_key` is None where a policy of the hub vouched for the device."""

    device_id: str
    generation_id: str
    device_key: str | None
    expiry: int

    @property
    def auth_method(self) -> str:
        """Return the value of iothub-connection-auth-method, as IoT Hub writes it."""
        return _AUTH_METHODS["device" if self.device_key else "hub"]

    def why_void(self, device: Device | None) -> str | None:
        """Say why the grant no longer holds, given what the registry now has for the device; None where it does."""
        if device is None or device.generation_id != self.generation_id:
            return "the device was removed"
        if not device.enabled:
            return "the device was disabled"
        if self.device_key and self.device_key not in (device.primary_key, device.secondary_key):
            return "the key was replaced"
        return None


def read_login(connect: Connect, hostnames: Collection[str]) -> Login:
    """Read the claims of a CONNECT. Raises RefusedError."""
    if not connect.username or not connect.password:
        raise RefusedError(BAD_CREDENTIALS, "no user name or no password")
    parts = connect.username.split("/", _USERNAME_PARTS - 1)
    if len(parts) < _USERNAME_PARTS or not _has_api_version(parts[2]):
        raise RefusedError(BAD_CREDENTIALS, "the user name is not {host}/{device id}/?api-version=...")
    host, device_id, _ = parts
    if sas.without_port(host) not in hostnames:
        raise RefusedError(NOT_AUTHORIZED, f"the user name is for the host {host[:80]!r}")
    if connect.client_id != device_id:
        raise RefusedError(
            NOT_AUTHORIZED, f"the client id {connect.client_id[:130]!r} is not the user name's device id"
        )
    try:
        return Login(device_id, sas.parse_token(connect.password))
    except sas.InvalidTokenError as error:
        raise RefusedError(BAD_CREDENTIALS, str(error)) from None


def judge(
    login: Login, device: Device | None, *, hostnames: Collection[str], policies: Mapping[str, str], now: float
) -> Grant:
    """Prove a login against the registered device and the hub's policies (name -> key). Raises RefusedError."""
    token = login.token
    try:
        if token.policy is None:
            keys = (device.primary_key, device.secondary_key) if device else ()
            signer = sas.verify(token, [sas.decode_key(key) for key in keys] or (_DECOY, _DECOY), now=now)
            device_key = keys[signer]
        else:
            policy_key = policies.get(token.policy)
            sas.verify(token, sas.policy_secrets(policy_key) if policy_key else (_DECOY, _DECOY), now=now)
            device_key = None
    except sas.InvalidTokenError as error:
        raise RefusedError(NOT_AUTHORIZED, str(error) if device else "the device is not registered") from None
    if not sas.covers(token, hostnames, f"devices/{login.device_id}", exactly=token.policy is None):
        raise RefusedError(NOT_AUTHORIZED, f"the token is for {token.resource[:200]!r}")
    if device is None:
        raise RefusedError(NOT_AUTHORIZED, "the device is not registered")
    if not device.enabled:
        raise RefusedError(NOT_AUTHORIZED, "the device is disabled")
    return Grant(
        device_id=login.device_id, generation_id=device.generation_id, device_key=device_key, expiry=token.expiry
    )


def _has_api_version(query: str) -> bool:
    try:
        values = parse_qs(query.removeprefix("?"), max_num_fields=32).get("api-version", [])
    except ValueError:
        return False
    return len(values) == 1 and _API_VERSION.fullmatch(values[0]) is not None

"""The `signalR` output and the `signalRConnectionInfo` input, against any Azure SignalR Service (the local one too).

Rules: an output goes out over the service's REST API after the function returned, and fails the invocation where the
service does not accept it. The arguments of a message are passed through as the function wrote them, never parsed.
The address that a viewer gets follows the host name by which it came where the service is on loopback; a
`ClientEndpoint` in the connection string overrides that.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

import msgspec

from localcloud.functions.access import LOOPBACK_HOSTS, host_name
from localcloud.functions.app import Binding, connection_name
from localcloud.functions.bindings import BindingData, SettingError, compile_expression, connection_setting
from localcloud.signalr.tokens import ConnectionString, make_token, parse_connection_string

if TYPE_CHECKING:
    from aiohttp import ClientSession

_TOKEN_SECONDS = 3600
_TIMEOUT_SECONDS = 10.0
_MAX_CACHED_TOKENS = 256


class SignalROutputError(Exception):
    """The service did not accept a message, or the function's output is no message."""


class Message(msgspec.Struct, forbid_unknown_fields=False, rename="camel"):
    """One item of the output: an invocation of `target`, or a change of a group's members (`action`)."""

    target: str | None = None
    arguments: msgspec.Raw = msgspec.Raw(b"[]")
    connection_id: str | None = None
    user_id: str | None = None
    group_name: str | None = None
    action: Literal["add", "remove", "removeAll"] | None = None


class SignalROutput:
    """Sends what a function puts out to one SignalR hub. `session` is made when it is first needed."""

    def __init__(self, binding: Binding, settings: Mapping[str, str], session: "Callable[[], ClientSession]") -> None:
        connection = _connection(binding, settings)
        self._key = connection.access_key
        self._base = connection.base_url
        self._hub = f"/api/v1/hubs/{quote(binding.text('hubName').lower(), safe='')}"
        self._session = session
        self._tokens: dict[str, tuple[str, float]] = {}

    @property
    def uses_tls(self) -> bool:
        """Tell whether the service is reached over TLS."""
        return self._base.startswith("https:")

    async def __call__(self, output: Any) -> None:
        """Send a message or a list of them, given as JSON text or as values. Raises SignalROutputError."""
        for message in _parse(output):
            method, path, body = _request(self._hub, message)
            await self._send(method, self._base + path, body)

    async def _send(self, method: str, url: str, body: bytes | None) -> None:
        import aiohttp  # noqa: PLC0415  # an app without SignalR need not load the client

        headers = {"Authorization": f"Bearer {self._token(url)}", "Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        for retried in (False, True):
            try:
                async with self._session().request(
                    method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
                ) as response:
                    if not 200 <= response.status < 300:  # noqa: PLR2004
                        raise SignalROutputError(f"the SignalR service answered {response.status} to {method} {url}")
                    return
            except aiohttp.ServerDisconnectedError as error:
                # The service closed a kept-alive connection just as it was used again: it has read nothing.
                if retried:
                    raise SignalROutputError(f"the SignalR service at {self._base} cannot be reached") from error
            except (aiohttp.ClientError, OSError) as error:
                detail = str(error) or type(error).__name__
                raise SignalROutputError(f"the SignalR service at {self._base} cannot be reached: {detail}") from error

    def _token(self, url: str) -> str:
        now = time.time()
        token, until = self._tokens.get(url, ("", 0.0))
        if until < now:
            token = make_token(self._key, url, lifetime_seconds=_TOKEN_SECONDS, now=now)
            if len(self._tokens) >= _MAX_CACHED_TOKENS:
                self._tokens.clear()
            self._tokens[url] = token, now + _TOKEN_SECONDS / 2
        return token


def _parse(output: Any) -> list[Message]:
    try:
        raw = output.encode() if isinstance(output, str) else output
        if not isinstance(raw, (bytes, bytearray)):
            raw = msgspec.json.encode(raw)
        if raw.lstrip()[:1] == b"[":
            return msgspec.json.decode(raw, type=list[Message])
        return [msgspec.json.decode(raw, type=Message)]
    except (msgspec.MsgspecError, TypeError, UnicodeEncodeError) as error:
        raise SignalROutputError(f"the signalR output is no message: {error}") from None


def _request(hub: str, message: Message) -> tuple[str, str, bytes | None]:
    """Return method, path and body of the REST call. Raises SignalROutputError."""
    if message.action is not None:
        return *_group_change(hub, message), None
    if message.target is None:
        raise SignalROutputError('the signalR output has neither a "target" nor an "action"')
    body = b'{"target":%b,"arguments":%b}' % (msgspec.json.encode(message.target), bytes(message.arguments))
    for kind, name in (
        ("connections", message.connection_id),
        ("users", message.user_id),
        ("groups", message.group_name),
    ):
        if name:
            return "POST", f"{hub}/{kind}/{quote(name, safe='')}", body
    return "POST", hub, body


def _group_change(hub: str, message: Message) -> tuple[str, str]:
    connection, user, group = (
        quote(name, safe="") if name else "" for name in (message.connection_id, message.user_id, message.group_name)
    )
    if message.action == "removeAll" and user:
        return "DELETE", f"{hub}/users/{user}/groups"
    member = f"connections/{connection}" if connection else f"users/{user}"
    if message.action == "removeAll" or not group or not (connection or user):
        raise SignalROutputError(f'the signalR action "{message.action}" lacks its groupName, userId or connectionId')
    return "PUT" if message.action == "add" else "DELETE", f"{hub}/groups/{group}/{member}"


class SignalRConnectionInfo:
    """Makes what a viewer needs to connect: `{"url", "accessToken"}` as JSON text."""

    def __init__(self, binding: Binding, settings: Mapping[str, str]) -> None:
        connection = _connection(binding, settings)
        self._key = connection.access_key
        self._url = connection.client_url(binding.text("hubName"))
        self._follows = connection.client_endpoint is None and urlsplit(self._url).hostname in LOOPBACK_HOSTS
        user_id = binding.text("userId")
        self._user_id = compile_expression(user_id) if user_id else None

    def __call__(self, data: BindingData) -> str:
        """Return the connection info for one request. Raises BindingExpressionError."""
        url = _with_host(self._url, data.headers.get("host", "")) if self._follows else self._url
        user_id = self._user_id(data) if self._user_id else None
        token = make_token(self._key, url, lifetime_seconds=_TOKEN_SECONDS, now=time.time(), user_id=user_id)
        return msgspec.json.encode({"url": url, "accessToken": token}).decode()


def _connection(binding: Binding, settings: Mapping[str, str]) -> ConnectionString:
    name = connection_name(binding)
    try:
        return parse_connection_string(connection_setting(name, settings, "SignalR"))
    except SettingError:
        raise
    except ValueError as error:
        raise SettingError(f"the app setting {name} cannot be used: {error}") from None


def _with_host(url: str, host_header: str) -> str:
    """Put the host name of a Host header into a URL, keeping the URL's own port."""
    name = host_name(host_header)
    if not name:
        return url
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=(f"[{name}]" if ":" in name else name) + port).geturl()

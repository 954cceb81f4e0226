"""What an attacker would try at each door of the whole cloud; each test tells what must not work."""

import asyncio
import base64
import contextlib
import gzip
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from localcloud.cloud import CloudSettings, LocalCloud
from localcloud.data_directory import exclusive_data_directory
from localcloud.functions.http import HttpLimits
from localcloud.iothub import auth, sas
from localcloud.iothub.packets import Connect
from localcloud.iothub.registry import Device, Registry
from localcloud.keys import Keys, load_or_create_keys
from localcloud.limits import CloudLimits
from localcloud.signalr.tokens import InvalidTokenError, make_token, verify_token

NOW = 1_800_000_000
KEY, OTHER_KEY = base64.b64encode(b"k" * 32).decode(), base64.b64encode(b"o" * 32).decode()
HOSTS = ("localhost",)
POLICIES = {"iothubowner": base64.b64encode(b"p" * 32).decode()}
DEVICE = Device(
    device_id="d1", generation_id="1", etag="", status="enabled", status_reason=None, status_updated_ms=None,
    primary_key=KEY, secondary_key=OTHER_KEY,
)  # fmt: skip


def prove(token: str, *, device_id: str = "d1", username: str | None = None, device: Device | None = DEVICE) -> Any:
    username = f"localhost/{device_id}/?api-version=2021-04-12" if username is None else username
    login = auth.read_login(Connect(device_id, False, 60, username, token, None), HOSTS)
    return auth.judge(login, device, hostnames=HOSTS, policies=POLICIES, now=NOW)


def signed(sr: str, key: str = KEY, expiry: str = str(NOW + 60), more: str = "") -> str:
    """Sign whatever `sr` says, as it is."""
    digest = hmac.digest(base64.b64decode(key), f"{sr}\n{expiry}".encode(), hashlib.sha256)
    return f"SharedAccessSignature sr={sr}&sig={quote(base64.b64encode(digest), safe='')}&se={expiry}{more}"


GOOD = signed("localhost%2Fdevices%2Fd1")


def test_the_token_that_all_of_these_vary_is_good() -> None:
    assert prove(GOOD).device_id == "d1"


@pytest.mark.parametrize(
    "token",
    [
        signed("localhost%2Fdevices%2Fd2"),
        signed("otherhub%2Fdevices%2Fd1"),
        signed("localhost%2Fdevices%2Fd1", expiry=str(NOW)),
        signed("localhost%2Fdevices%2Fd1", expiry=str(NOW - 60)),
        signed("localhost%2Fdevices%2Fd1", key=POLICIES["iothubowner"]),
        GOOD.replace("sig=", "sig=A"),
        GOOD[: GOOD.index("&sig=")] + "&se=" + str(NOW + 60),
        GOOD.replace(f"&se={NOW + 60}", f"&se={NOW + 600}"),
        GOOD.replace("sr=localhost%2Fdevices%2Fd1", "sr=localhost%2Fdevices%2Fd2"),
        GOOD + "&sr=localhost%2Fdevices%2Fd2",
        GOOD + f"&se={NOW + 6000}",
        # A device's key cannot speak for a policy, nor for more than the device.
        signed("localhost%2Fdevices%2Fd1", more="&skn=iothubowner"),
        signed("localhost%2Fdevices%2Fd1", more="&skn=device"),
        signed("localhost"),
        signed("localhost%2F"),
        signed("localhost%2Fdevices"),
        # Encodings of the resource: it is decoded once and compared exactly.
        signed("localhost%252Fdevices%252Fd1"),
        signed("localhost%2Fdevices%2Fd1%2F"),
        signed("localhost%2Fdevices%2Fd2%2F..%2Fd1"),
        signed("localhost%2Fdevices%2F%2E%2Fd1"),
        signed("localhost%2Fdevices%2FD1"),
        signed("localhost%2Fdevices%2Fd1%00"),
        signed("localhost%40evil%2Fdevices%2Fd1"),
        signed("localhost%3F%2Fdevices%2Fd1"),
        signed("%2Fdevices%2Fd1"),
        # A policy's token for another device, or for a part of its name.
        signed("localhost%2Fdevices%2Fd", key=POLICIES["iothubowner"], more="&skn=iothubowner"),
        signed("localhost%2Fdevices%2Fd2", key=POLICIES["iothubowner"], more="&skn=iothubowner"),
        signed("localhost%2Fdevices%2Fd1", key=POLICIES["iothubowner"], more="&skn=IOTHUBOWNER"),
    ],
)
def test_no_other_token_opens_a_device(token: str) -> None:
    with pytest.raises(auth.RefusedError):
        prove(token)


@pytest.mark.parametrize(
    ("client_id", "username"),
    [
        ("d2", "localhost/d1/?api-version=2021-04-12"),
        ("d1", "localhost/d2/?api-version=2021-04-12"),
        ("d1", "localhost/d1%2F..%2Fd2/?api-version=2021-04-12"),
        ("d1", "localhost/D1/?api-version=2021-04-12"),
        ("", "localhost//?api-version=2021-04-12"),
        ("d1\u200b", "localhost/d1\u200b/?api-version=2021-04-12"),
    ],
)
def test_the_user_name_the_client_id_and_the_token_name_one_device(client_id: str, username: str) -> None:
    with pytest.raises(auth.RefusedError):
        prove(GOOD, device_id=client_id, username=username)


def test_an_unknown_device_a_wrong_key_and_an_unknown_policy_are_one_number_to_the_peer() -> None:
    wrong = signed("localhost%2Fdevices%2Fd1", key=base64.b64encode(b"w" * 32).decode())
    codes = set()
    for token, device in (
        (wrong, DEVICE), (wrong, None), (GOOD, None), (GOOD + "&skn=nobody", DEVICE), (signed("x"), DEVICE),
    ):  # fmt: skip
        with pytest.raises(auth.RefusedError) as refused:
            prove(token, device=device)
        codes.add(refused.value.code)
    assert len(codes) == 1


def test_every_signature_is_compared_in_constant_time_and_with_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(len(a)) or real(a, b))
    for token, device in ((GOOD, DEVICE), (GOOD, None), (GOOD + "&skn=nobody", DEVICE)):
        compared.clear()
        with contextlib.suppress(auth.RefusedError):
            prove(token, device=device)
        assert compared == [32, 32]


def jwt(header: dict[str, Any], claims: dict[str, Any], key: str = KEY) -> str:
    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    text = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims).encode())}"
    return f"{text}.{part(hmac.digest(key.encode(), text.encode(), hashlib.sha256))}"


CLAIMS = {"aud": "http://localhost/client/?hub=enviromon", "exp": NOW + 60}


@pytest.mark.parametrize(
    "token",
    [
        jwt({"alg": "none"}, CLAIMS),
        jwt({"alg": "None"}, CLAIMS, ""),
        jwt({"alg": "hs256"}, CLAIMS),
        jwt({"alg": "RS256"}, CLAIMS),
        jwt({"alg": ["HS256"]}, CLAIMS),
        jwt({"alg": "HS256", "kid": "../../dev/null"}, CLAIMS, ""),
        jwt({"alg": "HS256", "jwk": {"kty": "oct", "k": "AA"}}, CLAIMS, "\0"),
        jwt({"alg": "HS256"}, CLAIMS, OTHER_KEY),
        jwt({"alg": "HS256"}, CLAIMS).rpartition(".")[0] + ".",
        jwt({"alg": "HS256"}, CLAIMS).rpartition(".")[0],
        jwt({"alg": "HS256"}, CLAIMS)[:-2],
        jwt({"alg": "HS256"}, CLAIMS) + ".x",
        "." + jwt({"alg": "HS256"}, CLAIMS),
        jwt({"alg": "HS256"}, {"aud": CLAIMS["aud"]}),
        jwt({"alg": "HS256"}, CLAIMS | {"exp": NOW - 1}),
        jwt({"alg": "HS256"}, CLAIMS | {"exp": str(NOW + 60)}),
        jwt({"alg": "HS256"}, CLAIMS | {"exp": True}),
        jwt({"alg": "HS256"}, CLAIMS | {"exp": 10**400}),
        jwt({"alg": "HS256"}, CLAIMS | {"nbf": -(10**400)}),
        jwt({"alg": "HS256"}, {"exp": NOW + 60}),
        jwt({"alg": "HS256"}, CLAIMS | {"nameid": ["viewer"]}),
    ],
)
def test_no_trick_with_a_jwt_opens_a_hub(token: str) -> None:
    with pytest.raises(InvalidTokenError):
        verify_token(token, KEY, now=NOW)


def test_a_key_id_in_the_header_changes_nothing() -> None:
    assert verify_token(jwt({"alg": "HS256", "kid": "x"}, CLAIMS), KEY, now=NOW).opens_hub("enviromon")


@pytest.mark.parametrize(
    "audience",
    [
        "http://localhost/client/?hub=other",
        "http://localhost/client/",
        "http://localhost/api/hubs/enviromon",
        "enviromon",
    ],
)
def test_a_token_for_another_audience_opens_no_hub(audience: str) -> None:
    claims = verify_token(jwt({"alg": "HS256"}, CLAIMS | {"aud": audience}), KEY, now=NOW)
    assert not claims.opens_hub("enviromon")


APP = """
import azure.functions as func
app = func.FunctionApp(http_auth_level="FUNCTION")

@app.route(route="locked")
def locked(req: func.HttpRequest) -> str:
    return "inside"

@app.route(route="echo", auth_level="ANONYMOUS")
def echo(req: func.HttpRequest) -> str:
    return str(len(req.get_body()))

@app.route(route="things/{id}", auth_level="ANONYMOUS")
def things(req: func.HttpRequest) -> str:
    return repr(req.route_params["id"])
"""


class World:
    """A running cloud with the app above, and raw access to its ports."""

    def __init__(self, cloud: LocalCloud, keys: Keys, http: aiohttp.ClientSession) -> None:
        self.cloud, self.keys, self.http = cloud, keys, http
        self.url = f"http://127.0.0.1:{cloud.ports['http']}"
        self.signalr = f"http://127.0.0.1:{cloud.ports['signalr']}"
        self.host = f"127.0.0.1:{cloud.ports['http']}"

    async def status(self, method: str, url: str, **options: Any) -> int:
        async with self.http.request(method, URL(url, encoded=True), **options) as response:
            await response.read()
            return response.status

    async def raw(self, data: bytes, port: str = "http") -> bytes:
        """Send bytes, end the stream, and return all that comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.cloud.ports[port])
        try:
            writer.write(data)
            async with asyncio.timeout(15):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    app, site = tmp_path / "app", tmp_path / "site"
    app.mkdir()
    site.mkdir()
    (app / "function_app.py").write_text(APP)
    (app / "host.json").write_text('{"version": "2.0"}')
    (site / "index.html").write_text("<!doctype html>page")
    (tmp_path / "secret.txt").write_text("secret")
    settings = CloudSettings(
        app_dir=app, data=tmp_path / "data", static_dir=site, http_port=0, mqtt_port=0, https_port=0, signalr_port=0,
        limits=CloudLimits(functions=HttpLimits(body_bytes=100_000, bodies_bytes=150_000)),
    )  # fmt: skip
    cloud = LocalCloud(settings, lambda _: None)
    await cloud.start()
    async with aiohttp.ClientSession() as http:
        yield World(cloud, load_or_create_keys(tmp_path / "data" / "keys.json"), http)
    await cloud.stop()


async def test_a_functions_key_is_needed_and_is_in_no_log_whatever_way_it_comes(
    world: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    url, key = f"{world.url}/api/locked", world.keys.function_default
    assert await world.status("GET", url) == 401
    assert await world.status("GET", url, headers={"x-functions-key": key[:-1]}) == 401
    assert await world.status("GET", f"{url}?code={quote(key, safe='')}") == 200
    assert await world.status("GET", url, headers={"x-functions-key": key}) == 200
    wrong = await world.raw(
        b"GET /api/locked HTTP/1.1\r\nHost: %b\r\nConnection: close\r\nx-functions-key: \xff\xfe\r\n\r\n"
        % world.host.encode()
    )
    assert wrong.startswith(b"HTTP/1.1 401")
    said = [r.getMessage() for r in caplog.records if r.name.startswith(("localcloud", "aiohttp"))]
    assert not any(key in line or quote(key, safe="") in line for line in [*said, *capfd.readouterr()])


async def test_keys_and_private_files_are_for_their_owner_only(world: World, tmp_path: Path) -> None:
    secrets = [tmp_path / "data" / "keys.json", *(tmp_path / "data" / "certificates").glob("*key*")]
    assert len(secrets) >= 2
    for path in secrets:
        assert path.stat().st_mode & 0o077 == 0, path
    with exclusive_data_directory(tmp_path / "new"):
        assert (tmp_path / "new").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1.nip.io"},
        {"Host": "localhost@evil.example"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://localhost@evil.example"},
        {"Origin": "http://localhost.evil.example"},
    ],
)
async def test_a_strangers_page_cannot_call_by_a_rebound_name_or_from_its_origin(
    world: World, headers: dict[str, str]
) -> None:
    assert await world.status("GET", f"{world.url}/api/echo", headers=headers) in (400, 403, 421)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://[", "http://localhost@evil.example", "\udcff"]
)
async def test_a_strangers_page_cannot_reach_signalr(world: World, origin: str) -> None:
    request = f"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: {origin}\r\n\r\n"
    answer = await world.raw(request.encode(errors="surrogateescape"), "signalr")
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"Access-Control-Allow-Origin" not in answer


async def test_the_public_connection_id_and_another_viewers_token_open_nothing(world: World) -> None:
    def bearer(user: str) -> dict[str, str]:
        audience = f"{world.signalr}/client/?hub=enviromon"
        return {"Authorization": f"Bearer {make_token(world.keys.signalr, audience, now=time.time(), user_id=user)}"}

    url = f"{world.signalr}/client/negotiate?hub=enviromon&negotiateVersion=1"
    async with world.http.post(url, headers=bearer("ann")) as response:
        ann = await response.json()
    connect = f"{world.signalr}/client/?hub=enviromon&id="
    assert await world.status("GET", connect + ann["connectionId"], headers=bearer("ann")) == 404
    assert await world.status("GET", connect + ann["connectionToken"], headers=bearer("bob")) == 404
    assert await world.status("GET", connect + ann["connectionToken"]) == 401
    other = connect.replace("enviromon", "other") + ann["connectionToken"]
    assert await world.status("GET", other, headers=bearer("ann")) == 401
    assert await world.status("GET", connect + ann["connectionToken"], headers=bearer("ann")) == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/..%2fsecret.txt", "/%2e%2e%2fsecret.txt", "/%252e%252e%252fsecret.txt", "/..%5csecret.txt",
        "//etc/passwd", "/%2fetc/passwd", "/./../secret.txt", "/..;/secret.txt", "/" + "a" * 300 + ".txt",
        "/" + "a/" * 3000 + "x.txt", "/%ff.txt", "/%00.txt", "/con.txt", "/index.html/../../secret.txt",
    ],
)  # fmt: skip
async def test_nothing_beside_the_site_is_served(world: World, path: str) -> None:
    answer = await world.raw(f"GET {path} HTTP/1.1\r\nHost: {world.host}\r\nConnection: close\r\n\r\n".encode())
    head, body = answer.split(b"\r\n\r\n", 1)
    assert head.split(b" ")[1] in (b"404", b"400") or body == b"<!doctype html>page", answer[:100]


async def test_a_path_in_a_route_parameter_opens_no_other_function(world: World) -> None:
    assert await world.status("GET", f"{world.url}/api/things/a/../../locked") in (401, 404)
    async with world.http.get(URL(f"{world.url}/api/things/..%2Flocked", encoded=True)) as response:
        assert (response.status, await response.text()) == (200, "'../locked'"), "the parameter's own function has it"


SMUGGLED = b"GET /api/echo HTTP/1.1\r\nHost: %b\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"Content-Length: -1",
        b"Content-Length: 0x5",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: chunked\r\n folded: x",
        b" Content-Length: 5",
        b"X: a\rContent-Length: 5",
        b"X: a\0b",
    ],
)
async def test_a_request_with_two_readings_is_refused_and_ends_its_connection(world: World, head: bytes) -> None:
    host = world.host.encode()
    request = b"POST /api/echo HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n0\r\n\r\n" % (host, head)
    answer = await world.raw(request + SMUGGLED % host)
    assert answer.split(b" ")[1] == b"400", answer[:60]
    assert answer.count(b"HTTP/1.") == 1


async def test_heads_bodies_and_all_bodies_together_are_bounded(world: World) -> None:
    host = world.host.encode()
    many = b"".join(b"X-%d: y\r\n" % n for n in range(200))
    for head in (b"X: " + b"a" * 10_000 + b"\r\n", many):
        answer = await world.raw(b"GET /api/echo HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (host, head))
        assert answer.split(b" ")[1] == b"400"
    assert (await world.raw(b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n")).split(b" ")[1] == b"400"
    url = f"{world.url}/api/echo"
    assert await world.status("POST", url, data=b"x" * 100_001) == 413
    assert await world.status("POST", url, data=b"x" * 100_000) == 200
    bomb = gzip.compress(b"\0" * 10_000_000)
    assert await world.status("POST", url, data=bomb, headers={"Content-Encoding": "gzip"}) in (400, 413)
    half = b"POST /api/echo HTTP/1.1\r\nHost: %b\r\nContent-Length: 90000\r\n\r\n" % host + b"x" * 89_000
    _, slow = await asyncio.open_connection("127.0.0.1", world.cloud.ports["http"])
    slow.write(half)
    async with asyncio.timeout(10):
        while await world.status("POST", url, data=b"x" * 90_000) != 503:  # noqa: ASYNC110 - the other body is on its way
            await asyncio.sleep(0.01)
    assert await world.status("POST", url, data=b"x" * 1000) == 200
    slow.close()
    async with asyncio.timeout(10):
        while await world.status("POST", url, data=b"x" * 90_000) != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("query", ["top=000000001" + "9" * 20, "top=000000001" + "9" * 5000, "top=-1", "top=%C2%B2"])
async def test_a_number_with_many_digits_is_no_way_round_a_bound(world: World, query: str) -> None:
    owner = sas.make_token("localhost", world.keys.iothubowner, int(time.time()) + 60, "iothubowner")
    url = f"https://127.0.0.1:{world.cloud.ports['https']}/devices?api-version=2021-04-12&{query}"
    assert await world.status("GET", url, headers={"Authorization": owner}, ssl=False) == 400


async def test_no_device_id_leaves_its_place_in_a_topic_or_a_path(tmp_path: Path) -> None:
    registry = Registry.open(tmp_path / "hub.db")
    for device_id in ("../d1", "a/b", "a\n", "\x1b[2J", "", "x" * 129, "a#", "a+", "d1\0", "<b>", "é"):
        with pytest.raises(Exception, match="is no device id"):
            registry.add(device_id)
    registry.close()

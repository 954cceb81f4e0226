"""The httpTrigger over real sockets: routes, methods, keys, CORS, errors."""

import json
from pathlib import Path

import jwt
import pytest
from aiohttp import ClientSession, FormData

from localcloud.functions.http import HttpLimits
from tests.localcloud.functions.shop import SIGNALR_KEY, MakeShop, Shop

ALLOWED = "http://shop.example:8080"


@pytest.fixture
async def url(shop: Shop, serve) -> str:
    return await serve(shop)


async def test_a_route_gives_its_parameters_query_and_headers(url: str, client: ClientSession) -> None:
    async with client.get(f"{url}/shop/Orders/7?a=1&a=2&empty=&b=x%20y", headers={"User-Agent": "t"}) as response:
        assert await response.json() == {"id": "7", "query": {"a": "1,2", "b": "x y"}, "agent": "t"}
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["X-Shop"] == "orders"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/shop/orders/seven"), ("POST", "/shop/orders/7"), ("GET", "/shop/none"), ("PUT", "/")]
)
async def test_what_matches_no_route_is_a_404_with_problem_details(
    url: str, client: ClientSession, method: str, path: str
) -> None:
    async with client.request(method, url + path) as response:
        assert response.status == 404
        assert response.headers["Content-Type"] == "application/problem+json; charset=utf-8"
        assert (await response.json())["title"] == "Not Found"


async def test_optional_and_catch_all_parameters(url: str, client: ClientSession) -> None:
    answers = {
        "/shop/stock/hat": "hat any",
        "/shop/stock/hat/red": "hat red",
        "/shop/files": "everything",
        "/shop/files/a/b%20c.txt": "a/b c.txt",
    }
    for path, text in answers.items():
        async with client.get(url + path) as response:
            assert (response.status, await response.text()) == (200, text)


async def test_plain_functions_run_in_threads_and_text_is_plain(url: str, client: ClientSession) -> None:
    async with client.get(f"{url}/shop/slow") as response:
        assert await response.text() == "slept in a thread"
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_a_function_key_opens_by_header_or_code(url: str, client: ClientSession, shop: Shop) -> None:
    body, keys = b'{"name": "hat"}', shop.keys
    for headers, code, status in (
        ({}, None, 401),
        ({"x-functions-key": "wrong"}, None, 401),
        ({"x-functions-key": keys.function_default}, None, 200),
        ({"x-functions-key": keys.function_master}, None, 200),
        ({}, keys.function_default, 200),
        ({"x-functions-key": "wrong"}, keys.function_default, 401),
    ):
        query = {} if code is None else {"code": code}
        async with client.post(f"{url}/shop/orders", data=body, headers=headers, params=query) as response:
            assert response.status == status


async def test_an_admin_function_wants_the_master_key(url: str, client: ClientSession, shop: Shop) -> None:
    for key, status in ((shop.keys.function_default, 401), (shop.keys.function_master, 204)):
        async with client.get(f"{url}/shop/admin-only", headers={"x-functions-key": key}) as response:
            assert response.status == status


async def test_keys_are_neither_reported_nor_logged(
    url: str, client: ClientSession, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    async with client.post(f"{url}/shop/orders", params={"code": shop.keys.function_default}, data=b"{") as response:
        told = repr(shop.invocations) + await response.text() + caplog.text
    assert response.status == 500
    assert shop.keys.function_default not in told
    assert shop.of("create_order")[0].request == "POST /shop/orders"


async def test_an_error_is_a_500_without_its_text_or_trace(url: str, client: ClientSession, shop: Shop) -> None:
    async with client.get(f"{url}/shop/broken") as response:
        text = await response.text()
    (invocation,) = shop.of("broken")
    assert response.status == 500
    assert "secret" not in text
    assert "Traceback" not in text
    assert invocation.invocation_id in text
    assert (invocation.outcome, invocation.status, repr(invocation.error)) == (
        "failed", 500, "RuntimeError('a secret of the shop')",
    )  # fmt: skip


async def test_a_result_that_is_no_response_fails_in_the_workers_words(
    tmp_path: Path, make_shop: MakeShop, serve, client: ClientSession
) -> None:
    source = "import azure.functions as func\napp = func.FunctionApp(http_auth_level='ANONYMOUS')\n"
    (tmp_path / "function_app.py").write_text(source + "@app.route(route='f')\ndef f(req): return None")
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    shop = await make_shop(tmp_path)
    async with client.get(f"{await serve(shop)}/api/f") as response:
        assert response.status == 500
    assert str(shop.of("f")[0].error) == (
        'unable to encode outgoing TypedData: unsupported type "http" for Python type "NoneType"'
    )


async def test_an_unknown_host_header_is_refused(url: str, client: ClientSession) -> None:
    for host in ("evil.example", "evil.example:80", "localhost@evil.example", "", "[::1"):
        async with client.get(f"{url}/shop/files", headers={"Host": host}) as response:
            assert response.status == 421
            assert "Host header" in (await response.json())["detail"]
    for host in ("localhost:1", "127.0.0.1", "[::1]:7071", "LOCALHOST"):
        async with client.get(f"{url}/shop/files", headers={"Host": host}) as response:
            assert response.status == 200


async def test_an_unknown_origin_is_refused_and_ours_and_the_listed_are_not(url: str, client: ClientSession) -> None:
    own = url
    for origin, status in ((ALLOWED, 200), (own, 200), ("http://evil.example", 403), ("null", 403), ("x", 403)):
        async with client.get(f"{url}/shop/files", headers={"Origin": origin}) as response:
            assert response.status == status
            allowed = response.headers.get("Access-Control-Allow-Origin")
            assert allowed == (origin if status == 200 else None)


async def test_a_preflight_echoes_the_origin_with_credentials(url: str, client: ClientSession) -> None:
    asked = {"Origin": ALLOWED, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-key"}
    async with client.options(f"{url}/shop/orders/1", headers=asked) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == ALLOWED
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
        assert response.headers["Access-Control-Allow-Methods"] == "PUT"
        assert response.headers["Access-Control-Allow-Headers"] == "x-key"
        assert response.headers["Vary"] == "Origin"


async def test_errors_too_carry_cors_headers_so_that_a_page_can_read_them(url: str, client: ClientSession) -> None:
    async with client.post(f"{url}/shop/orders", headers={"Origin": ALLOWED}) as response:
        assert response.status == 401
        assert response.headers["Access-Control-Allow-Origin"] == ALLOWED


async def test_bodies_and_requests_at_once_are_bounded(make_shop: MakeShop, serve, client: ClientSession) -> None:
    shop = await make_shop(limits=HttpLimits(body_bytes=100, outstanding_requests=1))
    url, key = await serve(shop), {"x-functions-key": shop.keys.function_default}
    async with client.post(f"{url}/shop/orders", data=b"x" * 101, headers=key) as response:
        assert response.status == 413
    slow = client.get(f"{url}/shop/slow")
    async with slow as first:
        assert first.status == 200
    shop_http = await make_shop(limits=HttpLimits(outstanding_requests=0))
    async with client.get(f"{await serve(shop_http)}/shop/slow") as response:
        assert response.status == 429


async def test_a_viewer_gets_an_address_with_its_own_host_name_and_user_id(url: str, client: ClientSession) -> None:
    for host in ("localhost:9", "127.0.0.1:9"):
        async with client.post(f"{url}/shop/shoppers/ann/negotiate", headers={"Host": host}) as response:
            info = await response.json(content_type="application/json")
        name = host.partition(":")[0]
        assert info["url"] == f"http://{name}:8888/client/?hub=orders"
        claims = jwt.decode(info["accessToken"], SIGNALR_KEY, algorithms=["HS256"], audience=info["url"])
        assert claims["nameid"] == "ann"


async def test_an_expression_on_an_absent_header_is_a_500(url: str, client: ClientSession, shop: Shop) -> None:
    async with client.post(f"{url}/shop/negotiate-by-header") as response:
        assert response.status == 500
    assert "headers.x-shopper" in str(shop.of("negotiate_by_header")[0].error)
    async with client.post(f"{url}/shop/negotiate-by-header", headers={"X-Shopper": "ann"}) as response:
        assert json.loads(await response.text())["accessToken"]


async def test_health_and_metrics_are_the_callers(make_shop: MakeShop, serve, client: ClientSession) -> None:
    healthy = [False]
    shop = await make_shop(health=lambda: healthy[0], metrics=lambda: "up 1\n")
    url = await serve(shop)
    async with client.get(f"{url}/health") as response:
        assert response.status == 503
    healthy[0] = True
    async with client.get(f"{url}/health") as response:
        assert await response.json() == {"status": "ok"}
    async with client.get(f"{url}/metrics") as response:
        assert await response.text() == "up 1\n"


async def test_form_bodies_and_cookies_pass(tmp_path: Path, make_shop: MakeShop, serve, client: ClientSession) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\napp = func.FunctionApp(http_auth_level='ANONYMOUS')\n"
        "@app.route(route='f')\ndef f(req: func.HttpRequest) -> func.HttpResponse:\n"
        "    response = func.HttpResponse(req.form['a'], mimetype='text/html')\n"
        "    response.headers.add('Set-Cookie', 'x=1')\n    response.headers.add('Set-Cookie', 'y=2')\n"
        "    return response\n"
    )
    url = await serve(await make_shop(tmp_path))
    async with client.post(f"{url}/api/f", data=FormData({"a": "b"})) as response:
        assert await response.text() == "b"
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert response.headers.getall("Set-Cookie") == ["x=1", "y=2"]

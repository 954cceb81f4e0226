"""What the host says of itself, and what it counts."""

import asyncio
from pathlib import Path

import pytest

from localcloud.functions.bindings import SettingError
from localcloud.functions.host import _harmless
from localcloud.functions.invocation import FunctionTimeoutError
from localcloud.iothub.event_log import SqliteEventLog
from tests.localcloud.functions.shop import MakeShop, Shop
from tests.waiting import until


async def test_what_this_host_lacks_is_named_and_left_out(
    make_shop: MakeShop, caplog: pytest.LogCaptureFixture
) -> None:
    shop = await make_shop(start=False)
    (skipped,) = [row for row in shop.host.describe("") if row.problem]
    assert (skipped.name, skipped.problem) == ("returns", "this host has no queueTrigger")
    assert "function returns does not run here" in caplog.text


async def test_counters_tell_invocations_events_failures_and_durations(shop: Shop) -> None:
    await shop.send(b"one", b"flaky")
    await until(lambda: len(shop.of("bill")) == 2)
    counters = shop.host.counters["bill"]
    assert (counters.invocations, counters.failures, counters.retries, counters.events) == (2, 1, 1, 4)
    assert sum(counters.durations) == 2
    assert counters.duration_seconds > 0


async def test_a_function_beyond_its_timeout_fails(tmp_path: Path, make_shop: MakeShop) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0", "functionTimeout": "00:00:00.05"}')
    (tmp_path / "function_app.py").write_text(
        "import asyncio\nimport azure.functions as func\napp = func.FunctionApp()\n"
        "@app.timer_trigger(arg_name='t', schedule='01:00:00', run_on_startup=True)\n"
        "async def f(t: func.TimerRequest) -> None: await asyncio.sleep(60)\n"
    )
    shop = await make_shop(tmp_path)
    await until(lambda: shop.of("f"))
    assert isinstance(shop.of("f")[0].error, FunctionTimeoutError)


async def test_the_context_tells_function_and_invocation(shop: Shop, serve, client) -> None:
    key = {"x-functions-key": shop.keys.function_default}
    async with client.post(f"{await serve(shop)}/shop/orders", data=b'{"name": "hat"}', headers=key) as response:
        assert await response.text() == "create_order hat"


async def test_a_missing_connection_setting_is_named(make_shop: MakeShop, tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\napp = func.FunctionApp()\n"
        "@app.event_hub_message_trigger(arg_name='e', connection='Nowhere', event_hub_name='h')\n"
        "def f(e: func.EventHubEvent) -> None: pass\n"
    )
    with pytest.raises(SettingError, match="the Event Hub connection string 'Nowhere' does not exist"):
        await make_shop(tmp_path)


async def test_a_host_that_never_started_stops_too(make_shop: MakeShop) -> None:
    shop = await make_shop(start=False)
    async with asyncio.timeout(1):
        await shop.host.stop()


async def test_a_connection_that_nobody_set_is_this_clouds_own(make_shop: MakeShop, tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\napp = func.FunctionApp()\n"
        "@app.event_hub_message_trigger(arg_name='e', connection='Mine', event_hub_name='h', consumer_group='g')\n"
        "def f(e: func.EventHubEvent) -> None: pass\n"
    )
    environment: dict[str, str] = {}
    own = {"eventHubTrigger": "Endpoint=sb://own.example/;EntityPath=theirs"}
    shop = await make_shop(tmp_path, environment, connections=own)
    assert shop.host.describe("")[0].detail == "theirs, group g"
    assert environment["Mine"] == own["eventHubTrigger"]


async def test_an_asgi_app_is_served(make_shop: MakeShop, tmp_path: Path, serve, client) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0", "extensions": {"http": {"routePrefix": ""}}}')
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\n"
        "async def site(scope, receive, send):\n"
        "    headers = [(b'x-path', scope['path'].encode())]\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})\n"
        "    await send({'type': 'http.response.body', 'body': b'asgi'})\n"
        "app = func.AsgiFunctionApp(site, http_auth_level=func.AuthLevel.ANONYMOUS)\n"
        "app.startup_task_done = True\n"
    )
    shop = await make_shop(tmp_path)
    async with client.get(f"{await serve(shop)}/any/where") as response:
        assert (await response.text(), response.headers["x-path"]) == ("asgi", "/any/where")
    shop.app.app.startup_task_done = False  # else its __del__ starts a loop inside ours


async def test_a_report_that_fails_does_not_fail_the_function(
    make_shop: MakeShop, log: SqliteEventLog, caplog: pytest.LogCaptureFixture
) -> None:
    shop = await make_shop(start=False)
    shop.host._event_hubs[0]._report = _harmless(lambda _: (_ for _ in ()).throw(BrokenPipeError()))
    await shop.host.start()
    await shop.send(b"one")
    async with asyncio.timeout(5):
        while await log.checkpoint("billing", 0) != 0:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert shop.host.counters["bill"].invocations == 1
    assert "an invocation of bill could not be reported" in caplog.text

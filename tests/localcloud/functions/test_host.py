"""What the host says of itself, and what it counts."""

import asyncio
from pathlib import Path

import pytest

from localcloud.functions.bindings import SettingError
from localcloud.functions.invocation import FunctionTimeoutError
from tests.localcloud.functions.shop import MakeShop, Shop, until


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

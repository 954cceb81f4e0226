import asyncio
import io
from pathlib import Path

from rich.console import Console

from localcloud.functions.console import cut_traceback, format_invocation, print_functions
from localcloud.functions.invocation import Invocation
from tests.localcloud.functions.shop import SAMPLE_APP, MakeShop
from tests.waiting import until


async def test_the_table_names_each_function_with_its_full_url(make_shop: MakeShop) -> None:
    shop = await make_shop(start=False)
    out = io.StringIO()
    print_functions(shop.host.describe("http://127.0.0.1:7071/"), Console(file=out))
    text = out.getvalue()
    for part in (
        "http://127.0.0.1:7071/shop/orders/{id:int}",
        "function",
        "admin",
        "orders, group billing",
        "0 0 20 * * Mon-Sat",
        "not run: this host has no queueTrigger",
    ):
        assert part in text


def test_a_line_tells_function_place_count_time_and_outcome() -> None:
    batch = Invocation(
        function="bill",
        trigger="eventHubTrigger",
        milliseconds=1.26,
        count=3,
        partition=2,
        first_sequence=7,
        last_sequence=9,
    )
    assert format_invocation(batch) == "bill  partition 2  #7-9 (3 events)  1.3 ms  ok"
    failed = Invocation(
        function="bill", trigger="timerTrigger", outcome="failed", retry=1, retry_in=2.0, error=ValueError("a\nb")
    )
    assert format_invocation(failed) == "bill  0.0 ms  failed at retry 1: ValueError: a b (again in 2.0 s)"
    hostile = Invocation(function="bill", trigger="timerTrigger", outcome="failed", error=ValueError("\x1b[2Jx\x07"))
    assert format_invocation(hostile).endswith("ValueError: \\x1b[2Jx\\x07")
    request = Invocation(function="order", trigger="httpTrigger", request="GET /shop/orders/1", status=200)
    assert format_invocation(request) == "order  GET /shop/orders/1  0.0 ms  200"


async def test_a_stack_trace_is_cut_to_the_apps_own_code(make_shop: MakeShop) -> None:
    shop = await make_shop()
    await shop.send(b"poison")
    await until(lambda: shop.of("bill"))
    error = shop.of("bill")[0].error
    assert error is not None
    trace = await asyncio.to_thread(cut_traceback, error, SAMPLE_APP)
    assert trace.count("File ") == 1
    assert 'tests/sample_app/function_app.py", line' in trace
    assert trace.endswith("ValueError: a poisoned order")


def test_a_trace_without_the_apps_code_is_left_whole() -> None:
    try:
        int("x")
    except ValueError as error:
        trace = cut_traceback(error, Path("/nowhere"))
    assert "test_console.py" in trace

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from localcloud.functions.host import FunctionsHost
from localcloud.functions.timer import TimerTrigger
from tests.localcloud.functions.shop import MakeShop, Shop
from tests.waiting import until


class Clock:
    """A clock that its own sleepers move."""

    def __init__(self, text: str) -> None:
        self.now = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def timer_of(host: FunctionsHost, clock: Clock, report: Callable[[object], None]) -> TimerTrigger:
    return TimerTrigger(host._timers[0].invoker, report=report, clock=lambda: clock.now, sleep=clock.sleep)


async def test_run_on_startup_runs_at_once_with_a_schedule_status(shop: Shop) -> None:
    await until(lambda: shop.app.ticks)
    (tick,) = shop.app.ticks
    assert tick.past_due is False
    assert tick.schedule == {"AdjustForDST": True}
    assert tick.schedule_status["Next"].endswith("T20:00:00+00:00")
    assert tick.schedule_status["Last"] == "0001-01-01T00:00:00+00:00"


async def test_it_runs_when_it_is_due_and_sleeps_in_pieces_until_then(make_shop: MakeShop) -> None:
    shop = await make_shop(start=False)
    clock = Clock("2026-11-24T19:57:30")
    when: list[float] = []
    timer = timer_of(shop.host, clock, lambda _: when.append(clock.now))
    timer.start()
    await until(lambda: len(when) >= 3)
    await timer.stop(1.0)
    assert [datetime.fromtimestamp(moment, UTC).isoformat() for moment in when[:3]] == [
        "2026-11-24T19:57:30+00:00",
        "2026-11-24T20:00:00+00:00",
        "2026-11-25T20:00:00+00:00",
    ]
    assert clock.slept[:3] == [60.0, 60.0, 30.0]


async def test_a_schedule_that_is_never_due_is_told(tmp_path: Path, make_shop: MakeShop, caplog) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\napp = func.FunctionApp()\n"
        "@app.timer_trigger(arg_name='t', schedule='0 0 0 30 2 *')\ndef f(t: func.TimerRequest) -> None: pass\n"
    )
    await make_shop(tmp_path)
    await until(lambda: "f: the schedule 0 0 0 30 2 * is never due" in caplog.text)


async def test_a_plain_function_without_return_binding_must_return_nothing(tmp_path: Path, make_shop: MakeShop) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\napp = func.FunctionApp()\n"
        "@app.timer_trigger(arg_name='t', schedule='01:00:00', run_on_startup=True)\ndef f(t): return 1\n"
    )
    shop = await make_shop(tmp_path)
    await until(lambda: shop.of("f"))
    assert "without a $return binding returned a non-None value" in str(shop.of("f")[0].error)

"""Faults on purpose at the points of a function, in a real host."""

from localcloud.faults.injector import FaultInjector, InjectedFaultError
from localcloud.faults.plan import Fault, FaultPlan
from tests.localcloud.functions.shop import MakeShop
from tests.waiting import until


def injector(*faults: Fault) -> FaultInjector:
    return FaultInjector(FaultPlan(fault=list(faults)))


async def test_a_function_that_fails_before_it_runs_is_retried_by_its_policy(make_shop: MakeShop) -> None:
    shop = await make_shop(faults=injector(Fault(point="function.begins", action="fail", times=1, function="bill")))
    await shop.send(b"one")
    await until(lambda: len(shop.of("bill")) == 2)
    assert [invocation.outcome for invocation in shop.of("bill")] == ["failed", "ok"]
    assert isinstance(shop.of("bill")[0].error, InjectedFaultError)
    assert [entry["body"] for entry in shop.app.seen if "body" in entry] == ["one"]


async def test_a_function_that_fails_after_it_returned_has_done_its_work_twice(make_shop: MakeShop) -> None:
    shop = await make_shop(faults=injector(Fault(point="function.returned", action="fail", times=1, function="bill")))
    await shop.send(b"one")
    await until(lambda: len(shop.of("bill")) == 2)
    assert [entry["body"] for entry in shop.app.seen if "body" in entry] == ["one", "one"]


async def test_a_function_in_a_thread_has_the_same_points(make_shop: MakeShop) -> None:
    faults = [
        Fault(point="function.begins", action="delay", seconds=0.05, function="audit"),
        Fault(point="function.returned", action="fail", times=1, function="audit"),
    ]
    shop = await make_shop(faults=injector(*faults))
    assert not next(
        f for f in shop.host._event_hubs if f.invoker.function.name == "audit"
    ).invoker.function.shape.is_async
    await shop.send(b"one")
    await until(lambda: shop.of("audit"))
    (invocation,) = shop.of("audit")
    assert invocation.outcome == "failed"
    assert invocation.milliseconds >= 50


async def test_a_redelivery_reaches_the_function(make_shop: MakeShop) -> None:
    fault = Fault(point="read.begins", action="redeliver", events=2, skip=1, times=1)
    shop = await make_shop(faults=injector(fault))
    await shop.send(b"one", b"two", b"three")
    await until(lambda: shop.of("bill"))
    await shop.send(b"four")
    await until(lambda: [entry["body"] for entry in shop.app.seen if "body" in entry][-1] == "four")
    assert [entry["body"] for entry in shop.app.seen if "body" in entry] == [
        "one",
        "two",
        "three",
        "two",
        "three",
        "four",
    ]

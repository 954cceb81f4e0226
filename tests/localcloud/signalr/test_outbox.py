"""The queue between a hub that does not wait and a client that may be slow."""

import asyncio

from localcloud.signalr.transports.outbox import Outbox


async def test_everything_queued_is_taken_at_once_and_in_order() -> None:
    outbox = Outbox(100)
    assert all(outbox.put(data) for data in (b"a", b"b", b"c"))
    assert await outbox.take() == b"abc"


async def test_a_taker_waits_for_the_first_bytes() -> None:
    outbox = Outbox(100)
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.put(b"a")
    assert await taking == b"a"


async def test_more_than_the_limit_unwritten_refuses_the_next() -> None:
    outbox = Outbox(10)
    assert outbox.put(b"x" * 11)
    assert not outbox.put(b"y")
    assert await outbox.take() == b"x" * 11
    assert not outbox.put(b"y"), "what was taken is not written yet"
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    assert outbox.put(b"z")
    assert await taking == b"z"


async def test_a_closed_outbox_gives_its_rest_and_then_the_end() -> None:
    outbox = Outbox(10)
    outbox.put(b"a")
    outbox.close()
    assert not outbox.put(b"b")
    assert [await outbox.take(), await outbox.take()] == [b"a", b""]


async def test_a_dropped_outbox_gives_nothing_and_wakes_its_taker() -> None:
    outbox = Outbox(10)
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.put(b"a")
    outbox.drop()
    assert await taking == b""


async def test_a_second_taker_takes_the_place_of_the_first() -> None:
    outbox = Outbox(10)
    first = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    second = asyncio.create_task(outbox.take())
    assert await first == b""
    outbox.put(b"a")
    assert await second == b"a"


async def test_nothing_is_lost_where_a_taker_is_cancelled() -> None:
    outbox = Outbox(10)
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.put(b"a")
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    assert await outbox.take() == b"a"

"""Waiting with a deadline for what is about to be true, in tests that have no event to wait for."""

import asyncio
import time
from collections.abc import Callable
from typing import Any


def eventually(probe: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Return the first true value of `probe`, asked until the deadline; what it last said is in the failure."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline, f"not within {seconds} s; last: {found!r}"
        time.sleep(0.02)
    return found


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a count is no event
            await asyncio.sleep(0.005)

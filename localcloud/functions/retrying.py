"""Invokes a function until it succeeds or its retry policy ends, and reports every attempt."""

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from localcloud.functions.context import RetryContext, RpcException
from localcloud.functions.invocation import Invocation, Invoker, Result

Pause = Callable[[float], Awaitable[None]]
Report = Callable[[Invocation], None]


async def invoke_with_retries(
    invoker: Invoker,
    argument: Callable[[], Any],
    about: Invocation,
    *,
    report: Report,
    pause: Pause = asyncio.sleep,
) -> Result:
    """Return the last attempt's result; its error is set when the policy allows no further attempt.

    `about` tells what is invoked; it is completed and reported per attempt. `argument` is made anew for each.
    Raises CancelledError, reported as the outcome "cancelled".
    """
    policy = invoker.function.retry
    retry = RetryContext(0, policy.max_retries if policy else 0)
    while True:
        try:
            result = await invoker.invoke(argument, retry=retry, events=about.count)
        except asyncio.CancelledError:
            report(msgspec.structs.replace(about, outcome="cancelled", retry=retry.retry_count))
            raise
        delay = policy.delay(retry.retry_count, random.random) if policy and result.error else None
        report(described(about, result, retry=retry.retry_count, retry_in=delay))
        if result.error is None or delay is None:
            return result
        invoker.counters.retries += 1
        await pause(delay)
        retry = RetryContext(retry.retry_count + 1, retry.max_retry_count, _failure(result.error))


def described(about: Invocation, result: Result, *, retry: int = 0, retry_in: float | None = None) -> Invocation:
    """Complete a report's line with what came of the call."""
    return msgspec.structs.replace(
        about,
        outcome="ok" if result.error is None else "failed",
        milliseconds=result.seconds * 1000,
        invocation_id=result.invocation_id,
        error=result.error,
        retry=retry,
        retry_in=retry_in,
    )


def _failure(error: Exception) -> RpcException:
    trace = "".join(traceback.format_exception(error))
    return RpcException(source="", stack_trace=trace, message=f"{type(error).__name__}: {error}")

"""Calls one function as the worker does: inputs, context, coroutine or thread, return value, outputs.

Rules: outputs are sent after the function returned, and their failure is the invocation's; an invocation's failure is
a value here (`Result.error`), for what follows from it is the trigger's business; only cancellation is raised.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Any, Literal

import msgspec

from localcloud.functions.app import AppFunction
from localcloud.functions.bindings import BindingData
from localcloud.functions.context import Context, Out, RetryContext, TraceContext
from localcloud.functions.counters import FunctionCounters

NO_DATA = BindingData()
NO_RETRY = RetryContext()
NO_TRACE = TraceContext()

InputSource = Callable[[BindingData], str]
OutputSink = Callable[[Any], Awaitable[None]]


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the host's report."""

    function: str
    trigger: str
    outcome: Literal["ok", "failed", "cancelled"] = "ok"
    milliseconds: float = 0.0
    invocation_id: str = ""
    count: int = 1
    partition: int | None = None
    first_sequence: int | None = None
    last_sequence: int | None = None
    request: str | None = None
    """Method and path, never the query: it may hold a key."""
    status: int | None = None
    retry: int = 0
    retry_in: float | None = None
    """Seconds until the invocation is tried again."""
    error: BaseException | None = None


class FunctionTimeoutError(Exception):
    """The function ran longer than host.json's functionTimeout."""


class Result(msgspec.Struct, frozen=True):
    """What came of one call."""

    value: Any
    error: Exception | None
    seconds: float
    invocation_id: str


class Invoker:
    """Calls one function, any number of times at once. `inputs` and `outputs` are by binding name."""

    def __init__(
        self,
        function: AppFunction,
        *,
        inputs: Mapping[str, InputSource],
        outputs: Mapping[str, OutputSink],
        threads: Executor,
        timeout: float | None,
    ) -> None:
        self.function = function
        self.counters = FunctionCounters()
        self._inputs = inputs
        self._outputs = outputs
        self._threads = threads
        self._timeout = timeout

    async def invoke(
        self,
        argument: Callable[[], Any],
        *,
        data: BindingData = NO_DATA,
        retry: RetryContext = NO_RETRY,
        trace: TraceContext = NO_TRACE,
        events: int = 1,
        convert: Callable[[Any], Any] | None = None,
    ) -> Result:
        """Call the function with the trigger's argument; `convert` turns its return value. Both may fail it.

        Raises CancelledError only: the call was abandoned, and no output was sent unless the function had returned.
        """
        invocation_id = str(uuid.uuid4())
        started = time.perf_counter()
        value, failure = None, None
        try:
            async with asyncio.timeout(self._timeout) as limit:
                context = Context(self.function.name, self.function.shape.directory, invocation_id, trace, retry)
                value = await self._run(argument, context, data, convert)
        except Exception as error:  # noqa: BLE001  # whatever the app raises is the invocation's outcome
            failure = error
            if isinstance(error, TimeoutError) and limit.expired():
                failure = FunctionTimeoutError(
                    f"Timeout value of {self._timeout} s was exceeded by function: {self.function.name}"
                )
        seconds = time.perf_counter() - started
        self.counters.observe(seconds, events, failed=failure is not None)
        return Result(value, failure, seconds, invocation_id)

    async def _run(
        self, argument: Callable[[], Any], context: Context, data: BindingData, convert: Callable[[Any], Any] | None
    ) -> Any:
        function = self.function
        arguments = {function.trigger.name: argument()}
        for name, make in self._inputs.items():
            arguments[name] = make(data)
        context.thread_local_storage.invocation_id = context.invocation_id
        if function.shape.requires_context:
            arguments["context"] = context
        outs = {name: Out() for name in function.shape.outputs}
        arguments.update(outs)
        value = await self._call(arguments, context)
        if value is not None and not function.shape.may_return:
            raise RuntimeError(f"function {function.name!r} without a $return binding returned a non-None value")
        converted = value if convert is None else convert(value)  # before any output: it may refuse
        for name, send in self._outputs.items():
            produced = value if name == "$return" else outs[name].get()
            if produced is not None:
                await send(produced)
        return converted

    async def _call(self, arguments: dict[str, Any], context: Context) -> Any:
        if self.function.shape.is_async:
            return await self.function.call(**arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._in_thread, arguments, context)

    def _in_thread(self, arguments: dict[str, Any], context: Context) -> Any:
        storage = context.thread_local_storage
        storage.invocation_id = context.invocation_id
        try:
            return self.function.call(**arguments)
        finally:
            storage.invocation_id = None

"""What azure-functions declares and its worker implements: the invocation's context and output parameters."""

import threading
from typing import Any

import azure.functions as func
import msgspec

_thread_local = threading.local()


class RpcException(msgspec.Struct, frozen=True):
    """The failure that a retry follows."""

    source: str
    stack_trace: str
    message: str


class RetryContext(msgspec.Struct, frozen=True):
    """Which retry this is (0: none) of how many (-1: without limit)."""

    retry_count: int = 0
    max_retry_count: int = 0
    exception: RpcException | None = None


class TraceContext(msgspec.Struct, frozen=True):
    """The W3C trace context by which the request came; empty for the other triggers."""

    trace_parent: str = ""
    trace_state: str = ""
    attributes: dict[str, str] = {}


class Context(func.Context):
    """The `context` parameter."""

    def __init__(self, name: str, directory: str, invocation_id: str, trace: TraceContext, retry: RetryContext) -> None:
        self._name = name
        self._directory = directory
        self._invocation_id = invocation_id
        self._trace = trace
        self._retry = retry

    @property
    def invocation_id(self) -> str:
        """The invocation's id, a UUID."""
        return self._invocation_id

    @property
    def thread_local_storage(self) -> threading.local:  # type: ignore[override]
        """Where threads of the app may note the invocation they work for."""
        return _thread_local

    @property
    def function_name(self) -> str:
        """The function's name."""
        return self._name

    @property
    def function_directory(self) -> str:
        """The directory of the file that defines the function."""
        return self._directory

    @property
    def trace_context(self) -> TraceContext:  # type: ignore[override]
        """The trace context."""
        return self._trace

    @property
    def retry_context(self) -> RetryContext:  # type: ignore[override]
        """The retry context."""
        return self._retry


class Out(func.Out[Any]):
    """An output parameter: the last value set counts."""

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        """Set the value; None sends nothing."""
        self._value = val

    def get(self) -> Any:
        """Return the value set."""
        return self._value

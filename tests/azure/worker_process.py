"""Azure's own Python worker in a process of its own, driven as its host drives it. Needs azure-functions-runtime.

Each line of standard input is a request, each line of standard output its answer, as JSON; bytes are {"base64": ...}.
The host and the worker speak gRPC; the worker's library takes the classes that protoc makes of FunctionRpc.proto as an
argument. Those here stand in for them, with the manners that matter: a message has its fields and no others, what is
absent has its default, and a value of the wrong type is refused.
"""

import asyncio
import base64
import datetime as dt
import json
import os
import sys
import uuid
from types import SimpleNamespace
from typing import Any, ClassVar

import azure_functions_runtime as runtime


class Message:
    FIELDS: ClassVar[dict[str, type]] = {}
    ONEOFS: ClassVar[dict[str, set[str]]] = {}
    """Fields of which at most one is given, by their group's name."""

    def __init__(self, **values: Any) -> None:
        given = {name: value for name, value in values.items() if value is not None}
        for name, value in given.items():
            if name not in self.FIELDS:
                raise ValueError(f"{type(self).__name__} has no field {name}")
            if not isinstance(value, self.FIELDS[name]):
                raise TypeError(f"{type(self).__name__}.{name}: {value!r} is no {self.FIELDS[name].__name__}")
        assert all(len(group & given.keys()) <= 1 for group in self.ONEOFS.values()), given.keys()
        self.given = given
        for name, kind in self.FIELDS.items():
            setattr(self, name, given[name] if name in given else None if issubclass(kind, Message) else kind())

    def WhichOneof(self, group: str) -> str | None:  # noqa: N802  # protobuf's name
        return next(iter(self.ONEOFS[group] & self.given.keys()), None)


def message(title: str, /, *, constants: dict[str, int] | None = None, **fields: type) -> type[Message]:
    return type(title, (Message,), {"FIELDS": fields, **(constants or {})})


class TypedData(Message):
    """A value; its fields are below, for one of them holds such values itself."""


RpcException = message("RpcException", source=str, stack_trace=str, message=str)
RpcHttp = message(
    "RpcHttp", method=str, url=str, headers=dict, params=dict, query=dict, status_code=str, body=TypedData,
    enable_content_negotiation=bool, cookies=list,
)  # fmt: skip
COLLECTIONS = {
    f"collection_{item}": message(f"Collection{item}", **{item: list}) for item in ("bytes", "string", "sint64")
}
TypedData.FIELDS = {"string": str, "json": str, "bytes": bytes, "http": RpcHttp, "int": int, "double": float}
TypedData.FIELDS |= COLLECTIONS
TypedData.ONEOFS = {"data": set(TypedData.FIELDS)}
ParameterBinding = message("ParameterBinding", data=TypedData, name=str)
ParameterBinding.ONEOFS = {"rpc_data": {"data"}}
StatusResult = message(
    "StatusResult", constants={"Failure": 0, "Success": 1, "Cancelled": 2},
    status=int, result=str, exception=RpcException,
)  # fmt: skip
WorkerMetadata = message(
    "WorkerMetadata", runtime_name=str, runtime_version=str, worker_version=str, worker_bitness=str,
    custom_properties=dict,
)  # fmt: skip
BindingInfo = message(
    "BindingInfo", constants={"in": 0, "out": 1, "inout": 2, "undefined": 0, "string": 1, "binary": 2, "stream": 3},
    type=str, direction=int, data_type=int, properties=dict,
)  # fmt: skip
RpcRetryOptions = message(
    "RpcRetryOptions", max_retry_count=int, retry_strategy=str, delay_interval=dt.timedelta,
    minimum_interval=dt.timedelta, maximum_interval=dt.timedelta,
)  # fmt: skip
PROTOS = SimpleNamespace(
    TypedData=TypedData,
    RpcHttp=RpcHttp,
    RpcException=RpcException,
    ParameterBinding=ParameterBinding,
    StatusResult=StatusResult,
    WorkerMetadata=WorkerMetadata,
    BindingInfo=BindingInfo,
    RpcRetryOptions=RpcRetryOptions,
    RpcFunctionMetadata=message(
        "RpcFunctionMetadata", name=str, directory=str, script_file=str, entry_point=str, bindings=dict, is_proxy=bool,
        language=str, raw_bindings=list, function_id=str, managed_dependency_enabled=bool,
        retry_options=RpcRetryOptions, properties=dict,
    ),
    WorkerInitResponse=message(
        "WorkerInitResponse", capabilities=dict, worker_metadata=WorkerMetadata, result=StatusResult
    ),
    FunctionMetadataResponse=message(
        "FunctionMetadataResponse", function_metadata_results=list, result=StatusResult,
        use_default_metadata_indexing=bool,
    ),
    FunctionLoadResponse=message("FunctionLoadResponse", function_id=str, result=StatusResult),
    InvocationResponse=message(
        "InvocationResponse", invocation_id=str, output_data=list, return_value=TypedData, result=StatusResult
    ),
)  # fmt: skip


def typed(kind: str, value: Any) -> TypedData:
    if kind == "http":
        body = value.pop("body")
        return TypedData(http=RpcHttp(**value, body=TypedData(bytes=body) if body else TypedData()))
    collection = COLLECTIONS.get(kind)
    return TypedData(**{kind: collection(**{kind.removeprefix("collection_"): value}) if collection else value})


def request_of(asked: dict[str, Any]) -> tuple[str, Any]:
    """The name of the worker's handler and its request."""
    if asked["request"] == "invocation_request":
        return asked["request"], SimpleNamespace(
            invocation_id=str(uuid.uuid4()),
            function_id=asked["function_id"],
            input_data=[ParameterBinding(name=name, data=typed(*value)) for name, value in asked["inputs"].items()],
            trigger_metadata={name: typed(*value) for name, value in asked["metadata"].items()},
            trace_context=SimpleNamespace(trace_parent="", trace_state="", attributes={}),
            retry_context=SimpleNamespace(retry_count=asked["retry"], max_retry_count=-1, exception=RpcException()),
        )
    return asked["request"], SimpleNamespace(**{"capabilities": {}, **asked})


def from_json(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value


def to_json(value: Any) -> Any:
    if isinstance(value, Message):
        return value.given
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    return {"base64": base64.b64encode(value).decode()}


async def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    sys.stdout = sys.stderr  # what the app prints is no answer
    sys.path.insert(0, sys.argv[1])
    runtime.start_threadpool_executor()
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, request = request_of(json.loads(line, object_hook=from_json))
        envelope = SimpleNamespace(
            request=SimpleNamespace(**{name: request}), properties={"host": "127.0.0.1", "protos": PROTOS}
        )
        answer = await getattr(runtime, name)(envelope)
        answers.write(json.dumps(answer, default=to_json) + "\n")
        answers.flush()


asyncio.run(main())

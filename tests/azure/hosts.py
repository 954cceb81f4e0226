"""Two hosts for the function app's package: ours, and Azure's own worker told what Azure's host would tell it."""

import asyncio
import base64
import json
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from aiohttp import ClientSession, web

from enviromon.application import application
from localcloud.functions.host import FunctionsHost
from localcloud.iothub.event_log import SqliteEventLog
from localcloud.keys import Keys
from localcloud.signalr.server import SignalRServer
from tests.localcloud.functions import azure_messages

NAMESPACE, EVENT_HUB, GROUP = "namespace.example", "telemetry", "enviromon"
VIEWER = "viewer-0123456789abcdefgh"
END = "\x1e"
DEADLINE = 20.0
SUCCESS = 1


class Answer(NamedTuple):
    """An HTTP function's answer; `headers` are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self):
        return json.loads(self.body)


class OurHost:
    """The local host on an event log, with the local SignalR service and a viewer that listens there."""

    def __init__(self, session, viewer, url):
        self._session = session
        self._viewer = viewer
        self._url = url

    async def http(self, method, path, body=b"", **_):
        async with self._session.request(method, self._url + path, data=body or None) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, headers, await response.read())

    async def heard(self, count):
        """The next messages that the viewer receives, as (target, arguments)."""
        messages = []
        async with asyncio.timeout(DEADLINE):
            while len(messages) < count:
                frames = map(json.loads, (await self._viewer.receive_str()).split(END)[:-1])
                messages += [(frame["target"], frame["arguments"]) for frame in frames if frame["type"] == 1]
        return messages


@asynccontextmanager
async def our_host(package: Path, log: SqliteEventLog, environment: dict[str, str]):
    """Serve the package until all of the log is processed; a viewer listens from before the first event."""
    keys = Keys()
    async with AsyncExitStack() as stack:
        signalr = SignalRServer(keys.signalr, allowed_origins=lambda _origin: True)
        port = await signalr.start("127.0.0.1", 0)
        stack.push_async_callback(signalr.stop)
        settings = {
            "IoTHubConnectionString": f"Endpoint=sb://{NAMESPACE}/;SharedAccessKeyName=a;SharedAccessKey=Yg==",
            "IoTHubEventHubName": EVENT_HUB,
            "AzureSignalRConnectionString": f"Endpoint=http://127.0.0.1;Port={port};AccessKey={keys.signalr};Version=1.0;",
        }
        application.cache_clear()
        host = FunctionsHost(
            package, event_hub=lambda _namespace, _name: log, keys=keys, environment={**environment, **settings}
        )
        stack.push_async_callback(_close_application)
        stack.push_async_callback(host.stop)
        runner = web.AppRunner(host.web_app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        session = await stack.enter_async_context(ClientSession())
        ours = OurHost(session, await stack.enter_async_context(_viewer(session, url)), url)
        await host.start()
        async with asyncio.timeout(DEADLINE):
            await _processed(log)
        yield ours


@asynccontextmanager
async def _viewer(session, url):
    async with session.post(f"{url}/api/viewers/{VIEWER}/negotiate") as response:
        info = await response.json()
    headers = {"Authorization": f"Bearer {info['accessToken']}"}
    async with session.ws_connect(info["url"].replace("http:", "ws:"), headers=headers) as viewer:
        await viewer.send_str('{"protocol":"json","version":1}' + END)
        assert await viewer.receive_str() == "{}" + END
        yield viewer


async def _processed(log):
    for partition in range(log.partitions):
        end = len(await log.read(partition, -1, 10_000)) - 1
        while await log.checkpoint(GROUP, partition) < end:  # noqa: ASYNC110  # its caller has a deadline
            await asyncio.sleep(0.01)


async def _close_application():
    await application().stores.close()
    application.cache_clear()


class WorkerError(Exception):
    """The worker answered with a failure, in its words."""


class AzureWorker:
    """The worker's process, asked one thing at a time."""

    def __init__(self, process):
        self._process = process
        self.functions = {}
        self.capabilities = {}

    async def ask(self, request, **values):
        line = json.dumps(
            {"request": request, **values}, default=lambda raw: {"base64": base64.b64encode(raw).decode()}
        )
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()
        answer = await asyncio.wait_for(self._process.stdout.readline(), DEADLINE)
        assert answer, "the worker died: its last words are above"
        return json.loads(answer, object_hook=_bytes)

    async def index(self, directory):
        """Start as the host does: initialise, ask for the functions, load each. Raises WorkerError."""
        self.capabilities = _successful(await self.ask("worker_init_request", function_app_directory=str(directory)))[
            "capabilities"
        ]
        found = _successful(await self.ask("functions_metadata_request"))
        self.functions = {function["name"]: function for function in found["function_metadata_results"]}
        for function in self.functions.values():
            _successful(await self.ask("function_load_request", function_id=function["function_id"]))

    async def invoke(self, function, inputs, metadata, retry=0):
        """Return the answer and the outputs by name. Raises WorkerError where the function failed."""
        function_id = self.functions[function]["function_id"]
        answer = _successful(
            await self.ask("invocation_request", function_id=function_id, inputs=inputs, metadata=metadata, retry=retry)
        )
        return answer.get("return_value"), {output["name"]: output["data"] for output in answer["output_data"]}

    async def telemetry(self, stored, partition, *, retry=0, shorter=False):
        """Deliver a batch; return what is put out to SignalR. `shorter`: an array of strings lacks an entry."""
        context = {
            "FullyQualifiedNamespace": NAMESPACE,
            "EventHubName": EVENT_HUB,
            "ConsumerGroup": GROUP,
            "PartitionId": str(partition),
        }
        data, metadata = azure_messages.many(stored, context, "BINARY")
        if shorter:
            kind, offsets = metadata["OffsetArray"]
            metadata["OffsetArray"] = kind, offsets[1:]
        _, outputs = await self.invoke("telemetry", {"events": data}, metadata, retry)
        return _output(outputs.get("updates"))

    async def http(self, method, path, body=b"", *, function, inputs=None, params=None):
        """Call an HTTP function; return its answer, and what it puts out to SignalR by `snapshot`."""
        request = {
            "method": method,
            "url": f"http://localhost:7071{path}",
            "headers": {"host": "localhost:7071"},
            "params": params or {},
            "query": {},
            "body": body,
        }
        returned, outputs = await self.invoke(function, {"req": ("http", request), **(inputs or {})}, {})
        answer = returned["http"]
        headers = {name.lower(): value for name, value in answer["headers"].items()}
        content = answer.get("body", {}).get("bytes", b"")
        return Answer(int(answer["status_code"]), headers, content), _output(outputs.get("snapshot"))


@asynccontextmanager
async def azure_worker(python: Path, package: Path, elsewhere: Path, environment: dict[str, str]):
    """Start the worker on an app, in a directory that is not the app's. Raises WorkerError where it refuses the app."""
    process = await asyncio.create_subprocess_exec(
        *(python, "-I", "-B", Path(__file__).with_name("worker_process.py"), package),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=elsewhere,
        env=environment,
        limit=1 << 24,
    )
    try:
        worker = AzureWorker(process)
        await worker.index(package)
        yield worker
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), DEADLINE)


def _successful(answer):
    if answer["result"]["status"] != SUCCESS:
        raise WorkerError(answer["result"]["exception"]["message"])
    return answer


def _bytes(value):
    return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value


def _output(output):
    return [] if output is None else json.loads(output["string"])


def heard_by_viewers(output):
    """What viewers hear of a SignalR output, as (target, arguments)."""
    return [(one["target"], one["arguments"]) for one in output]

"""The official npm clients, @microsoft/signalr and @microsoft/signalr-protocol-msgpack, in Node."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from localcloud.signalr.tokens import make_token

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
DASHBOARD = HERE.parents[2] / "dashboard"
MODULES = DASHBOARD / "node_modules" / "@microsoft" / "signalr-protocol-msgpack"
MATRIX = [
    ("WebSockets", "json"),
    ("WebSockets", "messagepack"),
    ("ServerSentEvents", "json"),
    ("LongPolling", "json"),
    ("LongPolling", "messagepack"),
]
KEY = "signalr-tests-signalr-tests-signalr-tests-signalr"
VALUES = [0, 0.0, -1.5, 2**40, None, True, "ünï\u2028", {"a": [1]}]
QUICK = {"ping_seconds": 0.2, "client_timeout_seconds": 1.0, "poll_seconds": 0.4, "sweep_seconds": 0.05}
RECONNECT_MS = [0, 50, 100, *[200] * 50]
SERVER = """
import asyncio, sys
from localcloud.signalr.server import SignalRServer

async def serve():
    server = SignalRServer(sys.argv[1], allowed_origins=lambda _origin: False)
    print(await server.start("127.0.0.1", int(sys.argv[2])), flush=True)
    await asyncio.Event().wait()

asyncio.run(serve())
"""


class Client:
    """A Node process with the official client in it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def next(self, event: str) -> dict[str, Any]:
        """The next event, which must be this one."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 20)
        told = json.loads(line or b"{}")
        assert told.get("event") == event, told
        return told

    async def arguments(self) -> Any:
        return (await self.next("received"))["arguments"]

    def order(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())


@pytest.fixture
async def connect() -> AsyncIterator[Any]:
    """Start clients that negotiate with an application, which sends them on to the SignalR server."""
    assert MODULES.is_dir(), "the official client is missing: run npm ci in dashboard/"
    target = ""

    async def negotiate(request: web.Request) -> web.Response:
        token = make_token(KEY, target, now=time.time(), user_id=request.match_info["viewer"])
        return web.json_response({"url": target, "accessToken": token})

    app = web.Application()
    app.router.add_post("/viewers/{viewer}/negotiate", negotiate)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    clients: list[Client] = []

    async def start(port: int, transport: str, protocol: str, **options: Any) -> Client:
        nonlocal target
        target = f"http://127.0.0.1:{port}/client/?hub=chat"
        options |= {"transport": transport, "protocol": protocol, "modules": str(DASHBOARD)}
        options["url"] = f"http://127.0.0.1:{runner.addresses[0][1]}/viewers/ann"
        clients.append(
            Client(
                await asyncio.create_subprocess_exec(
                    "node",
                    HERE / "client.mjs",
                    json.dumps(options),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                )
            )
        )
        return clients[-1]

    yield start
    for client in clients:
        if client.process.returncode is None:
            client.process.kill()
        await client.process.communicate()
    await runner.cleanup()


@pytest.fixture
async def serve() -> AsyncIterator[Any]:
    """Start servers in processes of their own, so that they can be killed."""
    processes: list[asyncio.subprocess.Process] = []

    async def start(port: int) -> tuple[asyncio.subprocess.Process, int]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SERVER, KEY, str(port), stdout=asyncio.subprocess.PIPE
        )
        processes.append(process)
        assert process.stdout is not None
        return process, int(await asyncio.wait_for(process.stdout.readline(), 20))

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize(("transport", "protocol"), MATRIX)
async def test_it_receives_broadcasts_and_what_is_sent_to_its_user_and_group(
    service, connect, transport: str, protocol: str
) -> None:
    client = await connect(service.port, transport, protocol)
    started = await client.next("started")
    assert await service.call("HEAD", f"/api/hubs/chat/connections/{started['connectionId']}") == 200
    assert await service.call("PUT", f"/api/hubs/chat/groups/g/connections/{started['connectionId']}") == 200
    await service.send("all", VALUES)
    await service.send("user", scope="/users/ann")
    await service.send("group", scope="/groups/g")
    await service.send("other", scope="/users/bob")
    await service.send("end")
    received = [await client.arguments() for _ in range(4)]
    assert received == [["all", VALUES], ["user"], ["group"], ["end"]]


@pytest.mark.parametrize(("transport", "protocol"), MATRIX)
async def test_it_comes_back_by_itself_when_the_server_is_restarted(
    start_service, connect, transport: str, protocol: str
) -> None:
    service = await start_service()
    client = await connect(service.port, transport, protocol, reconnect=RECONNECT_MS)
    before = await client.next("started")
    await service.server.stop()
    await client.next("reconnecting")
    service = await start_service(port=service.port)
    after = await client.next("reconnected")
    assert after["connectionId"] != before["connectionId"]
    await service.send("again")
    assert await client.arguments() == ["again"]


@pytest.mark.parametrize(("transport", "protocol"), MATRIX)
async def test_it_comes_back_by_itself_when_the_server_is_killed(serve, connect, transport: str, protocol: str) -> None:
    process, port = await serve(0)
    client = await connect(port, transport, protocol, reconnect=RECONNECT_MS)
    await client.next("started")
    process.send_signal(signal.SIGKILL)
    await client.next("reconnecting")
    await serve(port)
    await client.next("reconnected")


@pytest.mark.parametrize(("transport", "protocol"), MATRIX)
async def test_it_is_disconnected_when_it_invokes_a_method(service, connect, transport: str, protocol: str) -> None:
    client = await connect(service.port, transport, protocol)
    await client.next("started")
    client.order("invoke")
    assert "listen only" in (await client.next("closed"))["error"]
    assert service.server.counters.protocol_errors == 1


@pytest.mark.parametrize(("transport", "protocol"), MATRIX)
async def test_it_leaves_in_good_order(service, connect, transport: str, protocol: str) -> None:
    client = await connect(service.port, transport, protocol)
    await client.next("started")
    client.order("stop")
    assert await client.next("closed") == {"event": "closed"}
    await service.until(lambda: service.server.counters.connections == 0)
    assert service.server.counters.protocol_errors == 0


@pytest.mark.parametrize(("transport", "protocol"), MATRIX)
async def test_pings_keep_it_connected_on_both_sides(start_service, connect, transport: str, protocol: str) -> None:
    service = await start_service(limits=QUICK)
    client = await connect(service.port, transport, protocol, keepAlive=200, serverTimeout=1000)
    await client.next("started")
    await asyncio.sleep(2 * QUICK["client_timeout_seconds"])
    await service.send("still here")
    assert await client.arguments() == ["still here"]


async def test_it_is_refused_server_sent_events_with_messagepack(service, connect) -> None:
    client = await connect(service.port, "ServerSentEvents", "messagepack")
    assert "does not support Binary" in (await client.next("failed"))["error"]

"""SignalR's fan-out: what a broadcast to many WebSocket clients costs, and when the last of them has it.

    python bench/fanout.py [--server enviromon] [--clients 1000] [--size 2048] [--seconds 4] [--protocol json]
                           [--stalled] [--json]

Three processes: the server, the clients (raw sockets and epoll, as cheap as Python allows) and this one, which sends by
HTTP. Throughput keeps `--window` broadcasts under way; latency sends 20 a second, one at a time. Clients count bytes,
and a broadcast is done when the last client has its last byte. The busy shares say who the bottleneck is: what the
clients could read alone is about deliveries/s divided by their share. `--stalled` adds a client that reads nothing; the
kernel takes about 4 MB for it before the server holds any, so let `--size` times the broadcasts exceed that.
`--server` ws or socket.io measures those on Node (bench/peers/fanout.js) with the same clients and frames as long.
"""

import argparse
import asyncio
import json
import multiprocessing
import select
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
import uvloop
from processes import allow_many_files, cpu_seconds, first_line, rss, running
from rich.console import Console
from rich.table import Table

from localcloud.signalr.limits import Limits
from localcloud.signalr.protocol import Invocation, Message
from localcloud.signalr.server import SignalRServer
from localcloud.signalr.tokens import make_token
from localcloud.signalr.transports.websocket import binary_frame, text_frame

KEY = "bench-bench-bench-bench-bench-bench-bench-bench"
HUB = "bench"
LATENCY_INTERVAL = 0.05
READ_SIZE = 1 << 20
CONNECT_SECONDS = 60.0
PEERS = ("ws", "socket.io")


def frame(server: str, protocol: str, values: Sequence[Any]) -> bytes:
    """Return what a client is sent for a broadcast of these arguments."""
    invocation = Message(Invocation("newMessage", list(values)))
    if server != "socket.io":
        return {"json": text_frame, "messagepack": binary_frame}[protocol](invocation)
    text = b"42" + json.dumps(["newMessage", *values], separators=(",", ":")).encode()
    return bytes((0x81, 126, *len(text).to_bytes(2, "big"))) + text


def arguments(size: int, server: str, protocol: str) -> list[Any]:
    """Make arguments whose frame has `size` bytes: readings of devices, as a dashboard gets them."""
    reading = {"deviceId": "device-000", "temperature": 21.5, "humidity": 40.25, "pressure": 1013.2, "count": 1000}
    readings = [reading]
    while len(frame(server, protocol, [[*readings, reading]])) < size - 64:
        readings.append(reading)
    padding = size - len(frame(server, protocol, [readings, ""]))
    return [readings, "x" * max(0, padding)]


def serve(pipe: Connection) -> None:
    """Be the server's process: tell the port, then, when asked, how many viewers were aborted as too slow."""

    async def run() -> None:
        limits = Limits(max_connections=100_000, max_sockets=100_000, ping_seconds=3600, client_timeout_seconds=3600)
        server = SignalRServer(KEY, allowed_origins=lambda _origin: True, limits=limits)
        pipe.send(await server.start("127.0.0.1", 0))
        asked = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), asked.set)
        while True:
            await asked.wait()
            asked.clear()
            pipe.recv()
            pipe.send(server.counters.too_slow)

    uvloop.run(run())


def connect(server: str, port: int, protocol: str, receive_buffer: int | None = None) -> socket.socket:
    """Connect a client up to its handshake's answer."""
    path = {"enviromon": f"/client/?hub={HUB}", "ws": "/", "socket.io": "/socket.io/?EIO=4&transport=websocket"}[server]
    client = socket.socket()
    client.settimeout(CONNECT_SECONDS)
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect(("127.0.0.1", port))
    token = make_token(KEY, f"http://127.0.0.1:{port}{path}", now=time.time())
    client.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    for hello, ending in {
        "enviromon": [(b'{"protocol":"%s","version":1}\x1e' % protocol.encode(), b"{}\x1e")],
        "ws": [(b"", b"\r\n\r\n")],
        "socket.io": [(b"", b"}"), (b"40", b"}")],
    }[server]:
        if hello:
            client.sendall(bytes((0x81, 0x80 | len(hello), 0, 0, 0, 0)) + hello)  # masked with zeros
        received = b""
        while not received.endswith(ending):
            part = client.recv(4096)
            if not part:
                raise ConnectionError(f"{server} closed the connection after {received!r}")
            received += part
    return client


def read(options: argparse.Namespace, port: int, pipe: Connection) -> None:
    """Be the clients' process: tell when each broadcast has reached the last client."""
    sockets = {}
    for _ in range(options.clients):
        client = connect(options.server, port, options.protocol)
        client.settimeout(0)
        sockets[client.fileno()] = client
    stalling = connect(options.server, port, options.protocol, receive_buffer=4096) if options.stalled else None
    poll = select.epoll()
    for descriptor in sockets:
        poll.register(descriptor, select.EPOLLIN)
    pipe.send("ready")
    received = dict.fromkeys(sockets, 0)
    behind = options.clients  # how many clients miss bytes of the broadcast that is waited for
    goal = options.size
    buffer = bytearray(READ_SIZE)
    while True:
        for descriptor, _events in poll.poll():
            count = sockets[descriptor].recv_into(buffer)
            if not count:
                raise ConnectionError("the server closed a connection")
            before = received[descriptor]
            after = received[descriptor] = before + count
            if before < goal <= after:
                behind -= 1
        while behind == 0:
            pipe.send((time.monotonic(), min(received.values())))
            goal += options.size
            behind = sum(count < goal for count in received.values())
    del stalling


class Bench:
    """The three processes, from the sender's side; an asynchronous context manager."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.sent = self.received = 0
        self._context = multiprocessing.get_context("spawn")
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start them, and return when every client is connected."""
        try:
            self._start_server()
            self.reader, end = self._context.Pipe()
            self._reading = self._start(read, self.options, self.port, end)
            end.close()
            assert await asyncio.to_thread(self.reader.recv) == "ready"
            self.session = await self._opened.enter_async_context(aiohttp.ClientSession())
        except BaseException:
            await self._opened.aclose()
            raise
        values = arguments(self.options.size, self.options.server, self.options.protocol)
        # Compact: a server may pass the arguments through as they came, and frames have the length that is counted.
        self.body = msgspec.json.encode({"target": "newMessage", "arguments": values})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    def _start_server(self) -> None:
        if self.options.server == "enviromon":
            self._pipe, end = self._context.Pipe()
            self._server = self._start(serve, end)
            self.port: int = self._pipe.recv()
            self.url = f"http://127.0.0.1:{self.port}/api/v1/hubs/{HUB}"
        else:
            program = ["node", Path(__file__).parent / "peers/fanout.js", self.options.server]
            process = self._opened.enter_context(running(program))
            self._server, self.port = process.pid, int(first_line(process))
            self.url = f"http://127.0.0.1:{self.port}/"

    def _start(self, work: Callable[..., None], *given: Any) -> int:
        process = self._context.Process(target=work, args=given, daemon=True)
        process.start()
        self._opened.callback(process.join)
        self._opened.callback(process.terminate)
        assert process.pid is not None
        return process.pid

    def usage(self) -> tuple[float, float]:
        """CPU seconds of server and clients."""
        return cpu_seconds(self._server), cpu_seconds(self._reading)

    def rss(self) -> int:
        """The server's resident bytes."""
        return rss(self._server)

    def too_slow(self) -> int:
        """How many viewers the server aborted; the peers abort none."""
        if self.options.server != "enviromon":
            return 0
        self._pipe.send("too slow?")
        return int(self._pipe.recv())

    async def send(self) -> None:
        """Send one broadcast by HTTP."""
        token = make_token(KEY, self.url, now=time.time())
        async with self.session.post(
            self.url, data=self.body, headers={"Authorization": f"Bearer {token}"}
        ) as response:
            assert response.status == 202, await response.text()
        self.sent += 1

    async def done(self) -> float:
        """Wait for the next broadcast to have reached the last client; return when."""
        when, self.received = await asyncio.to_thread(self.reader.recv)
        return float(when)

    def check(self) -> None:
        """Raise AssertionError unless what was sent is what arrived, and nothing is under way."""
        if self.received != self.sent * self.options.size:
            raise AssertionError(f"{self.sent} frames of {self.options.size} bytes are not {self.received} bytes")


async def throughput(bench: Bench) -> dict[str, float]:
    """Keep a window of broadcasts under way."""
    options = bench.options
    before, start, broadcasts = bench.usage(), time.monotonic(), 0
    for _ in range(options.window):
        await bench.send()
    last = start
    while time.monotonic() - start < options.seconds:
        last = await bench.done()
        broadcasts += 1
        await bench.send()
    for _ in range(options.window):
        last = await bench.done()
    broadcasts += options.window
    bench.check()
    wall, after = last - start, bench.usage()
    return {
        "deliveriesPerSecond": broadcasts * options.clients / wall,
        "serverBusy": (after[0] - before[0]) / wall,
        "clientsBusy": (after[1] - before[1]) / wall,
    }


async def latency(bench: Bench) -> dict[str, float]:
    """Send one broadcast at a time; milliseconds from the call to the last client's last byte."""
    times = []
    for _ in range(int(bench.options.seconds / LATENCY_INTERVAL)):
        start = time.monotonic()
        await bench.send()
        times.append((await bench.done() - start) * 1000)
        await asyncio.sleep(max(0, LATENCY_INTERVAL - (time.monotonic() - start)))
    cuts = statistics.quantiles(times, n=100)
    return {"lastClientP50Ms": cuts[49], "lastClientP99Ms": cuts[98]}


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the figures."""
    async with Bench(options) as bench:
        figures = await latency(bench) | await throughput(bench)
        return {
            "server": options.server,
            "clients": options.clients,
            "frameBytes": options.size,
            "protocol": options.protocol,
            "serverRssMb": bench.rss() / 1e6,
            "abortedAsTooSlow": bench.too_slow(),
            **figures,
        }


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What the table shows."""
    formats: dict[str, Callable[[Any], str]] = {
        "server": str,
        "clients": str,
        "frameBytes": str,
        "protocol": str,
        "deliveriesPerSecond": "{:,.0f}".format,
        "lastClientP50Ms": "{:.1f}".format,
        "lastClientP99Ms": "{:.1f}".format,
        "serverBusy": "{:.0%}".format,
        "clientsBusy": "{:.0%}".format,
        "serverRssMb": "{:.0f}".format,
        "abortedAsTooSlow": str,
    }
    for name, show in formats.items():
        yield name, show(figures[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--server", choices=["enviromon", *PEERS], default="enviromon", help="the others send --protocol json only"
    )
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--size", type=int, default=2048, help="bytes of a frame, at least 256")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each of the two measurements")
    parser.add_argument("--window", type=int, default=4)
    parser.add_argument("--protocol", choices=["json", "messagepack"], default="json")
    parser.add_argument("--stalled", action="store_true", help="one more client, which reads nothing")
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    allow_many_files()
    figures = asyncio.run(run(options))
    if options.as_json:
        print(json.dumps(figures))
        return
    table = Table("figure", "value")
    for row in rows(figures):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()

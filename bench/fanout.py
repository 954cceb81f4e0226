"""SignalR's fan-out: what a broadcast to many WebSocket clients costs, and when the last of them has it.

    python bench/fanout.py [--clients 1000] [--size 2048] [--seconds 4] [--protocol json] [--stalled] [--json]

Three processes: the server, the clients (raw sockets and epoll, as cheap as Python allows) and this one, which sends by
REST. Throughput keeps `--window` broadcasts under way; latency sends 20 a second, one at a time. Clients count bytes,
and a broadcast is done when the last client has its last byte. The busy shares say who the bottleneck is: what the
clients could read alone is about deliveries/s divided by their share. `--stalled` adds a client that reads nothing; the
kernel takes about 4 MB for it before the server holds any, so let `--size` times the broadcasts exceed that.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import select
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import uvloop
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
HANDSHAKE_ANSWER = b"{}\x1e"


def arguments(size: int, protocol: str) -> list[Any]:
    """Make arguments whose frame has `size` bytes: readings of devices, as a dashboard gets them."""
    reading = {"deviceId": "device-000", "temperature": 21.5, "humidity": 40.25, "pressure": 1013.2, "count": 1000}
    encoder = {"json": text_frame, "messagepack": binary_frame}[protocol]
    readings = [reading]
    while len(encoder(Message(Invocation("newMessage", [[*readings, reading]])))) < size - 64:
        readings.append(reading)
    padding = size - len(encoder(Message(Invocation("newMessage", [readings, ""]))))
    return [readings, "x" * max(0, padding)]


def serve(pipe: Connection) -> None:
    """Be the server's process: tell the port, then, when asked, CPU seconds, memory and counters."""

    async def run() -> None:
        server = SignalRServer(KEY, allowed_origins=lambda _origin: True, limits=Limits(max_connections=100_000))
        pipe.send(await server.start("127.0.0.1", 0))
        asked = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), asked.set)
        while True:
            await asked.wait()
            asked.clear()
            if pipe.recv() == "stop":
                return
            used = resource.getrusage(resource.RUSAGE_SELF)
            pipe.send((used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, msgspec.to_builtins(server.counters)))

    uvloop.run(run())


def connect(port: int, protocol: str, receive_buffer: int | None = None) -> socket.socket:
    """Connect a client up to its handshake's answer."""
    url = f"http://127.0.0.1:{port}/client/?hub={HUB}"
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect(("127.0.0.1", port))
    token = make_token(KEY, url, now=time.time())
    parts = urlsplit(url)
    client.sendall(
        f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    handshake = b'{"protocol":"%s","version":1}\x1e' % protocol.encode()
    client.sendall(bytes((0x81, 0x80 | len(handshake), 0, 0, 0, 0)) + handshake)  # masked with zeros
    received = b""
    while not received.endswith(HANDSHAKE_ANSWER):
        received += client.recv(4096)
    return client


def read(port: int, clients: int, size: int, protocol: str, stalled: bool, pipe: Connection) -> None:  # noqa: FBT001
    """Be the clients' process: tell when each broadcast has reached the last client."""
    sockets = {}
    for _ in range(clients):
        client = connect(port, protocol)
        client.settimeout(0)
        sockets[client.fileno()] = client
    stalling = connect(port, protocol, receive_buffer=4096) if stalled else None
    poll = select.epoll()
    for descriptor in sockets:
        poll.register(descriptor, select.EPOLLIN)
    poll.register(pipe.fileno(), select.EPOLLIN)
    pipe.send("ready")
    received = dict.fromkeys(sockets, 0)
    behind = clients  # how many clients miss bytes of the broadcast that is waited for
    goal = size
    buffer = bytearray(READ_SIZE)
    while True:
        for descriptor, _events in poll.poll():
            if descriptor == pipe.fileno():
                pipe.recv()
                pipe.send(time.process_time())
                continue
            before = received[descriptor]
            after = received[descriptor] = before + sockets[descriptor].recv_into(buffer)
            if before < goal <= after:
                behind -= 1
        while behind == 0:
            pipe.send(time.monotonic())
            goal += size
            behind = sum(count < goal for count in received.values())
    del stalling


class Bench:
    """The three processes, from the sender's side."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        context = multiprocessing.get_context("spawn")
        self.server, server_end = context.Pipe()
        self._processes = [context.Process(target=serve, args=(server_end,), daemon=True)]
        self._processes[0].start()
        self.port: int = self.server.recv()
        self.reader, reader_end = context.Pipe()
        reading = (self.port, options.clients, options.size, options.protocol, options.stalled, reader_end)
        self._processes.append(context.Process(target=read, args=reading, daemon=True))
        self._processes[1].start()
        assert self.reader.recv() == "ready"
        self.url = f"http://127.0.0.1:{self.port}/api/v1/hubs/{HUB}"
        self.body = json.dumps({"target": "newMessage", "arguments": arguments(options.size, options.protocol)})

    def close(self) -> None:
        """End both processes."""
        self.server.send("stop")
        for process in self._processes:
            process.terminate()
            process.join()

    def usage(self) -> tuple[float, float]:
        """CPU seconds of server and clients."""
        self.server.send("usage")
        self.reader.send("usage")
        return self.server.recv()[0], self.reader.recv()

    async def send(self, session: aiohttp.ClientSession) -> None:
        """Send one broadcast by REST."""
        token = make_token(KEY, self.url, now=time.time())
        async with session.post(self.url, data=self.body, headers={"Authorization": f"Bearer {token}"}) as response:
            assert response.status == 202, await response.text()

    async def done(self) -> float:
        """Wait for the next broadcast to have reached the last client; return when."""
        return await asyncio.to_thread(self.reader.recv)


async def throughput(bench: Bench, session: aiohttp.ClientSession) -> dict[str, float]:
    """Keep a window of broadcasts under way."""
    options = bench.options
    before, start, broadcasts = bench.usage(), time.monotonic(), 0
    for _ in range(options.window):
        await bench.send(session)
    last = start
    while time.monotonic() - start < options.seconds:
        last = await bench.done()
        broadcasts += 1
        await bench.send(session)
    for _ in range(options.window):
        last = await bench.done()
    broadcasts += options.window
    wall, after = last - start, bench.usage()
    return {
        "deliveriesPerSecond": broadcasts * options.clients / wall,
        "serverBusy": (after[0] - before[0]) / wall,
        "clientsBusy": (after[1] - before[1]) / wall,
    }


async def latency(bench: Bench, session: aiohttp.ClientSession) -> dict[str, float]:
    """Send one broadcast at a time; milliseconds from the call to the last client's last byte."""
    times = []
    for _ in range(int(bench.options.seconds / LATENCY_INTERVAL)):
        start = time.monotonic()
        await bench.send(session)
        times.append((await bench.done() - start) * 1000)
        await asyncio.sleep(max(0, LATENCY_INTERVAL - (time.monotonic() - start)))
    cuts = statistics.quantiles(times, n=100)
    return {"lastClientP50Ms": cuts[49], "lastClientP99Ms": cuts[98]}


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the figures."""
    bench = Bench(options)
    try:
        async with aiohttp.ClientSession() as session:
            figures = await latency(bench, session) | await throughput(bench, session)
        bench.server.send("usage")
        _, memory, counters = bench.server.recv()
    finally:
        bench.close()
    return (
        {"clients": options.clients, "frameBytes": options.size, "protocol": options.protocol}
        | figures
        | {
            "serverRssMb": memory,
            "counters": counters,
        }
    )


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What the table shows."""
    formats: dict[str, Callable[[Any], str]] = {
        "clients": str,
        "frameBytes": str,
        "protocol": str,
        "deliveriesPerSecond": "{:,.0f}".format,
        "lastClientP50Ms": "{:.1f}".format,
        "lastClientP99Ms": "{:.1f}".format,
        "serverBusy": "{:.0%}".format,
        "clientsBusy": "{:.0%}".format,
        "serverRssMb": "{:.0f}".format,
    }
    for name, show in formats.items():
        yield name, show(figures[name])
    yield "aborted as too slow", str(figures["counters"]["too_slow"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--size", type=int, default=2048, help="bytes of a frame, at least 256")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each of the two measurements")
    parser.add_argument("--window", type=int, default=4)
    parser.add_argument("--protocol", choices=["json", "messagepack"], default="json")
    parser.add_argument("--stalled", action="store_true", help="one more client, which reads nothing")
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
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

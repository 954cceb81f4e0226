"""An MQTT load generator: devices that publish at QoS 1 with a window, as fast as they are acknowledged or at a rate.

    python bench/load.py --alone [--json]                  what it can do against an acceptor that stores nothing
    python bench/load.py --port P --devices FILE [--json]  FILE: [{"deviceId", "username", "password"}, ...]

It is cheap, so that it is not what one measures: publishes are encoded before the start, the ones that a read's
acknowledgements allow go out in one write, and acknowledgements are compared with the expected bytes (so each is
checked: its packet id, its order, nothing beside). One connection per device. What it speaks is plain MQTT 3.1.1: with
`--topic` any broker takes it. With `--hold` it says `connected` and starts when it is given a line.
"""

import argparse
import asyncio
import json
import multiprocessing
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from processes import allow_many_files
from readings import bodies

LONGEST_RING, SHORTEST_RING, RINGS_TOGETHER = 500, 40, 100_000
TOPIC = "devices/{device}/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8"
CLIENT_ADDRESSES = 4
"""One has 28,000 ports, and those used lately are in TIME_WAIT."""
CONNACK_ACCEPTED = (b"\x20\x02\x00\x00", b"\x20\x02\x01\x00")  # without and with a stored session
CONNECTING_AT_ONCE = 50
SETTLE_SECONDS = 30.0


class Device(msgspec.Struct, frozen=True, rename="camel"):
    """Who connects, and by what."""

    device_id: str
    username: str
    password: str


class Result(msgspec.Struct, frozen=True):
    """What was acknowledged, from the first publish (unix seconds) to the last acknowledgement."""

    started: float
    connections: int
    window: int
    acknowledged: int
    seconds: float
    per_second: float
    generator_cpu_us: float


def packet(kind: int, body: bytes) -> bytes:
    """Put MQTT's fixed header before a body."""
    length = len(body)
    header = bytearray([kind])
    while True:
        length, digit = divmod(length, 128)
        header.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(header) + body


def text(value: str) -> bytes:
    return len(value.encode()).to_bytes(2, "big") + value.encode()


def connect(device: Device) -> bytes:
    """CONNECT of MQTT 3.1.1: clean session 0, no will, keepalive 60 s."""
    credentials = text(device.device_id) + text(device.username) + text(device.password)
    return packet(0x10, text("MQTT") + b"\x04\xc0" + (60).to_bytes(2, "big") + credentials)


def publish(topic: str, packet_id: int, body: bytes) -> bytes:
    """PUBLISH at QoS 1."""
    return packet(0x32, text(topic) + packet_id.to_bytes(2, "big") + body)


class Ring:
    """A device's prepared publishes and the acknowledgements to expect, twice over so that any run is one slice."""

    def __init__(self, topic: str, readings: Sequence[bytes]) -> None:
        self._length = len(readings)
        packets = [publish(topic, number, body) for number, body in enumerate(readings, 1)] * 2
        acknowledgements = [b"\x40\x02" + number.to_bytes(2, "big") for number in range(1, self._length + 1)] * 2
        self._publishes = memoryview(b"".join(packets))
        self._starts = list(accumulate(map(len, packets), initial=0))
        self._acknowledgements = b"".join(acknowledgements)

    def publishes(self, first: int, count: int) -> memoryview:
        turn = first % self._length
        return self._publishes[self._starts[turn] : self._starts[turn + count]]

    def acknowledgements(self, first: int, count: int) -> bytes:
        turn = first % self._length
        return self._acknowledgements[4 * turn : 4 * (turn + count)]


class Sender(asyncio.Protocol):
    """One device's connection. Faults end in `failed`."""

    def __init__(self, device: Device, ring: Ring) -> None:
        loop = asyncio.get_running_loop()
        self.connected: asyncio.Future[None] = loop.create_future()
        self.settled: asyncio.Future[None] = loop.create_future()
        self.acknowledged = 0
        self._sent = 0
        self._allowed = 0
        self._device = device
        self._ring = ring
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._transport.write(connect(self._device))

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        if not self.connected.done():
            if data not in CONNACK_ACCEPTED:
                self._fail(f"CONNACK {data!r}")
            else:
                self.connected.set_result(None)
            return
        count, rest = divmod(len(data), 4)
        self._buffer = data[4 * count :] if rest else b""
        expected = self._ring.acknowledgements(self.acknowledged, count)
        if (data[: 4 * count] if rest else data) != expected or self.acknowledged + count > self._sent:
            self._fail(f"unexpected bytes instead of acknowledgements: {data[:40]!r}")
            return
        self.acknowledged += count
        if self._allowed > self._sent:
            self.send(min(count, self._allowed - self._sent))
        elif self.acknowledged == self._sent and not self.settled.done():
            self.settled.set_result(None)

    def send(self, count: int) -> None:
        """Publish the next `count` readings in one write."""
        self._transport.write(self._ring.publishes(self._sent, count))
        self._sent += count

    def allow(self, messages: int, window: int) -> None:
        """Send up to so many messages, `window` of them unacknowledged at most."""
        self._allowed = messages
        self.send(min(window, messages))

    def stop(self) -> None:
        """Send nothing new; `settled` is done once everything sent is acknowledged."""
        self._allowed = self._sent
        if self.acknowledged == self._sent and not self.settled.done():
            self.settled.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection ended: {exc}")

    def close(self) -> None:
        self._transport.close()

    def _fail(self, reason: str) -> None:
        for future in (self.connected, self.settled):
            if not future.done():
                future.set_exception(ConnectionError(f"{self._device.device_id}: {reason}"))
                future.exception()  # whoever awaits it is told; nobody else need be


def ring_length(devices: int) -> int:
    """Return how many readings each device has in turn: all of them together have room in memory."""
    return max(SHORTEST_RING, min(LONGEST_RING, RINGS_TOGETHER // devices))


def drifting(device: Device, number: int) -> Iterable[bytes]:
    """Return readings without a timestamp: a ring of them can turn without sending old ones."""
    return bodies(device.device_id, number, timestamps=False)


async def connect_all(
    devices: Sequence[Device],
    port: int,
    tls: ssl.SSLContext | None,
    *,
    topic: str = TOPIC,
    readings: Callable[[Device, int], Iterable[bytes]] = drifting,
) -> list[Sender]:
    """Open one accepted connection per device, some at a time; `readings` gives each its bodies."""
    limit, length = asyncio.Semaphore(CONNECTING_AT_ONCE), ring_length(len(devices))
    server_hostname = "localhost" if tls else None

    async def one(number: int, device: Device) -> Sender:
        async with limit:
            ring = Ring(topic.format(device=device.device_id), list(islice(readings(device, number), length)))
            _, sender = await asyncio.get_running_loop().create_connection(
                lambda: Sender(device, ring),
                "127.0.0.1",
                port,
                ssl=tls,
                server_hostname=server_hostname,
                local_addr=(f"127.0.0.{2 + number % CLIENT_ADDRESSES}", 0),
            )
            await asyncio.wait_for(sender.connected, SETTLE_SECONDS)
            return sender

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number, device)) for number, device in enumerate(devices)]
    return [task.result() for task in tasks]


async def run(
    devices: Sequence[Device],
    port: int,
    tls: ssl.SSLContext | None,
    *,
    window: int,
    seconds: float,
    rate: int = 0,
    topic: str = TOPIC,
    hold: Callable[[], object] = lambda: None,
) -> Result:
    """Load for so many seconds, as fast as the window allows or at `rate` messages a second over all devices.

    `hold` is called between connecting and the first publish. Raises ValueError for a window beyond SHORTEST_RING.
    """
    if window > SHORTEST_RING:
        raise ValueError(f"a window of {window} messages: {SHORTEST_RING} are possible")
    senders = await connect_all(devices, port, tls, topic=topic)
    hold()
    wall, started, cpu = time.time(), time.perf_counter(), time.process_time()
    if rate:
        await paced(senders, rate, seconds)
    else:
        for sender in senders:
            sender.allow(1 << 62, window)
        await asyncio.sleep(seconds)
    for sender in senders:
        sender.stop()
    await asyncio.wait_for(asyncio.gather(*(sender.settled for sender in senders)), SETTLE_SECONDS)
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    acknowledged = sum(sender.acknowledged for sender in senders)
    for sender in senders:
        sender.close()
    return Result(wall, len(senders), window, acknowledged, elapsed, acknowledged / elapsed, cpu * 1e6 / acknowledged)


async def paced(senders: Sequence[Sender], rate: int, seconds: float) -> list[list[float]]:
    """Send `rate` messages a second, device after device, catching up after a late wake-up.

    Return per sender when each of its messages went out, by `time.perf_counter`.
    """
    started = time.perf_counter()
    sent = 0
    times: list[list[float]] = [[] for _ in senders]
    while sent < rate * seconds:
        due = min(int((time.perf_counter() - started) * rate) + 1, int(rate * seconds))
        for number in range(sent, due):
            times[number % len(senders)].append(time.perf_counter())
            senders[number % len(senders)].send(1)
        sent = due
        await asyncio.sleep(max(started + sent / rate - time.perf_counter(), 0))
    return times


class Acceptor(asyncio.Protocol):
    """The least that can be on the other side: it acknowledges and counts what it reads, and keeps nothing."""

    def __init__(self) -> None:
        self.received = 0
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        answers = []
        at, size = 0, len(data)
        while size - at >= 4:
            length, header = data[at + 1] & 0x7F, 2
            if data[at + 1] & 0x80:
                length |= data[at + 2] << 7
                header = 3
            if at + header + length > size:
                break
            if data[at] & 0xF6 == 0x32:  # PUBLISH at QoS 1, whatever DUP and RETAIN say
                self.received += 1
                packet_id = at + header + 2 + (data[at + header] << 8 | data[at + header + 1])
                answers.append(b"\x40\x02" + data[packet_id : packet_id + 2])
            else:
                answers.append(self.answer(data[at : at + header + length]))
            at += header + length
        self._buffer = data[at:]
        self._transport.write(b"".join(answers))

    def answer(self, received: bytes) -> bytes:
        """Return what a packet is answered with, publishes apart."""
        return CONNACK_ACCEPTED[0] if received[0] == 0x10 else b""


def accept(ports: "multiprocessing.Queue[int]") -> None:
    """Serve an Acceptor on a free port for ever; the port is put into the queue."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Acceptor, "127.0.0.1", 0)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


def alone(connections: int, window: int, seconds: float) -> Result:
    """Measure the generator against an acceptor in another process."""
    context = multiprocessing.get_context("spawn")
    ports: multiprocessing.Queue[int] = context.Queue()
    acceptor = context.Process(target=accept, args=(ports,), daemon=True)
    acceptor.start()
    try:
        devices = [Device(f"bench-{number}", "", "") for number in range(connections)]
        return uvloop.run(run(devices, ports.get(), None, window=window, seconds=seconds))
    finally:
        acceptor.terminate()
        acceptor.join()


def arguments() -> Any:
    parser = argparse.ArgumentParser(description="An MQTT load generator.")
    parser.add_argument("--alone", action="store_true", help="measure the generator itself")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--ca", type=Path, help="speak TLS and trust this CA")
    parser.add_argument("--devices", type=Path, help="JSON file: a list of deviceId, username, password")
    parser.add_argument("--connections", type=int, default=100, help="with --alone")
    parser.add_argument("--window", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=int, default=0, help="messages a second over all devices; 0: all it can")
    parser.add_argument("--topic", default=TOPIC, help="where {device} stands for the device's id")
    parser.add_argument("--hold", action="store_true", help="say `connected`, then wait for a line")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def hold() -> None:
    """Say that every device is connected, and wait for a line."""
    print("connected", flush=True)
    sys.stdin.readline()


def main() -> None:
    allow_many_files()
    given = arguments()
    if given.alone:
        result = alone(given.connections, given.window, given.seconds)
    else:
        devices = msgspec.json.decode(given.devices.read_bytes(), type=list[Device])
        tls = ssl.create_default_context(cafile=given.ca) if given.ca else None
        load = run(
            devices,
            given.port,
            tls,
            window=given.window,
            seconds=given.seconds,
            rate=given.rate,
            topic=given.topic,
            hold=hold if given.hold else lambda: None,
        )
        result = uvloop.run(load)
    figures = msgspec.structs.asdict(result)
    if given.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name.replace('_', ' '):>18}  {value:,.2f}")


if __name__ == "__main__":
    main()

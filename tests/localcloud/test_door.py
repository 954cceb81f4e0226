"""TLS handshakes that never end, end badly or come too often, beside those of honest peers; on both event loops."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from localcloud.certificates import Certificates, ensure_certificates, server_ssl_context
from localcloud.door import Door
from tests.waiting import until

LOOPS = {"asyncio": asyncio.run, "uvloop": uvloop.run}


class Echo(asyncio.Protocol):
    open = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Echo.open += 1
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]

    def connection_lost(self, exc: Exception | None) -> None:
        Echo.open -= 1


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return ensure_certificates(tmp_path_factory.mktemp("certificates"), [])


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    return LOOPS[request.param]


@contextlib.asynccontextmanager
async def opened(
    certificates: Certificates, *, most: int = 100, seconds: float = 5.0, per_second: float = 1000.0, tls: bool = True
) -> AsyncIterator[tuple[Door, int, list[str]]]:
    Echo.open, refused = 0, []
    door = Door(
        places=lambda: most - Echo.open,
        handshake_seconds=seconds,
        handshakes_per_second=per_second,
        on_refused=refused.append,
    )
    listener = await door.listen(Echo, "127.0.0.1", 0, server_ssl_context(certificates) if tls else None)
    try:
        yield door, listener.sockets[0].getsockname()[1], refused
    finally:
        listener.close()
        door.close()


async def ask(port: int, certificates: Certificates) -> bytes:
    context = ssl.create_default_context(cafile=certificates.ca_file)
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        writer.write(b"hello")
        answer = await reader.read(100)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return answer


@pytest.mark.slow
def test_a_handshake_in_progress_takes_a_place_until_its_time_is_over(run, certificates: Certificates) -> None:
    async def main() -> None:
        async with opened(certificates, most=3, seconds=1.0) as (door, port, refused):
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            silent[0][1].write(b"\x16\x03\x01")
            await until(lambda: door.handshakes == 3)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            assert len(refused) == 1
            for each in silent:
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(each[0].read(), 5) == b""
            assert door.handshakes == 0
            assert await ask(port, certificates) == b"hello"
            for _, each_writer in (*silent, (reader, writer)):
                each_writer.close()

    run(main())


def test_every_place_can_be_taken(run, certificates: Certificates) -> None:
    async def main() -> None:
        async with opened(certificates, most=20) as (_, port, refused):
            context = ssl.create_default_context(cafile=certificates.ca_file)
            connecting = [
                asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost") for _ in range(20)
            ]
            writers = [writer for _, writer in await asyncio.gather(*connecting)]
            await until(lambda: Echo.open == 20)
            assert refused == []
            for writer in writers:
                writer.close()
            await until(lambda: Echo.open == 0)

    run(main())


def test_a_failed_handshake_gives_its_place_back_at_once(run, certificates: Certificates) -> None:
    async def main() -> None:
        async with opened(certificates, most=1) as (door, port, refused):
            for _ in range(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    await asyncio.wait_for(reader.read(), 5)
                writer.close()
                await until(lambda: door.handshakes == 0)
            assert await ask(port, certificates) == b"hello"
            assert refused == []

    run(main())


def test_what_comes_right_behind_the_handshake_is_not_lost(run, certificates: Certificates) -> None:
    def talk(port: int) -> bytes:
        """Send the last bytes of the handshake and the first of the stream in one segment."""
        context = ssl.create_default_context(cafile=certificates.ca_file)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    raw.sendall(outgoing.read())
                    incoming.write(raw.recv(65536))
            tls.write(b"early")
            raw.sendall(outgoing.read())
            while True:
                incoming.write(raw.recv(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    return tls.read(100)

    async def main() -> None:
        async with opened(certificates) as (_, port, _refused):
            for _ in range(20):
                assert await asyncio.to_thread(talk, port) == b"early"
            await until(lambda: Echo.open == 0)

    run(main())


@pytest.mark.slow
def test_handshakes_beyond_their_rate_wait_and_are_served(run, certificates: Certificates) -> None:
    async def main() -> None:
        async with opened(certificates, per_second=10.0) as (_, port, refused):
            start = asyncio.get_running_loop().time()
            assert await asyncio.gather(*(ask(port, certificates) for _ in range(25))) == [b"hello"] * 25
            assert asyncio.get_running_loop().time() - start > 0.35
            assert refused == []

    run(main())


def test_a_socket_without_tls_is_let_in_while_there_is_a_place(run, certificates: Certificates) -> None:
    async def main() -> None:
        async with opened(certificates, most=1, tls=False) as (_, port, refused):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello")
            assert await reader.read(100) == b"hello"
            other, other_writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(other.read(), 5) == b""
            assert len(refused) == 1
            writer.close()
            other_writer.close()
            await until(lambda: Echo.open == 0)

    run(main())


def test_a_stop_ends_the_handshakes_in_progress(run, certificates: Certificates, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(certificates, seconds=60) as (door, port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await until(lambda: door.handshakes == 1)
            door.close()
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            assert door.handshakes == 0
            writer.close()

    run(main())

"""The main process's side of its function workers: starts them, grants them partitions, starts anew those that end.

A worker that ends is noticed at once, one that hangs after SILENCE_SECONDS; its partitions go to the others, and a new
worker takes its place.
"""

import asyncio
import contextlib
import logging
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import count

from localcloud.figures import added_up
from localcloud.functions.counters import FunctionCounters, total
from localcloud.functions.leases import Leases
from localcloud.functions.worker_messages import (
    BEAT_SECONDS,
    MAX_LINE_BYTES,
    Ends,
    Grant,
    Report,
    Start,
    decode_from_worker,
    encode,
)

_logger = logging.getLogger(__name__)

SILENCE_SECONDS = 3.0
_READY_SECONDS = 30.0
_STOP_SECONDS = 3.0
_FIRST_PAUSE, _LAST_PAUSE = 0.2, 5.0
_MAX_UNSENT_BYTES = 64 << 10  # a worker that does not read is woken by its own look at the log


class WorkerPool:
    """A fixed number of workers on one event log."""

    def __init__(self, workers: int, partitions: int, start: Start) -> None:
        self._start = encode(start) + b"\n"
        self._leases = Leases(partitions)
        self._names = (f"worker-{number}" for number in count(1))
        self._connections: dict[str, _Connection] = {}
        self._past: dict[str, FunctionCounters] = {}
        self._past_figures = ""
        self._past_faults: Counter[str] = Counter()
        self._positions: dict[str, dict[int, int]] = {}
        self._ready = asyncio.Event()
        self._size = workers
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the workers and wait until each has loaded the app. Raises TimeoutError, which says how many have."""
        self._tasks = [asyncio.create_task(self._keep_one()) for _ in range(self._size)]
        self._tasks.append(asyncio.create_task(self._watch()))
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            raise TimeoutError(
                f"{self.live} of {self._size} function workers were ready within {_READY_SECONDS:.0f} s"
            ) from None

    async def stop(self) -> None:
        """Let the workers finish what runs, and end them."""
        self._stopping = True
        for connection in self._connections.values():
            connection.terminate()
        if self._tasks:
            self._tasks.pop().cancel()
            _, late = await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
            for connection in self._connections.values() if late else ():
                connection.kill()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def announce(self, ends: Sequence[int]) -> None:
        """Wake the workers: this far the log goes now."""
        line = encode(Ends(list(ends))) + b"\n"
        for connection in self._connections.values():
            connection.send_lightly(line)

    def counters(self) -> dict[str, FunctionCounters]:
        """Return what all workers counted since the start, those that ended included."""
        return total([self._past, *(connection.counters for connection in self._connections.values())])

    def figures(self, ours: str) -> str:
        """Add the app's figures of all workers, those that ended included, to those of this process."""
        return added_up(
            [ours, *(connection.figures for connection in self._connections.values())], [self._past_figures]
        )

    def faults(self) -> dict[str, int]:
        """Return how often what happened on purpose, in all workers."""
        return sum((Counter(connection.faults) for connection in self._connections.values()), self._past_faults)

    def positions(self) -> dict[str, dict[int, int]]:
        """Return by function and partition the last sequence number that was finished."""
        return self._positions

    @property
    def live(self) -> int:
        """How many workers run."""
        return sum(connection.was_ready for connection in self._connections.values())

    async def _keep_one(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping:
            name = next(self._names)
            try:
                was_ready = await self._run_one(name)
            except Exception:
                _logger.exception("a function worker could not be started or understood; another is tried")
                was_ready = False
            if self._stopping:
                return
            pause = _FIRST_PAUSE if was_ready else min(pause * 2, _LAST_PAUSE)
            await asyncio.sleep(pause)

    async def _run_one(self, name: str) -> bool:
        """Run one worker until its end; tell whether it came to work."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "localcloud.functions.worker", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_LINE_BYTES)
        connection = self._connections[name] = _Connection(process, writer)
        try:
            writer.write(self._start)
            await self._listen(name, connection, reader)
        finally:
            del self._connections[name]
            self._past = total([self._past, connection.counters])
            self._past_faults.update(connection.faults)
            if connection.figures:
                self._past_figures = added_up([], [self._past_figures, connection.figures])
            self._leases.leave(name)
            self._grant()
            writer.close()
            status = await connection.end()
            if not self._stopping:
                _logger.warning(
                    "function worker %d ended with status %d: others take its partitions, and a new one is started",
                    *(process.pid, status),
                )
        return connection.was_ready

    async def _listen(self, name: str, connection: "_Connection", reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                report = decode_from_worker(line)
                if not connection.was_ready:
                    self._take_in(name, connection)
                connection.hear(report)
                for function, finished in report.positions.items():
                    self._positions.setdefault(function, {}).update(finished)
                self._leases.report(name, report.running)
                self._grant()

    def _take_in(self, name: str, connection: "_Connection") -> None:
        connection.was_ready = True
        self._leases.join(name)
        if self.live == self._size:
            self._ready.set()

    async def _watch(self) -> None:
        """End a worker that hangs: it would keep its partitions for ever."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            for connection in self._connections.values():
                if connection.was_ready and connection.silent_for() > SILENCE_SECONDS:
                    _logger.error(
                        "function worker %d has said nothing for %.0f s: it is killed", connection.pid, SILENCE_SECONDS
                    )
                    connection.kill()

    def _grant(self) -> None:
        for name, partitions in self._leases.grants.items():
            self._connections[name].grant(partitions)


class _Connection:
    """One worker as the pool sees it."""

    def __init__(self, process: asyncio.subprocess.Process, writer: asyncio.StreamWriter) -> None:
        self.pid = process.pid
        self.was_ready = False
        self.counters: dict[str, FunctionCounters] = {}
        self.figures = ""
        self.faults: dict[str, int] = {}
        self._process = process
        self._writer = writer
        self._granted: frozenset[int] | None = None
        self._heard = asyncio.get_running_loop().time()

    def hear(self, report: Report) -> None:
        self._heard = asyncio.get_running_loop().time()
        self.counters = report.counters
        self.figures = report.figures
        self.faults = report.faults

    def silent_for(self) -> float:
        return asyncio.get_running_loop().time() - self._heard

    def grant(self, partitions: frozenset[int]) -> None:
        if partitions != self._granted:
            self._granted = partitions
            self._writer.write(encode(Grant(sorted(partitions))) + b"\n")

    def send_lightly(self, line: bytes) -> None:
        transport = self._writer.transport
        if not transport.is_closing() and transport.get_write_buffer_size() < _MAX_UNSENT_BYTES:
            transport.write(line)

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> int:
        """Wait for the process, whose socket is closed, to end; kill it where it lives on. Return its status."""
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                return await self._process.wait()
        except TimeoutError:
            self.kill()
            return await self._process.wait()

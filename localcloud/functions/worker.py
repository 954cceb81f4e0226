"""A function worker: a process of its own that runs the event hub triggers of the partitions it is granted.

    python -m localcloud.functions.worker FD     FD: its end of a socket pair with the main process

It reads the event log beside the hub that writes it, and ends when the main process does, whatever ended that. On
SIGTERM it lets go of its partitions, what runs may finish, and says so before it ends.
"""

import asyncio
import contextlib
import gc
import logging
import socket
import sys
from pathlib import Path

from localcloud.faults.injector import FaultCounts, FaultInjector
from localcloud.faults.plan import FaultPlan
from localcloud.figures import app_figures
from localcloud.functions.console import reporter
from localcloud.functions.host import FunctionsHost
from localcloud.functions.worker_messages import (
    BEAT_SECONDS,
    MAX_LINE_BYTES,
    Ends,
    Grant,
    Report,
    Start,
    decode_for_worker,
    encode,
)
from localcloud.iothub.event_log import SqliteEventLog
from localcloud.keys import load_or_create_keys
from localcloud.logs import set_up_logging
from localcloud.running import run_async, set_up_interpreter, stop_signal

_logger = logging.getLogger(__name__)


class _Worker:
    def __init__(self, log: SqliteEventLog, host: FunctionsHost, writer: asyncio.StreamWriter) -> None:
        self._log = log
        self._host = host
        self._writer = writer
        self._faults = FaultCounts()
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def obey(self, reader: asyncio.StreamReader) -> None:
        """Do what the main process says until it is gone."""
        while line := await reader.readline():
            message = decode_for_worker(line)
            if isinstance(message, Ends):
                self._log.notice(message.ends)
            elif isinstance(message, Grant):
                task = asyncio.create_task(self._run(message.partitions))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def beat(self) -> None:
        """Report again and again: who says nothing for too long is taken for dead."""
        while True:
            await self.report()
            await asyncio.sleep(BEAT_SECONDS)

    async def report(self) -> None:
        """Tell the main process, where it is still there, what is run and counted."""
        if not self._writer.is_closing():
            host = self._host
            positions = {function: by_partition for function, _, by_partition in host.positions()}
            report = Report(sorted(host.partitions), host.counters, positions, app_figures(), self._faults.counts)
            self._writer.write(encode(report) + b"\n")
            await self._writer.drain()

    async def _run(self, partitions: list[int]) -> None:
        async with self._changing:  # one grant after the other, in their order
            await self._host.run_partitions(partitions)
        await self.report()


async def _main(descriptor: int) -> None:
    stop = stop_signal()
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor), limit=MAX_LINE_BYTES)
    first = await reader.readline()
    if not first:
        return
    start = decode_for_worker(first)
    assert isinstance(start, Start)
    set_up_logging(verbose=start.verbose, as_json=start.json_log)
    log = await SqliteEventLog.open(Path(start.data), read_only=True)
    try:
        await _serve(start, log, reader, writer, stop)
    finally:
        await log.close()
        writer.close()


async def _serve(
    start: Start, log: SqliteEventLog, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stop: asyncio.Event
) -> None:
    app_dir = Path(start.app_dir)
    host = FunctionsHost(
        app_dir,
        event_hub=lambda _namespace, _name: log,
        keys=load_or_create_keys(Path(start.data) / "keys.json"),
        settings=start.app_settings,
        connections=start.connections,
        report=reporter(app_dir, only_failures=start.only_failures, as_json=start.json_log),
        ca_file=Path(start.ca_file) if start.ca_file else None,
        faults=FaultInjector(start.faults or FaultPlan()),
    )
    await host.start(partitions=(), timers=False)
    gc.freeze()
    worker = _Worker(log, host, writer)
    tasks = [asyncio.create_task(worker.beat()), asyncio.create_task(worker.obey(reader))]
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*tasks, stopping):
            task.cancel()
        await host.stop()
        for outcome in await asyncio.gather(*tasks, worker.report(), return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, OSError):
                _logger.error("the worker failed", exc_info=outcome)


def main() -> None:
    """Run until the main process ends or says so."""
    set_up_interpreter()
    with contextlib.suppress(ConnectionError):
        run_async(_main(int(sys.argv[1])))


if __name__ == "__main__":
    main()

"""A TCP proxy that cuts connections where it hurts: within a request, between request and answer, within an answer."""

import asyncio
import itertools
import random
from collections import Counter

CHUNK = 16_384


class Proxy:
    """Stands in front of a port of the loopback; `chance` of each chunk of data to be the last of its connection."""

    def __init__(self, upstream, *, chance, seed):
        self._upstream = upstream
        self._random = random.Random(seed)
        self._chance = chance
        self._halves = itertools.cycle([0, 1])
        self._connections = set()
        self.cuts = Counter()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self._connections.add(task := asyncio.current_task())
        up_writer = None
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            pumps = {
                asyncio.create_task(self._pump(reader, up_writer, "request")),
                asyncio.create_task(self._pump(up_reader, writer, "answer")),
            }
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # closing is all that is left to do
        finally:
            self._connections.discard(task)
            for one in (writer, up_writer):
                if one is not None:
                    one.transport.abort()

    async def _pump(self, reader, writer, what):
        while data := await reader.read(CHUNK):
            if self._random.random() < self._chance:
                kept = data[: next(self._halves) * len(data) // 2]
                self.cuts[what if kept or what == "request" else "before the answer"] += 1
                if kept:
                    writer.write(kept)
                    await writer.drain()
                return
            writer.write(data)
            await writer.drain()

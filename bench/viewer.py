"""A dashboard without a page: a SignalR client over WebSocket that notes what it is shown and when."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec

SEPARATOR = b"\x1e"
PING_SECONDS = 10.0
PING = '{"type":6}\x1e'
HANDSHAKE = '{"protocol":"json","version":1}\x1e'


class View(msgspec.Struct, rename="camel"):
    """What is read of a device's view; `light` is where the latency run puts its counter."""

    device_id: str
    count: int
    light: float | None = None


class Message(msgspec.Struct):
    type: int
    arguments: list[list[View]] = []


class Viewer:
    """Knows per device the count last shown, in all `total`, and with `marking` when each light value came first."""

    def __init__(self) -> None:
        self.total = 0
        self.messages = 0
        self.last_news = 0.0
        self.marking = False
        self.marks: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self._counts: dict[str, int] = {}
        self._decoder = msgspec.json.Decoder(Message)
        self._news = asyncio.Event()
        self.ended = asyncio.Event()
        """Set when the connection has ended."""

    def take(self, frame: bytes) -> None:
        """Take one WebSocket message."""
        now = time.perf_counter()
        for part in frame.split(SEPARATOR)[:-1]:
            message = self._decoder.decode(part)
            if message.type == 1:
                self.messages += 1
                self._note([view for views in message.arguments for view in views], now)

    def _note(self, views: list[View], now: float) -> None:
        for view in views:
            seen = self._counts.get(view.device_id, 0)
            if view.count > seen:
                self._counts[view.device_id] = view.count
                self.total += view.count - seen
                if self.marking and view.light is not None:
                    self.marks[view.device_id].append((view.light, now))
        self.last_news = time.time()
        self._news.set()

    async def until(self, total: int, seconds: float) -> None:
        """Return once the counts shown add up to `total`. Raises TimeoutError, saying how far they got."""
        if not await self._until(lambda: self.total >= total, seconds):
            raise TimeoutError(f"the viewer was shown {self.total} of {total} readings")

    async def until_device(self, device_id: str, count: int, seconds: float) -> None:
        """Return once that count of the device was shown. Raises TimeoutError, saying how far it got."""
        if not await self._until(lambda: self._counts.get(device_id, 0) >= count, seconds):
            shown = self._counts.get(device_id, "nothing")
            raise TimeoutError(f"the viewer was shown {shown} of {device_id}, not its count {count}")

    async def _until(self, reached: Callable[[], bool], seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while not reached():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True


@asynccontextmanager
async def watching(
    url: str, access: Mapping[str, str] | None = None, viewer: Viewer | None = None
) -> AsyncIterator[Viewer]:
    """Negotiate at the function app, with headers that give access, then at SignalR, and listen by WebSocket.

    A viewer serves once.
    """
    viewer = viewer or Viewer()
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/api/negotiate", headers=access) as answer:
            answer.raise_for_status()
            info = await answer.json()
        headers = {"Authorization": f"Bearer {info['accessToken']}"}
        hub = urlsplit(info["url"])
        negotiate = hub._replace(path=hub.path.rstrip("/") + "/negotiate", query=hub.query + "&negotiateVersion=1")
        async with session.post(urlunsplit(negotiate), headers=headers) as answer:
            answer.raise_for_status()
            connection = (await answer.json())["connectionToken"]
        socket = hub._replace(scheme=hub.scheme.replace("http", "ws"), query=f"{hub.query}&id={connection}")
        async with session.ws_connect(urlunsplit(socket), headers=headers, max_msg_size=0) as stream:
            await stream.send_str(HANDSHAKE)
            if await stream.receive_str() != "{}\x1e":
                raise ConnectionError("SignalR refused the handshake")
            tasks = [asyncio.create_task(_listen(stream, viewer)), asyncio.create_task(_ping(stream))]
            try:
                yield viewer
            finally:
                for task in tasks:
                    task.cancel()


async def _ping(stream: aiohttp.ClientWebSocketResponse) -> None:
    """Show life, as every client does: the service drops who says nothing for 30 s."""
    while True:
        await asyncio.sleep(PING_SECONDS)
        await stream.send_str(PING)


async def _listen(stream: aiohttp.ClientWebSocketResponse, viewer: Viewer) -> None:
    try:
        async for message in stream:
            viewer.take(message.data.encode() if isinstance(message.data, str) else message.data)
    finally:
        viewer.ended.set()

"""A viewer as the page is one: merges messages by revision, and replaces everything after a reconnect."""

import asyncio
import json
import time
from typing import Any

import aiohttp

from bench.viewer import SEPARATOR, Viewer, watching


class _Stream(Viewer):
    def __init__(self, rows: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        self._rows = rows

    def take(self, frame: bytes) -> None:
        for part in frame.split(SEPARATOR)[:-1]:
            message = json.loads(part)
            if message["type"] == 1:
                for views in message["arguments"]:
                    merge(self._rows, views)


def merge(rows: dict[str, dict[str, Any]], views: list[dict[str, Any]]) -> None:
    for view in views:
        known = rows.get(view["deviceId"])
        if known is None or view["revision"] >= known["revision"]:
            rows[view["deviceId"]] = view


class Screen:
    """`rows` is what a person would see."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.url = ""
        self.doing = "has not begun"

    async def run(self) -> None:
        """Watch whatever runs at `url`, for ever."""
        while True:
            try:
                self.doing = f"connects to {self.url} since {time.time():.3f}"
                stream_rows: dict[str, dict[str, Any]] = {}
                async with watching(self.url, viewer=_Stream(stream_rows)) as stream:
                    self.doing = "reads the snapshot"
                    merge(stream_rows, await devices(self.url))
                    self.rows = stream_rows
                    self.doing = f"watches {self.url} since {time.time():.3f}"
                    await stream.ended.wait()
            except (aiohttp.ClientError, OSError, ValueError, TypeError):  # a socket that closes in the handshake
                pass
            await asyncio.sleep(0.05)


async def devices(url: str) -> list[dict[str, Any]]:
    """All devices as the API tells them."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/devices?limit=1000") as answer:
        answer.raise_for_status()
        found: list[dict[str, Any]] = (await answer.json())["devices"]
        return found

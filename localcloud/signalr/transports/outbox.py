"""Bytes on their way to one client, bounded: filled without waiting, emptied by whoever writes to the client."""

import asyncio


class Outbox:
    """A queue whose content is taken whole. What was taken counts until the next `take`, which says it was written."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._queued = self._taken = 0
        self.closed = False
        self._taker: asyncio.Future[None] | None = None

    def put(self, data: bytes) -> bool:
        """Queue bytes; refuse (False) where more than the limit is unwritten already."""
        if self.closed or self._queued + self._taken > self._max_bytes:
            return False
        self._parts.append(data)
        self._queued += len(data)
        self._wake()
        return True

    async def take(self) -> bytes:
        """Wait for bytes and return all of them; b"" at the end, or where another `take` comes first."""
        self._taken = 0
        self._wake()
        self._taker = None
        if not self._parts and not self.closed:
            taker = self._taker = asyncio.get_running_loop().create_future()
            await taker
            if self._taker is not taker:
                return b""
        data = b"".join(self._parts)
        self._parts.clear()
        self._queued, self._taken = 0, len(data)
        return data

    def close(self) -> None:
        """Let nothing more in; what is queued can still be taken."""
        self.closed = True
        self._wake()

    def drop(self) -> None:
        """Close, and forget what is queued."""
        self._parts.clear()
        self._queued = 0
        self.close()

    def _wake(self) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

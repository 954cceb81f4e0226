"""MQTT sessions on their way to hub.db: written in a thread, joined into one transaction, answered once durable.

A session that is still on its way is what a reconnecting device gets. The registry's own slow calls (REST) run in the
same thread, which holds the only connection of this process that writes.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from localcloud.iothub.registry import Registry

Result = TypeVar("Result")
Subscriptions = Mapping[str, int]

_RETRY_SECONDS = 1.0
_logger = logging.getLogger(__name__)


class SessionStore:
    """Saves sessions in the background. Belongs to one event loop; `reader` is only read."""

    def __init__(self, reader: Registry) -> None:
        self._reader = reader
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hub-registry")
        self._writer: Registry | None = None
        self._waiting: dict[str, Subscriptions | None] = {}
        self._writing: dict[str, Subscriptions | None] = {}
        self._answers: list[Callable[[], None]] = []
        self._changed = asyncio.Event()
        self._closing = False

    def load(self, device_id: str) -> Subscriptions | None:
        """Return the device's kept subscriptions, or None where no session is kept."""
        for pending in (self._waiting, self._writing):
            if device_id in pending:
                return pending[device_id]
        return self._reader.session(device_id)

    def save(self, device_id: str, subscriptions: Subscriptions | None, on_saved: Callable[[], None]) -> None:
        """Keep, or with None forget, a session; `on_saved` is called from the loop once that is durable."""
        self._waiting[device_id] = subscriptions
        self._answers.append(on_saved)
        self._changed.set()

    async def call(self, work: Callable[[Registry], Result]) -> Result:
        """Run a registry call in the writer's thread; raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._with_writer, work)

    async def run(self) -> None:
        """Save until `close`, then what is left. One call per object."""
        while not (self._closing and not self._answers):
            await self._changed.wait()
            self._changed.clear()
            if self._answers:
                await self._save()

    async def close(self) -> None:
        """Let `run` end once everything is saved."""
        self._closing = True
        self._changed.set()

    def release(self) -> None:
        """End the thread and close its file; after `run` has ended."""
        self._thread.submit(self._close_writer)
        self._thread.shutdown(wait=True)

    async def _save(self) -> None:
        self._writing, self._waiting = self._waiting, {}
        answers, self._answers = self._answers, []
        while True:
            try:
                await self.call(lambda registry: registry.save_sessions(self._writing))
                break
            except Exception:
                _logger.exception("sessions cannot be saved, SUBACKs wait; next attempt in %.0f s", _RETRY_SECONDS)
                await asyncio.sleep(_RETRY_SECONDS)
        self._writing = {}
        for answer in answers:
            answer()

    def _with_writer(self, work: Callable[[Registry], Result]) -> Result:
        if self._writer is None:
            self._writer = Registry.open(self._reader.path)
        return work(self._writer)

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()

"""The composition root of the function app: settings, stores and logic, made once per process."""

from collections.abc import Callable, Sequence
from functools import cache

import azure.functions as func

from enviromon.api import Api
from enviromon.events import to_batch
from enviromon.ingest import Ingest
from enviromon.settings import read_settings
from enviromon.stores import Stores, open_stores
from enviromon.updates import messages

PUBLISHING_RETRIES = 3
"""From this retry on a batch without news succeeds unpublished: SignalR's outage must not stop ingest."""


class Application:
    """What function_app.py calls."""

    def __init__(self, stores: Stores, ingest: Ingest, api: Api) -> None:
        self.stores = stores
        self.api = api
        self._ingest = ingest

    async def telemetry(
        self, events: Sequence[func.EventHubEvent], context: func.Context, publish: Callable[[str], None]
    ) -> None:
        """Take a batch, then publish the current state of its devices, those of a redelivered batch as well.

        Raises StorageError, so that the host delivers the batch again.
        """
        if not events:
            return
        ingested = await self._ingest.ingest(to_batch(events))
        no_news = ingested.counted.received == ingested.counted.duplicate
        if no_news and context.retry_context.retry_count >= PUBLISHING_RETRIES:
            return
        if (update := messages(ingested.states)) is not None:
            publish(update)


@cache
def application() -> Application:
    """Return the process's application, made at its first use. Raises SettingsError."""
    settings = read_settings()
    stores = open_stores(settings.store_url, settings.site, buckets=settings.state_buckets)
    return Application(stores, Ingest(stores, settings), Api(stores, settings))

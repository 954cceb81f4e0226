"""The composition root of the function app: settings, stores and logic, made once per process."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import cache

import azure.functions as func

from enviromon.api import Api
from enviromon.app_files import app_directory
from enviromon.commit import Ingested
from enviromon.errors import StorageError
from enviromon.events import Batch, to_batch
from enviromon.host_settings import batching_on_azure
from enviromon.ingest import Ingest
from enviromon.instruments import (
    BATCH_MESSAGES,
    FAILED_BATCHES,
    INGEST_SECONDS,
    PUBLISHED_BYTES,
    PUBLISHED_DEVICES,
    READINGS,
    RETRIED_BATCHES,
    NoRecorder,
    Recorder,
    open_recorder,
)
from enviromon.settings import read_settings
from enviromon.stores import Stores, open_stores
from enviromon.stores.observed import observed
from enviromon.updates import ledger_view, messages

PUBLISHING_RETRIES = 3
"""From this retry on a batch without news succeeds unpublished: SignalR's outage must not stop ingest."""

_log = logging.getLogger(__name__)


class Application:
    """What function_app.py calls."""

    def __init__(self, stores: Stores, ingest: Ingest, api: Api, recorder: Recorder | None = None) -> None:
        self.stores = stores
        self.api = api
        self._ingest = ingest
        self._recorder = recorder or NoRecorder()

    async def telemetry(
        self, events: Sequence[func.EventHubEvent], context: func.Context, publish: Callable[[str], None]
    ) -> None:
        """Take a batch, then publish the current state of its devices, those of a redelivered batch as well.

        Raises StorageError, so that the host delivers the batch again.
        """
        if not events:
            return
        retries = context.retry_context.retry_count
        ingested = await self._take(to_batch(events), retries)
        no_news = ingested.counted.received == ingested.counted.duplicate
        if no_news and retries >= PUBLISHING_RETRIES:
            return
        if (update := messages(ingested.states)) is not None:
            publish(update)
            self._recorder.add(PUBLISHED_BYTES, len(update))
            self._recorder.add(PUBLISHED_DEVICES, len(ingested.states))

    async def _take(self, batch: Batch, retries: int) -> Ingested:
        record, deliveries = self._recorder.add, batch.deliveries
        place: dict[str, str | int] = {
            "partition": batch.stream.rpartition("/")[2],
            "first_sequence": deliveries[0].sequence,
            "last_sequence": deliveries[-1].sequence,
            "messages": len(deliveries),
            "retries": retries,
        }
        started = time.perf_counter()
        with self._recorder.span("enviromon.ingest", place):
            try:
                ingested = await self._ingest.ingest(batch)
            except StorageError as error:
                record(FAILED_BATCHES, 1, type(error).__name__)
                _log.warning("%s: this batch must come again: %s", batch.stream, error, extra=place)
                raise
        record(INGEST_SECONDS, time.perf_counter() - started)
        record(BATCH_MESSAGES, len(deliveries))
        if retries:
            record(RETRIED_BATCHES, 1)
        for outcome, count in ledger_view(ingested.counted).items():
            if count and outcome != "received":
                record(READINGS, count, outcome)
        return ingested


@cache
def application() -> Application:
    """Return the process's application, made at its first use. Raises SettingsError."""
    settings = read_settings()
    recorder = open_recorder(settings.instruments)
    stores = open_stores(settings.store_url, settings.site, buckets=settings.state_buckets)
    if settings.store_faults:
        from enviromon.stores.faulty import faulty  # noqa: PLC0415  # only who asks for it has it in the process

        faults = settings.store_faults
        unlock = settings.store_faults_unlock
        stores = faulty(stores, faults, seed=settings.store_faults_seed, unlock=unlock, environment=os.environ)
    stores = observed(stores, recorder)
    api = Api(stores, settings, batching=batching_on_azure(app_directory(), os.environ))
    return Application(stores, Ingest(stores, settings), api, recorder)

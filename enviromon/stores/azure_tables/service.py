"""Calls to one storage account's tables: transactions, queries, and what their failures mean.

Rules:
1. The SDK retries nothing. A transaction whose answer was lost may have been applied, and sent again it would meet its
   own etags: that is `Lost`, and the reader of the rows finds out. A read is simply asked again.
2. Throttling (429, 503) is waited out for as long as Retry-After says. A transaction that was sent more than once and
   then fails on a condition is `Lost` too: the condition may have been broken by itself.
3. A table that is not there is made, whoever finds out first, unless the account is for reading only.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, TypeVar

import aiohttp
from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables import TableTransactionError, UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient
from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential
from msgspec import Struct

from enviromon.errors import SettingsError, StorageError
from enviromon.stores.azure_tables.connection import Connection
from enviromon.stores.azure_tables.entities import Entity

T = TypeVar("T")
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 30.0
"""Tables itself gives up a request after 30 s."""
ATTEMPTS: Final = 5
LONGEST_WAIT_SECONDS: Final = 30.0
DELETION_SECONDS: Final = 60.0
"""How long a table that is being deleted is waited for: its name stays taken for 40 s or more."""
ROWS_PER_QUERY: Final = 1000

_THROTTLED: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_CONDITION: Final = frozenset({HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND})
_DATA: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})
_TABLE_GONE: Final = "TableNotFound"
_TABLE_GOING: Final = "TableBeingDeleted"
_SDK_FAILURES: Final = (AzureError, aiohttp.ClientError, OSError, TimeoutError, ValueError)
_log = logging.getLogger(__name__)


class Kind(StrEnum):
    """What a transaction does with a row."""

    INSERT = "create"
    REPLACE = "update"
    """Where it still has the etag."""
    PUT = "upsert"
    """Insert, or replace whatever is there."""
    DELETE = "delete"
    """Whatever is there."""


class Operation(Struct, frozen=True):
    """One row of a transaction; to delete one takes its keys."""

    kind: Kind
    entity: Entity
    etag: str | None = None


class RefusedError(Exception):
    """Nothing of the transaction was applied, because of its operation `index`.

    `is_conflict`: the row exists, is gone or has another etag; otherwise the service can never take it.
    """

    def __init__(self, index: int, message: str, *, is_conflict: bool) -> None:
        super().__init__(message)
        self.index = index
        self.is_conflict = is_conflict


class LostError(Exception):
    """Whether the transaction was applied is not known."""


class Account:
    """The tables of one account whose names begin with `prefix`; opened at the first call, in its event loop."""

    def __init__(
        self,
        connection: Connection,
        prefix: str,
        *,
        answer_seconds: float = ANSWER_SECONDS,
        makes_tables: bool = True,
    ) -> None:
        self._connection = connection
        self._prefix = prefix
        self._answer_seconds = answer_seconds
        self._makes_tables = makes_tables
        self._service: TableServiceClient | None = None
        self._credential: DefaultAzureCredential | ManagedIdentityCredential | None = None
        self._clients: dict[str, TableClient] = {}

    async def transact(self, table: str, operations: Sequence[Operation]) -> list[str]:
        """Apply all operations or none; return the rows' etags.

        At most 100 of one PartitionKey, no row twice, 4 MiB. Raises RefusedError, LostError, StorageError.
        """
        client = self._client(table)
        tries = 0
        while True:
            tries += 1
            try:
                answers = await client.submit_transaction([_sdk_operation(operation) for operation in operations])
            except HttpResponseError as error:
                fault = _Fault(error)
                if await self._mended(table, fault):
                    tries -= 1
                elif fault.status in _THROTTLED and tries < ATTEMPTS:
                    await asyncio.sleep(_wait(tries, fault.retry_after))
                else:
                    raise _verdict(table, fault, is_resent=tries > 1) from error
            except _SDK_FAILURES as error:
                raise LostError(f"{table}: {error}") from error
            else:
                return [answer.get("etag", "") for answer in answers]

    async def query(
        self, table: str, where: str, *, top: int = ROWS_PER_QUERY, select: list[str] | None = None
    ) -> tuple[list[Mapping[str, Any]], bool]:
        """Read up to `top` rows in the order of their keys; tell whether there may be more.

        Each row's etag is its `metadata["etag"]`. Raises StorageError.
        """
        client = self._client(table)

        async def read() -> tuple[list[Mapping[str, Any]], bool]:
            pages = client.query_entities(where, results_per_page=top, select=select).by_page()
            async for page in pages:
                rows: list[Mapping[str, Any]] = [row async for row in page]
                is_more = pages.continuation_token is not None  # type: ignore[attr-defined]
                if rows or not is_more:
                    return rows, is_more
            return [], False

        return await self._asked(table, read)

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        service, credential, self._service, self._credential = self._service, self._credential, None, None
        self._clients.clear()
        if service is not None:
            await service.close()
        if credential is not None:
            await credential.close()

    async def _asked(self, table: str, call: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer, a few times."""
        tries = 0
        while True:
            tries += 1
            fault = None
            try:
                return await call()
            except HttpResponseError as error:
                fault, cause = _Fault(error), error
                if await self._mended(table, fault):
                    continue
                if fault.status < HTTPStatus.INTERNAL_SERVER_ERROR and fault.status not in _THROTTLED:
                    raise StorageError(f"{table}: {fault.message}") from error
            except _SDK_FAILURES as error:
                cause = error  # type: ignore[assignment]
            if tries == ATTEMPTS:
                raise StorageError(f"{table}: {fault.message if fault else cause}") from cause
            await asyncio.sleep(_wait(tries, fault.retry_after if fault else None))

    async def _mended(self, table: str, fault: "_Fault") -> bool:
        """Make the table where that is what was missing; raises StorageError where it cannot be made."""
        if not self._makes_tables or fault.code not in {_TABLE_GONE, _TABLE_GOING}:
            return False
        waited = 0.0
        while True:
            try:
                await self._client(table).create_table()
            except HttpResponseError as error:
                found = _Fault(error)
                if found.code == "TableAlreadyExists":
                    return True
                if found.code != _TABLE_GOING or waited >= DELETION_SECONDS:
                    raise StorageError(f"the table {self._prefix}{table} cannot be made: {found.message}") from error
            except _SDK_FAILURES as error:
                raise StorageError(f"the table {self._prefix}{table} cannot be made: {error}") from error
            else:
                _log.info("made the table %s%s", self._prefix, table)
                return True
            await asyncio.sleep(1.0)
            waited += 1.0

    def _client(self, table: str) -> TableClient:
        if (client := self._clients.get(table)) is None:
            client = self._clients[table] = self._opened().get_table_client(self._prefix + table)
        return client

    def _opened(self) -> TableServiceClient:
        if self._service is None:
            connection = self._connection
            options: dict[str, Any] = {
                "retry_total": 0,
                "transport": AioHttpTransport(connection_timeout=CONNECT_SECONDS, read_timeout=self._answer_seconds),
            }
            try:
                if connection.connection_string:
                    self._service = TableServiceClient.from_connection_string(connection.connection_string, **options)
                else:
                    self._credential = (
                        ManagedIdentityCredential(client_id=connection.client_id)
                        if connection.is_managed_identity
                        else DefaultAzureCredential(managed_identity_client_id=connection.client_id)
                    )
                    self._service = TableServiceClient(connection.endpoint, credential=self._credential, **options)
            except ValueError:
                raise SettingsError("the storage account's connection string cannot be read") from None
        return self._service


class _Fault:
    """An answer that says no: its status, Tables' error code, and the operation of a transaction that it is about."""

    def __init__(self, error: HttpResponseError) -> None:
        self.status = error.status_code or 0
        code = getattr(error, "error_code", None)
        self.code = str(getattr(code, "value", code) or "")
        self.message = " ".join(str(error.message).split())
        self.index = error.index if isinstance(error, TableTransactionError) else None
        headers: Mapping[str, str] = getattr(error.response, "headers", {})
        self.retry_after = _seconds(headers.get("Retry-After"))


def _verdict(table: str, fault: _Fault, *, is_resent: bool) -> Exception:
    message = f"{table}: {fault.message}"
    if fault.index is not None and fault.status in _CONDITION:
        return LostError(message) if is_resent else RefusedError(fault.index, message, is_conflict=True)
    if fault.index is not None and fault.status in _DATA:
        return RefusedError(fault.index, message, is_conflict=False)
    if fault.status in _THROTTLED or fault.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return LostError(message)
    return StorageError(message)


def _sdk_operation(operation: Operation) -> Any:
    options: dict[str, Any] = {}
    if operation.kind in {Kind.REPLACE, Kind.PUT}:
        options["mode"] = UpdateMode.REPLACE
    if operation.kind is Kind.REPLACE:
        options |= {"etag": operation.etag, "match_condition": MatchConditions.IfNotModified}
    return operation.kind.value, operation.entity, options


def _wait(tries: int, retry_after: float | None) -> float:
    """Return the seconds before the next try."""
    backoff: float = random.uniform(0.5, 1) * min(LONGEST_WAIT_SECONDS, 0.1 * 2**tries)  # noqa: S311  # no secret
    return max(backoff, min(LONGEST_WAIT_SECONDS, retry_after or 0.0))


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None

"""Calls to one storage account's tables: transactions, queries, and what their failures mean.

The SDK does all but the transactions, whose bodies `batch` writes and reads; they go through a pipeline of the SDK too.

Rules:
1. Nothing below retries. A transaction whose answer was lost may have been applied, and sent again it would meet its
   own etags: that is `Lost`, and the reader of the rows finds out. A read is simply asked again.
2. Throttling (429, 503) is waited out for as long as Retry-After says. A transaction that was sent more than once and
   then fails on a condition is `Lost` too: the condition may have been broken by itself.
3. A table that is not there is made, whoever finds out first, unless the account is for reading only.
"""

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.request import getproxies
from uuid import uuid4

import aiohttp
from azure.core import AsyncPipelineClient
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.core.pipeline.policies import HeadersPolicy, RequestIdPolicy
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.data.tables.aio import TableClient, TableServiceClient
from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential

from enviromon.errors import SettingsError, StorageError
from enviromon.stores.azure_tables.batch import Fault, Operation, read_answer, seconds, write_batch
from enviromon.stores.azure_tables.connection import Connection
from enviromon.stores.azure_tables.signing import signing_policy

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
_FAILURES: Final[tuple[type[Exception], ...]] = (AzureError, aiohttp.ClientError, OSError, TimeoutError)
_UNANSWERED: Final[tuple[type[Exception], ...]] = (*_FAILURES, ValueError)
_BATCH_HEADERS: Final = {
    "Accept": "application/json",
    "DataServiceVersion": "3.0",
    "MaxDataServiceVersion": "3.0;NetFx",
}
_log = logging.getLogger(__name__)


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
        self._batches: AsyncPipelineClient[HttpRequest, AsyncHttpResponse] | None = None
        self._credential: DefaultAzureCredential | ManagedIdentityCredential | None = None
        self._clients: dict[str, TableClient] = {}

    async def transact(self, table: str, operations: Sequence[Operation]) -> list[str]:
        """Apply all operations or none; return the rows' etags.

        At most 100 of one PartitionKey, no row twice, 4 MiB. Raises RefusedError, LostError, StorageError.
        """
        batches, table_url, batch_url = self._opened_batches(table)
        boundary = uuid4().hex
        body = write_batch(table_url, operations, boundary)
        headers = {**_BATCH_HEADERS, "Content-Type": f"multipart/mixed; boundary=batch_{boundary}"}
        is_resent = False
        for tries in itertools.count(1):
            try:
                response = await batches.send_request(HttpRequest("POST", batch_url, headers=headers, content=body))
                answer = read_answer(response.status_code, response.headers, response.content, len(operations))
            except ClientAuthenticationError as error:
                raise StorageError(f"{table}: {error.message}") from error
            except _UNANSWERED as error:
                raise LostError(f"{table}: {error}") from error
            if not isinstance(answer, Fault):
                return answer
            if tries < ATTEMPTS and await self._mended(table, answer):
                continue
            if tries == ATTEMPTS or answer.status not in _THROTTLED:
                raise _verdict(table, answer, is_resent=is_resent)
            await asyncio.sleep(_wait(tries, answer.retry_after))
            is_resent = True
        raise AssertionError

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
        for tries in itertools.count(1):
            retry_after = None
            cause: Exception
            try:
                return await call()
            except HttpResponseError as error:
                fault, cause = _fault_of(error), error
                if tries < ATTEMPTS and await self._mended(table, fault):
                    continue
                if fault.status < HTTPStatus.INTERNAL_SERVER_ERROR and fault.status not in _THROTTLED:
                    raise StorageError(f"{table}: {fault.message}") from error
                retry_after = fault.retry_after
            except _FAILURES as error:
                cause = error
            if tries == ATTEMPTS:
                raise StorageError(f"{table}: {cause}") from cause
            await asyncio.sleep(_wait(tries, retry_after))
        raise AssertionError

    async def _mended(self, table: str, fault: Fault) -> bool:
        """Make the table where that is what was missing; raises StorageError where it cannot be made."""
        if not self._makes_tables or fault.code not in {_TABLE_GONE, _TABLE_GOING}:
            return False
        waited = 0.0
        while True:
            try:
                await self._client(table).create_table()
            except HttpResponseError as error:
                found = _fault_of(error)
                if found.code == "TableAlreadyExists":
                    return True
                if found.code != _TABLE_GOING or waited >= DELETION_SECONDS:
                    raise StorageError(f"the table {self._prefix}{table} cannot be made: {found.message}") from error
            except _FAILURES as error:
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
            # aiohttp looks for proxies and for a .netrc on another thread, at every request, if it is let to.
            transport = AioHttpTransport(
                connection_timeout=CONNECT_SECONDS,
                read_timeout=self._answer_seconds,
                use_env_settings=bool(getproxies()),
            )
            try:
                if connection.connection_string:
                    self._service = TableServiceClient.from_connection_string(
                        connection.connection_string, retry_total=0, transport=transport
                    )
                else:
                    self._credential = (
                        ManagedIdentityCredential(client_id=connection.client_id)
                        if connection.is_managed_identity
                        else DefaultAzureCredential(managed_identity_client_id=connection.client_id)
                    )
                    self._service = TableServiceClient(
                        connection.endpoint, credential=self._credential, retry_total=0, transport=transport
                    )
            except ValueError:
                raise SettingsError("the storage account's connection string cannot be read") from None
            version = HeadersPolicy({"x-ms-version": self._service.api_version})
            signing = signing_policy(self._service.credential)
            self._batches = AsyncPipelineClient(
                self._service.url, policies=[version, RequestIdPolicy(), signing], transport=transport
            )
        return self._service

    def _opened_batches(self, table: str) -> tuple[AsyncPipelineClient[HttpRequest, AsyncHttpResponse], str, str]:
        """Return the client for transactions, the table's URL and the one that transactions go to."""
        service = self._opened()
        assert self._batches is not None
        endpoint, _, signature = service.url.partition("?")
        endpoint = endpoint.rstrip("/")
        batch_url = f"{endpoint}/$batch?{signature}" if signature else f"{endpoint}/$batch"
        return self._batches, f"{endpoint}/{self._prefix}{table}", batch_url


def _fault_of(error: HttpResponseError) -> Fault:
    code = getattr(error, "error_code", None)
    headers: Mapping[str, str] = getattr(error.response, "headers", {})
    message = " ".join(str(error.message).split())
    return Fault(
        error.status_code or 0,
        str(getattr(code, "value", code) or ""),
        message,
        retry_after=seconds(headers.get("Retry-After")),
    )


def _verdict(table: str, fault: Fault, *, is_resent: bool) -> Exception:
    message = f"{table}: {fault.message}"
    if fault.index is not None and fault.status in _CONDITION:
        return LostError(message) if is_resent else RefusedError(fault.index, message, is_conflict=True)
    if fault.index is not None and fault.status in _DATA:
        return RefusedError(fault.index, message, is_conflict=False)
    if fault.status in _THROTTLED or fault.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return LostError(message)
    return StorageError(message)


def _wait(tries: int, retry_after: float | None) -> float:
    """Return the seconds before the next try."""
    backoff: float = random.uniform(0.5, 1) * min(LONGEST_WAIT_SECONDS, 0.1 * 2**tries)  # noqa: S311  # no secret
    return max(backoff, min(LONGEST_WAIT_SECONDS, retry_after or 0.0))

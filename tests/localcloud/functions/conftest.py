"""The sample app in a host of its own, on a real event log in a file, with its own environment."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from localcloud.functions.host import FunctionsHost
from localcloud.functions.invocation import Invocation
from localcloud.iothub.event_log import Envelope, Event, SqliteEventLog
from localcloud.keys import Keys

SAMPLE_APP = Path(__file__).parents[2] / "sample_app"
ORDERS_CONNECTION = "Endpoint=sb://shop.example/;SharedAccessKeyName=owner;SharedAccessKey=c2VjcmV0;EntityPath=orders"
ENVELOPE = Envelope({"iothub-connection-device-id": "till-1", "message-id": "m1"}, {"shop": "north"})


@pytest.fixture(autouse=True)
def _import_state() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and "site-packages" not in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteEventLog]:
    log = await SqliteEventLog.open(tmp_path / "log", partitions=2)
    yield log
    await log.close()


class Shop:
    """The host under test with what it reported, and the app's own module."""

    def __init__(self, log: SqliteEventLog, app_dir: Path, environment: dict[str, str], **options: Any) -> None:
        self.keys = Keys()
        self.log = log
        self.invocations: list[Invocation] = []
        self.host = FunctionsHost(
            app_dir,
            event_hub=lambda _namespace, _name: log,
            keys=self.keys,
            settings={
                "OrdersConnection": ORDERS_CONNECTION,
                "AzureSignalRConnectionString": "Endpoint=http://localhost;Port=8888;AccessKey=a2V5;Version=1.0;",
            },
            environment=environment,
            report=self.invocations.append,
            **options,
        )
        self.app: Any = sys.modules["function_app"]
        self._batches = 0

    async def send(self, *bodies: bytes, partition: int = 0) -> None:
        self._batches += 1
        batch_id = self._batches.to_bytes(16, "big")
        await self.log.append(batch_id, {partition: [Event(ENVELOPE, body) for body in bodies]})

    def of(self, function: str) -> list[Invocation]:
        return [invocation for invocation in self.invocations if invocation.function == function]


MakeShop = Callable[..., Awaitable[Shop]]


@pytest.fixture
async def make_shop(log: SqliteEventLog) -> AsyncIterator[MakeShop]:
    shops: list[Shop] = []

    async def make(
        app_dir: Path = SAMPLE_APP, environment: dict[str, str] | None = None, *, start: bool = True, **options: Any
    ) -> Shop:
        shop = Shop(log, app_dir, {} if environment is None else environment, **options)
        shops.append(shop)
        if start:
            await shop.host.start()
        return shop

    yield make
    for shop in shops:
        await shop.host.stop()


@pytest.fixture
async def shop(make_shop: MakeShop) -> Shop:
    return await make_shop()


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Shop], Awaitable[str]]]:
    """Serve a shop on a free loopback port; gives the base URL."""
    servers: list[TestServer] = []

    async def start(shop: Shop) -> str:
        server = TestServer(shop.host.web_app)
        servers.append(server)
        await server.start_server()
        return str(server.make_url("")).rstrip("/")

    yield start
    for server in servers:
        await server.close()


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)

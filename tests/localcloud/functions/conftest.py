"""Fixtures: the sample app in a host of its own, on a real event log in a file, with its own environment."""

import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from blockbuster import blockbuster_ctx

from localcloud.iothub.event_log import SqliteEventLog
from tests.localcloud.functions.shop import SAMPLE_APP, MakeShop, Shop

_APP_ROOTS = (str(SAMPLE_APP), tempfile.gettempdir())


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop() -> Iterator[None]:
    with blockbuster_ctx("localcloud") as blockbuster:
        for function in blockbuster.functions.values():
            function.can_block_in("functions/host.py", {"__init__"})  # the app is imported before anything runs
        yield


@pytest.fixture(autouse=True)
def _import_state() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(_APP_ROOTS):
            del sys.modules[name]


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteEventLog]:
    log = await SqliteEventLog.open(tmp_path / "log", partitions=2)
    yield log
    await log.close()


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
    runners: list[web.AppRunner] = []

    async def start(shop: Shop) -> str:
        runner = web.AppRunner(shop.host.web_app, access_log=None)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()

import pytest

from enviromon.stores import open_stores
from tests.enviromon.world import FunctionApp, World


@pytest.fixture
async def stores(tmp_path):
    opened = open_stores(f"sqlite://{tmp_path}/state.db", "site")
    yield opened
    await opened.close()


@pytest.fixture(params=["sqlite", pytest.param("azure tables", marks=pytest.mark.slow)])
def lasting_url(request, tmp_path):
    """The URL of an empty store of each kind that a system may have."""
    return f"sqlite://{tmp_path}/lasting.db" if request.param == "sqlite" else request.getfixturevalue("tables_url")


@pytest.fixture
def world(stores):
    return World(stores)


@pytest.fixture
async def app(tmp_path, monkeypatch):
    monkeypatch.setenv("STORE_URL", f"sqlite://{tmp_path}/app.db")
    monkeypatch.setenv("READ_ACCESS", "open")
    monkeypatch.setenv("OCC_BASE_MS", "0")
    made = FunctionApp()
    yield made
    await made.close()

"""The backends that keep the ports' promises. A new adapter is one more parameter here."""

import pytest

from enviromon.stores import open_stores

BACKENDS = {
    "sqlite file": lambda tmp_path: f"sqlite://{tmp_path}/state.db",
    "sqlite in memory": lambda tmp_path: "sqlite::memory:",
}


@pytest.fixture(params=BACKENDS.values(), ids=BACKENDS.keys())
def url(request, tmp_path):
    return request.param(tmp_path)


@pytest.fixture
async def stores(url):
    opened = open_stores(url, "site")
    yield opened
    await opened.close()

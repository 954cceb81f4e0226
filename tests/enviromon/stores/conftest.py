"""The backends that keep the ports' promises. A new adapter is one more parameter here."""

import pytest

from enviromon.stores import open_stores

BACKENDS = [
    pytest.param("sqlite file", id="sqlite file"),
    pytest.param("sqlite in memory", id="sqlite in memory"),
    pytest.param("azure tables", id="azure tables", marks=pytest.mark.slow),
]


@pytest.fixture(params=BACKENDS)
def url(request, tmp_path):
    match request.param:
        case "sqlite file":
            return f"sqlite://{tmp_path}/state.db"
        case "sqlite in memory":
            return "sqlite::memory:"
    return request.getfixturevalue("tables_url")


@pytest.fixture
async def stores(url):
    opened = open_stores(url, "site")
    yield opened
    await opened.close()

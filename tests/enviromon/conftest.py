import pytest

from enviromon.stores import open_stores
from tests.enviromon.world import World


@pytest.fixture
async def stores(tmp_path):
    opened = open_stores(f"sqlite://{tmp_path}/state.db", "site")
    yield opened
    await opened.close()


@pytest.fixture
def world(stores):
    return World(stores)

"""What every test may ask for."""

import itertools

import pytest

from tests.azurite.server import Azurite

_prefixes = itertools.count(1)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory):
    """Azure Tables on this machine, the same server for the whole session."""
    server = Azurite(tmp_path_factory.mktemp("azurite"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tables_url(azurite, monkeypatch):
    """The URL of a store in fresh tables; its connection is in the environment."""
    monkeypatch.setenv("AZURITE", azurite.connection_string())
    return f"azure-tables:AZURITE/t{next(_prefixes)}"

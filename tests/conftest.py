"""What every test may ask for."""

import gc
import itertools
import warnings

import pytest
from hypothesis import settings

from tests.azurite.server import Azurite

_prefixes = itertools.count(1)

# How long an example takes says how busy the machine is. A test with more or fewer examples states them as a multiple.
settings.register_profile("thorough", deadline=None)
settings.register_profile("quick", max_examples=25, deadline=None)  # scripts/check
settings.load_profile("thorough")


@pytest.fixture(scope="session")
def azurite(tmp_path_factory):
    """Azure Tables on this machine, the same server for the whole session."""
    server = Azurite(tmp_path_factory.mktemp("azurite"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def device_sdk():
    """For a test that uses Microsoft's SDK, which leaves the sockets of its connections to the garbage collector."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def table_prefix():
    """What the names of tables begin with that nobody else has."""
    return f"t{next(_prefixes)}"


@pytest.fixture
def tables_url(azurite, table_prefix, monkeypatch):
    """The URL of a store in fresh tables; its connection is in the environment."""
    monkeypatch.setenv("AZURITE", azurite.connection_string())
    return f"azure-tables:AZURITE/{table_prefix}"

"""Whole systems for tests, made for each; see systems.py."""

import pytest

from tests.system.systems import a_system


@pytest.fixture
def stopped_system(tmp_path):
    with a_system(tmp_path / "data", tmp_path / "up.log") as system:
        yield system


@pytest.fixture
def other(tmp_path):
    """One more that has not been started, with data and an address of its own."""
    with a_system(tmp_path / "other", tmp_path / "other.log") as system:
        yield system


@pytest.fixture
def system(stopped_system):
    stopped_system.start()
    return stopped_system

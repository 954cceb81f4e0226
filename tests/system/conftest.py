"""Whole systems for tests, one per test; see systems.py."""

import pytest

from tests.system.systems import System


@pytest.fixture
def stopped_system(tmp_path):
    """A system that has not been started; what is still running at the end is stopped."""
    system = System(tmp_path / "data", tmp_path / "up.log")
    yield system
    if system.process:
        system.stop()


@pytest.fixture
def system(stopped_system):
    stopped_system.start()
    return stopped_system

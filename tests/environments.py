"""The environments beside .venv, which scripts/test makes where the machine allows it."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def python_of(name, needs):
    """The Python of .venv-NAME. Without it the test that asks is skipped with what it `needs`; in CI it fails."""
    environment = ROOT / f".venv-{name}"
    if not (environment / ".done").exists():
        missing = f"there is no .venv-{name}: scripts/test makes it, {needs}"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return environment / "bin/python"

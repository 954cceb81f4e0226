"""The function app as Azure gets it."""

import shutil

import pytest

from scripts.package import ROOT, shipped
from tests.environments import python_of


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """A directory with the shipped files and nothing else."""
    directory = tmp_path_factory.mktemp("package") / "app"
    for file in shipped():
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, directory / file)
    return directory


@pytest.fixture(scope="session")
def worker_python():
    """A Python 3.13 with Azure's own worker."""
    return python_of("worker", "and needs a Python 3.13: uv python install 3.13, or pyenv install 3.13")

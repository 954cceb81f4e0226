"""The function app as Azure gets it."""

import shutil

import pytest

from scripts.package import ROOT, shipped


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """A directory with the shipped files and nothing else."""
    directory = tmp_path_factory.mktemp("package") / "app"
    for file in shipped():
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, directory / file)
    return directory

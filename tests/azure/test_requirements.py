"""requirements.txt, which Azure installs, and the lock files agree with pyproject.toml and with each other."""

import importlib.metadata
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.package import ROOT
from tests.azure.requirements import FUNCTION_APP, PROJECT, applicable, pins

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def needed_by(requirements):
    """The names of all packages that these requirements install here."""
    needed, todo = set(), [(requirement.name, requirement.extras) for requirement in applicable(requirements)]
    while todo:
        name, extras = todo.pop()
        if (canonicalize_name(name), frozenset(extras)) in needed:
            continue
        needed.add((canonicalize_name(name), frozenset(extras)))
        for requirement in map(Requirement, importlib.metadata.requires(name) or []):
            chosen = [{"extra": extra} for extra in ["", *extras]]
            if requirement.marker is None or any(map(requirement.marker.evaluate, chosen)):
                todo.append((requirement.name, requirement.extras))
    return {name for name, _ in needed}


def test_azure_installs_what_the_function_app_needs_and_nothing_else():
    written = {canonicalize_name(one.name) for one in applicable(pins("requirements.txt"))}
    assert written == needed_by(FUNCTION_APP), "run scripts/lock"


def test_azure_installs_the_versions_that_are_tested_here():
    tested = pins("requirements/dev.txt")
    assert {one for one in pins("requirements.txt") if one.specifier} <= tested, "run scripts/lock"


def test_only_azure_functions_is_left_open():
    assert [one.name for one in pins("requirements.txt") if not one.specifier] == ["azure-functions"]


def test_what_the_function_app_needs_is_wanted_in_the_same_versions_by_the_project():
    project = PROJECT["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["azure"]
    assert set(map(str, FUNCTION_APP)) <= {str(Requirement(line)) for line in wanted}


@pytest.mark.parametrize("path", [*LOCKS, ROOT / "requirements.txt"], ids=lambda path: path.name)
def test_no_lock_file_says_where_packages_come_from(path):
    assert not re.search(r"://|--index-url|--extra-index-url|--find-links", path.read_text())


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_hashes(path):
    entries = re.findall(r"^\S+==.*(?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)*", path.read_text(), re.MULTILINE)
    assert len(entries) == len(pins(path))
    assert not [entry.split()[0] for entry in entries if "--hash" not in entry]

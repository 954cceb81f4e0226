"""Reads pyproject.toml and the files that scripts/lock made of it."""

import tomllib

from packaging.requirements import Requirement

from scripts.package import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FUNCTION_APP = [Requirement(line) for line in PROJECT["dependency-groups"]["function-app"]]


def pins(path):
    """The requirements of a file without their hashes; a package may have several, told apart by markers."""
    text = (ROOT / path).read_text().replace("\\\n", " ")
    lines = (line.partition("--hash")[0].strip() for line in text.splitlines())
    return {Requirement(line) for line in lines if line and not line.startswith("#")}


def applicable(requirements):
    """Those that this Python installs."""
    return [one for one in requirements if one.marker is None or one.marker.evaluate()]

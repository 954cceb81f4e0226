"""What ships to Azure: exactly what function_app.py imports, in an environment with exactly requirements.txt."""

import ast
import json
import os
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from scripts.package import ROOT, shipped
from tests.azure.requirements import FUNCTION_APP, applicable, pins
from tests.enviromon.world import FunctionApp
from tests.environments import python_of

BESIDE_THE_CODE = {"function_app.py", "host.json", "requirements.txt"}
MAX_BYTES = 500_000


class Imports(ast.NodeVisitor):
    """The modules that a file imports when it runs, within functions too; not those that only a type checker reads."""

    def __init__(self, source):
        self.names = set()
        self.visit(ast.parse(source))

    def visit_If(self, node):
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_Import(self, node):
        self.names |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node):
        assert not node.level, "an absolute import says where it goes"
        self.names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}


def module_file(name):
    path = Path(*name.split("."))
    found = [file for file in (path.with_suffix(".py"), path / "__init__.py") if (ROOT / file).is_file()]
    return found[0] if found else None


def imported_by(file):
    """The project's files that this one needs, itself and the packages around it included."""
    needed, todo = set(), [file]
    while todo:
        current = todo.pop()
        if current not in needed:
            needed.add(current)
            names = Imports((ROOT / current).read_text()).names
            parents = {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 1)}
            todo += filter(None, map(module_file, names | parents))
    return needed


def test_what_function_app_imports_ships_and_no_other_code():
    code = {file for file in shipped() if file.suffix == ".py"}
    needed = imported_by(Path("function_app.py"))
    assert sorted(map(str, needed - code)) == [], "needed on Azure: open .funcignore for it"
    assert sorted(map(str, code - needed)) == [], "not needed on Azure: close .funcignore to it"


def test_beside_the_code_three_files_ship():
    files = shipped()
    assert {str(file) for file in files if file.parts[0] != "enviromon"} == BESIDE_THE_CODE
    others = [str(file) for file in files if file.parts[0] == "enviromon" and file.suffix != ".py"]
    assert others == ["enviromon/prices.toml"]
    assert sum((ROOT / file).stat().st_size for file in files) < MAX_BYTES


def test_nothing_of_localcloud_ships_or_is_imported():
    assert not [file for file in shipped() if "localcloud" in (ROOT / file).read_text().lower()]


LITTER = [
    *("local.settings.json", ".env", "key.pem", "notes.txt", "settings.py", ".azure/enviromon/.env", ".git/config"),
    *(".enviromon/keys.json", ".venv/lib/a.py", "enviromon_env/pyvenv.cfg", "node_modules/a/function.json"),
    *("localcloud/a.py", "tests/host.json", "docs/a.md", "dashboard/dist/index.html", "dist/function-app.zip"),
    *("enviromon/key.pem", "enviromon/state.db", "enviromon/local.settings.json", "enviromon/cli/up.py"),
    *("enviromon/__pycache__/api.cpython-313.pyc", "enviromon/stores/state.db", "enviromon/app/function_app.py"),
]


@pytest.fixture
def littered(tmp_path):
    """A folder as they come, with everything that must not leave it."""
    for file in [*LITTER, *shipped()]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("")
    shutil.copy(ROOT / ".funcignore", tmp_path)
    return tmp_path


def test_nothing_else_in_the_folder_ships(littered):
    assert shipped(littered) == shipped()


def azd_ignores(patterns, path, is_directory):
    """Judge as azd's matcher does: the last pattern that matches wins, and a pattern of one name lets * match a /."""
    for pattern in reversed(patterns):
        body = pattern.removeprefix("!").removeprefix("/").removesuffix("/")
        parts, wanted = path.split("/"), body.split("/")
        fits = (
            fnmatchcase(path, body)
            if len(wanted) == 1
            else len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
        )
        if fits and (is_directory or not pattern.endswith("/")):
            return not pattern.startswith("!")
    return False


def test_azds_own_matcher_which_differs_from_gits_leaves_the_same_files(littered):
    lines = (ROOT / ".funcignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert all(pattern.removeprefix("!").startswith("/") for pattern in patterns), "an entry is anchored"
    left = []
    for directory, names, files in os.walk(littered):
        here = Path(directory).relative_to(littered)
        names[:] = [name for name in names if not azd_ignores(patterns, str(here / name), is_directory=True)]
        left += [here / file for file in files if not azd_ignores(patterns, str(here / file), is_directory=False)]
    assert sorted(left) == shipped()


@pytest.mark.slow
def test_the_package_alone_runs_with_requirements_txt_alone(package, tmp_path):
    python = python_of("function-app", "of requirements.txt")
    script = Path(__file__).with_name("import_package.py")
    done = subprocess.run(
        [python, "-I", "-B", script, package], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["functions"]) == set(FunctionApp().functions)
    assert told["from elsewhere"] == []
    assert set(told["installed"]) - {"pip", "setuptools"} == {one.name for one in applicable(pins("requirements.txt"))}
    assert {one.name for one in FUNCTION_APP} <= set(told["imported"]), "what nothing imports need not be installed"

"""What `pip install .` brings: everything that runs, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory, ROOT]
    subprocess.run(command, check=True, timeout=50)
    (wheel,) = directory.glob("enviromon-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_the_wheel_holds_the_function_app_and_both_packages(wheel_names):
    assert {"enviromon/app/function_app.py", "enviromon/app/host.json"} <= wheel_names
    assert {"enviromon/cli/__init__.py", "localcloud/cloud.py", "localcloud/py.typed"} <= wheel_names


@pytest.mark.slow
def test_the_wheel_holds_the_page_where_it_was_built(wheel_names):
    built = (ROOT / "dashboard/dist/index.html").is_file()
    assert ("enviromon/app/dashboard/index.html" in wheel_names) == built


@pytest.mark.slow
def test_the_wheel_holds_no_tests_and_no_settings(wheel_names):
    tops = {name.partition("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"enviromon", "localcloud"}

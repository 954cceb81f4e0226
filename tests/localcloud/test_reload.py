"""The supervisor behind --reload, with real child processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.reload import snapshot
from tests.waiting import eventually

SUPERVISE = "import sys; from pathlib import Path; from localcloud.reload import supervise; "
SUPERVISE += "sys.exit(supervise([sys.executable, sys.argv[1]], Path(sys.argv[2])))"
CHILD = "import pathlib, sys, time\npathlib.Path(sys.argv[0]).with_suffix('.log').open('a').write('started\\n')\n"


def starts(child: Path) -> int:
    log = child.with_suffix(".log")
    return log.read_text().count("started") if log.exists() else 0


def start(child: Path, directory: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", SUPERVISE, str(child), str(directory)])


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    directory = tmp_path / "app"
    directory.mkdir()
    (directory / "function_app.py").write_text("a = 1")
    return directory


@pytest.mark.slow
def test_a_change_restarts_the_child_and_sigterm_ends_both(tmp_path: Path, watched: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(CHILD + "time.sleep(60)")
    process = start(child, watched)
    eventually(lambda: starts(child) == 1)
    (watched / "function_app.py").write_text("a = 22")
    eventually(lambda: starts(child) == 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 128 + signal.SIGTERM


@pytest.mark.slow
def test_a_child_that_fails_is_started_again_at_the_next_change_only(tmp_path: Path, watched: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(CHILD + "sys.exit(3 if len(open(sys.argv[0]).read()) else 0)")
    process = start(child, watched)
    eventually(lambda: starts(child) == 1)
    child.write_text(CHILD)
    (watched / "new.py").write_text("")
    assert process.wait(10) == 0
    assert starts(child) == 2


def test_a_snapshot_sees_sources_and_leaves_out_what_is_made(watched: Path) -> None:
    before = snapshot(watched)
    for ignored in ("__pycache__/x.py", ".git/x.py", "node_modules/x.json", "photo.png"):
        path = watched / ignored
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    assert snapshot(watched) == before
    os.utime(watched / "function_app.py", ns=(1, 1))
    assert snapshot(watched) != before

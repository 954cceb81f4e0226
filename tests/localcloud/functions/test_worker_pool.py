"""The pool beside workers that misbehave; what it does with real ones is in tests/system/test_workers.py."""

import asyncio
import sys
from pathlib import Path

import pytest

from localcloud.functions import worker_pool
from localcloud.functions.worker_messages import Report, Start, encode
from localcloud.functions.worker_pool import WorkerPool
from tests.waiting import until

pytestmark = pytest.mark.slow

START = Start(
    app_dir="",
    data="",
    app_settings={},
    connections={},
    ca_file=None,
    verbose=False,
    only_failures=True,
    json_log=False,
    faults=None,
)
READY = encode(Report([], {}, {}, "", {}))


def worker_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: bytes, then: str, *, end: str = "\n") -> Path:
    """Let the pool start processes that say something and then do that; each adds a line to the file returned."""
    started = tmp_path / "started"
    program = tmp_path / "worker"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys, time\nopen({str(started)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        f"socket = int(sys.argv[-1])\nos.write(socket, {says + end.encode()!r})\n{then}\n"
    )
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    return started


def pids(started: Path) -> list[str]:
    return started.read_text().split() if started.exists() else []


@pytest.mark.parametrize(
    ("says", "then"),
    [(READY, "os.close(socket)\ntime.sleep(60)"), (b"gibberish", "time.sleep(60)")],
    ids=["closes its socket and lives on", "cannot be understood"],
)
async def test_a_worker_that_misbehaves_is_ended_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: bytes, then: str
) -> None:
    monkeypatch.setattr(worker_pool, "_STOP_SECONDS", 0.2)
    started = worker_that(tmp_path, monkeypatch, says, then)
    pool = WorkerPool(1, 4, START)
    starting = asyncio.create_task(pool.start())
    await until(lambda: len(pids(started)) >= 2, seconds=20)
    first = Path("/proc") / pids(started)[0]
    await until(lambda: not first.exists() or "zombie" in (first / "status").read_text())
    starting.cancel()
    await pool.stop()
    await asyncio.gather(starting, return_exceptions=True)


async def test_workers_that_do_not_get_ready_are_told_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "_READY_SECONDS", 0.5)
    monkeypatch.setattr(worker_pool, "_STOP_SECONDS", 0.2)
    started = worker_that(tmp_path, monkeypatch, b"", "time.sleep(60)", end="")
    pool = WorkerPool(2, 4, START)
    with pytest.raises(TimeoutError, match="0 of 2 function workers were ready"):
        await pool.start()
    await pool.stop()
    assert not [pid for pid in pids(started) if (Path("/proc") / pid).exists()]

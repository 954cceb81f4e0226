"""A function that hangs: it cannot be cancelled, and must not keep the process from ending."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localcloud.running import LONGEST_STOP_SECONDS

APP = """
import time
import azure.functions as func
app = func.FunctionApp()

@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *", run_on_startup=True)
def hang(timer: func.TimerRequest) -> None:
    print("hanging", flush=True)
    time.sleep(600)
"""
PORTS = [f"--{name}-port=0" for name in ("http", "mqtt", "https", "signalr")]


@pytest.mark.slow
def test_a_function_that_hangs_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text(APP)
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    command = [sys.executable, "-m", "localcloud", "start", str(tmp_path), *PORTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        said = set[str]()
        while not {"hanging", "Ready. Ctrl-C ends it."} <= said:
            said.add(next(lines).strip())
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert time.monotonic() - started < LONGEST_STOP_SECONDS + 5
    assert process.returncode == 1
    assert "stopped hard after 8 s: function_0 did not end" in errors

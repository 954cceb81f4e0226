import json
import stat
import subprocess
import sys
import threading

import pytest

from localcloud.data_directory import (
    DataDirectoryInUseError,
    describe_running,
    exclusive_data_directory,
    read_running,
)


def test_a_running_system_can_be_found_and_is_gone_when_it_ends(tmp_path):
    data = tmp_path / "data"
    assert read_running(data) is None
    with exclusive_data_directory(data):
        assert read_running(data) is None
        describe_running(data, {"mqttPort": 8883})
        assert read_running(data) == {"mqttPort": 8883}
    assert read_running(data) is None
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


@pytest.mark.slow
def test_a_second_system_is_refused(tmp_path):
    with (
        exclusive_data_directory(tmp_path),
        pytest.raises(DataDirectoryInUseError, match="another system runs"),
        exclusive_data_directory(tmp_path),
    ):
        pass


def test_what_a_killed_system_left_behind_is_not_believed(tmp_path):
    script = (
        "import sys, pathlib; from localcloud.data_directory import *\n"
        "data = pathlib.Path(sys.argv[1])\n"
        "with exclusive_data_directory(data):\n"
        "    describe_running(data, {'mqttPort': 1}); print('up', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        assert read_running(tmp_path) == {"mqttPort": 1}
        process.kill()
    assert json.loads((tmp_path / "running.json").read_text()) == {"mqttPort": 1}
    assert read_running(tmp_path) is None


def test_those_who_ask_do_not_keep_a_system_from_starting(tmp_path):
    (tmp_path / "lock").touch()
    done = threading.Event()
    askers = [threading.Thread(target=lambda: [read_running(tmp_path) for _ in iter(done.is_set, True)])]
    for asker in askers:
        asker.start()
    try:
        for _ in range(50):
            with exclusive_data_directory(tmp_path):
                pass
    finally:
        done.set()
        for asker in askers:
            asker.join()

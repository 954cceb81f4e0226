"""`localcloud start` with an app that has nothing to do with Enviromon."""

import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.system.systems import own_address
from tests.waiting import eventually

pytestmark = pytest.mark.slow
SAMPLE = Path(__file__).parents[1] / "sample_app"


class Shop:
    def __init__(self, directory: Path, *arguments: str) -> None:
        self.app = directory / "app"
        shutil.copytree(SAMPLE, self.app, ignore=shutil.ignore_patterns("__pycache__"))
        self.address = own_address()
        self.log = directory / "localcloud.log"
        where = ["--host", self.address, "--hostname", self.address, *arguments]
        with self.log.open("wb") as log:
            command = [sys.executable, "-u", "-m", "localcloud", "start", str(self.app), *where]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def get(self, path: str):
        try:
            with urllib.request.urlopen(f"http://{self.address}:7071{path}", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return None

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)


@pytest.fixture
def shop(tmp_path, request):
    started = Shop(tmp_path, *getattr(request, "param", ()))
    yield started
    if started.process.poll() is None:
        started.stop()


def test_an_app_is_served_and_its_functions_are_listed_with_their_urls(shop):
    eventually(lambda: shop.get("/shop/orders/5") == 200)
    assert shop.get("/shop/orders/no-number") == 404
    assert shop.get("/shop/admin-only") == 401
    printed = eventually(lambda: "ms  200" in (text := shop.log.read_text()) and text)
    assert f"http://{shop.address}:7071/shop/orders/{{id:int}}" in printed
    assert "not run: this host has no queueTrigger" in printed
    assert shop.stop() == 0
    assert "Traceback" not in shop.log.read_text()


def test_a_function_that_fails_is_told_with_the_apps_own_frames_and_not_to_the_caller(shop):
    eventually(lambda: shop.get("/shop/broken") == 500)
    printed = eventually(lambda: "Traceback" in (text := shop.log.read_text()) and text)
    frames = [line for line in printed.splitlines() if line.lstrip().startswith("File ")]
    assert frames
    assert all(str(shop.app) in frame for frame in frames)


@pytest.mark.parametrize("shop", [("--reload",)], indirect=True)
def test_a_change_restarts_the_app_and_a_mistake_is_told_in_azures_words(shop):
    eventually(lambda: shop.get("/shop/orders/5") == 200)
    source = shop.app / "function_app.py"
    good = source.read_text()
    source.write_text(good + "\nraise RuntimeError('broken on purpose')\n")
    eventually(lambda: "Worker failed to index functions" in shop.log.read_text())
    assert shop.get("/shop/orders/5") is None
    source.write_text(good.replace("{id:int}", "{id:int}/again"))
    eventually(lambda: shop.get("/shop/orders/5/again") == 200)

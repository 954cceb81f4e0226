"""Beyond this machine: TLS for the page, a key for readers, and refusal of names that are not ours."""

import json
import ssl
import urllib.error
import urllib.request

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def open_system(stopped_system):
    ports = ("--http-port", "0", "--mqtt-port", "0", "--signalr-port", "0")
    stopped_system.start("--host", "0.0.0.0", "--hostname", "localhost", *ports)
    return stopped_system


def fetch(system, path, **headers):
    context = ssl.create_default_context(cafile=system.ready["caFile"])
    request = urllib.request.Request(system.ready["url"].rstrip("/") + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_readers_need_the_key_that_the_address_carries(open_system):
    page, _, key = open_system.ready["dashboard"].partition("#key=")
    assert page.startswith("https://localhost:")
    status, problem = fetch(open_system, "/api/devices")
    assert status in {401, 403}
    assert "key" in json.loads(problem)["detail"]
    assert fetch(open_system, "/api/devices", **{"x-enviromon-key": key})[0] == 200
    assert fetch(open_system, "/api/devices", **{"x-enviromon-key": key[:-1]})[0] == status


def test_the_key_stays_the_same_and_is_private(open_system):
    first = open_system.ready["dashboard"].partition("#key=")[2]
    assert (open_system.data / "read.key").stat().st_mode & 0o077 == 0
    open_system.stop()
    open_system.start("--host", "0.0.0.0", "--http-port", "0", "--mqtt-port", "0", "--signalr-port", "0")
    assert open_system.ready["dashboard"].partition("#key=")[2] == first


def test_an_empty_key_file_opens_nothing(stopped_system):
    stopped_system.data.mkdir(mode=0o700)
    (stopped_system.data / "read.key").touch(mode=0o600)
    ports = ("--http-port", "0", "--mqtt-port", "0", "--signalr-port", "0")
    done = stopped_system.run("up", "--host", "0.0.0.0", *ports)
    assert done.returncode == 1
    assert "read.key is empty" in done.stderr


def test_reads_are_open_when_that_is_asked_for(stopped_system):
    ports = ("--http-port", "0", "--mqtt-port", "0", "--signalr-port", "0")
    stopped_system.start("--host", "0.0.0.0", "--hostname", "localhost", "--open-reads", *ports)
    assert "#key" not in stopped_system.ready["dashboard"]
    assert fetch(stopped_system, "/api/devices")[0] == 200


def test_names_and_origins_that_are_not_ours_are_refused(system):
    def status(**headers):
        try:
            return system.get("/api/devices", headers) and 200
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert status() == 200
    assert status(Host="rebound.example") == 421
    assert status(Origin="http://rebound.example") == 403
    assert status(Origin=system.url) == 200


def test_dead_letters_need_the_function_key(system):
    keys = json.loads((system.data / "keys.json").read_text())
    with pytest.raises(urllib.error.HTTPError, match="401") as refusal:
        system.get("/api/dead-letters")
    refusal.value.close()
    assert system.get("/api/dead-letters", {"x-functions-key": keys["function_default"]})["deadLetters"] == []

import base64
import stat
import threading

import msgspec
import pytest

from localcloud.keys import load_or_create_keys


def test_keys_are_random_private_and_stay_the_same(tmp_path):
    keys = load_or_create_keys(tmp_path / "data" / "keys.json")
    assert len(base64.b64decode(keys.iothubowner)) == 32
    assert len({keys.iothubowner, keys.signalr, keys.function_master, keys.function_default}) == 4
    assert stat.S_IMODE((tmp_path / "data" / "keys.json").stat().st_mode) == 0o600
    assert load_or_create_keys(tmp_path / "data" / "keys.json") == keys


def test_no_key_shows_in_a_repr(tmp_path):
    keys = load_or_create_keys(tmp_path / "keys.json")
    assert keys.signalr not in f"{keys!r} {keys}"


def test_threads_that_race_end_with_the_same_keys(tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(load_or_create_keys(tmp_path / "keys.json"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(keys == found[0] for keys in found)


def test_a_damaged_file_is_an_error_not_a_new_key(tmp_path):
    (tmp_path / "keys.json").write_text("{}x")
    with pytest.raises(msgspec.DecodeError):
        load_or_create_keys(tmp_path / "keys.json")

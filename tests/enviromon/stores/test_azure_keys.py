"""Keys and rows of the Azure Tables adapter: pure."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from enviromon.calibration import Line, Version
from enviromon.device_state import UNIDENTIFIED, DeviceState, Label, Ledger, Measurement, Moment, Position
from enviromon.errors import SettingsError, StorageError
from enviromon.stores import DeadLetter
from enviromon.stores.azure_tables import keys
from enviromon.stores.azure_tables.connection import Connection, read_connection
from enviromon.stores.azure_tables.entities import (
    BODY_BYTES,
    calibration_entity,
    letter_entity,
    state_entity,
    to_letter,
    to_state,
    to_version,
)

device_ids = st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.%_#*?!(),:=@$'+", min_size=1, max_size=128
)
"""What IoT Hub allows: https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-identity-registry"""
moments = st.integers(-(2**63), 2**63 - 1)
LETTER = DeadLetter(
    reason="json", detail="no", device_id="d1", stream="s/h/0", sequence=5, index=2, enqueued_time=1_000, body=b"x"
)


@given(device_ids)
def test_every_device_id_makes_a_key_that_tables_takes(device_id):
    key = keys.row_key(device_id)
    assert re.fullmatch(r"[A-Za-z0-9\-._~]{1,384}", key)
    assert key >= keys.FIRST_ROW > keys.LAYOUT_ROW


@given(st.text(), st.text())
def test_two_ids_never_share_a_key(one, other):
    assert (keys.row_key(one) == keys.row_key(other)) == (one == other)


def test_plain_ids_stand_in_the_key_as_they_are():
    assert keys.row_key("Sensor-7.b_c") == "Sensor-7.b_c"
    assert keys.row_key("a#?/") == "a~23~3F~2F"
    assert keys.row_key(UNIDENTIFIED) == "~3Cunidentified~3E"


@given(device_ids, st.integers(1, 100))
def test_a_device_is_in_one_of_the_buckets(device_id, buckets):
    assert 0 <= keys.bucket_of(device_id, buckets) < buckets


def test_a_device_stays_in_its_bucket_whatever_the_process_or_the_release():
    assert [keys.bucket_of(f"device-{number}", 8) for number in range(8)] == [7, 1, 3, 5, 6, 0, 2, 4]


def test_buckets_are_filled_evenly():
    filled = [0] * 8
    for number in range(8000):
        filled[keys.bucket_of(f"device-{number}", 8)] += 1
    assert min(filled) > 800


def test_a_fleet_in_one_bucket_lies_under_the_sites_own_name():
    assert keys.partition_keys("Melbourne", 1) == ["Melbourne"]
    assert keys.partition_keys("Melbourne", 3) == ["Melbourne:0", "Melbourne:1", "Melbourne:2"]


@pytest.mark.parametrize("site", ["a/b", "a\\b", "a#", "a?", "a\x85", "Melbourne:1"])
def test_a_site_that_is_no_partition_key_is_refused(site):
    with pytest.raises(SettingsError, match="PartitionKey"):
        keys.check_site(site)


@given(device_ids, device_ids, moments, moments)
def test_versions_lie_in_their_devices_range_by_rising_valid_from(one, other, early, late):
    first, last = keys.calibration_range(one)
    assert first <= keys.calibration_key(one, early) <= last
    assert (keys.calibration_key(one, early) < keys.calibration_key(one, late)) == (early < late)
    assert (first <= keys.calibration_key(other, early) <= last) == (one == other)


@given(st.integers(0, 10**14), st.integers(0, 10**14))
def test_letters_lie_by_their_arrival_at_the_hub(one, other):
    keyed = [keys.letter_key(structs.replace(LETTER, enqueued_time=time)) for time in (one, other)]
    assert (keyed[0] < keyed[1]) == (one < other)


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "value"}, {"device_id": "d2"}, {"stream": "s/h/1"}, {"sequence": -1}, {"index": 3},
        {"enqueued_time": -1},
    ],
)  # fmt: skip
def test_another_letter_has_another_key(change):
    assert keys.letter_key(structs.replace(LETTER, **change)) != keys.letter_key(LETTER)


def test_a_letters_key_does_not_depend_on_its_words():
    assert keys.letter_key(structs.replace(LETTER, detail="other", body=b"")) == keys.letter_key(LETTER)


single_keys = st.lists(st.text("abc", min_size=1, max_size=3), unique=True).map(sorted)


@given(single_keys, single_keys)
def test_what_lies_within_ranges_is_told_by_one_walk(wanted, found):
    ranges = [(key, key) for key in wanted]
    assert keys.within(ranges, found) == [key in wanted for key in found]


@given(single_keys, st.text("abc", min_size=1, max_size=3))
def test_what_is_left_of_ranges_begins_after_the_key(wanted, key):
    assert [last for _, last in keys.ranges_after([(x, x) for x in wanted], key)] == [x for x in wanted if x > key]


def test_a_range_that_was_read_in_part_goes_on_behind_the_last_row():
    assert keys.ranges_after([("a!", "a!~"), ("b!", "b!~")], "a!5") == [("a!5!", "a!~"), ("b!", "b!~")]


AT = Moment(1, 2, 3)
STATE = DeviceState(
    "d#1",
    labels={"name": Label("x\x00y", AT), "geo": Label("Porto", AT), "messageId": Label(2**63 - 1, AT)},
    metrics={"temperature": Measurement(20.0, 19.5, AT), "pressure": Measurement(1000, 1000, AT),
             "co2": Measurement(400.0, 400.0, AT)},
    ledger=Ledger(2, 1, 3, 4),
    revision=9,
)  # fmt: skip


def test_a_state_shows_the_columns_that_people_know():
    entity = state_entity("Melbourne", STATE)
    del entity["State"]
    assert entity == {
        "PartitionKey": "Melbourne", "RowKey": "d~231", "DeviceId": "d#1", "Name": "x\N{REPLACEMENT CHARACTER}y",
        "Geo": "Porto", "Id": (2**63 - 1, "Edm.Int64"), "Celsius": 20.0, "hPa": 1000.0, "Co2": 400.0,
        "Count": (5, "Edm.Int64"), "Revision": (9, "Edm.Int64"), "Schema": 1,
    }  # fmt: skip
    assert type(entity["hPa"]) is float


def test_a_state_comes_back_from_its_row():
    assert to_state(state_entity("Melbourne", STATE)) == STATE


@pytest.mark.parametrize("row", [{}, {"State": "{}"}, {"State": "no"}, {"State": 7}, {"Schema": 2}])
def test_a_row_that_others_wrote_is_named(row):
    with pytest.raises(StorageError, match="'k'"):
        to_state({"RowKey": "k", **row})


def test_a_version_comes_back_from_its_row():
    version = Version(-5, {"temperature": Line(2, 0), "co2": Line(0.5, -1.5)})
    assert to_version(calibration_entity("site", "d#1", version)) == ("d#1", version)


@pytest.mark.parametrize("size", [15_000, 40_000, 100_000])
def test_a_long_state_is_cut_into_properties(size):
    state = structs.replace(STATE, positions={"\N{GRINNING FACE}" * size: Position(1, 2, 3)})
    entity = state_entity("Melbourne", state)
    assert all(len(value.encode("utf-16-le")) <= 65_536 for value in entity.values() if isinstance(value, str))
    assert to_state(entity) == state


@given(st.binary(max_size=10), st.integers(0, 200_000))
def test_a_letter_comes_back_from_its_row(start, size):
    letter = structs.replace(LETTER, body=start + b"\x00" * size)
    entity = letter_entity("site", letter)
    assert all(len(value) <= 65_536 for value in entity.values() if isinstance(value, bytes))
    assert to_letter(entity) == letter


def test_a_body_that_no_row_can_hold_is_cut_and_says_so():
    letter = to_letter(letter_entity("site", structs.replace(LETTER, body=b"x" * 1_048_576)))
    assert letter.body == b"x" * BODY_BYTES
    assert letter.detail == "no (of 1,048,576 bytes the first 983,040 are kept)"


def test_a_connection_string_is_taken_as_it_is():
    assert read_connection("Storage", {"Storage": "AccountName=a"}) == Connection(connection_string="AccountName=a")


def test_an_identity_is_described_as_azure_functions_does():
    uri = "https://a.table.core.windows.net"
    environment = {"S__tableServiceUri": uri, "S__credential": "managedidentity", "S__clientId": "id"}
    assert read_connection("S", environment) == Connection(endpoint=uri, is_managed_identity=True, client_id="id")
    assert read_connection("S", {"S__accountName": "abc"}) == Connection(endpoint="https://abc.table.core.windows.net")


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "set S to a connection string"),
        ({"S__tableServiceUri": "http://a.table.core.windows.net"}, "S__tableServiceUri"),
        ({"S__accountName": "a.evil.example/"}, "S__accountName"),
        ({"S__accountName": "abc", "S__credential": "password"}, "S__credential"),
    ],
)
def test_a_connection_that_is_not_there_is_named(environment, named):
    with pytest.raises(SettingsError, match=named):
        read_connection("S", environment)


def test_a_connection_never_shows_its_key():
    assert "secret" not in repr(Connection(connection_string="AccountKey=secret"))

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enviromon.calibration import Calibration, Line, Version
from enviromon.telemetry import REASONS, Reading, Rejection, Telemetry, TelemetryReader
from tests.enviromon.world import T0, body

reader = TelemetryReader()
MINUTE = 60_000


def read(content):
    (item,) = reader.read(content)
    return item


def judge(content, *, created=None, calibration=None):
    return reader.judge(read(content), enqueued_time=T0, created=created, lead=5 * MINUTE, calibration=calibration)


def test_an_object_is_one_reading():
    item = read(body(deviceId="Pi", geo="Here", temperature=21.5, messageId=7, timestamp=T0))
    assert item.values == {"temperature": 21.5}
    assert item.labels == {"name": "Pi", "geo": "Here", "messageId": 7}
    assert item.timestamp == T0


@pytest.mark.parametrize(
    ("first", "second", "metric"),
    [
        ("temperature", "Temperature", "temperature"),
        ("Temperature", "Celsius", "temperature"),
        ("pressure", "Pressure", "pressure"),
        ("Pressure", "hPa", "pressure"),
        ("hPa", "HPa", "pressure"),
        ("humidity", "Humidity", "humidity"),
        ("light", "Light", "light"),
    ],
)
def test_the_first_alias_that_is_not_null_counts(first, second, metric):
    assert read(body(**{first: 1, second: 2})).values == {metric: 1.0}
    assert read(body(**{first: None, second: 2})).values == {metric: 2.0}
    assert read(body(**{first: 1, second: "not looked at"})).values == {metric: 1.0}


def test_labels_have_aliases_too():
    labels = read(body(DeviceId="Pi", Geo="Here", Id="m-1", light=1)).labels
    assert labels == {"name": "Pi", "geo": "Here", "messageId": "m-1"}


@pytest.mark.parametrize("value", [0, 0.0, -0.0, 1e-300, -17.5, 2**40])
def test_every_finite_number_is_a_value(value):
    assert read(body(light=value)).values == {"light": float(value)}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "json"),
        (b" \n", "json"),
        (b"hello", "json"),
        (b'{"light":1', "json"),
        (b'{"light":1}x', "json"),
        (b'{"light":NaN}', "json"),
        (b'{"light":Infinity}', "json"),
        (b"[" * 10_000 + b"]" * 10_000, "json"),
        (b'{"light":' * 10_000 + b"1" + b"}" * 10_000, "json"),
        (b'{"light":1,"more":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "json"),
        (b'[{"light":1},]', "json"),
        (b'\xef\xbb\xbf{"light":1}', "json"),
        (b'{"light":1,"unknown":"\xff"}', "encoding"),
        (b'{"light":1,"unknown":"\xed\xa0\x80"}', "encoding"),
        (b"\x00\x01\x02", "json"),
        (b"5", "shape"),
        (b'"text"', "shape"),
        (b"null", "shape"),
        (b"[]", "empty"),
        (b"{}", "empty"),
        (b'{"temperature":null}', "empty"),
        (b'{"altitude":5}', "empty"),
        (b'{"temperature":true}', "value"),
        (b'{"temperature":"21"}', "value"),
        (b'{"temperature":[21]}', "value"),
        (b'{"temperature":{}}', "value"),
        (b'{"temperature":1e999}', "value"),
        (b'{"temperature":' + b"9" * 400 + b"}", "value"),
        (b'{"temperature":' + b"9" * 10_000 + b"}", "value"),
        (b'{"temperature":20,"pressure":"1000"}', "value"),
        (b'{"light":1,"messageId":%d}' % 2**70, "message_id"),
        (b'{"light":1,"messageId":1.5}', "message_id"),
        (b'{"light":1,"messageId":true}', "message_id"),
        (b'{"light":1,"messageId":"%s"}' % (b"x" * 129), "message_id"),
        (b'{"light":1,"deviceId":""}', "device_id"),
        (b'{"light":1,"deviceId":5}', "device_id"),
        (b'{"light":1,"deviceId":"%s"}' % (b"x" * 129), "device_id"),
        (b'{"light":1,"geo":{}}', "geo"),
        (b'{"light":1,"geo":"%s"}' % (b"x" * 257), "geo"),
        (b'{"light":1,"timestamp":true}', "timestamp"),
        (b'{"light":1,"timestamp":"yesterday"}', "timestamp"),
        (b'{"light":1,"timestamp":"9999999999-01-01"}', "timestamp"),
    ],
)  # fmt: skip
def test_what_cannot_be_believed_is_one_rejection_with_a_reason(content, reason):
    item = read(content)
    assert (item.reason, item.body) == (reason, content)
    assert item.detail
    assert len(item.detail) < 300


@pytest.mark.parametrize("message_id", [0, -(2**63), 2**63 - 1, "", "x" * 128])
def test_message_ids_are_int64_or_short_strings(message_id):
    assert read(body(light=1, messageId=message_id)).labels == {"messageId": message_id}


def test_numbers_in_unknown_fields_are_not_judged():
    assert read(b'{"light":1,"unknown":1e999}').values == {"light": 1.0}


def test_a_bad_item_harms_no_neighbour():
    good = body(temperature=20)
    items = reader.read(b"[" + good + b',5,{"temperature":"x"},{"light":1e999}, ' + good + b"]")
    assert [getattr(item, "reason", None) for item in items] == [None, "shape", "value", "value", None]
    assert items[2].body == b'{"temperature":"x"}'
    assert items[0].values == items[4].values == {"temperature": 20.0}


def test_an_array_may_have_a_thousand_items_and_no_more():
    assert len(reader.read(json.dumps([{"light": 1}] * 1000).encode())) == 1000
    assert read(json.dumps([{"light": 1}] * 1001).encode()).reason == "items"


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(content):
    for item in reader.read(content):
        assert isinstance(item, Telemetry) or item.reason in REASONS


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner), max_leaves=5
)
names = st.sampled_from(["temperature", "Celsius", "hPa", "light", "deviceId", "geo", "messageId", "Id", "timestamp"])


@given(st.lists(st.dictionaries(names, values, max_size=6), min_size=1, max_size=5))
def test_no_json_makes_it_raise(items):
    for item in reader.read(json.dumps(items).encode("utf-8", "surrogatepass")):
        if isinstance(item, Telemetry):
            judged = reader.judge(item, enqueued_time=T0, created=None, lead=0, calibration=None)
            assert isinstance(judged, Reading) or judged.reason in REASONS
        else:
            assert item.reason in REASONS


@pytest.mark.parametrize(
    "timestamp",
    [
        "2026-11-24T00:00:00Z",
        "2026-11-24T00:00:00",
        "2026-11-24 00:00:00.000",
        "2026-11-24T11:00:00+11:00",
        "2026-11-24T00:00:00.0000000Z",
        "20261124T000000Z",
        T0,
        float(T0),
    ],
)
def test_a_timestamp_is_iso_8601_or_milliseconds_and_without_a_zone_in_utc(timestamp):
    assert judge(body(light=1, timestamp=timestamp)).event_time == T0


def test_event_time_is_the_devices_else_the_messages_else_the_hubs():
    created = "2026-11-23T23:00:00Z"
    assert judge(body(light=1, timestamp=T0 - 1), created=created).event_time == T0 - 1
    assert judge(body(light=1), created=created).event_time == T0 - 60 * MINUTE
    assert judge(body(light=1)).event_time == T0


@pytest.mark.parametrize(
    ("timestamp", "believed"),
    [
        (T0 + 5 * MINUTE, True),
        (T0 + 5 * MINUTE + 1, False),
        ("2099-01-01T00:00:00Z", False),
        ("2000-01-01T00:00:00Z", True),
        ("1999-12-31T23:59:59.999Z", False),
        (T0 // 1000, False),
        (-(10**400), False),
    ],
)
def test_a_devices_time_must_be_possible(timestamp, believed):
    judged = judge(body(light=1, timestamp=timestamp))
    assert isinstance(judged, Reading) if believed else judged.reason == "timestamp"


@pytest.mark.parametrize("created", ["2099-01-01T00:00:00Z", "noon"])
def test_a_creation_time_is_the_devices_word_as_well(created):
    assert judge(body(light=1), created=created).reason == "timestamp"


@pytest.mark.parametrize(
    "content", [{"temperature": 80.1}, {"pressure": 599}, {"humidity": -0.1}, {"temperature": 20, "humidity": 101}]
)
def test_a_value_beyond_its_range_rejects_the_reading(content):
    assert judge(body(**content)).reason == "range"


def test_ranges_hold_after_calibration():
    calibration = Calibration((Version(0, {"temperature": Line(0.5, 0.0)}),))
    assert judge(body(temperature=120), calibration=calibration).values == {"temperature": 60.0}
    assert judge(body(temperature=-90), calibration=calibration).reason == "range"


def test_the_raw_value_stays_beside_the_calibrated_one():
    reading = judge(body(temperature=10), calibration=Calibration((Version(0, {"temperature": Line(2.0, 1.0)}),)))
    assert (reading.values, reading.raw) == ({"temperature": 21.0}, {"temperature": 10.0})


def test_every_reason_is_documented_in_one_place():
    assert isinstance(judge(body(temperature=99)), Rejection)
    assert set(REASONS) >= {"json", "encoding", "shape", "empty", "items", "value", "range", "timestamp", "internal"}

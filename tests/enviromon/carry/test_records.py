import json

import pytest

from enviromon.calibration import Line, Version
from enviromon.carry.records import (
    FORMAT,
    VERSION,
    DeviceRecord,
    End,
    ExportError,
    Header,
    StateRecord,
    calibration_record,
    dead_letter_record,
    line,
    read,
)
from tests.enviromon.stores.test_dead_letter_store import LETTER
from tests.enviromon.stores.test_device_store import FULL

HEADER = Header(format=FORMAT, version=VERSION, site="Porto", exported_at="2026-11-24T00:00:00+00:00", program="0.1.0")
RECORDS = [
    DeviceRecord(device_id="d1", status="enabled"),
    DeviceRecord(device_id="d2", status="disabled", primary_key="cHJpbWFyeQ==", secondary_key="c2Vjb25k"),
    calibration_record("d1", Version(-5, {"temperature": Line(1.5, -2.0)})),
    StateRecord(state=FULL),
    dead_letter_record(LETTER),
]
COUNTS = {"device": 2, "calibration": 1, "state": 1, "deadLetter": 1}


def lines(*records, counts=COUNTS):
    return [line(one) for one in (HEADER, *records, End(counts=counts))]


def test_records_come_back_as_they_were_written():
    header, *found = read(lines(*RECORDS))
    assert header == HEADER
    assert found == RECORDS
    assert found[-1].letter() == LETTER
    assert found[2].version() == Version(-5, {"temperature": Line(1.5, -2.0)})


def test_an_export_is_lines_of_json_that_say_what_they_are():
    kinds = [json.loads(one)["kind"] for one in lines(*RECORDS)]
    assert kinds == ["header", "device", "device", "calibration", "state", "deadLetter", "end"]
    assert json.loads(line(RECORDS[0])) == {"kind": "device", "deviceId": "d1", "status": "enabled"}


def test_keys_show_in_no_repr():
    assert "cHJpbWFyeQ" not in repr(RECORDS[1])


@pytest.mark.parametrize("kept", range(1, 6))
def test_an_export_that_was_cut_off_is_refused_at_its_end(kept):
    with pytest.raises(ExportError, match=f"cut off after line {kept}"):
        list(read(lines(*RECORDS)[:kept]))
    with pytest.raises(ExportError, match=r"line \d"):
        list(read([*lines(*RECORDS)[:kept], lines(*RECORDS)[kept][:-3]]))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ([b""], "line 1"),
        ([b"[1]\n"], "line 1"),
        ([b'{"kind":"device"}\n'], "no export of enviromon"),
        ([line(HEADER).replace(b'"version":1', b'"version":2,"more":true')], "has version 2, this program reads 1"),
        ([line(RECORDS[0])], "no export of enviromon"),
        ([line(HEADER), line(HEADER)], "line 2: an export has one header"),
        ([line(HEADER), b'{"kind":"mood","deviceId":"d1"}\n'], "line 2"),
        ([line(HEADER), b'{"kind":"device","deviceId":"d1","status":"enabled","shoe":1}\n'], "shoe"),
        ([line(HEADER), line(DeviceRecord(device_id="a/b", status="enabled"))], "line 2: 'a/b' is no device id"),
        (lines(*RECORDS[:-1]), "records are missing"),
        ([*lines(*RECORDS), line(RECORDS[0])], "line 8: something follows the end"),
        ([line(HEADER), b" " * (17 << 20)], "line 2 is longer than"),
        ([line(HEADER), b"\xff\n"], "line 2"),
        ([line(HEADER), b"[" * 100_000], "line 2"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_line(wrong, told):
    with pytest.raises(ExportError, match=told):
        list(read(wrong))


def test_nothing_at_all_is_no_export():
    with pytest.raises(ExportError, match="cut off after line 0"):
        list(read([]))

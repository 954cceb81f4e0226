"""A run says what its messages say one by one."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enviromon.calibration import Calibration, Line, Version
from enviromon.device_state import Ledger
from enviromon.runs import Run, RunReader
from enviromon.stores import open_stores
from tests.enviromon.world import T0, World, body, delivery

LEAD = 300_000
READER = RunReader(lead=LEAD)


def run_of(*contents, calibration=None):
    return READER.read([delivery(number, content) for number, content in enumerate(contents)], calibration)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        b"[]",
        b'[{"light":1}]',
        b"{}",
        b'{"geo":"here"}',
        b'{"light":true}',
        b'{"light":"21"}',
        b'{"light":1e999}',
        b'{"temperature":81}',
        b'{"light":1,"deviceId":""}',
        b'{"light":1,"deviceId":7}',
        b'{"light":1,"messageId":1.5}',
        b'{"light":1,"Id":9223372036854775808}',
        b'{"light":1,"geo":"' + b"x" * 257 + b'"}',
        b'{"light":1,"timestamp":"yesterday"}',
        b'{"light":1,"timestamp":true}',
        b'{"light":1,"timestamp":86400}',
        b'{"light":1,"timestamp":"2099-01-01T00:00:00Z"}',
        b'{"light":1,"note":"\xff"}',
        b'{"light":1,"note":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    ],
)
def test_what_needs_a_closer_look_is_no_run(content):
    assert run_of(content) is None
    assert run_of(body(light=1), content, body(light=3)) is None


def test_characters_that_meet_across_two_bodies_are_not_taken_for_one():
    assert run_of(b'{"light":1,"x":"\xc3"}', b'{"light":1,"x":"\xa4"}') is None
    assert run_of('{"light":1,"x":"ä"}'.encode(), body(light=2)) is not None


def test_a_run_that_two_versions_of_a_calibration_share_is_none():
    versions = Calibration((Version(0, {}), Version(T0 + 1000, {"light": Line(2.0, 0.0)})))
    assert run_of(body(light=1), body(light=1), calibration=versions) is None
    assert isinstance(run_of(body(light=1), calibration=versions), Run)


def test_a_range_is_judged_after_calibration():
    halved = Calibration((Version(0, {"temperature": Line(0.5, 0.0)}),))
    assert run_of(body(temperature=81), calibration=halved) is not None
    assert run_of(body(temperature=-81), calibration=halved) is None


async def test_a_fault_in_reading_or_folding_a_run_costs_nothing(monkeypatch, caplog):
    def fail(*_):
        raise ZeroDivisionError

    for owner, name in ((RunReader, "read"), (Run, "_continued")):
        stores = open_stores("sqlite::memory:", "site")
        world = World(stores)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            await world.send(*(delivery(number) for number in range(3)))
        assert await world.total() == Ledger(accepted=3)
        assert "ZeroDivisionError" in caplog.text
        caplog.clear()
        await stores.close()


values = st.one_of(st.none(), st.integers(-50, 90), st.floats(-50, 90), st.just(0.0))
times = st.one_of(
    st.none(),
    st.integers(T0 - 5000, T0 + 5000),
    st.integers(T0 - 5000, T0 + 5000).map(float),
    st.sampled_from(["2026-11-24T00:00:01", "2026-11-24T01:00:02.5+01:00", "soon"]),
)
objects = st.fixed_dictionaries(
    {},
    optional={
        "temperature": values,
        "Celsius": values,
        "hPa": st.one_of(st.none(), st.integers(900, 1100)),
        "HPa": st.integers(900, 1100),
        "light": values,
        "deviceId": st.sampled_from(["name", "näme", "", None]),
        "DeviceId": st.just("Name"),
        "geo": st.sampled_from(["here", "", None]),
        "messageId": st.sampled_from([1, "one", None, 1.5]),
        "Id": st.just(2),
        "timestamp": times,
        "unknown": st.sampled_from(["ä", [1, {}]]),
    },
)
steady = st.builds(lambda light, more: {"light": light, **more}, st.floats(0, 9), st.just({"deviceId": "näme"}))
streams = st.lists(
    st.tuples(
        st.sampled_from(["d1", "d2"]),
        st.one_of(steady, objects).map(lambda one: json.dumps(one, ensure_ascii=False).encode()),
        st.integers(0, 3000),
        st.sampled_from([None, None, None, "2026-11-24T00:00:00.5Z"]),
    ),
    min_size=1,
    max_size=14,
)
calibrations = st.dictionaries(
    st.sampled_from([0, T0 + 1000, T0 + 2000]),
    st.builds(lambda slope: {"light": Line(slope, 0.5), "temperature": Line(slope, -1.0)}, st.sampled_from([0.5, 2.0])),
    max_size=3,
)


@settings(max_examples=settings.default.max_examples * 3 // 2)
@given(streams, calibrations, st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=6))
async def test_runs_and_single_messages_come_to_the_same(messages, versions, cuts):
    enqueued, log = T0, []
    for number, (device, content, pause, created) in enumerate(messages):
        enqueued += pause
        log.append(delivery(number, content, device=device, enqueued=enqueued, created=created))
    outcomes = []
    for reader in (None, lambda *_: None):
        stores = open_stores("sqlite::memory:", "site")
        for valid_from, lines in versions.items():
            await stores.calibrations.put("d1", Version(valid_from, lines))
        world, position = World(stores), 0
        if reader is not None:
            world.ingest._runs.read = reader
        for back, forward in [*cuts, (0, len(log))]:
            start, position = max(0, position - back), min(len(log), position + forward)
            if log[start:position]:
                await world.send(*log[start:position])
        page = await stores.devices.page()
        letters = [(letter.reason, letter.device_id, letter.sequence) for letter in await world.letters()]
        outcomes.append(([stored.state for stored in page.items], sorted(letters)))
        await stores.close()
    assert outcomes[0] == outcomes[1]

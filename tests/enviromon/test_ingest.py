import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enviromon.calibration import Line, Version
from enviromon.device_state import UNIDENTIFIED, Ledger
from enviromon.errors import StorageError
from enviromon.stores import open_stores
from enviromon.telemetry import TelemetryReader
from tests.enviromon.world import T0, World, body, delivery


def values(state):
    return {name: measurement.value for name, measurement in state.metrics.items()}


async def test_a_batch_is_folded_per_device(world):
    sent = [delivery(number, device=f"d{number % 3}") for number in range(30)]
    ingested = await world.send(*sent)
    assert {state.device_id: state.ledger.accepted for state in ingested.states} == {"d0": 10, "d1": 10, "d2": 10}
    assert {state.revision for state in ingested.states} == {1}
    assert ingested.counted == Ledger(accepted=30)


async def test_the_device_is_who_the_hub_says_and_its_body_only_gives_a_name(world):
    await world.send(delivery(1, body(deviceId="d2", light=1)))
    state = await world.state("d1")
    assert state.labels["name"].value == "d2"
    assert await world.stores.devices.load(["d2"]) == {}


async def test_a_trusted_gateway_speaks_for_the_devices_in_its_bodies(stores):
    world = World(stores, trust_gateways="gateway, other")
    content = json.dumps([{"deviceId": "a", "light": 1}, {"deviceId": "b", "light": 2}, {"light": 3}]).encode()
    await world.send(delivery(1, content, device="gateway"))
    assert [values(await world.state(name)) for name in ("a", "b", "gateway")] == [
        {"light": 1.0}, {"light": 2.0}, {"light": 3.0}
    ]  # fmt: skip


async def test_a_gateway_cannot_invent_impossible_device_ids(stores):
    world = World(stores, trust_gateways="*")
    await world.send(delivery(1, body(deviceId="a/b", light=1)), delivery(2, body(light=1), device=None))
    assert await world.reasons() == ["identity", "identity"]
    assert (await world.state("d1")).ledger == Ledger(rejected=1)
    assert (await world.state(UNIDENTIFIED)).ledger == Ledger(rejected=1)


async def test_what_no_one_vouches_for_is_a_dead_letter_and_counted(world):
    await world.send(delivery(1, body(deviceId="d1", light=1), device=None), delivery(2, b"junk", device=None))
    assert await world.reasons() == ["identity", "json"]
    assert await world.total() == Ledger(rejected=2)


async def test_a_dead_letter_says_what_came_where_and_when(world):
    await world.send(delivery(7, b'[{"light":1},{"light":"x"}]'))
    (letter,) = await world.letters()
    assert (letter.reason, letter.device_id, letter.stream, letter.partition) == (
        "value", "d1", "namespace/hub/0", "0"
    )  # fmt: skip
    assert (letter.sequence, letter.index, letter.enqueued_time) == (7, 1, T0 + 7000)
    assert letter.body == b'{"light":"x"}'
    assert "light" in letter.detail


async def test_a_dead_letter_keeps_the_creation_time_that_its_message_was_given(world):
    await world.send(delivery(1, b"junk", created="2026-11-23T00:00:00Z"), delivery(2, body(light="x"), created="now"))
    assert [letter.created for letter in await world.letters()] == ["2026-11-23T00:00:00Z", "now"]


async def test_bad_neighbours_harm_no_one_and_everything_is_counted(world):
    await world.send(
        delivery(1),
        delivery(2, b"\xff\xfe"),
        delivery(3, b"[" * 10_000),
        delivery(4, b'[{"light":1},7,{"light":2}]'),
        delivery(5, body(temperature=99)),
        delivery(6, b""),
        delivery(7, body(light=1, timestamp="2099-01-01")),
        delivery(8),
    )
    assert await world.total() == Ledger(accepted=4, rejected=6)
    assert await world.reasons() == ["encoding", "json", "shape", "range", "json", "timestamp"]


async def test_a_redelivered_batch_adds_neither_counts_nor_dead_letters(world):
    sent = [delivery(1), delivery(2, b"junk"), delivery(3)]
    await world.send(*sent)
    again = await world.send(*sent)
    assert again.counted == Ledger(duplicate=3)
    assert await world.total() == Ledger(accepted=2, rejected=1, duplicate=3)
    assert len(await world.letters()) == 1


async def test_a_steady_stream_reads_nothing(world):
    await world.send(delivery(1))
    world.stores.devices.load = world.stores.calibrations.load = None
    ingested = await world.send(delivery(2))
    assert ingested.states[0].ledger.accepted == 2


async def test_a_calibration_is_read_again_after_its_time_to_live(world):
    await world.send(delivery(1, body(light=10)))
    await world.stores.calibrations.put("d1", Version(T0, {"light": Line(2.0, 0.0)}))
    await world.send(delivery(2, body(light=10)))
    assert values(await world.state()) == {"light": 10.0}
    world.now += world.settings.calibration_ttl_seconds
    await world.send(delivery(3, body(light=10)))
    assert values(await world.state()) == {"light": 20.0}


async def test_calibration_follows_event_time(world):
    await world.stores.calibrations.put("d1", Version(T0, {"light": Line(2.0, 0.0)}))
    await world.stores.calibrations.put("d1", Version(T0 + 5000, {"light": Line(3.0, 0.0)}))
    shown = []
    for sequence, moment in enumerate([T0 - 1, T0, T0 + 5000]):
        await world.send(delivery(sequence, body(light=10, timestamp=moment), enqueued=T0 + 9000))
        shown.append(values(await world.state())["light"])
    assert shown == [10.0, 20.0, 30.0]


async def test_more_devices_than_the_cache_holds_are_counted_exactly(stores):
    world = World(stores, cached_devices=3)
    for round_number in range(3):
        await world.send(*(delivery(round_number, device=f"d{number}") for number in range(10)))
    assert await world.total() == Ledger(accepted=30)


async def test_a_batch_of_very_many_readings_is_worked_off_in_parts(world):
    """A device that sends full arrays must not fill the memory or hold up the loop."""
    content = json.dumps([{"light": number} for number in range(1000)]).encode()
    ingested = await world.send(*(delivery(sequence, content) for sequence in range(5)), delivery(5, device="d2"))
    assert ingested.counted == await world.total() == Ledger(accepted=5001)
    assert {state.device_id: state.revision for state in ingested.states} == {"d1": 3, "d2": 1}


async def test_a_fault_of_this_program_costs_one_reading(world, monkeypatch, caplog):
    judge = TelemetryReader.judge

    def faulty(self, item, *context):
        if item.values["light"] == 13.0:
            raise ZeroDivisionError
        return judge(self, item, *context)

    monkeypatch.setattr(TelemetryReader, "judge", faulty)
    await world.send(*(delivery(number, b"[%b]" % body(light=number)) for number in (12, 13, 14)))
    assert await world.reasons() == ["internal"]
    assert await world.total() == Ledger(accepted=2, rejected=1)
    assert "ZeroDivisionError" in caplog.text


async def test_a_fault_while_folding_costs_one_reading_as_well(world, monkeypatch):
    judge = TelemetryReader.judge

    def faulty(self, item, *context):
        reading = judge(self, item, *context)
        if reading.values["light"] == 13.0:
            reading.raw.clear()
        return reading

    await world.stores.calibrations.put("d1", Version(0, {"light": Line(1.0, 0.0)}))
    monkeypatch.setattr(TelemetryReader, "judge", faulty)
    await world.send(*(delivery(number, b"[%b]" % body(light=number)) for number in (12, 13, 14)))
    assert await world.reasons() == ["internal"]
    assert await world.total() == Ledger(accepted=2, rejected=1)


async def test_dead_letters_are_kept_before_the_state_counts_them(world, caplog):
    """A crash in between is healed by the redelivery; the other way round the letter would be lost."""
    caplog.set_level(logging.CRITICAL)

    async def fail(letters):
        raise StorageError

    add, world.stores.dead_letters.add = world.stores.dead_letters.add, fail
    with pytest.raises(StorageError):
        await world.send(delivery(1, b"junk"))
    assert await world.stores.devices.load(["d1"]) == {}
    world.stores.dead_letters.add = add
    await world.send(delivery(1, b"junk"))
    assert await world.total() == Ledger(rejected=1)


messages = st.lists(
    st.one_of(
        st.integers(0, 40).map(lambda value: body(temperature=value)),
        st.sampled_from([b"junk", b"[]", b'[{"light":1},5]', body(temperature=99), body(humidity=50, light=0.0)]),
    ),
    min_size=1,
    max_size=10,
)


@settings(max_examples=settings.default.max_examples * 3 // 5)
@given(messages, st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), max_size=6))
async def test_however_the_stream_is_cut_and_replayed_the_ledger_adds_up(bodies, cuts):
    log = [delivery(number, content, device=f"d{number % 2}") for number, content in enumerate(bodies)]
    totals, letters = [], []
    for plan in ([(0, len(log))], [*cuts, (0, len(log))]):
        stores = open_stores("sqlite::memory:", "site")
        world, position, received = World(stores), 0, 0
        for back, forward in plan:
            start, position = max(0, position - back), min(len(log), position + forward)
            if log[start:position]:
                received += (await world.send(*log[start:position])).counted.received
        totals.append(await world.total())
        letters.append([(letter.sequence, letter.index) for letter in await world.letters()])
        assert totals[-1].received == received
        await stores.close()
    assert totals[0].count == totals[1].count
    assert totals[0].rejected == totals[1].rejected == len(letters[1])
    assert letters[0] == letters[1]
    assert totals[0].duplicate == 0

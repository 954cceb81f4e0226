import json

from msgspec import structs

from enviromon.device_state import UNIDENTIFIED, DeviceState, Label, Ledger, Measurement, Moment
from enviromon.updates import CHUNK_BYTES, iso, messages, view
from tests.enviromon.world import T0

AT = Moment(T0, 1, 0)
STATE = DeviceState(
    "d1",
    labels={"name": Label("Pi", AT), "geo": Label("Here", AT)},
    metrics={"temperature": Measurement(0.0, 1.5, AT)},
    ledger=Ledger(accepted=5, duplicate=4, late=3, rejected=2),
    event_time=T0,
    enqueued_time=T0 + 1,
    revision=9,
)


def test_a_view_tells_everything_in_camel_case():
    assert view(STATE) == {
        "deviceId": "d1",
        "name": "Pi",
        "geo": "Here",
        "temperature": 0.0,
        "pressure": None,
        "humidity": None,
        "light": None,
        "raw": {"temperature": 1.5},
        "times": {"temperature": "2026-11-24T00:00:00.000Z"},
        "count": 8,
        "revision": 9,
        "eventTime": "2026-11-24T00:00:00.000Z",
        "enqueuedTime": "2026-11-24T00:00:00.001Z",
        "ledger": {"received": 14, "accepted": 5, "duplicate": 4, "late": 3, "rejected": 2},
    }


def test_a_device_that_gave_no_name_is_called_by_its_id():
    assert view(DeviceState("d1"))["name"] == "d1"
    assert view(DeviceState("d1"))["eventTime"] is None


def test_a_batch_is_one_message_to_all():
    (message,) = json.loads(messages([STATE, structs.replace(STATE, device_id="d2")]))
    assert (set(message), message["target"]) == ({"target", "arguments"}, "newMessage")
    (views,) = message["arguments"]
    assert [one["deviceId"] for one in views] == ["d1", "d2"]


def test_a_snapshot_goes_to_its_viewer_alone():
    (message,) = json.loads(messages([STATE], viewer="v1"))
    assert message["userId"] == "v1"


def test_many_devices_are_cut_into_messages_far_below_what_signalr_takes():
    states = [structs.replace(STATE, device_id=f"device-{number}") for number in range(3000)]
    written = json.loads(messages(states))
    assert len(written) > 1
    assert all(len(json.dumps(message, separators=(",", ":"))) <= CHUNK_BYTES + 100 for message in written)
    told = [one["deviceId"] for message in written for one in message["arguments"][0]]
    assert told == [state.device_id for state in states]


def test_the_largest_view_fits_a_message():
    largest = structs.replace(STATE, labels={"name": Label("\u0001" * 128, AT), "geo": Label("\u0001" * 256, AT)})
    assert len(messages([largest] * 2)) < 10_000


def test_hidden_devices_are_not_told_of():
    assert messages([structs.replace(STATE, removed_at=1), DeviceState(UNIDENTIFIED)]) is None


def test_times_are_written_in_utc_with_milliseconds():
    assert [iso(0), iso(-1), iso(T0 + 5)] == [
        "1970-01-01T00:00:00.000Z", "1969-12-31T23:59:59.999Z", "2026-11-24T00:00:00.005Z"
    ]  # fmt: skip

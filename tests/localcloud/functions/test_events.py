"""Our events equal, field by field, what azure-functions' own converter makes of the real host's message."""

import pytest

from localcloud.functions.events import EmptyBodyError
from localcloud.iothub.event_log import Envelope, StoredEvent
from tests.localcloud.functions.event_fields import CASES, FIELDS, NOON, factory, fields, ours, stored_events, theirs

STORED = stored_events(Envelope, StoredEvent)
TILL = STORED[0].envelope


@pytest.mark.parametrize(("cardinality", "data_type"), CASES)
def test_every_field_equals_the_converters(cardinality: str, data_type: str) -> None:
    made, converted = ours(STORED, cardinality, data_type), theirs(STORED, cardinality, data_type)
    assert [fields(event) for event in made] == [fields(event) for event in converted]


def test_the_fields_are_those_that_functions_read() -> None:
    names = {"enqueued_time", "iothub_metadata", "metadata", "offset", "partition_key", "sequence_number"}
    assert names <= set(FIELDS)


def test_times_are_utc_and_do_not_say_so() -> None:
    assert {event.enqueued_time.tzinfo for event in factory("BINARY").many(STORED)} == {None}


def test_an_event_that_a_function_changes_changes_no_other() -> None:
    first, _, third = factory("BINARY").many(STORED)
    first.iothub_metadata["connection-device-id"] = "forged"
    assert third.iothub_metadata["connection-device-id"] == "till-1"
    assert TILL.system_properties["iothub-connection-device-id"] == "till-1"


def test_data_type_string_fails_a_batch_with_an_empty_body_and_replaces_bad_utf8() -> None:
    empty = StoredEvent(1, 0, NOON, TILL, b"")
    with pytest.raises(EmptyBodyError, match="Number of bodies and metadata mismatched"):
        factory("STRING").many([*STORED, empty])
    (event,) = factory("STRING").many([StoredEvent(1, 0, NOON, TILL, b"\xff")])
    assert event.get_body() == "\ufffd".encode()


def test_without_a_data_type_one_body_that_is_not_json_fails_the_batch() -> None:
    with pytest.raises(ValueError, match=r'sequence number 1 is not JSON.*data_type="binary"'):
        factory("").many([*STORED, StoredEvent(1, 0, NOON, TILL, b"not json")])

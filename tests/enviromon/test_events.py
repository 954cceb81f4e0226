import azure.functions as func
import pytest

from enviromon.events import Delivery, to_batch
from localcloud.functions.events import EventFactory
from localcloud.iothub.event_log import Envelope, StoredEvent


def test_a_batch_is_read_without_making_the_arrays_of_its_metadata():
    """They cost an eighth of the whole path; an envelope without properties makes whoever builds them fail."""
    envelope = Envelope({"iothub-connection-device-id": "d1"}, None)
    factory = EventFactory(namespace="ns", event_hub="hub", group="enviromon", partition=3, data_type="BINARY")
    events = factory.many([StoredEvent(7, 700, 1_800_000_000_000, envelope, b"{}")])
    batch = to_batch(events)
    assert batch.stream == "ns/hub/3"
    assert batch.deliveries == [Delivery("d1", 7, 1_800_000_000_000, None, b"{}")]
    with pytest.raises(TypeError):
        len(events[0].metadata)


def test_a_batch_whose_partition_is_unknown_is_refused():
    with pytest.raises(ValueError, match="PartitionContext"):
        to_batch([func.EventHubEvent(body=b"{}", sequence_number=1)])

import os
import threading

import pytest

from localcloud.consumer_groups import ConsumerGroupError, Progress, consumer_groups, remove_consumer_group
from localcloud.data_directory import describe_running, exclusive_data_directory
from localcloud.iothub.event_log import Envelope, Event, EventLogFullError, SqliteEventLog


def events(count, body=b"{}"):
    return [Event(Envelope({}, {}), body)] * count


@pytest.fixture
def running(tmp_path):
    """A directory on which an app runs whose function `telemetry` reads by the group `app`."""
    with exclusive_data_directory(tmp_path):
        describe_running(tmp_path, {"consumerGroups": {"app": "telemetry"}})
        yield tmp_path


@pytest.fixture
async def log(running):
    log = await SqliteEventLog.open(running, partitions=2, max_bytes=1 << 20)
    await log.register("app")
    await log.register("renamed")
    yield log
    await log.close()


async def test_each_group_is_shown_with_its_reader_and_how_far_it_is_in_each_partition(running, log):
    await log.append(b"1", {0: events(5)})
    await log.commit("app", 0, 3)
    app, renamed = consumer_groups(running)
    assert (app.name, app.read_by) == ("app", "telemetry")
    assert app.partitions == [Progress(0, 3, 1), Progress(1, -1, 0)]
    assert (renamed.name, renamed.read_by) == ("renamed", None)
    assert renamed.partitions == [Progress(0, -1, 5), Progress(1, -1, 0)]


async def test_a_log_that_an_abandoned_group_has_filled_takes_events_again_once_the_group_is_removed(running, log):
    for number in range(11):
        await log.append(b"%d" % number, {0: events(1, os.urandom(100_000))})
        await log.commit("app", 0, number)
    with pytest.raises(EventLogFullError, match=r"'renamed' has not finished.* remove the consumer group"):
        await log.append(b"more", {0: events(1)})
    remove_consumer_group(running, "renamed")
    await log.append(b"more", {0: events(1)})
    assert [group.name for group in consumer_groups(running)] == ["app"]


async def test_a_group_that_a_function_reads_by_is_not_removed(running, log):
    with pytest.raises(ConsumerGroupError, match="the function telemetry reads by consumer group 'app'"):
        remove_consumer_group(running, "app")
    assert [group.name for group in consumer_groups(running)] == ["app", "renamed"]


async def test_an_unknown_group_is_named_beside_the_known_ones(running, log):
    with pytest.raises(ConsumerGroupError, match="no consumer group 'typo', only 'app', 'renamed'"):
        remove_consumer_group(running, "typo")


async def test_nothing_is_removed_while_nobody_can_tell_who_reads(tmp_path):
    log = await SqliteEventLog.open(tmp_path)
    await log.register("app")
    await log.close()
    with pytest.raises(ConsumerGroupError, match="nothing runs on"):
        remove_consumer_group(tmp_path, "app")
    (app,) = consumer_groups(tmp_path)
    assert (app.name, app.read_by) == ("app", None)


def test_asking_where_there_is_no_log_makes_none(tmp_path):
    with pytest.raises(ConsumerGroupError, match="no event log"):
        consumer_groups(tmp_path)
    assert not list(tmp_path.iterdir())


async def test_a_cloud_that_starts_registers_its_group_after_a_removal_that_did_not_know_of_it(
    running, log, monkeypatch
):
    """The new app reads by the very group that is being removed because the old one did not."""
    asked, registered = threading.Event(), threading.Event()

    def register():
        asked.wait(10)
        checkpoints.register("renamed")
        registered.set()

    def read_running(data):
        asked.set()
        assert not registered.wait(0.2), "the group was registered before the removal had ended"
        return {"consumerGroups": {}}

    monkeypatch.setattr("localcloud.consumer_groups.read_running", read_running)
    checkpoints = log._checkpoints
    starting = threading.Thread(target=register)
    starting.start()
    remove_consumer_group(running, "renamed")
    starting.join(10)
    monkeypatch.undo()
    assert [group.name for group in consumer_groups(running)] == ["app", "renamed"]

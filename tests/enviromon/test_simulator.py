import itertools
import json

from enviromon.metrics import METRICS
from enviromon.simulator import device_ids, readings


def bodies(seed=0, device_id="sim-1", count=50):
    return [json.loads(body) for body in itertools.islice(readings(device_id, 0, seed, lambda: 1.5e9), count)]


def test_the_fleet_is_named_from_one():
    assert device_ids(3) == ["sim-1", "sim-2", "sim-3"]


def test_the_same_seed_gives_the_same_values_and_another_gives_others():
    assert bodies(seed=1) == bodies(seed=1)
    assert bodies(seed=1) != bodies(seed=2)


def test_two_devices_say_different_things():
    first, second = bodies(device_id="sim-1")[0], bodies(device_id="sim-2")[0]
    assert all(first[metric.name] != second[metric.name] for metric in METRICS)


def test_every_metric_of_the_table_moves_within_its_usual_range():
    for metric in METRICS:
        values = [body[metric.name] for body in bodies(count=500)]
        assert metric.usual[0] <= min(values) < max(values) <= metric.usual[1]


def test_messages_are_numbered_and_stamped_by_the_clock():
    said = bodies(count=3)
    assert [body["messageId"] for body in said] == [1, 2, 3]
    assert said[0]["timestamp"] == "2017-07-14T02:40:00.000+00:00"

from pathlib import Path

import pytest

from tests.enviromon.world import FunctionApp, content_of, event

SOURCE = Path(__file__).parents[2] / "function_app.py"
ROUTES = {
    "negotiate": ("negotiate", ["POST"], "ANONYMOUS"),
    "viewer_negotiate": ("viewers/{viewer}/negotiate", ["POST"], "ANONYMOUS"),
    "getdevicestate": ("getdevicestate", ["POST"], "ANONYMOUS"),
    "devices": ("devices", ["GET"], "ANONYMOUS"),
    "calibration": ("calibration/{deviceId}", ["GET"], "ANONYMOUS"),
    "calibration_write": ("calibration/{deviceId}", ["PUT", "DELETE"], "FUNCTION"),
    "dead_letters": ("dead-letters", ["GET"], "FUNCTION"),
    "ledger": ("ledger", ["GET"], "ANONYMOUS"),
    "cost": ("cost", ["GET"], "ANONYMOUS"),
    "metrics_catalogue": ("metrics-catalogue", ["GET"], "ANONYMOUS"),
}


def bindings(function):
    return {binding.name: binding.get_dict_repr() for binding in function.get_bindings()}


def test_it_is_short_and_without_logic():
    lines = SOURCE.read_text().splitlines()
    assert len(lines) < 100
    assert not [line for line in lines if line.strip().startswith(("if ", "for ", "while ", "try"))]


def test_every_function_is_there():
    assert set(FunctionApp().functions) == {"telemetry", *ROUTES}


def test_telemetry_takes_raw_batches_and_is_retried_without_limit():
    telemetry = FunctionApp().functions["telemetry"]
    trigger = bindings(telemetry)["events"]
    assert (str(trigger["cardinality"]).upper(), str(trigger["dataType"]).upper()) == ("MANY", "BINARY")
    assert trigger["consumerGroup"] == "enviromon"
    assert telemetry.get_settings_dict("retry_policy")["max_retry_count"] == "-1"
    assert telemetry.get_settings_dict("retry_policy")["strategy"] == "exponential_backoff"


@pytest.mark.parametrize("name", ROUTES)
def test_each_route_has_its_methods_and_its_access_level(name):
    trigger = FunctionApp().functions[name].get_trigger().get_dict_repr()
    methods = [str(getattr(method, "value", method)) for method in trigger["methods"]]
    assert (trigger["route"], methods, trigger["authLevel"].name) == ROUTES[name]


def test_viewers_negotiate_by_their_own_id_and_the_others_without_one():
    functions = FunctionApp().functions
    assert bindings(functions["viewer_negotiate"])["info"]["userId"] == "{viewer}"
    assert "userId" not in bindings(functions["negotiate"])["info"]


async def test_events_of_the_trigger_travel_to_the_state_and_to_the_message(app):
    (message,) = await app.telemetry(event(1), event(2, b"junk"), event(3))
    assert message["arguments"][0][0]["ledger"]["received"] == 3
    (view,) = content_of(await app.http("devices"))["devices"]
    assert view == message["arguments"][0][0]


async def test_no_events_are_no_error(app):
    assert await app.telemetry() == []

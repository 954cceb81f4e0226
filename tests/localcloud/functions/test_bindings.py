import pytest

from localcloud.functions.bindings import (
    BindingData,
    BindingExpressionError,
    SettingError,
    compile_expression,
    event_hub_address,
    resolve_settings,
)

DATA = BindingData(route={"viewer": "v1"}, headers={"x-user": "u1"}, query={"Page": "2", "empty": ""})


def test_settings_are_put_in_wherever_they_stand() -> None:
    assert resolve_settings("a-%X%-%Y%", {"X": "1", "Y": ""}, "here") == "a-1-"
    assert resolve_settings("100%", {}, "here") == "100%"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{viewer}", "v1"),
        ("user-{Viewer}!", "user-v1!"),
        ("{headers.X-User}", "u1"),
        ("{query.page}/{viewer}", "2/v1"),
        ("plain", "plain"),
    ],
)
def test_expressions_take_route_parameters_headers_and_query(text: str, value: str) -> None:
    assert compile_expression(text)(DATA) == value


@pytest.mark.parametrize("text", ["{nobody}", "{headers.x}", "{query.x}", "{query.empty}", "{headers.}"])
def test_an_expression_on_something_absent_fails(text: str) -> None:
    with pytest.raises(BindingExpressionError, match="property doesn't exist"):
        compile_expression(text)(DATA)


def test_the_entity_path_of_a_connection_string_wins_over_the_triggers_name() -> None:
    settings = {"C": "Endpoint=sb://NS.example/;SharedAccessKeyName=k;SharedAccessKey=a=b==;EntityPath=hub"}
    address = event_hub_address("C", "other", settings)
    assert (address.namespace, address.name) == ("ns.example", "hub")
    without = event_hub_address("D", "other", {"D": "Endpoint=sb://ns.example/;SharedAccessKey=x"})
    assert without.name == "other"


@pytest.mark.parametrize("settings", [{}, {"C": ""}, {"C": "SharedAccessKey=secret"}, {"C": "Endpoint=;Key=secret"}])
def test_a_connection_string_that_cannot_be_used_is_named_but_not_shown(settings: dict[str, str]) -> None:
    with pytest.raises(SettingError, match=r"\bC\b") as caught:
        event_hub_address("C", "hub", settings)
    assert "secret" not in str(caught.value)

from pathlib import Path

import pytest

from localcloud.functions.configuration import (
    ConfigurationError,
    apply_settings,
    read_host_json,
    read_local_settings,
    time_span,
)


def host_json(directory: Path, text: str, settings: dict[str, str] | None = None):
    (directory / "host.json").write_text(text)
    return read_host_json(directory, settings or {})


def test_host_json_has_azures_defaults(tmp_path: Path) -> None:
    host = host_json(tmp_path, '{"version": "2.0", "logging": {}, "extensionBundle": {"id": "x"}}')
    assert host.extensions.event_hubs.max_event_batch_size == 100
    assert host.extensions.http.route_prefix == "api"


def test_a_setting_overrides_host_json_as_in_azure(tmp_path: Path) -> None:
    text = '{"version": "2.0", "extensions": {"eventHubs": {"maxEventBatchSize": 5}}}'
    settings = {
        "AzureFunctionsJobHost__extensions__eventHubs__maxEventBatchSize": "256",
        "AzureFunctionsJobHost__Extensions__Http__RoutePrefix": "",
    }
    host = host_json(tmp_path, text, settings)
    assert host.extensions.event_hubs.max_event_batch_size == 256
    assert host.extensions.http.route_prefix == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "host.json: "),
        ('{"version": "1.0"}', '"version" must be "2.0"'),
        ("{}", "missing required field `version`"),
        ('{"version": "2.0", "functionTimeout": "soon"}', '"soon" is not a time span'),
        ('{"version": "2.0", "extensions": {"eventHubs": {"maxEventBatchSize": 0}}}', "minEventBatchSize"),
        ('{"version": "2.0", "extensions": {"eventHubs": {"maxEventBatchSize": "x"}}}', "int"),
    ],
)
def test_a_bad_host_json_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        host_json(tmp_path, text)


def test_a_directory_without_host_json_is_no_app(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has no host\.json"):
        read_host_json(tmp_path, {})


def test_the_environment_wins_over_local_settings_and_those_over_defaults(tmp_path: Path) -> None:
    (tmp_path / "local.settings.json").write_text('{"Values": {"A": "local", "B": "local"}}')
    environment = {"A": "environment"}
    defaults = {"A": "default", "B": "default", "C": "default"}
    apply_settings(environment, read_local_settings(tmp_path), defaults)
    assert environment == {"A": "environment", "B": "local", "C": "default"}


def test_local_settings_may_be_absent_but_not_encrypted(tmp_path: Path) -> None:
    assert read_local_settings(tmp_path).values == {}
    (tmp_path / "local.settings.json").write_text('{"IsEncrypted": true, "Values": {}}')
    with pytest.raises(ConfigurationError, match="decrypt"):
        read_local_settings(tmp_path)


def test_time_spans() -> None:
    assert time_span("00:00:01.5") == 1.5
    assert time_span("1.02:00:00") == 93600
    assert time_span("00:30") == 1800
    assert time_span("-1") is None

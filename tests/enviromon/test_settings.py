from pathlib import Path

import msgspec
import pytest

from enviromon.errors import SettingsError
from enviromon.settings import Settings, read_settings

SAMPLE = Path(__file__).parents[2] / "local.settings.sample.json"
DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


def test_without_an_environment_the_defaults_hold():
    assert read_settings({}) == Settings()


def test_the_environment_is_read_by_type():
    settings = read_settings({"OCC_BASE_MS": "7", "PartitionKey": "Melbourne", "CALIBRATION_TTL_SECONDS": "0.5"})
    assert (settings.occ_base_ms, settings.site, settings.calibration_ttl_seconds) == (7, "Melbourne", 0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"OCC_BASE_MS": "fast"}, {"OCC_ATTEMPTS": "0"}, {"READ_ACCESS": "everyone"}, {"PartitionKey": "a/b"},
        {"PartitionKey": ""}, {"TIMESTAMP_LEAD_SECONDS": "-1"},
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        read_settings(wrong)


def test_reading_needs_a_key_unless_it_is_opened():
    assert Settings().read_access == "key"


def test_the_key_stays_out_of_logs():
    assert "secret" not in repr(Settings(read_key="secret"))


def test_gateways_are_listed_with_commas():
    assert Settings(trust_gateways=" a, b ,,").trusted_gateways == {"a", "b"}


def test_every_setting_is_documented_with_its_default():
    text = DOCUMENT.read_text()
    for field in msgspec.structs.fields(Settings):
        shown = "" if field.default == "" else f"`{field.default}`"
        description = msgspec.inspect.type_info(field.type).extra_json_schema["description"]
        assert f"| `{field.encode_name}` | {shown} | {description} |" in text


def test_the_sample_names_only_settings_that_exist():
    known = {field.encode_name for field in msgspec.structs.fields(Settings)} | {
        "FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage", "IoTHubConnectionString", "IoTHubEventHubName",
        "AzureSignalRConnectionString",
    }  # fmt: skip
    assert set(msgspec.json.decode(SAMPLE.read_bytes())["Values"]) <= known

from pathlib import Path

import pytest

from enviromon.app_files import app_directory
from enviromon.cost import Batching
from enviromon.errors import SettingsError
from enviromon.host_settings import AZURE_MARKS, OVERRIDE, batching_on_azure, read_batching


def host_json(directory: Path, text: str) -> Path:
    (directory / "host.json").write_text(text)
    return directory


def test_the_apps_own_host_json():
    assert read_batching(app_directory(), {}) == Batching(minimum=1, maximum=1000, max_wait=60)


def test_elsewhere_than_on_azure_it_is_what_a_deployment_sets():
    """What `enviromon up` runs with is for speed; nobody would be billed for that."""
    assert batching_on_azure(app_directory(), {}) == Batching(minimum=100, maximum=1000, max_wait=5)
    chosen = {OVERRIDE + "minEventBatchSize": "7"}
    assert batching_on_azure(app_directory(), chosen) == Batching(minimum=7, maximum=1000, max_wait=5)


@pytest.mark.parametrize("mark", AZURE_MARKS)
def test_on_azure_it_is_what_is_set_there(mark):
    assert batching_on_azure(app_directory(), {mark: "site"}) == read_batching(app_directory(), {})


def test_a_host_json_that_says_nothing_means_the_hosts_defaults(tmp_path):
    assert read_batching(host_json(tmp_path, '{"version": "2.0"}'), {}) == Batching(minimum=1, maximum=100, max_wait=60)


def test_app_settings_win_whatever_their_case(tmp_path):
    environment = {
        "AzureFunctionsJobHost__extensions__eventHubs__minEventBatchSize": "50",
        "azurefunctionsjobhost__Extensions__EventHubs__MaxWaitTime": "00:00:05",
        "AzureFunctionsJobHost__extensions__eventHubs__prefetchCount": "9",
    }
    found = read_batching(host_json(tmp_path, '{"extensions": {"eventHubs": {"minEventBatchSize": 2}}}'), environment)
    assert found == Batching(minimum=50, maximum=100, max_wait=5)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"extensions": 7}', '{"extensions": {"eventHubs": {"maxWaitTime": "soon"}}}',
     '{"extensions": {"eventHubs": {"minEventBatchSize": "many"}}}'],
)  # fmt: skip
def test_a_host_json_that_cannot_be_read_is_refused(tmp_path, text):
    with pytest.raises(SettingsError, match=r"host\.json|maxWaitTime"):
        read_batching(host_json(tmp_path, text), {})

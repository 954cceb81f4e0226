"""The worker's indexing rules, in the worker's words; tests/azure asks the worker itself."""

from pathlib import Path

import pytest

from localcloud.functions.app import load_app
from localcloud.functions.bindings import SettingError
from localcloud.functions.console import format_load_error
from localcloud.functions.indexing import FunctionLoadError
from tests.localcloud.functions.failing_apps import FAILING_OTHERWISE, HEAD, HUB, OUT, REFUSED


def load(directory: Path, text: str):
    (directory / "function_app.py").write_text(HEAD + text)
    return load_app(directory, {})


@pytest.mark.parametrize(("source", "message"), REFUSED)
def test_what_fails_in_azure_fails_here_in_the_same_words(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(FunctionLoadError) as caught:
        load(tmp_path, source)
    assert str(caught.value) == message


@pytest.mark.parametrize(("source", "error", "message"), FAILING_OTHERWISE)
def test_other_failures_come_as_the_library_words_them(
    tmp_path: Path, source: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        load(tmp_path, source)
    assert message in str(caught.value)


def test_a_missing_module_names_the_troubleshooting_guide(tmp_path: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'nowhere'\. Cannot find module\. Please check"):
        load(tmp_path, "import nowhere")


def test_typing_list_plain_parameters_and_async_functions_are_indexed(tmp_path: Path) -> None:
    many = HUB.format(more=', data_type="binary"')
    (function,) = load(tmp_path, many + OUT + "async def f(e: List[func.EventHubEvent], o: func.Out[str]): pass")
    assert function.shape.is_async
    assert function.shape.inputs == ("e",)
    assert function.shape.outputs == ("o",)
    assert function.trigger.options["cardinality"] == "MANY"
    assert function.trigger.options["dataType"] == "BINARY"


def test_a_retry_policy_is_read_with_its_times_in_seconds(tmp_path: Path) -> None:
    policy = '@app.retry(strategy="exponential_backoff", max_retry_count="-1", minimum_interval="00:00:02", '
    (function,) = load(
        tmp_path,
        HUB.format(more="") + policy + 'maximum_interval="00:01:30")\ndef f(e: List[func.EventHubEvent]): pass',
    )
    assert function.retry is not None
    assert (function.retry.max_retries, function.retry.minimum, function.retry.maximum) == (-1, 2.0, 90.0)


def test_a_missing_setting_is_named_with_the_binding_that_wants_it(tmp_path: Path) -> None:
    source = '@app.timer_trigger(arg_name="t", schedule="%WHEN%")\ndef f(t): pass'
    with pytest.raises(
        SettingError, match=r"'%WHEN%' does not resolve.*setting WHEN \(function f, binding t, schedule"
    ):
        load(tmp_path, source)


def test_a_load_error_is_told_as_azure_tells_it_and_cut_to_the_apps_code(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        load(tmp_path, "def half(): return 1 / 0\nhalf()")
    told = format_load_error(caught.value, tmp_path)
    assert told.startswith("Worker failed to index functions\nResult: Failure\nException: ZeroDivisionError: ")
    assert "in half" in told
    assert "importlib" not in told

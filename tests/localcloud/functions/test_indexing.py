"""The worker's indexing rules, in the worker's words: recorded from azure-functions-runtime 1.3.0."""

from pathlib import Path

import pytest

from localcloud.functions.app import load_app
from localcloud.functions.bindings import SettingError
from localcloud.functions.console import format_load_error
from localcloud.functions.indexing import FunctionLoadError

HEAD = "import typing\nfrom typing import List\nimport azure.functions as func\napp = func.FunctionApp()\n"
HUB = '@app.event_hub_message_trigger(arg_name="e", connection="c", event_hub_name="h", cardinality="many"{more})\n'
OUT = '@app.generic_output_binding(arg_name="o", type="signalR", hubName="x")\n'
ROUTE = '@app.route(route="r")\n'


def load(directory: Path, text: str):
    (directory / "function_app.py").write_text(HEAD + text)
    return load_app(directory, {})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            HUB.format(more="") + "def f(e: list[func.EventHubEvent]): pass",
            (
                "cannot load the f function: binding e has invalid non-type annotation "
                "list[azure.functions._eventhub.EventHubEvent]"
            ),
        ),
        (
            ROUTE + "def f(req: func.HttpRequest) -> func.HttpResponse | None: pass",
            (
                "cannot load the f function: has invalid non-type return annotation "
                "azure.functions._http.HttpResponse | None"
            ),
        ),
        (
            ROUTE + "def f(req: func.HttpRequest, extra: int = 1) -> str: pass",
            (
                "cannot load the f function: the following parameters are declared in Python but not in the function "
                "definition (function.json or function decorators):  {'extra'}"
            ),
        ),
        (
            ROUTE + OUT + "def f(req: func.HttpRequest) -> str: pass",
            (
                "cannot load the f function: Extra parameters in binding definition — the following parameters are "
                "declared as bindings but are not present in Python: {'o'}"
            ),
        ),
        (
            ROUTE + OUT + "def f(req: func.HttpRequest, o: func.Out[dict]) -> str: pass",
            (
                "cannot load the f function: "
                'binding type "\'o\'" and dataType "signalR" in the binding decorator do not '
                "match the corresponding function parameter's Python type annotation dict"
            ),
        ),
        (
            ROUTE + OUT + "def f(req: func.HttpRequest, o: func.Out) -> str: pass",
            "cannot load the f function: binding o has invalid Out annotation <class 'azure.functions._abc.Out'>",
        ),
        (
            ROUTE + OUT + "def f(req: func.HttpRequest, o: str) -> str: pass",
            (
                'cannot load the f function: binding o is declared to have the "out" direction, but its annotation in '
                "Python is not a subclass of azure.functions.Out"
            ),
        ),
        (
            ROUTE + "def f(req: func.Out[str]) -> str: pass",
            (
                "cannot load the f function: "
                'binding req is declared to have the "in" direction in the binding decorator, '
                "but its annotation is azure.functions.Out in Python"
            ),
        ),
        (
            ROUTE + "def f(req: func.HttpRequest) -> dict: pass",
            'cannot load the f function: Python return annotation "dict" does not match binding type "http"',
        ),
        (
            ROUTE + "def f(req: func.HttpRequest) -> func.Out[str]: pass",
            "cannot load the f function: return annotation should not be azure.functions.Out",
        ),
        (
            ROUTE + "def f(req: func.HttpRequest, context: str) -> str: pass",
            (
                "cannot load the f function: "
                'the "context" parameter is expected to be of type azure.functions.Context, '
                "got \"<class 'str'>\""
            ),
        ),
        (
            HUB.format(more=', data_type="undefined"') + "def f(e: int): pass",
            (
                "cannot load the f function: "
                'type of e binding in the binding decorator "eventHubTrigger" does not match '
                'its Python annotation "int"'
            ),
        ),
    ],
)
def test_what_fails_in_azure_fails_here_in_the_same_words(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(FunctionLoadError) as caught:
        load(tmp_path, source)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("again = app", ValueError, "More than one FunctionApp or other top level function app instances are defined."),
        ("del app", ValueError, "Could not find top level function app instances in function_app.py."),
        (
            ROUTE + OUT + "def f(req: func.HttpRequest, o: func.Out[List[str]]) -> str: pass",
            TypeError,
            "issubclass() arg 1 must be a class",
        ),
        (
            (
                '@app.timer_trigger(arg_name="t", schedule="* * * * *")\n'
                '@app.retry(strategy="fixed_delay", max_retry_count="1", delay_interval="5 s")\ndef f(t): pass'
            ),
            ValueError,
            "time data '5 s' does not match format '%H:%M:%S'",
        ),
        (ROUTE + "def f(req): pass\n" + ROUTE + "def f(req): pass", ValueError, "does not have a unique function name"),
        ("@app.function_name(name='f')\ndef f(): pass", ValueError, "does not have a trigger"),
    ],
)
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

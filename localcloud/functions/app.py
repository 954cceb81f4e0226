"""Loads a Python v2 function app as Azure's worker does: imports it, finds the app object, indexes its functions.

Rules: the app's directory comes first on sys.path; `get_functions` is called once, for azure-functions keeps state;
every function is checked by `indexing`, so that an app which loads here loads in Azure.
"""

import importlib
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from localcloud.functions.bindings import resolve_settings
from localcloud.functions.indexing import Shape, check_function
from localcloud.functions.retry import RetryPolicy

DEFAULT_SCRIPT = "function_app.py"
_MODULE_NOT_FOUND = (
    "Cannot find module. Please check the requirements.txt file for the missing module. For more info, please refer "
    "the troubleshooting guide: https://aka.ms/functions-modulenotfound. Current sys.path: "
)


class Binding(msgspec.Struct, frozen=True):
    """One binding as function.json would hold it: `%NAME%` resolved, enums as their upper case names."""

    name: str
    type: str
    options: Mapping[str, Any]

    def text(self, option: str, default: str = "") -> str:
        """Return an option as text, the default where it is absent."""
        value = self.options.get(option)
        return default if value is None else str(value)


class AppFunction(msgspec.Struct, frozen=True):
    """A function that indexed: what to call, with what, and what to do with what comes back."""

    name: str
    call: Callable[..., Any]
    shape: Shape
    trigger: Binding
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    retry: RetryPolicy | None


_CONNECTION_OPTIONS = {
    "eventHubTrigger": ("connection", ""),
    "signalR": ("connectionStringSetting", "AzureSignalRConnectionString"),
    "signalRConnectionInfo": ("connectionStringSetting", "AzureSignalRConnectionString"),
}


def connection_name(binding: Binding) -> str:
    """Return the name of the setting that holds the binding's connection string, "" where it has none."""
    option, default = _CONNECTION_OPTIONS.get(binding.type, ("", ""))
    return binding.text(option, default)


def load_app(directory: Path, settings: Mapping[str, str]) -> list[AppFunction]:
    """Import the app in `directory` and index it; `settings` are the app settings (the environment).

    Raises FunctionLoadError, ValueError and whatever the import raises: everything that fails the app in Azure.
    """
    script = settings.get("PYTHON_SCRIPT_FILE_NAME", DEFAULT_SCRIPT)
    if not re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9_\-]*\.py", script):
        raise ValueError(f"Invalid file name: {script}")
    if not (directory / script).is_file():
        raise FileNotFoundError(f"{directory} has no {script}: it is not the directory of a Python v2 function app")
    app = _find_app(_import(directory, script), script)
    return [_index(function, settings) for function in app.get_functions()]


def _import(directory: Path, script: str) -> ModuleType:
    root = str(directory.resolve())
    if root in sys.path:
        sys.path.remove(root)
    sys.path.insert(0, root)
    module = Path(script).stem
    sys.modules.pop(module, None)  # an app object can be indexed once only
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"{error.msg.rstrip('.')}. {_MODULE_NOT_FOUND}{' '.join(sys.path)}"
        raise type(error)(message, name=error.name).with_traceback(error.__traceback__) from None


def _find_app(module: ModuleType, script: str) -> Any:
    from azure.functions import FunctionRegister  # noqa: PLC0415  # 0.1 s that `--help` need not pay

    apps = [value for value in vars(module).values() if isinstance(value, FunctionRegister)]  # an alias counts twice
    if len(apps) > 1:
        raise ValueError(
            f"More than one {type(apps[0]).__name__} or other top level function app instances are defined."
        )
    if not apps:
        raise ValueError(f"Could not find top level function app instances in {script}.")
    return apps[0]


def _index(function: Any, settings: Mapping[str, str]) -> AppFunction:
    name = function.get_function_name()
    shape = check_function(function)
    bindings = [(binding, _binding(name, binding, settings)) for binding in function.get_bindings()]
    trigger = function.get_trigger()
    return AppFunction(
        name=name,
        call=function.get_user_function(),
        shape=shape,
        trigger=next(ours for theirs, ours in bindings if theirs is trigger),
        inputs=tuple(ours for theirs, ours in bindings if theirs is not trigger and theirs.direction == 0),
        outputs=tuple(ours for theirs, ours in bindings if theirs.direction == 1),
        retry=_retry(function.get_settings_dict("retry_policy")),
    )


def _binding(function_name: str, binding: Any, settings: Mapping[str, str]) -> Binding:
    options = {key: _plain(value) for key, value in binding.get_dict_repr().items()}
    where = f"function {function_name}, binding {binding.name}"
    for key, value in options.items():
        if isinstance(value, str):
            options[key] = resolve_settings(value, settings, f"{where}, {key}")
    return Binding(name=binding.name, type=binding.type, options=options)


def _plain(value: Any) -> Any:
    """Turn azure-functions' enums into their names, lists of them included."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if type(value).__module__.startswith("azure.functions") else value


def _retry(policy: Mapping[str, Any] | None) -> RetryPolicy | None:
    if policy is None:
        return None
    count = int(policy["max_retry_count"])
    if policy["strategy"] == "fixed_delay":
        return RetryPolicy(max_retries=count, minimum=_seconds(policy.get("delay_interval")), maximum=None)
    minimum, maximum = policy.get("minimum_interval"), policy.get("maximum_interval")
    return RetryPolicy(
        max_retries=count,
        minimum=_seconds(minimum) if minimum else 0.0,
        maximum=_seconds(maximum) if maximum else float(2**31 - 1),
    )


def _seconds(text: Any) -> float:
    parsed = time.strptime(text, "%H:%M:%S")  # the worker's own call, for its words
    return parsed.tm_hour * 3600.0 + parsed.tm_min * 60.0 + parsed.tm_sec

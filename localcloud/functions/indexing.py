"""Judges one function by the indexing rules of Azure's Python worker, in the worker's own words.

Rule: what indexes here must index in Azure, and what fails there must fail here with the same sentence.
The source followed is azure-functions-runtime 1.3; its optional extensions (SDK types, HTTP streaming) are left out.
"""

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

_IN, _OUT, _INOUT = 0, 1, 2  # azure.functions' BindingDirection
_UNDEFINED_DATA_TYPE = 0
_NOT_GENERIC = (typing.Union, tuple, typing.ClassVar, collections.abc.Callable)


class FunctionLoadError(RuntimeError):
    """A function breaks an indexing rule: the whole app would fail to start in Azure. The programmer must act."""

    def __init__(self, function_name: str, message: str) -> None:
        super().__init__(f"cannot load the {function_name} function: {message}")


class Shape(msgspec.Struct, frozen=True):
    """How a function is called and what may come back."""

    requires_context: bool
    is_async: bool
    may_return: bool
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    directory: str


def check_function(function: Any) -> Shape:
    """Return the shape of an azure.functions.Function.

    Raises FunctionLoadError, and NameError or TypeError where the worker's own checks raise them.
    """
    name = function.get_function_name()
    user_function = function.get_user_function()
    annotations = typing.get_type_hints(user_function)
    parameters = dict(inspect.signature(user_function).parameters)
    bindings = {}
    for binding in function.get_bindings():
        _check_direction(name, binding)
        if binding.name != "$return":
            bindings[binding.name] = binding
    requires_context = _take_context(name, parameters, bindings, annotations)
    _check_names(name, set(parameters), set(bindings))
    for parameter in parameters:
        _check_parameter(name, bindings[parameter], annotations)
    may_return = _check_return(name, function.get_bindings(), annotations)
    return Shape(
        requires_context=requires_context,
        is_async=inspect.iscoroutinefunction(user_function),
        may_return=may_return,
        inputs=tuple(name for name in parameters if bindings[name].direction != _OUT),
        outputs=tuple(name for name in parameters if bindings[name].direction == _OUT),
        directory=str(Path(inspect.getfile(user_function)).parent),
    )


def _check_direction(function_name: str, binding: Any) -> None:
    if binding.direction == _INOUT:
        raise FunctionLoadError(function_name, '"inout" bindings are not supported')
    if binding.name == "$return" and binding.direction != _OUT:
        raise FunctionLoadError(function_name, '"$return" binding must have direction set to "out"')


def _take_context(
    function_name: str, parameters: dict[str, Any], bindings: Mapping[str, Any], annotations: Mapping[str, Any]
) -> bool:
    if "context" not in parameters or "context" in bindings:
        return False
    del parameters["context"]
    annotation = annotations.get("context")
    if "context" in annotations and (not isinstance(annotation, type) or annotation.__name__ != "Context"):
        raise FunctionLoadError(
            function_name,
            f'the "context" parameter is expected to be of type azure.functions.Context, got "{annotation!r}"',
        )
    return True


def _check_names(function_name: str, parameters: set[str], bindings: set[str]) -> None:
    if parameters - bindings:
        raise FunctionLoadError(
            function_name,
            "the following parameters are declared in Python but not in the function definition "
            f"(function.json or function decorators):  {parameters - bindings!r}",
        )
    if bindings - parameters:
        raise FunctionLoadError(
            function_name,
            "Extra parameters in binding definition — the following parameters are declared as bindings but are not "
            f"present in Python: {bindings - parameters!r}",
        )


def _check_parameter(function_name: str, binding: Any, annotations: Mapping[str, Any]) -> None:
    if binding.name not in annotations:
        return
    annotation = annotations[binding.name]
    is_out = _is_out(annotation)
    python_type = _out_argument(function_name, binding.name, annotation) if is_out else annotation
    if not isinstance(python_type, type) and not _is_generic(python_type):
        raise FunctionLoadError(function_name, f"binding {binding.name} has invalid non-type annotation {annotation!r}")
    if binding.direction == _OUT and not is_out:
        raise FunctionLoadError(
            function_name,
            f'binding {binding.name} is declared to have the "out" direction, but its annotation in Python is not '
            "a subclass of azure.functions.Out",
        )
    if binding.direction != _OUT and is_out:
        raise FunctionLoadError(
            function_name,
            f'binding {binding.name} is declared to have the "in" direction in the binding decorator, but its '
            "annotation is azure.functions.Out in Python",
        )
    _check_type(function_name, binding, python_type, is_out=is_out)


def _out_argument(function_name: str, binding_name: str, annotation: Any) -> Any:
    arguments = typing.get_args(annotation)
    if len(arguments) != 1:
        raise FunctionLoadError(function_name, f"binding {binding_name} has invalid Out annotation {annotation!r}")
    return arguments[0]


def _check_type(function_name: str, binding: Any, python_type: Any, *, is_out: bool) -> None:
    generic = python_type in (str, bytes) and not _has_implicit_output(binding.type)
    converter = _converter("generic" if generic else binding.type)
    check = converter.check_output_type_annotation if is_out else converter.check_input_type_annotation
    if check(python_type):
        return
    if binding.data_type != _UNDEFINED_DATA_TYPE:
        raise FunctionLoadError(
            function_name,
            f'binding type "{binding.name!r}" and dataType "{binding.type}" in the binding decorator do not match '
            f"the corresponding function parameter's Python type annotation {python_type.__name__}",
        )
    raise FunctionLoadError(
        function_name,
        f'type of {binding.name} binding in the binding decorator "{binding.type}" does not match its Python '
        f'annotation "{python_type.__name__}"',
    )


def _check_return(function_name: str, bindings: list[Any], annotations: Mapping[str, Any]) -> bool:
    """Tell whether the function may return a value: by a `$return` binding, or by any binding without a converter."""
    explicit = next((binding for binding in bindings if binding.name == "$return"), None)
    if explicit is None:
        return any(_has_implicit_output(binding.type) for binding in bindings)
    if "return" not in annotations:
        return True
    annotation = annotations["return"]
    if _is_generic(annotation) and getattr(_origin(annotation), "__name__", None) == "Out":
        raise FunctionLoadError(function_name, "return annotation should not be azure.functions.Out")
    if not isinstance(annotation, type):
        raise FunctionLoadError(function_name, f"has invalid non-type return annotation {annotation!r}")
    if not _converter(explicit.type).check_output_type_annotation(annotation):
        raise FunctionLoadError(
            function_name,
            f'Python return annotation "{annotation.__name__}" does not match binding type "{explicit.type}"',
        )
    return True


class _Untyped:
    """The rules for binding types that azure-functions has no converter for, such as signalR."""

    @staticmethod
    def check_input_type_annotation(python_type: Any) -> bool:
        return issubclass(python_type, (str, bytes))

    @staticmethod
    def check_output_type_annotation(python_type: Any) -> bool:
        return issubclass(python_type, (str, bytes, bytearray))


def _converter(binding_type: str) -> Any:
    from azure.functions import get_binding_registry  # noqa: PLC0415  # 0.1 s that `--help` need not pay

    registry: Any = get_binding_registry()  # type: ignore[no-untyped-call]
    return registry.get(binding_type) or _Untyped


def _has_implicit_output(binding_type: str) -> bool:
    converter = _converter(binding_type)
    if converter is _Untyped:
        return binding_type != "durableClient"
    implicit: Callable[[], bool] = getattr(converter, "has_implicit_output", lambda: False)
    return bool(implicit())


def _is_generic(annotation: Any) -> bool:
    """Follow the worker: `typing.List[X]` is generic, `list[X]` and `X | None` are not."""
    if isinstance(annotation, type):
        return issubclass(annotation, typing.Generic)
    if isinstance(annotation, (types.GenericAlias, types.UnionType)):
        return False
    origin = typing.get_origin(annotation)
    return origin is not None and origin not in _NOT_GENERIC


def _origin(annotation: Any) -> Any:
    return None if isinstance(annotation, types.GenericAlias) else typing.get_origin(annotation)


def _is_out(annotation: Any) -> bool:
    candidate = annotation
    if _is_generic(annotation):
        candidate = _origin(annotation) or annotation
    return isinstance(candidate, type) and candidate.__name__ == "Out"

"""HTTP route templates as Azure Functions (ASP.NET Core) reads them. Pure.

`literal`, `{name}`, `{name:constraint}`, `{name?}`, `{name=default}`, `{*rest}`; several parameters and literals may
share a segment. Literals match whatever their case. Where two routes match, the more specific one wins, as in
ASP.NET's inbound precedence.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import unquote

import msgspec

T = TypeVar("T")
Check = Callable[[str], bool]

_CONSTRAINT = r":([A-Za-z]+(?:\((?:[^()]|\([^()]*\))*\))?)"
_PARAMETER = re.compile(r"\{(\*{0,2})([A-Za-z_][\w-]*)((?:" + _CONSTRAINT + r")*)(?:=([^{}]*))?(\?)?\}")
_INT32, _INT64 = 2**31, 2**63


class RouteError(ValueError):
    """The route template cannot be read; the programmer of the app must act."""


class Route(msgspec.Struct, frozen=True):
    """A compiled template. `precedence` sorts more specific routes first."""

    template: str
    precedence: tuple[float, ...]
    pattern: re.Pattern[str]
    checks: Mapping[str, tuple[Check, ...]]
    defaults: Mapping[str, str]
    names: Mapping[str, str]

    def match(self, path: str) -> dict[str, str] | None:
        """Return the parameters of an undecoded path without its leading slash; None where it does not match."""
        found = self.pattern.fullmatch(path)
        if found is None:
            return None
        parameters = dict(self.defaults)
        for group, text in found.groupdict().items():
            if not text:
                continue
            name, value = self.names[group], unquote(text)
            if not all(check(value) for check in self.checks[name]):
                return None
            parameters[name] = value
        return parameters


class Router(Generic[T]):
    """Finds what a path leads to; several targets may share a route, told apart by the caller (methods)."""

    def __init__(self, routes: Iterable[tuple[Route, T]]) -> None:
        self._routes = sorted(routes, key=lambda pair: pair[0].precedence)

    def find(self, path: str, accepts: Callable[[T], bool]) -> tuple[T, dict[str, str]] | None:
        """Return the most specific accepted target and its route parameters."""
        for route, target in self._routes:
            if accepts(target):
                parameters = route.match(path)
                if parameters is not None:
                    return target, parameters
        return None


def compile_route(template: str) -> Route:
    """Compile a template. Raises RouteError."""
    segments = [segment for segment in template.strip("/").split("/") if segment]
    checks: dict[str, tuple[Check, ...]] = {}
    defaults: dict[str, str] = {}
    names: dict[str, str] = {}
    pattern, precedence = "", []
    for index, segment in enumerate(segments):
        text, rank, optional = _segment(segment, template, checks, defaults, names)
        slash = "/" if index else ""
        pattern += f"(?:{slash}{text})?" if optional else f"{slash}{text}"
        if rank >= 4 and index < len(segments) - 1:  # noqa: PLR2004
            raise RouteError(f'a catch-all parameter must come last in the route "{template}"')
        precedence.append(rank)
    return Route(template, tuple(precedence), re.compile(pattern + "/?", re.IGNORECASE), checks, defaults, names)


def _segment(
    segment: str,
    template: str,
    checks: dict[str, tuple[Check, ...]],
    defaults: dict[str, str],
    names: dict[str, str],
) -> tuple[str, float, bool]:
    """Return a segment's pattern, its precedence (1 literal ... 5 catch-all) and whether it may be absent."""
    found = list(_PARAMETER.finditer(segment))
    literal = _PARAMETER.sub("", segment)
    if "{" in literal or "}" in literal or "*" in literal:
        raise RouteError(f'the route "{template}" has a segment that cannot be read: {segment}')
    if not found:
        return re.escape(segment), 1, False
    pattern, end, alone = "", 0, not literal and len(found) == 1
    for match in found:
        star, name, constraints, _, default, mark = match.groups()
        if name in checks:
            raise RouteError(f'the parameter {name} occurs twice in the route "{template}"')
        checks[name] = tuple(_constraint(text, template) for text in re.findall(_CONSTRAINT, constraints))
        if default is not None:
            defaults[name] = default
        group = f"p{len(names)}"
        names[group] = name
        pattern += re.escape(segment[end : match.start()]) + f"(?P<{group}>{'.*' if star else '[^/]+'})"
        end = match.end()
    pattern += re.escape(segment[end:])
    optional = alone and bool(star or mark or default is not None)
    rank = (5 if star else 3 if alone else 2) - (0.5 if alone and checks[name] else 0)
    return pattern, rank, optional


def _constraint(text: str, template: str) -> Check:
    name, parenthesis, rest = text.partition("(")
    arguments = rest.removesuffix(")")
    try:
        if parenthesis:
            return _WITH_ARGUMENTS[name.lower()](arguments)
        return _PLAIN[name.lower()]
    except (KeyError, ValueError, re.error):
        raise RouteError(f'the constraint "{text}" of the route "{template}" is not one of ASP.NET\'s') from None


def _integer(low: int, high: int) -> Check:
    return lambda text: re.fullmatch(r"[+-]?\d{1,19}", text) is not None and low <= int(text) < high


def _real(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None


def _datetime(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


_any_int = _integer(-_INT64, _INT64)

_PLAIN: dict[str, Check] = {
    "int": _integer(-_INT32, _INT32),
    "long": _any_int,
    "bool": lambda text: text.lower() in ("true", "false"),
    "alpha": lambda text: re.fullmatch(r"[a-zA-Z]*", text) is not None,
    "guid": lambda text: re.fullmatch(r"\{?[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\}?", text) is not None,
    "decimal": _real,
    "double": _real,
    "float": _real,
    "datetime": _datetime,
    "required": bool,
}


def _length(arguments: str) -> Check:
    low, _, high = arguments.partition(",")
    least, most = int(low), int(high or low)
    return lambda text: least <= len(text) <= most


def _range(arguments: str) -> Check:
    low, high = map(int, arguments.split(","))
    return lambda text: _any_int(text) and low <= int(text) <= high


def _minimum(arguments: str) -> Check:
    low = int(arguments)
    return lambda text: _any_int(text) and low <= int(text)


def _maximum(arguments: str) -> Check:
    high = int(arguments)
    return lambda text: _any_int(text) and int(text) <= high


def _minimum_length(arguments: str) -> Check:
    least = int(arguments)
    return lambda text: len(text) >= least


def _maximum_length(arguments: str) -> Check:
    most = int(arguments)
    return lambda text: len(text) <= most


def _regex(arguments: str) -> Check:
    pattern = re.compile(arguments.replace("{{", "{").replace("}}", "}"), re.IGNORECASE)
    return lambda text: pattern.search(text) is not None


_WITH_ARGUMENTS: dict[str, Callable[[str], Check]] = {
    "length": _length,
    "minlength": _minimum_length,
    "maxlength": _maximum_length,
    "min": _minimum,
    "max": _maximum,
    "range": _range,
    "regex": _regex,
}

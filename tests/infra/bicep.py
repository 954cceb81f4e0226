"""Bicep files as trees: what they declare, name and set. Syntax by tree-sitter-bicep; meaning by the rules below."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

__all__ = ["Bicep", "Module", "Node", "Resource", "properties_of", "string_of", "text_of"]

_PARSER = Parser(Language(tree_sitter_bicep.language()))

FUNCTIONS = frozenset(
    {"empty", "environment", "filter", "first", "guid", "length", "string", "subscription", "subscriptionResourceId"}
    | {"take", "tenant", "toLower", "union", "uniqueString"}
)
"""Those of Bicep's own functions that infra/ calls."""


@dataclass(frozen=True)
class Resource:
    """A resource declaration; `body` is its object, loop and condition taken off."""

    type: str
    body: Node
    existing: bool
    condition: str | None


@dataclass(frozen=True)
class Module:
    """A module's use: the path as written and the arguments given."""

    path: str
    arguments: Mapping[str, Node]


@dataclass
class Bicep:
    """One file. Everything is found by symbol."""

    text: str
    parameters: dict[str, Node] = field(default_factory=dict)
    defaults: set[str] = field(default_factory=set)
    secure: set[str] = field(default_factory=set)
    variables: dict[str, Node] = field(default_factory=dict)
    resources: dict[str, Resource] = field(default_factory=dict)
    modules: dict[str, Module] = field(default_factory=dict)
    outputs: dict[str, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = _PARSER.parse(self.text.encode()).root_node
        decorators = ""
        for node in self.root.named_children:
            if node.type == "decorators":
                decorators = text_of(node)
                continue
            self._declare(node, decorators)
            decorators = ""

    def _declare(self, node: Node, decorators: str) -> None:
        name = text_of(node.named_children[0]) if node.named_children else ""
        if node.type == "parameter_declaration":
            self.parameters[name] = node
            if any(child.type == "=" for child in node.children):
                self.defaults.add(name)
            if "@secure()" in decorators:
                self.secure.add(name)
        elif node.type == "variable_declaration":
            self.variables[name] = node.named_children[-1]
        elif node.type == "output_declaration":
            self.outputs[name] = node.named_children[-1]
        elif node.type == "resource_declaration":
            self.resources[name] = _resource(node)
        elif node.type == "module_declaration":
            body = _object(node.named_children[-1])
            params = properties_of(body).get("params")
            arguments = properties_of(params) if params is not None else {}
            self.modules[name] = Module(string_of(node.named_children[1]) or "", arguments)

    @property
    def syntax_errors(self) -> list[str]:
        """Where the parser met what is no Bicep, as `line N: text`."""
        bad = (node for node in _walk(self.root) if node.is_error or node.is_missing)
        return [f"line {node.start_point.row + 1}: {text_of(node)[:60]!r}" for node in bad]

    @property
    def declared(self) -> set[str]:
        """Every symbol of the file."""
        return {*self.parameters, *self.variables, *self.resources, *self.modules}

    def undeclared(self) -> set[str]:
        """Names that are used and neither declared here, nor a loop's or a lambda's, nor one of FUNCTIONS."""
        return {text_of(node) for node in _references(self.root)} - self.declared - _local_names(self.root) - FUNCTIONS

    def unused(self) -> set[str]:
        """Parameters and variables that nothing uses."""
        used = {text_of(node) for node in _references(self.root)}
        return {*self.parameters, *self.variables} - used

    def value(self, symbol: str, path: str) -> Node | None:
        """The node at `a.b.c` in a resource's body; None where there is nothing."""
        found: Node | None = self.resources[symbol].body
        for name in path.split("."):
            if found is None or _object(found).type != "object":
                return None
            found = properties_of(_object(found)).get(name)
        return found

    def of_type(self, kind: str) -> dict[str, Resource]:
        """The resources of a type, whatever its API version, that this file makes."""
        return {
            symbol: resource
            for symbol, resource in self.resources.items()
            if resource.type.partition("@")[0].lower() == kind.lower() and not resource.existing
        }


def _resource(node: Node) -> Resource:
    kind = string_of(next(child for child in node.named_children if child.type == "string")) or ""
    body = node.named_children[-1]
    condition = None
    if body.type == "if_statement":
        condition = text_of(body.named_children[0])
    return Resource(kind, _object(body), any(text_of(child) == "existing" for child in node.children), condition)


def _object(node: Node) -> Node:
    while node.type in ("if_statement", "for_statement"):
        node = node.named_children[-1]
    return node


def text_of(node: Node) -> str:
    """The node as it is written."""
    return (node.text or b"").decode()


def string_of(node: Node) -> str | None:
    """What a string says; None where it is no string or holds an interpolation."""
    if node.type != "string" or any(child.type == "interpolation" for child in node.named_children):
        return None
    return text_of(node)[1:-1].replace("\\'", "'")


def properties_of(node: Node) -> dict[str, Node]:
    """An object's properties by name, whichever way the name is written."""
    pairs = [child.named_children for child in node.named_children if child.type == "object_property"]
    return {text_of(pair[0]).strip("'"): pair[-1] for pair in pairs if len(pair) > 1}


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _references(root: Node) -> Iterator[Node]:
    """Identifiers that stand where a value is wanted, and not where a name is given."""
    for node in _walk(root):
        if node.type != "identifier" or node.parent is None:
            continue
        parent = node.parent
        first = parent.named_children[0] == node
        if parent.type.endswith("_declaration") and first:
            continue
        if parent.type == "object_property" and first and len(parent.named_children) > 1:
            continue
        if any(above.type == "decorator" for above in _above(node)):
            continue
        yield node


def _above(node: Node) -> Iterator[Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def _local_names(root: Node) -> set[str]:
    loops = {text_of(node) for node in _walk(root) if node.type in ("loop_variable", "loop_enumerator")}
    loops |= {text_of(node.named_children[0]) for node in _walk(root) if node.type == "for_statement"}
    lambdas = (text_of(node) for node in _walk(root) if node.type == "lambda_expression")
    return loops | {name for text in lambdas for name in re.findall(r"\w+", text.partition("=>")[0])}

"""An expression as a tree of values, and the text of such a tree.

Made by `promql.parse.parse`. The nodes are our own because the parser's live in a foreign
library, cannot be built, and print a duration of 1500 ms as `1s`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from pilothouse.promql.duration import format_duration


@dataclass(frozen=True, slots=True, order=True)
class Matcher:
    """`op` is `=`, `!=`, `=~` or `!~`."""

    name: str
    op: str
    value: str

    def __str__(self) -> str:
        return f"{_label(self.name)}{self.op}{quote(self.value)}"

    @property
    def wants_value(self) -> bool:
        """Whether a series without the label surely does not match."""
        return (self.op == "=" and self.value != "") or (self.op == "!=" and self.value == "")


@dataclass(frozen=True, slots=True)
class Number:
    text: str


@dataclass(frozen=True, slots=True)
class String:
    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """`metric` is the exact name, "" where there is none (a regex on `__name__`, or no name at all).

    `matchers` leaves an exact name out. `range_seconds` above 0 makes it a
    range selector. `modifier` is the text of offset and `@`.
    """

    metric: str
    matchers: tuple[Matcher, ...] = ()
    range_seconds: float = 0
    modifier: str = ""

    def equal(self, label: str) -> str:
        """The value that the selector demands of a label by `=`, or ""."""
        return next((m.value for m in self.matchers if m.name == label and m.op == "="), "")


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`grouping` is `by`, `without` or "" (everything into one)."""

    op: str
    inner: Node
    parameter: Node | None = None
    grouping: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Binary:
    """`matching` is `on`, `ignoring` or ""; `card` is `group_left`, `group_right` or "".

    `modifier` is all of it as text (with `bool`).
    """

    op: str
    left: Node
    right: Node
    matching: str = ""
    labels: tuple[str, ...] = ()
    card: str = ""
    include: tuple[str, ...] = ()
    returns_bool: bool = False
    modifier: str = ""


@dataclass(frozen=True, slots=True)
class Negative:
    inner: Node


@dataclass(frozen=True, slots=True)
class Paren:
    inner: Node


@dataclass(frozen=True, slots=True)
class Subquery:
    inner: Node
    range_seconds: float
    step_seconds: float = 0
    modifier: str = ""


Node = Number | String | Selector | Call | Aggregate | Binary | Negative | Paren | Subquery


def quote(text: str) -> str:
    """A string literal in double quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def _label(name: str) -> str:
    plain = name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit()
    return name if plain else quote(name)


def render(node: Node) -> str:
    """The node as PromQL; reading it again gives an equal tree."""
    match node:
        case Number(text):
            return text
        case String(value):
            return quote(value)
        case Selector():
            return _selector(node)
        case Call(function, arguments):
            return f"{function}({', '.join(render(a) for a in arguments)})"
        case Aggregate():
            inner = render(node.inner)
            if node.parameter is not None:
                inner = f"{render(node.parameter)}, {inner}"
            grouping = f" {node.grouping} ({', '.join(map(_label, node.labels))}) " if node.grouping else ""
            return f"{node.op}{grouping}({inner})"
        case Binary():
            modifier = f" {node.modifier}" if node.modifier else ""
            return f"{render(node.left)} {node.op}{modifier} {render(node.right)}"
        case Negative(inner):
            return f"-{render(inner)}"
        case Paren(inner):
            return f"({render(inner)})"
        case Subquery():
            step = format_duration(node.step_seconds) if node.step_seconds else ""
            return f"{render(node.inner)}[{format_duration(node.range_seconds)}:{step}]" + _tail(node.modifier)


def _tail(modifier: str) -> str:
    return f" {modifier}" if modifier else ""


def _selector(node: Selector) -> str:
    plain = node.metric.replace(":", "_")
    name = node.metric if not plain or _label(plain) == plain else ""
    inside = list(map(str, node.matchers))
    if node.metric and not name:
        inside.insert(0, quote(node.metric))
    text = name + (f"{{{', '.join(inside)}}}" if inside else "")
    if node.range_seconds:
        text += f"[{format_duration(node.range_seconds)}]"
    return text + _tail(node.modifier)


def children(node: Node) -> tuple[Node, ...]:
    match node:
        case Call(_, arguments):
            return arguments
        case Aggregate(_, inner, parameter):
            return (inner,) if parameter is None else (parameter, inner)
        case Binary(_, left, right):
            return (left, right)
        case Negative(inner) | Paren(inner) | Subquery(inner):
            return (inner,)
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, from the left."""
    yield node
    for child in children(node):
        yield from walk(child)


def selectors(node: Node) -> Iterator[Selector]:
    return (found for found in walk(node) if isinstance(found, Selector))


def transform(node: Node, change: Callable[[Node], Node | None]) -> Node:
    """A tree in which every node that `change` gives another for is replaced, from the root down.

    What replaces a node is not visited again; None keeps the node and goes on below it.
    """
    changed = change(node)
    if changed is not None:
        return changed
    match node:
        case Call(_, arguments):
            return replace(node, arguments=tuple(transform(a, change) for a in arguments))
        case Aggregate(_, inner, parameter):
            return replace(
                node,
                inner=transform(inner, change),
                parameter=None if parameter is None else transform(parameter, change),
            )
        case Binary(_, left, right):
            return replace(node, left=transform(left, change), right=transform(right, change))
        case Negative(inner) | Paren(inner) | Subquery(inner):
            return replace(node, inner=transform(inner, change))
        case _:
            return node

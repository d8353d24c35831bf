"""PromQL read into a tree; a syntax error becomes a problem with a caret.

promql-parser does the reading. It accepts a little more than Prometheus (UTF-8 names, a few
functions that need a feature flag) and rejects a little of the newest language, so promtool stays the
last word on what is rendered.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from typing import Any

from pilothouse.problems import NOWHERE, Place, Problem, error, nearest
from pilothouse.promql import locate
from pilothouse.promql.duration import format_duration
from pilothouse.promql.functions import KNOWN
from pilothouse.promql.tree import (
    Aggregate,
    Binary,
    Call,
    Matcher,
    Negative,
    Node,
    Number,
    Paren,
    Selector,
    String,
    Subquery,
    render,
    transform,
)

_OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


class SyntaxFault(ValueError):
    """The text is no PromQL. `offset` counts characters from 0, `width` is what the caret underlines."""

    def __init__(self, message: str, offset: int = 0, width: int = 1, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.width = width
        self.hint = hint


@lru_cache(maxsize=16384)
def parse(expr: str) -> Node:
    """The tree of an expression. Raises `SyntaxFault`."""
    import promql_parser

    try:
        return _node(promql_parser.parse(expr))
    except ValueError as failure:
        raise _fault(expr, str(failure)) from failure


def check(expr: str, place: Place = NOWHERE, teams: tuple[str, ...] = ()) -> tuple[Node | None, tuple[Problem, ...]]:
    """The tree, or None and the problem `promql/syntax` at the fault's own place.

    `place` is that of the expression's value in its document.
    """
    try:
        return parse(expr), ()
    except SyntaxFault as fault:
        return None, (
            error(
                "promql/syntax",
                f"not valid PromQL: {fault.message}",
                locate.within(place, expr, fault.offset, fault.width),
                fault.hint or "try the expression in Prometheus, or with `promtool promql format`",
                teams=teams,
            ),
        )


def restrict(expr: str, labels: dict[str, str]) -> str:
    """The expression with `label="value"` added to each selector that says nothing about that label.

    So a team's expression can be held to its own series. Raises `SyntaxFault`.
    """

    def narrowed(node: Node) -> Node | None:
        if not isinstance(node, Selector):
            return None
        said = {m.name for m in node.matchers}
        more = tuple(Matcher(name, "=", value) for name, value in labels.items() if name not in said)
        return replace(node, matchers=(*node.matchers, *more))

    return render(transform(parse(expr), narrowed))


def _fault(expr: str, message: str) -> SyntaxFault:
    words = message.split("'")
    if message.startswith("unknown function") and len(words) > 1:
        offset = max(0, expr.find(words[1]))
        return SyntaxFault(message, offset, len(words[1]), nearest(words[1], KNOWN))
    offset, width, reason = locate.fault(expr, message)
    return SyntaxFault(f"{message}: {reason}" if reason else message, offset, width)


# ---------------------------------------------------------------- the library's nodes into ours


def _node(node: Any) -> Node:
    made: Node = _READERS[type(node).__name__](node)
    return made


def _seconds(delta: timedelta | None) -> float:
    return 0 if delta is None else delta.total_seconds()


def _modifier(node: Any) -> str:
    """The text of `@` and offset."""
    parts = [] if node.at is None else [str(node.at)]
    if node.offset is not None:
        seconds = node.offset.total_seconds()
        parts.append(f"offset {'-' if seconds < 0 else ''}{format_duration(abs(seconds))}")
    return " ".join(parts)


def _matchers(found: Any) -> tuple[Matcher, ...]:
    return tuple(Matcher(m.name, _OPERATORS[str(m.op)], m.value) for m in found)


def _selector(node: Any) -> Selector:
    if node.matchers.or_matchers:
        raise ValueError("`or` between the matchers of a selector is not PromQL")
    matchers = _matchers(node.matchers.matchers)
    name = node.name or ""
    if not name:
        named = [m for m in matchers if m.name == "__name__" and m.op == "="]
        if len(named) == 1:
            name = named[0].value
            matchers = tuple(m for m in matchers if m is not named[0])
    return Selector(name, matchers, 0, _modifier(node))


def _matrix(node: Any) -> Selector:
    return replace(_selector(node.vector_selector), range_seconds=_seconds(node.range))


def _call(node: Any) -> Call:
    return Call(node.func.name, tuple(_node(argument) for argument in node.args))


def _aggregate(node: Any) -> Aggregate:
    modifier = node.modifier
    grouping, labels = "", ()
    if modifier is not None:
        grouping = "by" if str(modifier.type) == "AggModifierType.By" else "without"
        labels = tuple(modifier.labels)
    parameter = None if node.param is None else _node(node.param)
    return Aggregate(str(node.op), _node(node.expr), parameter, grouping, labels)


def _binary(node: Any) -> Binary:
    made = Binary(str(node.op), _node(node.lhs), _node(node.rhs))
    modifier = node.modifier
    if modifier is None:
        return made
    matching, labels = "", ()
    if modifier.matching is not None:
        matching = "on" if str(modifier.matching.type) == "LabelModifierType.Include" else "ignoring"
        labels = tuple(modifier.matching.labels)
    card = {"VectorMatchCardinality.ManyToOne": "group_left", "VectorMatchCardinality.OneToMany": "group_right"}.get(
        str(modifier.card), ""
    )
    return replace(
        made,
        matching=matching,
        labels=labels,
        card=card,
        include=tuple(modifier.group_labels or ()),
        returns_bool=modifier.return_bool,
        modifier=str(modifier),
    )


def _subquery(node: Any) -> Subquery:
    return Subquery(_node(node.expr), _seconds(node.range), _seconds(node.step), _modifier(node))


_READERS: dict[str, Any] = {
    "NumberLiteral": lambda node: Number(str(node)),
    "StringLiteral": lambda node: String(node.val),
    "VectorSelector": _selector,
    "MatrixSelector": _matrix,
    "Call": _call,
    "AggregateExpr": _aggregate,
    "BinaryExpr": _binary,
    "UnaryExpr": lambda node: Negative(_node(node.expr)),
    "ParenExpr": lambda node: Paren(_node(node.expr)),
    "SubqueryExpr": _subquery,
}

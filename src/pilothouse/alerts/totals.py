"""Which alerts could fire only because a part of the series is missing.

While a leaf is away, what it scraped is missing from every sum and count over all leaves. An alert that fires when such
a total falls then says nothing true; one that fires when it rises, a ratio of two totals, or what is said
of one pod or node, still does. `needs_all_leaves` tells them apart, by following how values move.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum

from pilothouse.promql.functions import ABSENT
from pilothouse.promql.parse import parse
from pilothouse.promql.tree import Aggregate, Binary, Call, Negative, Node, Number, Paren, Selector, Subquery, walk

ONE_TARGET = frozenset(("node", "instance", "pod"))
"""What is grouped by one of these lies on one leaf: it is there as a whole or not at all."""
_WHOLE_PREFIX, _WHOLE_JOB = "kube_", "kube-state-metrics"
"""Scraped by one leaf alone, so that its totals are whole or absent (`shardBy: once`)."""
_STEADY = frozenset(("histogram_quantile", "changes", "resets", "timestamp")) | ABSENT
"""Functions whose values do not follow those of their argument."""
_TOTAL = re.compile(r"(?:^|_)(?:sum|count|rate|increase)")


class Move(IntEnum):
    """How a value changes when some series are missing."""

    LOWER = -1
    STEADY = 0
    HIGHER = 1

    @property
    def opposite(self) -> Move:
        return Move(-self)


def needs_all_leaves(expr: str) -> bool:
    """Whether a missing leaf alone could make an alert with this expression fire. Raises `SyntaxFault`."""
    return _could_fire(parse(expr))


def _could_fire(node: Node) -> bool:
    match node:
        case Paren(inner) | Negative(inner) | Subquery(inner) | Aggregate(_, inner):
            return _could_fire(inner)
        case Call(function, arguments):
            if function in ABSENT:
                return not _is_whole(arguments[0])
            return any(_could_fire(argument) for argument in arguments)
        case Binary("unless", left):
            return _could_fire(left)
        case Binary("<" | "<=" | ">" | ">=" | "==" as op, left, right) if not node.returns_bool:
            gap = _added(_move(left), _move(right).opposite)
            if op == "==":  # a total is nothing, not merely some number that it passes by
                falls = gap is not Move.STEADY and any(_is_zero(side) for side in (left, right))
            else:
                falls = gap is (Move.LOWER if op in ("<", "<=") else Move.HIGHER)
            return falls or _could_fire(left) or _could_fire(right)
        case Binary(_, left, right):
            return _could_fire(left) or _could_fire(right)
        case _:
            return False


def _move(node: Node) -> Move:
    match node:
        case Selector():
            return Move.LOWER if _is_recorded_total(node.metric) else Move.STEADY
        case Paren(inner) | Subquery(inner):
            return _move(inner)
        case Negative(inner):
            return _move(inner).opposite
        case Aggregate():
            return _aggregate(node)
        case Call(function, arguments):
            return Move.STEADY if function in _STEADY else _sum(_move(argument) for argument in arguments)
        case Binary("+" | "*" | "or", left, right):
            return _added(_move(left), _move(right))
        case Binary("-" | "/", left, right):
            return _added(_move(left), _move(right).opposite)
        case Binary("%" | "^" | "atan2"):
            return Move.STEADY
        case Binary(_, left):  # `and`, `unless` and comparisons hand on values of their left side
            return _move(left)
        case _:
            return Move.STEADY


def _aggregate(node: Aggregate) -> Move:
    inner = _move(node.inner)
    if node.op not in ("sum", "count"):
        return Move.STEADY if node.op in ("group", "count_values", "quantile", "stddev", "stdvar") else inner
    labels = frozenset(node.labels)
    one_target = not labels & ONE_TARGET if node.grouping == "without" else bool(labels & ONE_TARGET)
    if one_target or _is_whole(node.inner):
        return inner
    return Move.LOWER


def _added(left: Move, right: Move) -> Move:
    """Two totals that move apart from each other leave their difference or ratio about where it was."""
    return Move(max(-1, min(1, left + right)))


def _sum(moves: Iterable[Move]) -> Move:
    total = Move.STEADY
    for move in moves:
        total = _added(total, move)
    return total


def _is_whole(node: Node) -> bool:
    """Whether all that it reads is scraped by one leaf."""
    found = [item for item in walk(node) if isinstance(item, Selector)]
    return all(item.metric.startswith(_WHOLE_PREFIX) or item.equal("job") == _WHOLE_JOB for item in found)


def _is_recorded_total(name: str) -> bool:
    """Read from the name, which is `level:metric:operations`."""
    level, _, rest = name.partition(":")
    metric, _, operations = rest.rpartition(":")
    if not metric or metric.startswith(_WHOLE_PREFIX) or ONE_TARGET & set(level.split("_")):
        return False
    return "ratio" not in operations and bool(_TOTAL.search(operations))


def _is_zero(node: Node) -> bool:
    return isinstance(node, Number) and float(node.text) == 0

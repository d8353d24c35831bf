"""A small evaluator of PromQL at one instant, to hold a sharded result against the unsharded one.

A series is (labels with `__name__`) → value. `rate` and the like are the identity: what matters is which
series meet, not how they change. Written from the documented semantics, apart from the code it tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

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
    Subquery,
)

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]


class Unmatchable(Exception):
    """Several series where the language wants one."""


def evaluate(node: Node, series: Mapping[Labels, float]) -> Vector | float:
    match node:
        case Number(text):
            return float(text)
        case Selector():
            return {
                labels: value
                for labels, value in series.items()
                if dict(labels).get("__name__") == node.metric and all(_matches(m, dict(labels)) for m in node.matchers)
            }
        case Paren(inner) | Subquery(inner):
            return evaluate(inner, series)
        case Negative(inner):
            found = evaluate(inner, series)
            return -found if isinstance(found, float) else {_unnamed(k): -v for k, v in found.items()}
        case Call():
            return _call(node, series)
        case Aggregate():
            return _aggregate(node, series)
        case Binary():
            return _binary(node, series)
    raise NotImplementedError(node)


def _matches(matcher: Matcher, labels: Mapping[str, str]) -> bool:
    value = labels.get(matcher.name, "")
    equal = re.fullmatch(matcher.value, value) is not None if "~" in matcher.op else value == matcher.value
    return equal is not matcher.op.startswith("!")


def _unnamed(labels: Labels) -> Labels:
    return frozenset(item for item in labels if item[0] != "__name__")


def _call(node: Call, series: Mapping[Labels, float]) -> Vector | float:
    arguments = [evaluate(argument, series) for argument in node.arguments]
    first = arguments[0] if arguments else 0.0
    match node.function:
        case "time":
            return 1000.0
        case "vector":
            assert isinstance(first, float)
            return {frozenset(): first}
        case "absent":
            return {} if first else {frozenset(): 1.0}
        case "scalar":
            assert isinstance(first, dict)
            return next(iter(first.values())) if len(first) == 1 else float("nan")
        case _:
            assert isinstance(first, dict)
            return {_unnamed(labels): value for labels, value in first.items()}


_AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "count": lambda values: float(len(values)),
    "min": min,
    "max": max,
    "group": lambda values: 1.0,
    "avg": lambda values: sum(values) / len(values),
    "stdvar": lambda values: sum((v - sum(values) / len(values)) ** 2 for v in values) / len(values),
}


def _aggregate(node: Aggregate, series: Mapping[Labels, float]) -> Vector:
    inner = evaluate(node.inner, series)
    assert isinstance(inner, dict)
    groups: dict[Labels, list[tuple[Labels, float]]] = {}
    for labels, value in inner.items():
        if node.grouping == "without":
            kept = frozenset(i for i in labels if i[0] not in node.labels and i[0] != "__name__")
        else:
            kept = frozenset(item for item in labels if item[0] in node.labels)
        groups.setdefault(kept, []).append((labels, value))
    if node.op == "topk":
        assert node.parameter is not None
        most = evaluate(node.parameter, series)
        assert isinstance(most, float)
        best = (sorted(g, key=lambda item: (-item[1], sorted(item[0])))[: int(most)] for g in groups.values())
        return {labels: value for group in best for labels, value in group}
    return {labels: _AGGREGATES[node.op]([value for _, value in group]) for labels, group in groups.items()}


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if b else float("inf"),
}


def _apply(op: str, left: float, right: float) -> float | None:
    if op in _COMPARISONS:
        return left if _COMPARISONS[op](left, right) else None
    return _ARITHMETIC[op](left, right)


def _binary(node: Binary, series: Mapping[Labels, float]) -> Vector | float:
    left, right = evaluate(node.left, series), evaluate(node.right, series)
    if isinstance(left, float) and isinstance(right, float):
        return _apply(node.op, left, right) or 0.0
    if isinstance(right, float):
        assert isinstance(left, dict)
        return _filtered(node, {labels: _apply(node.op, value, right) for labels, value in left.items()})
    if isinstance(left, float):
        return _filtered(node, {labels: _apply(node.op, left, value) for labels, value in right.items()})

    def key(labels: Labels) -> Labels:
        if node.matching == "on":
            return frozenset(item for item in labels if item[0] in node.labels)
        return frozenset(i for i in labels if i[0] not in node.labels and i[0] != "__name__")

    there = {key(labels) for labels in right}
    if node.op == "and":
        return {labels: value for labels, value in left.items() if key(labels) in there}
    if node.op == "unless":
        return {labels: value for labels, value in left.items() if key(labels) not in there}
    if node.op == "or":
        held = {key(labels) for labels in left}
        return left | {labels: value for labels, value in right.items() if key(labels) not in held}
    one: dict[Labels, tuple[Labels, float]] = {}
    for labels, value in right.items():
        if key(labels) in one:
            raise Unmatchable
        one[key(labels)] = (labels, value)
    found: Vector = {}
    for labels, value in left.items():
        partner = one.get(key(labels))
        result = None if partner is None else _apply(node.op, value, partner[1])
        if partner is None or result is None:
            continue
        if node.card == "group_left":
            given = dict(labels) | {name: dict(partner[0]).get(name, "") for name in node.include}
            named = frozenset(item for item in given.items() if item[1])
            made = named if node.op in _COMPARISONS else _unnamed(named)
        else:
            made = key(labels)
        if made in found:
            raise Unmatchable
        found[made] = result
    return found


def _filtered(node: Binary, values: Mapping[Labels, float | None]) -> Vector:
    keep = node.op in _COMPARISONS
    return {labels if keep else _unnamed(labels): value for labels, value in values.items() if value is not None}

"""What an expression reads and what its results look like.

`analyse` is what alerts, dashboards and collectors ask; the placement of a rule on shards is
decided in `collectors.metrics.placement`, which knows where each metric lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from pilothouse.promql.functions import ABSENT, EXPERIMENTAL, KEEPS_SERIES, MERGED_BY, SINCE
from pilothouse.promql.parse import parse
from pilothouse.promql.tree import (
    Aggregate,
    Binary,
    Call,
    Negative,
    Node,
    Number,
    Paren,
    Selector,
    String,
    Subquery,
    walk,
)


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels that the results of an expression may carry.

    Closed (`open` false): at most `names`. Open: whatever the series carry, except `names`.
    `fixed` are labels that every result has with that very value.
    """

    open: bool = False
    names: frozenset[str] = frozenset()
    fixed: Mapping[str, str] = field(default_factory=dict)

    def may_have(self, label: str) -> bool:
        return (label in self.names) != self.open or label in self.fixed

    def only(self, kept: Iterable[str]) -> Labels:
        """After `by (kept)`."""
        kept = frozenset(kept)
        return Labels(
            names=frozenset(label for label in kept if self.may_have(label)),
            fixed={name: value for name, value in self.fixed.items() if name in kept},
        )

    def without(self, dropped: Iterable[str]) -> Labels:
        dropped = frozenset(dropped)
        fixed = {name: value for name, value in self.fixed.items() if name not in dropped}
        return Labels(self.open, self.names | dropped if self.open else self.names - dropped, fixed)

    def plus(self, added: Iterable[str]) -> Labels:
        """With labels whose values are not known."""
        added = frozenset(added)
        fixed = {name: value for name, value in self.fixed.items() if name not in added}
        return Labels(self.open, self.names - added if self.open else self.names | added, fixed)

    def union(self, other: Labels) -> Labels:
        fixed = {name: value for name, value in self.fixed.items() if other.fixed.get(name) == value}
        if self.open and other.open:
            return Labels(True, self.names & other.names, fixed)
        if self.open or other.open:
            wide, narrow = (self, other) if self.open else (other, self)
            return Labels(True, wide.names - narrow.names, fixed)
        return Labels(False, self.names | other.names, fixed)


@dataclass(frozen=True, slots=True)
class Analysis:
    """`metrics` are the exact names it reads, sorted; `unnamed` the selectors without one.

    `decomposable` says that every aggregation in it can be computed on shards and merged.
    `output` are the labels of its results (a scalar has none).
    """

    expr: str
    tree: Node
    selectors: tuple[Selector, ...]
    functions: frozenset[str]
    aggregations: tuple[Aggregate, ...]

    @property
    def output(self) -> Labels:
        return output_labels(self.tree)

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(sorted({selector.metric for selector in self.selectors if selector.metric}))

    @property
    def unnamed(self) -> tuple[Selector, ...]:
        return tuple(selector for selector in self.selectors if not selector.metric)

    @property
    def uses_absent(self) -> bool:
        return bool(self.functions & ABSENT)

    @property
    def decomposable(self) -> bool:
        return not self.uses_absent and all(a.op in MERGED_BY or a.op == "avg" for a in self.aggregations)

    @property
    def experimental(self) -> frozenset[str]:
        return self._words & EXPERIMENTAL

    def needs_version(self) -> tuple[tuple[int, int], str]:
        """The first version of Prometheus that understands it, and because of what; ((0, 0), "") for any."""
        found = max(((SINCE[word], word) for word in self._words if word in SINCE), default=((0, 0), ""))
        names = [n for s in self.selectors for n in (s.metric, *(m.name for m in s.matchers)) if n]
        strange = next((n for n in names if not _classic(n)), "")
        return max(found, ((3, 0), f"the name {strange!r}")) if strange else found

    @property
    def _words(self) -> frozenset[str]:
        return self.functions | {a.op for a in self.aggregations}


def _classic(name: str) -> bool:
    plain = name.replace(":", "_").replace("_", "a")
    return plain.isascii() and plain.isalnum() and not name[0].isdigit()


@lru_cache(maxsize=16384)
def analyse(expr: str) -> Analysis:
    """Raises `parse.SyntaxFault`; `parse.check` gives the problem with its caret instead."""
    tree = parse(expr)
    nodes = tuple(walk(tree))
    return Analysis(
        expr,
        tree,
        tuple(node for node in nodes if isinstance(node, Selector)),
        frozenset(node.function for node in nodes if isinstance(node, Call)),
        tuple(node for node in nodes if isinstance(node, Aggregate)),
    )


def is_scalar(node: Node) -> bool:
    match node:
        case Number() | String():
            return True
        case Call(function):
            return function in ("scalar", "time", "pi", "start", "end", "step", "range")
        case Binary(_, left, right):
            return is_scalar(left) and is_scalar(right)
        case Negative(inner) | Paren(inner):
            return is_scalar(inner)
        case _:
            return False


def output_labels(node: Node) -> Labels:
    """https://prometheus.io/docs/prometheus/latest/querying/operators/#vector-matching"""
    match node:
        case Selector():
            return Labels(True, fixed={m.name: m.value for m in node.matchers if m.op == "=" and m.value})
        case Negative(inner) | Paren(inner) | Subquery(inner):
            return output_labels(inner)
        case Aggregate():
            return _aggregate_labels(node)
        case Call():
            return _call_labels(node)
        case Binary():
            return _binary_labels(node)
        case _:
            return Labels()


def _aggregate_labels(node: Aggregate) -> Labels:
    inner = output_labels(node.inner)
    if node.op in KEEPS_SERIES:
        return inner
    kept = inner.without(node.labels) if node.grouping == "without" else inner.only(node.labels)
    if node.op == "count_values" and isinstance(node.parameter, String):
        return kept.plus((node.parameter.value,))
    return kept


def _call_labels(node: Call) -> Labels:
    if node.function in ABSENT:
        argument = node.arguments[0]
        found = output_labels(argument) if isinstance(argument, Selector) else Labels()
        return Labels(names=frozenset(found.fixed), fixed=found.fixed)
    vectors = [argument for argument in node.arguments if not is_scalar(argument)]
    if not vectors or node.function in ("vector", "scalar"):
        return Labels()
    labels = output_labels(vectors[0])
    if node.function in ("label_replace", "label_join") and isinstance(node.arguments[1], String):
        return labels.plus((node.arguments[1].value,))
    return labels.without(("le",)) if node.function == "histogram_quantile" else labels


def _binary_labels(node: Binary) -> Labels:
    left, right = output_labels(node.left), output_labels(node.right)
    if is_scalar(node.left):
        return right
    if is_scalar(node.right) or node.op in ("and", "unless"):
        return left
    if node.op == "or":
        return left.union(right)
    if node.card:
        many, one = (left, right) if node.card == "group_left" else (right, left)
        known = {name: one.fixed[name] for name in node.include if name in one.fixed}
        labels = many.plus(node.include)
        return replace(labels, fixed={**labels.fixed, **known})
    fixed = {**right.fixed, **left.fixed}
    if node.matching == "on":
        return replace(left, fixed=fixed).only(node.labels)
    if node.matching == "ignoring":
        return left.without(node.labels)
    return replace(left, fixed=fixed)

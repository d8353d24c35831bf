"""The verdict on every rule: on the leaves, on the global, or in parts on the leaves and merged on the global.

A rule that needs the global reads as little as it can from the leaves: each sum, count, minimum, maximum, group or
average in it that decomposes is recorded on the leaves as `leaf:partial:<op>`, and the global merges the parts. So
`histogram_quantile(0.99, sum by (le) (rate(m_bucket[5m])))` federates a few sums rather than every bucket.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pilothouse.collectors.metrics.model import SHARD_LABEL, Job, Placed, Side
from pilothouse.collectors.metrics.spread import Kind, Locator, Spread, across
from pilothouse.promql.functions import MERGED_BY
from pilothouse.promql.model import Rule
from pilothouse.promql.parse import SyntaxFault, parse
from pilothouse.promql.tree import (
    Aggregate,
    Binary,
    Matcher,
    Node,
    Paren,
    Selector,
    render,
    selectors,
    transform,
)

LEAF_PREFIX = "leaf:"
"""Names that only make sense per leaf start with it; everything else loses its shard label on the global."""
PARTIAL_LABEL = "partial"


@dataclass(frozen=True)
class Placement:
    """All rules with their verdicts, in the order given. `local` are the names that exist on the global itself."""

    placed: tuple[Placed, ...]
    locator: Locator

    def recorded_on_global(self) -> frozenset[str]:
        return frozenset(
            item.on_global.record for item in self.placed if item.on_global is not None and item.on_global.record
        )

    def recorded(self) -> frozenset[str]:
        """Every name that some rule records, on either side."""
        return frozenset(item.rule.record for item in self.placed if item.rule.record)


def place(rules: Iterable[Rule], jobs: Iterable[Job]) -> Placement:
    """Every rule with its verdict. Rules that are no PromQL are left out: whoever made them has reported them."""
    readable = [(rule, tree) for rule in rules if (tree := _tree(rule.expr)) is not None]
    names = _Names(readable)
    locator = Locator(jobs, names.spread)
    names.locator = locator
    partials = _Partials(locator)
    placed = tuple(_place(rule, tree, locator, partials) for rule, tree in readable)
    return Placement(placed, locator)


def _tree(expr: str) -> Node | None:
    try:
        return parse(expr)
    except SyntaxFault:
        return None


class _Names:
    """The spread of what rules record, found by following the rules; a name that reads itself is global."""

    def __init__(self, rules: Iterable[tuple[Rule, Node]]) -> None:
        self.rules: dict[str, list[tuple[Rule, Node]]] = {}
        for rule, tree in rules:
            if rule.record:
                self.rules.setdefault(rule.record, []).append((rule, tree))
        self.found: dict[str, Spread] = {}
        self.open: set[str] = set()
        self.locator: Locator

    def spread(self, name: str) -> Spread | None:
        if name not in self.rules:
            return None
        if name in self.open:
            return Spread(Kind.GLOBAL, reason=f"{name} is recorded from itself")
        if name not in self.found:
            self.open.add(name)
            self.found[name] = across(self._of(rule, tree) for rule, tree in self.rules[name])
            self.open.discard(name)
        return self.found[name]

    def _of(self, rule: Rule, tree: Node) -> Spread:
        spread = self.locator.spread(tree)
        if rule.side == "global" or not spread.on_leaf:
            return Spread(Kind.GLOBAL, reason=f"{rule.record} is recorded on the global")
        keys = frozenset(key for key in spread.keys if not key & set(rule.labels))
        return replace(spread, keys=keys)


def _place(rule: Rule, tree: Node, locator: Locator, partials: _Partials) -> Placed:
    spread = locator.spread(tree)
    if rule.side == "leaf":
        return Placed(rule, Side.LEAF, "the rule itself says so", (rule,))
    if rule.side != "global":
        if spread.on_leaf:
            return Placed(rule, Side.LEAF, spread.reason, (rule,))
        root = _unwrapped(tree)
        if spread.kind is Kind.PARTIAL and rule.record and isinstance(root, Aggregate):
            return _merged(rule, root, spread.reason)
    merged, parts = partials.taken_out(tree, rule)
    reason = "the rule itself says so" if rule.side == "global" else spread.reason
    on_global = rule if merged == tree else replace(rule, expr=render(merged))
    return Placed(rule, Side.GLOBAL, reason, parts, on_global)


def _unwrapped(node: Node) -> Node:
    while isinstance(node, Paren):
        node = node.inner
    return node


def _merged(rule: Rule, root: Aggregate, reason: str) -> Placed:
    name = LEAF_PREFIX + rule.record
    merge = _merge(root, Selector(name))
    return Placed(
        rule,
        Side.MERGED,
        f"{reason}: the leaves record their parts, the global merges them",
        (replace(rule, record=name, labels={}),),
        replace(rule, expr=render(merge)),
    )


def _merge(node: Aggregate, parts: Selector) -> Aggregate:
    """What makes the whole out of the leaves' parts, with the same grouping."""
    labels = node.labels
    if node.grouping == "without":
        labels = tuple(dict.fromkeys((*labels, SHARD_LABEL, PARTIAL_LABEL)))
    return Aggregate(MERGED_BY[node.op], parts, None, node.grouping, labels)


class _Partials:
    """Parts that the leaves record for rules of the global; equal parts are recorded once."""

    def __init__(self, locator: Locator) -> None:
        self.locator = locator
        self.known: set[str] = set()

    def taken_out(self, tree: Node, rule: Rule) -> tuple[Node, tuple[Rule, ...]]:
        """The tree that reads parts instead, and the rules that are new on the leaves."""
        made: list[Rule] = []

        def change(node: Node) -> Node | None:
            if not isinstance(node, Aggregate) or node.parameter is not None:
                return None
            if not self.locator.spread(node.inner).on_leaf:
                return None
            if node.op in MERGED_BY:
                return self._part(node, rule, made)
            if node.op == "avg":  # an average of averages would be wrong
                total, count = (self._part(replace(node, op=op), rule, made) for op in ("sum", "count"))
                return Paren(Binary("/", total, count))
            return None

        return transform(tree, change), tuple(made)

    def _part(self, node: Aggregate, rule: Rule, made: list[Rule]) -> Aggregate:
        text = render(node)
        first = next((selector.metric for selector in selectors(node) if selector.metric), "")
        number = hashlib.sha256(text.encode()).hexdigest()[:8]
        identity = f"{first}-{number}"
        record = f"{LEAF_PREFIX}{PARTIAL_LABEL}:{node.op}"
        if identity not in self.known:
            self.known.add(identity)
            made.append(
                Rule(
                    rule.group,
                    text,
                    record=record,
                    labels={PARTIAL_LABEL: identity},
                    owner=rule.owner,
                    service=rule.service,
                    side="leaf",
                    place=rule.place,
                )
            )
        return _merge(node, Selector(record, (Matcher(PARTIAL_LABEL, "=", identity),)))


def by_side(placed: Iterable[Placed]) -> tuple[Mapping[str, list[Rule]], Mapping[str, list[Rule]]]:
    """Rules by group: those of the leaves, and those of the global."""
    leaf: dict[str, list[Rule]] = {}
    top: dict[str, list[Rule]] = {}
    for item in placed:
        for rule in item.on_leaves:
            leaf.setdefault(rule.group, []).append(rule)
        if item.on_global is not None:
            top.setdefault(item.on_global.group, []).append(item.on_global)
    return leaf, top

"""How the results of an expression lie over the leaves.

Every target lies on one leaf, and targets of one node lie together. So a result that comes from series of
one node, one pod or one target can be computed on that leaf; a sum over many leaves can be computed in
parts; a quantile over many leaves cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pilothouse.collectors.metrics.model import FEDERATE, Job, ShardBy
from pilothouse.promql.analysis import is_scalar, output_labels
from pilothouse.promql.functions import ABSENT, MERGED_BY
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
)

Key = frozenset[str]
NODE: Key = frozenset(("node",))
INSTANCE: Key = frozenset(("instance",))
POD: Key = frozenset(("namespace", "pod"))
_KEY_NAMES = {NODE: "node", INSTANCE: "target", POD: "pod"}

_PER_TARGET = """up scrape_duration_seconds scrape_samples_scraped scrape_samples_post_metric_relabeling
scrape_series_added scrape_timeout_seconds scrape_sample_limit scrape_body_size_bytes"""
PER_TARGET = frozenset(_PER_TARGET.split())
"""Made by Prometheus for each target: https://prometheus.io/docs/concepts/jobs_instances/"""
ALERTS = ("ALERTS", "ALERTS_FOR_STATE")


class Kind(StrEnum):
    CONSTANT = "constant"
    SPLIT = "split"
    """Each result comes from one leaf: that of its key."""
    ONE = "one"
    """All of it lies on leaf 0."""
    PARTIAL = "partial"
    """Each leaf can compute its part, and `op` merges the parts."""
    GLOBAL = "global"


@dataclass(frozen=True, slots=True)
class Spread:
    """`keys` are the sets of labels that name the leaf of a result (for SPLIT); `reason` says why, in words."""

    kind: Kind
    keys: frozenset[Key] = frozenset()
    op: str = ""
    reason: str = ""

    @property
    def on_leaf(self) -> bool:
        return self.kind in (Kind.SPLIT, Kind.ONE)


CONSTANT = Spread(Kind.CONSTANT, reason="it reads no series, and one place is enough")


def _global(reason: str) -> Spread:
    return Spread(Kind.GLOBAL, reason=reason)


def split(keys: Iterable[Key]) -> Spread:
    found = frozenset(keys)
    names = [name for key, name in _KEY_NAMES.items() if key in found]
    return Spread(
        Kind.SPLIT, found, reason=f"each result comes from series of one {' or '.join(names)}, which lie on one leaf"
    )


def scraped_by_global(selector: Selector) -> bool:
    """Whether it selects what the global makes for its own targets, the leaves."""
    return any(m.name == "job" and m.op in ("=", "=~") and m.value.startswith(FEDERATE) for m in selector.matchers)


class Locator:
    """Where the series of a selector lie.

    `recorded` answers for names that rules record: their spread, or None where no rule does.
    """

    def __init__(self, jobs: Iterable[Job], recorded: Callable[[str], Spread | None]) -> None:
        self.jobs: Mapping[str, Job] = {job.name: job for job in jobs}
        self.recorded = recorded
        self.prefixes = sorted(
            ((prefix, job) for job in self.jobs.values() for prefix in job.metrics), key=lambda item: -len(item[0])
        )

    def job_of(self, metric: str) -> Job | None:
        """The cluster's own job that yields a metric of that name, None for the pods of declared services."""
        return next((job for prefix, job in self.prefixes if metric.startswith(prefix)), None)

    def locate(self, selector: Selector) -> Spread:
        if not selector.metric:
            return _global("it names no metric, so where its series lie is not known")
        if selector.metric in ALERTS:
            return _global("alerts are evaluated on the leaves and on the global")
        known = self.recorded(selector.metric)
        if known is not None:
            return known
        if scraped_by_global(selector):
            return _global("only the global scrapes the leaves")
        named = selector.equal("job")
        if named in self.jobs:
            return _of_job(self.jobs[named])
        if "/" in named or any(m.name == "service" and m.wants_value for m in selector.matchers):
            return split((NODE, INSTANCE, POD))
        if selector.metric in PER_TARGET:
            return split((INSTANCE,))
        job = self.job_of(selector.metric)
        return split((NODE, INSTANCE, POD)) if job is None else _of_job(job)

    # ------------------------------------------------------------ expressions

    def spread(self, node: Node) -> Spread:
        """The spread of an expression's results."""
        match node:
            case Number() | String():
                return CONSTANT
            case Selector():
                return self.locate(node)
            case Paren(inner):
                return self.spread(inner)
            case Negative(inner) | Subquery(inner):
                return _pointwise(self.spread(inner))
            case Call():
                return self._call(node)
            case Aggregate():
                return self._aggregate(node)
            case Binary():
                return self._binary(node)

    def _call(self, node: Call) -> Spread:
        if node.function in ABSENT:
            return _global(f"{node.function}() is true on every leaf that never had the series")
        if node.function == "info":
            return _global("info() joins with series of any leaf")
        spreads = [_pointwise(self.spread(argument)) for argument in node.arguments]
        read = [spread for spread in spreads if spread.kind is not Kind.CONSTANT]
        if not read:
            return CONSTANT
        unsafe = next((spread for spread in read if spread.kind is Kind.GLOBAL), None)
        if unsafe:
            return unsafe
        if node.function == "scalar":
            return _global("scalar() needs the one series of all leaves")
        if len(read) > 1:
            return _global(f"{node.function}() reads several vectors")
        return self._kept(read[0], node)

    def _kept(self, spread: Spread, node: Node) -> Spread:
        """The spread once the labels that `node` takes away, or writes anew, no longer name a leaf."""
        if spread.kind is not Kind.SPLIT:
            return spread
        written = (
            {argument.value for argument in node.arguments[1:2] if isinstance(argument, String)}
            if isinstance(node, Call) and node.function in ("label_replace", "label_join")
            else set()
        )
        labels = output_labels(node)
        return split(key for key in spread.keys if not key & written and all(labels.may_have(label) for label in key))

    def _aggregate(self, node: Aggregate) -> Spread:
        inner = self.spread(node.inner)
        if node.parameter is not None and self.spread(node.parameter).kind is not Kind.CONSTANT:
            return _global(f"the parameter of {node.op} is read from series")
        if inner.kind is Kind.CONSTANT or inner.kind is Kind.ONE:
            return inner
        if inner.kind is Kind.PARTIAL:
            return _global(f"{node.op} is taken over totals of all leaves")
        if inner.kind is Kind.GLOBAL:
            return inner
        keys = [key for key in inner.keys if _grouped(node, key)]
        if keys:
            return split(keys)
        if node.op in MERGED_BY:
            return Spread(Kind.PARTIAL, op=node.op, reason=f"{node.op} is taken over series of several leaves")
        if node.op == "avg":
            return _global("an average over several leaves is made of their sums and counts")
        return _global(f"{node.op} over series of several leaves is not made of its parts")

    def _binary(self, node: Binary) -> Spread:
        left, right = self.spread(node.left), self.spread(node.right)
        for side in (left, right):
            if side.kind is Kind.GLOBAL:
                return side
        for side in (left, right):
            if side.kind is Kind.PARTIAL:
                return _global(f"it reckons with a total ({side.reason})")
        constant = [side.kind is Kind.CONSTANT for side in (left, right)]
        if all(constant):
            return CONSTANT
        if any(constant):
            return self._with_constant(node, left, right)
        if left.kind is Kind.ONE and right.kind is Kind.ONE:
            return left
        if left.kind is not right.kind:
            return _global("it joins series that one leaf alone scrapes with series of all leaves")
        common = [key for key in left.keys & right.keys if _matched(node, key)]
        if not common:
            return _global("it joins series that may lie on different leaves")
        return self._kept(split(common), node)

    def _with_constant(self, node: Binary, left: Spread, right: Spread) -> Spread:
        read = right if left.kind is Kind.CONSTANT else left
        scalar = is_scalar(node.left) or is_scalar(node.right)
        if not scalar and (node.op == "or" or (node.op in ("and", "unless") and read is right)):
            return _global("its constant side would answer on every leaf that lacks the other")
        return self._kept(read, node)


def _matched(node: Binary, key: Key) -> bool:
    """Whether two series that match have the same value of every label of the key."""
    if node.matching == "on":
        return key <= frozenset(node.labels)
    return not key & frozenset(node.labels)


def _grouped(node: Aggregate, key: Key) -> bool:
    """Whether all series of a group have the same value of every label of the key."""
    if node.op == "count_values" and isinstance(node.parameter, String) and node.parameter.value in key:
        return False
    if node.grouping == "without":
        return not key & frozenset(node.labels)
    return key <= frozenset(node.labels)


def _pointwise(spread: Spread) -> Spread:
    """After a function that is applied to each total, which its parts are no longer made of."""
    return _global(f"it reckons with a total ({spread.reason})") if spread.kind is Kind.PARTIAL else spread


def _of_job(job: Job) -> Spread:
    match job.shard_by:
        case ShardBy.ONCE:
            return Spread(Kind.ONE, reason=f"it reads only what one leaf scrapes ({job.name})")
        case ShardBy.ADDRESS:
            return split((INSTANCE,))
        case ShardBy.NODE:
            return split((NODE, INSTANCE, POD) if job.pod_series or job.pod_labels else (NODE, INSTANCE))


def across(spreads: Iterable[Spread]) -> Spread:
    """The spread of a name that several rules record."""
    found = list(spreads)
    first = found[0]
    if all(spread.kind is Kind.ONE for spread in found):
        return first
    if all(spread.kind is Kind.SPLIT for spread in found):
        return split(frozenset.intersection(*(spread.keys for spread in found)))
    return next((s for s in found if s.kind is Kind.GLOBAL), _global("several rules record it in different places"))

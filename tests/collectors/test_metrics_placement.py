"""Where rules run: verdicts, and the sharded result held against the unsharded one."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.builders import bundle_content
from support.promql_evaluator import Labels, Unmatchable, Vector, evaluate

from pilothouse.collectors.metrics import content
from pilothouse.collectors.metrics.model import SHARD_LABEL, Job, Placed, ShardBy, Side
from pilothouse.collectors.metrics.placement import LEAF_PREFIX, place
from pilothouse.collectors.metrics.shards import leaf_of
from pilothouse.promql import Rule, parse

JOBS = (
    Job("cadvisor", "node", metrics=("container_",), pod_series=True),
    Job("node-exporter", "pod", metrics=("node_",)),
    Job("kube-state-metrics", "pod", metrics=("kube_",), shard_by=ShardBy.ONCE, honor_labels=True),
    Job("kube-apiserver", "endpointslice", metrics=("apiserver_",), shard_by=ShardBy.ADDRESS),
)


def one(expr: str, *, record: str = "", side: str = "", more: Iterable[Rule] = ()) -> Placed:
    rule = Rule("g", expr, record=record, alert="" if record else "A", side=side)
    return place([rule, *more], JOBS).placed[0]


@pytest.mark.parametrize(
    ("expr", "side"),
    [
        ("foo > 3", Side.LEAF),
        ("up == 0", Side.LEAF),
        ("rate(foo[5m]) / bar", Side.LEAF),
        ("foo / on (service) bar", Side.GLOBAL),
        ("foo / ignoring (pod, node, instance) bar", Side.GLOBAL),
        ("foo / ignoring (path) bar", Side.LEAF),
        ("sum by (namespace, pod) (foo) > 3", Side.LEAF),
        ("sum by (pod) (foo) > 3", Side.GLOBAL),  # pods of two namespaces may share a name
        ("sum without (path) (foo) > 3", Side.LEAF),
        ("sum by (node) (node_x) > on (node) count by (node) (container_x)", Side.LEAF),
        ("sum by (namespace, pod) (node_x) > 3", Side.GLOBAL),  # node-exporter knows no pods
        ("apiserver_x > 3", Side.LEAF),
        ("sum by (node) (apiserver_x) > 3", Side.GLOBAL),
        ("sum(kube_x) < 3", Side.LEAF),
        ("topk(3, kube_x)", Side.LEAF),
        ("kube_x == on (namespace, pod) kube_y", Side.LEAF),
        ("container_x / on (namespace, pod) kube_x", Side.GLOBAL),
        ("sum(foo) > 3", Side.GLOBAL),
        ("avg(foo) > 3", Side.GLOBAL),
        ("topk(3, foo)", Side.GLOBAL),
        ("quantile by (node) (0.9, foo)", Side.LEAF),
        ("topk(scalar(foo), bar)", Side.GLOBAL),
        ("absent(foo)", Side.GLOBAL),
        ("absent(kube_x)", Side.GLOBAL),
        ("scalar(foo) + bar", Side.GLOBAL),
        ("-sum(foo) < 3", Side.GLOBAL),
        ("sum(sum by (node) (foo)) > 3", Side.GLOBAL),
        ("max(sum(foo))", Side.GLOBAL),
        ("vector(1)", Side.GLOBAL),
        ("1 + 2 > bool 3", Side.GLOBAL),
        ("foo or vector(0)", Side.GLOBAL),
        ("vector(1) unless foo", Side.GLOBAL),
        ("foo and on () vector(1)", Side.LEAF),
        ("foo * on () group_left vector(2)", Side.LEAF),
        ("foo or bar", Side.LEAF),
        ("foo or on (service) bar", Side.GLOBAL),
        ('label_replace(foo, "pod", "x", "y", "")', Side.LEAF),
        ('sum by (namespace, pod) (label_replace(foo, "pod", "x", "y", "")) > 3', Side.GLOBAL),
        ("max_over_time(sum(foo)[5m:1m]) > 3", Side.GLOBAL),
        ("info(foo)", Side.GLOBAL),
        ("label_replace(foo, 'a', '$1', 'b', '') > time()", Side.LEAF),
        ('{__name__=~"foo.*"} > 3', Side.GLOBAL),
        ("ALERTS > 0", Side.GLOBAL),
        ('up{job="federate"} == 0', Side.GLOBAL),
        ('up{job=~"federate.*"} == 0', Side.GLOBAL),
        ('sum by (node) (up{job="node-exporter"}) == 0', Side.LEAF),
        ("sum by (node) (up) == 0", Side.GLOBAL),
        ('sum(up{job="kube-state-metrics"}) == 0', Side.LEAF),
        ('sum by (namespace, pod) (up{job="payments/api"}) == 0', Side.LEAF),
        ('sum by (namespace, pod) (up{service!=""}) == 0', Side.LEAF),
        ("histogram_quantile(0.9, sum by (namespace, pod, le) (foo_bucket)) > 3", Side.LEAF),
        ("clamp(foo, scalar(kube_x), 3)", Side.GLOBAL),
    ],
)
def test_verdicts(expr: str, side: Side) -> None:
    placed = one(expr)
    assert placed.side is side
    assert placed.reason
    assert (placed.on_global is None) is (side is Side.LEAF)


def test_every_standard_rule_has_a_verdict_with_a_reason() -> None:
    settings_, problems = content.read(bundle_content())
    placed = place(settings_.rules, settings_.jobs).placed
    assert problems == ()
    assert len(placed) == len(settings_.rules) > 30
    assert all(item.reason for item in placed)


def test_a_recorded_total_is_recorded_in_parts_and_merged() -> None:
    rule = Rule("g", "sum by (job) (foo)", record="job:foo:sum", labels={"a": "b"})
    (placed,) = place([rule], JOBS).placed
    assert placed.side is Side.MERGED
    (leaf,) = placed.on_leaves
    assert (leaf.record, leaf.expr, leaf.labels) == ("leaf:job:foo:sum", "sum by (job) (foo)", {})
    assert placed.on_global is not None
    assert placed.on_global.expr == "sum by (job) (leaf:job:foo:sum)"
    assert placed.on_global.labels == {"a": "b"}


def test_counts_are_merged_by_sum_and_without_also_drops_the_shard() -> None:
    placed = one("(count without (pod, node, instance) (foo))", record="a:foo:count")
    assert placed.on_global is not None
    assert placed.on_global.expr == (f"sum without (pod, node, instance, {SHARD_LABEL}, partial) (leaf:a:foo:count)")


def test_parts_of_a_global_rule_are_prepared_on_the_leaves() -> None:
    placed = one('histogram_quantile(0.99, sum by (le) (rate(foo_bucket{a="b"}[5m]))) > 0.25')
    (part,) = placed.on_leaves
    assert part.record == "leaf:partial:sum"
    assert part.labels["partial"].startswith("foo_bucket-")
    assert part.expr == 'sum by (le) (rate(foo_bucket{a="b"}[5m]))'
    assert placed.on_global is not None
    assert placed.on_global.expr == (
        f'histogram_quantile(0.99, sum by (le) (leaf:partial:sum{{partial="{part.labels["partial"]}"}})) > 0.25'
    )


def test_an_average_is_made_of_sum_and_count() -> None:
    placed = one("avg(foo) > 2")
    assert [rule.record for rule in placed.on_leaves] == ["leaf:partial:sum", "leaf:partial:count"]
    assert placed.on_global is not None
    assert placed.on_global.expr.startswith("(sum(leaf:partial:sum{")


def test_equal_parts_are_recorded_once() -> None:
    rules = [Rule("a", "sum(foo) > 1", alert="A"), Rule("b", "sum(foo) > 2", alert="B")]
    placed = place(rules, JOBS).placed
    assert [len(item.on_leaves) for item in placed] == [1, 0]
    assert placed[1].on_global is not None
    assert "leaf:partial:sum" in placed[1].on_global.expr


def test_a_rule_may_be_held_to_a_side() -> None:
    assert one("sum(foo) > 1", side="leaf").side is Side.LEAF
    held = one("foo > 1", side="global")
    assert (held.side, held.on_leaves) == (Side.GLOBAL, ())
    assert held.on_global is not None
    assert held.on_global.expr == "foo > 1"


def test_recorded_names_lie_where_their_rules_run() -> None:
    leaf = Rule("g", "sum by (namespace, pod) (foo)", record="pod:foo:sum")
    merged = Rule("g", "sum by (service) (pod:foo:sum)", record="service:foo:sum")
    assert one("pod:foo:sum > 3", more=[leaf]).side is Side.LEAF
    assert one("sum by (node) (pod:foo:sum) > 3", more=[leaf]).side is Side.GLOBAL
    assert one("service:foo:sum > 3", more=[leaf, merged]).side is Side.GLOBAL
    overwritten = Rule("g", "sum by (namespace, pod) (foo)", record="pod:foo:sum", labels={"pod": "x"})
    assert one("sum by (namespace, pod) (pod:foo:sum) > 3", more=[overwritten]).side is Side.GLOBAL


def test_a_name_that_several_rules_record() -> None:
    a = Rule("g", "sum by (namespace, pod) (foo)", record="x")
    b = Rule("g", "sum by (node) (foo)", record="x")
    kube, other = Rule("g", "sum(kube_x)", record="x"), Rule("g", "sum(kube_y)", record="x")
    assert one("sum by (namespace, pod) (x) > 3", more=[a, a]).side is Side.LEAF
    assert one("sum by (namespace, pod) (x) > 3", more=[a, b]).side is Side.GLOBAL
    assert one("sum(x) > 3", more=[kube, other]).side is Side.LEAF
    assert one("x > 3", more=[a, kube]).side is Side.GLOBAL
    assert one("x > 3", more=[a, Rule("g", "sum(foo)", record="x")]).side is Side.GLOBAL


def test_a_name_recorded_from_itself_is_global() -> None:
    assert one("x > 3", more=[Rule("g", "x + foo", record="x")]).side is Side.GLOBAL


def test_what_is_no_promql_is_left_out() -> None:
    assert place([Rule("g", "sum(", alert="A")], JOBS).placed == ()


# ---------------------------------------------------------------- sharded equals unsharded

SHARDS = 3


def _series() -> dict[Labels, float]:
    """Pods of three services in two namespaces on five nodes, with a namesake pod in both namespaces."""
    made: dict[Labels, float] = {}

    def add(value: float, **labels: str) -> None:
        made[frozenset(labels.items())] = value

    pods = [
        (namespace, f"{service}-{number}", service, f"node-{(index * 7 + number * 3) % 5}")
        for index, (namespace, service) in enumerate([("a", "api"), ("a", "web"), ("b", "api")])
        for number in range(3)
    ]
    for number, (namespace, pod, service, node) in enumerate(pods):
        target = {
            "namespace": namespace,
            "pod": pod,
            "node": node,
            "service": service,
            "instance": f"{pod}.{namespace}",
        }
        for path in ("x", "y"):
            add(number * 3.0 + len(path), __name__="foo", path=path, **target)
        if number != 4:
            add(number + 1.0, __name__="bar", **target)
        host = {"namespace": namespace, "pod": pod, "node": node, "instance": f"{node}:1"}
        add(number * 2.0, __name__="container_x", **host)
        add(number % 3 + 1.0, __name__="kube_x", namespace=namespace, pod=pod)
    for number in range(5):
        add(number + 10.0, __name__="node_x", node=f"node-{number}", instance=f"node-{number}:2")
    return made


SERIES = _series()


def _leaf(labels: Labels) -> int:
    named = dict(labels)
    return 0 if named["__name__"].startswith("kube_") else leaf_of(named["node"], SHARDS)


def _recorded(rule: Rule, found: Vector | float) -> Vector:
    assert isinstance(found, dict)
    given_ = {"__name__": rule.record, **rule.labels}
    return {
        frozenset({**{k: v for k, v in labels if k != "__name__"}, **given_}.items()): value
        for labels, value in found.items()
    }


def sharded(placed: Placed) -> Vector:
    """What the leaves and the global answer together, through the federation."""
    federated: dict[Labels, float] = {}
    own: Vector = {}
    for leaf in range(SHARDS):
        held = {labels: value for labels, value in SERIES.items() if _leaf(labels) == leaf}
        for rule in placed.on_leaves:
            found = evaluate(parse(rule.expr), held)
            if placed.side is Side.LEAF:
                assert isinstance(found, dict)
                assert not set(found) & set(own), "two leaves answer with the same series"
                own |= found
            else:
                held |= _recorded(rule, found)
        for labels, value in held.items():
            kept = dict(labels)
            if kept["__name__"].startswith(LEAF_PREFIX):
                kept[SHARD_LABEL] = str(leaf)
            assert frozenset(kept.items()) not in federated
            federated[frozenset(kept.items())] = value
    if placed.on_global is None:
        return own
    answer = evaluate(parse(placed.on_global.expr), federated)
    assert isinstance(answer, dict)
    return answer


LABELS = st.lists(st.sampled_from(["namespace", "pod", "node", "service", "instance", "path"]), max_size=3, unique=True)
METRIC = st.sampled_from(["foo", "bar", "container_x", "node_x", "kube_x", 'foo{path="x"}', 'bar{service="api"}'])


def _grouping(draw: st.DrawFn) -> str:
    return (
        draw(st.sampled_from(["", "by", "without"]))
        and f"{draw(st.sampled_from(['by', 'without']))} ({', '.join(draw(LABELS))})"
    )


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> str:
    kind = draw(st.integers(0, 6 if depth else 0))
    inner = expressions(depth=max(depth - 1, 0))
    if kind <= 1:
        return draw(METRIC)
    if kind <= 3:
        op = draw(st.sampled_from(["sum", "count", "min", "max", "avg", "group", "stdvar", "topk"]))
        body = f"{'2, ' if op == 'topk' else ''}{draw(inner)}"
        return f"{op} {_grouping(draw)} ({body})"
    if kind == 4:
        op = draw(st.sampled_from(["+", "*", ">", "<", "and", "or", "unless"]))
        matching = draw(st.sampled_from(["", "on", "ignoring"]))
        how = f"{matching} ({', '.join(draw(LABELS))})" if matching else ""
        card = " group_left ()" if how and op in "+*<>" and draw(st.booleans()) else ""
        return f"({draw(inner)} {op} {how}{card} {draw(inner)})"
    if kind == 5:
        return f"({draw(inner)} {draw(st.sampled_from(['+', '>', '<', '*']))} {draw(st.integers(0, 9))})"
    return draw(
        st.sampled_from(["absent({})", "abs({})", "-({})", "({} or vector(0))", "max_over_time(({})[5m:1m])"])
    ).format(draw(inner))


def _rounded(vector: Vector | float) -> dict[Labels, float]:
    assert isinstance(vector, dict)
    return {
        frozenset(item for item in labels if item[0] != "__name__"): round(value, 6) for labels, value in vector.items()
    }


@settings(max_examples=400, deadline=None)
@given(expressions(), st.booleans())
def test_the_sharded_result_equals_the_unsharded_one(expr: str, recorded: bool) -> None:
    rule = Rule("g", expr, record="x:y:z" if recorded else "", alert="" if recorded else "A")
    try:
        expected = evaluate(parse(expr), SERIES)
    except Unmatchable:
        assume(False)
    placed = place([rule], JOBS).placed[0]
    assert _rounded(sharded(placed)) == _rounded(expected)

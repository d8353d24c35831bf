"""What an expression reads and what its results look like."""

from __future__ import annotations

import pytest

from pilothouse.promql import Labels, analyse


def test_metrics_functions_and_aggregations_are_named() -> None:
    found = analyse('histogram_quantile(0.9, sum by (le) (rate(a[5m]))) > on () b{c="d"} or {e="f"}')
    assert found.metrics == ("a", "b")
    assert found.functions == {"histogram_quantile", "rate"}
    assert [a.op for a in found.aggregations] == ["sum"]
    assert len(found.unnamed) == 1
    assert found.decomposable
    assert not found.uses_absent


@pytest.mark.parametrize(
    ("expr", "expected"), [("topk(3, a)", False), ("absent(a)", False), ("avg(a)", True), ("max(min by (x) (a))", True)]
)
def test_what_can_be_computed_in_parts(expr: str, expected: bool) -> None:
    assert analyse(expr).decomposable is expected


@pytest.mark.parametrize(
    ("expr", "has", "lacks", "fixed"),
    [
        ('up{job="a"}', "job instance", "", {"job": "a"}),
        ("sum(up)", "", "job", {}),
        ('sum by (job, team) (up{job="a", x="y"})', "job team", "x instance", {"job": "a"}),
        ('sum without (pod) (up{job="a", pod="b"})', "job node", "pod", {"job": "a"}),
        ("sum without (a) (sum by (a, b) (up))", "b", "a c", {}),
        ("topk(3, up)", "job", "", {}),
        ('count_values("version", sum by (job) (up))', "version", "job", {}),
        ('absent(up{job="a", x=~"y"})', "job", "x", {"job": "a"}),
        ("absent(sum(up))", "", "job", {}),
        ("vector(1)", "", "job", {}),
        ("time()", "", "job", {}),
        ("-(up)", "job", "", {}),
        ("max_over_time(up[5m:1m])", "job", "", {}),
        ('label_replace(sum by (a) (up), "b", "$1", "a", "(.*)")', "a b", "c", {}),
        ("histogram_quantile(0.9, sum by (le, a) (up))", "a", "le", {}),
        ('up{job="a"} > 3', "job", "", {"job": "a"}),
        ('3 < up{job="a"}', "job", "", {"job": "a"}),
        ("sum by (a) (up) and sum by (b) (up)", "a", "b", {}),
        ('up{x="y"} or sum by (b) (up{x="y"})', "a b", "", {}),
        ("sum by (a) (up) or sum by (b) (up)", "a b", "c", {}),
        ("sum without (a) (up) or sum without (a, b) (up)", "b", "a", {}),
        ('a{x="1"} * on (pod) b{y="2"}', "pod", "node x", {}),
        ('a{x="1"} * ignoring (pod) b', "x", "pod", {"x": "1"}),
        ('a{x="1"} / b{y="2"}', "x", "", {"x": "1", "y": "2"}),
        (
            'sum by (pod) (a) * on (pod) group_left (team) b{team="t", q="r"}',
            "pod team",
            "q",
            {"team": "t"},
        ),
        ('b{team="t"} * on (pod) group_right (team) sum by (pod) (a)', "pod team", "q", {"team": "t"}),
        ("1 + 2", "", "job", {}),
    ],
)
def test_labels_of_the_results(expr: str, has: str, lacks: str, fixed: dict[str, str]) -> None:
    labels = analyse(expr).output
    assert all(labels.may_have(label) for label in has.split())
    assert not any(labels.may_have(label) for label in lacks.split())
    assert labels.fixed == fixed


def test_union_of_open_and_closed_labels() -> None:
    open_, closed = Labels(True, frozenset("ab")), Labels(False, frozenset("bc"))
    for union in (open_.union(closed), closed.union(open_)):
        assert union.may_have("b")
        assert union.may_have("z")
        assert not union.may_have("a")


@pytest.mark.parametrize(
    ("expr", "first", "what"),
    [
        ("up", (0, 0), ""),
        ("limitk(3, up)", (2, 54), "limitk"),
        ("double_exponential_smoothing(a[5m], 0.1, 0.1)", (3, 0), "double_exponential_smoothing"),
        ('{"a.b"}', (3, 0), "the name 'a.b'"),
        ('up{"a.b"="c"}', (3, 0), "the name 'a.b'"),
    ],
)
def test_the_version_that_is_needed(expr: str, first: tuple[int, int], what: str) -> None:
    assert analyse(expr).needs_version() == (first, what)


def test_experimental_words_are_named() -> None:
    assert analyse("limitk(3, sort_by_label(up, 'job'))").experimental == {"limitk", "sort_by_label"}
    assert not analyse("sum(up)").experimental

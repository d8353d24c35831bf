"""Expressions read into a tree, written again, and reported where they are wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pilothouse.problems import Place
from pilothouse.promql import SyntaxFault, check, parse, restrict
from pilothouse.promql.tree import Matcher, Node, Selector, String, render, selectors, transform, walk
from pilothouse.source import Source, load

EXPRESSIONS = [
    "up",
    'up{job="a", instance!~"b|c"}',
    "rate(x[1500ms])",
    "foo offset -5m",
    "foo @ 1609746000",
    'foo{a="b"}[5m] @ start() offset 1h30m',
    "max_over_time(a[5m:1m] @ end() offset 3m)",
    "max_over_time(a[5m:])",
    "a / ignoring (x) group_left b",
    "a * on (x, y) group_right (z) b",
    "a == bool on (x) b",
    "sum without () (x)",
    "sum by (job) (rate(x[5m])) / on (job) group_left (q) b > bool 3",
    "topk(5, x)",
    'count_values("v", x)',
    'label_replace(x, "a\\"b", "$1", "c", "(.*)\\n\\t\\\\d")',
    "1e10 + Inf - NaN + 0x1F",
    "-x ^ 2",
    "-(x or y) unless on () z",
    '{"a.b", "c.d"="é"}',
    '{__name__=~"a|b"}',
    "a:b:c",
    "time() - vector(3)",
]


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_what_is_written_reads_as_the_same_tree(expr: str) -> None:
    tree = parse(expr)
    assert parse(render(tree)) == tree
    assert render(parse(render(tree))) == render(tree)


def test_an_exact_name_is_found_wherever_it_stands() -> None:
    assert parse('{__name__="foo", a="b"}') == Selector("foo", (Matcher("a", "=", "b"),))
    assert parse('{"foo", a="b"}') == Selector("foo", (Matcher("a", "=", "b"),))
    assert parse('{__name__=~"foo"}') == Selector("", (Matcher("__name__", "=~", "foo"),))


def test_selectors_are_found_below_everything() -> None:
    tree = parse('topk(scalar(k), -rate(a[5m])) + max_over_time((d)[5m:1m]) + label_replace(b, "x", "", "y", "") * (c)')
    assert [found.metric for found in selectors(tree)] == ["k", "a", "d", "b", "c"]
    assert len(list(walk(tree))) > 8


FAULTS = [
    ("sum(", 3, "never closed"),
    ("a b", 2, "operator is missing"),
    ("sum(rate(x[5m])) by", 17, "operand is missing"),
    ("1 +", 2, "operand is missing"),
    ("* 3", 0, "no operand before"),
    ("a and and b", 6, "no operand before"),
    ("histogram_quantil(0.9, x)", 0, "unknown function"),
    ("rate(x)", 0, "expected type matrix"),
    ("a\n  + +\n b )", 11, "closes nothing"),
    ('foo{a="b}', 6, "not closed"),
    ("x[5x]", 2, "bad number"),
    ('x{a=~"("}', 6, "illegal regex"),
    ("sum by (a b) (x)", 10, "operator is missing"),
    ("sum by (a) (x) y", 15, "operator is missing"),
    ("(a) (b)", 4, "operator is missing"),
    ("label_replace(x)", 0, "expected 5"),
    ("a ? b", 2, "unexpected"),
    ("", 0, "no expression"),
    ('foo{a="b" or c="d"}', 0, "not PromQL"),
]


@pytest.mark.parametrize(("expr", "offset", "words"), FAULTS)
def test_a_fault_is_located(expr: str, offset: int, words: str) -> None:
    with pytest.raises(SyntaxFault) as caught:
        parse(expr)
    assert words in caught.value.message
    assert caught.value.offset == offset
    assert caught.value.width >= 1


def _place(text: str) -> Place:
    nodes, problems = load(Source("a.yaml", text))
    assert not problems
    return nodes[0].at("expr")


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("expr: sum(rate(x[5m]) > 1", 1, 10),
        ("expr: 'sum(rate(x[5m]) > 1'", 1, 11),
        ('a: 1\nexpr: "sum(rate(x[5m]) > 1"', 2, 11),
        ("expr: |-\n  sum(rate(x[5m]) > 1", 1, 7),
    ],
)
def test_the_caret_stands_inside_the_expression(text: str, line: int, column: int) -> None:
    place = _place(text)
    tree, problems = check("sum(rate(x[5m]) > 1", place, teams=("payments",))
    assert tree is None
    (problem,) = problems
    assert problem.code == "promql/syntax"
    assert (problem.place.line, problem.place.column) == (line, column)
    assert problem.teams == ("payments",)
    assert problem.hint


def test_a_place_without_a_column_is_left_alone() -> None:
    _, problems = check("sum(", Place("a.yaml"))
    assert problems[0].place == Place("a.yaml")


def test_an_unknown_function_gets_a_suggestion() -> None:
    _, problems = check("histogram_quantil(0.9, x)")
    assert problems[0].hint == "did you mean `histogram_quantile`?"


def test_a_right_expression_has_no_problems() -> None:
    tree, problems = check("up == 0")
    assert tree is not None
    assert problems == ()


def test_restrict_adds_what_a_selector_does_not_say() -> None:
    narrowed = restrict('sum(a{x="y"}) / b{service=~"z.*"} > time()', {"namespace": "n", "service": "s"})
    assert narrowed == 'sum(a{x="y", namespace="n", service="s"}) / b{service=~"z.*", namespace="n"} > time()'


def test_transform_replaces_nodes_from_the_root_down() -> None:
    tree = parse("-(max_over_time(a[5m:1m])) + topk(2, a) * abs(b)")

    def change(node: Node) -> Node | None:
        return replace(node, metric="z") if isinstance(node, Selector) and node.metric == "a" else None

    assert render(transform(tree, change)) == "-(max_over_time(z[5m:1m])) + topk(2, z) * abs(b)"
    assert transform(tree, lambda node: String("all")) == String("all")


def test_a_matcher_that_a_series_without_the_label_cannot_meet() -> None:
    assert [Matcher("a", op, value).wants_value for op, value in (("=", "x"), ("!=", ""), ("=", ""), ("=~", "x"))] == [
        True,
        True,
        False,
        False,
    ]

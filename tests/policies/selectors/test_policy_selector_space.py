from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies.made_selectors import selectors

from pilothouse.policies.selectors import ALL, MAX_DEPTH, NOTHING, Selector, all_of, any_of, negated, parse, space
from pilothouse.policies.selectors.space import TooComplex, TooManyRegions

# The syntax of values: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")

keys = st.sampled_from("ab")
letters = "xy-"
values = st.text(alphabet=letters, max_size=2)
formulas = selectors(keys, values, values)

WORDS = [
    text
    for text in ("".join(word) for length in range(4) for word in product(letters + "z", repeat=length))
    if VALUE.fullmatch(text)
]
"""Every value of up to three letters."""
CHOICES: Sequence[str | None] = [None, *WORDS]


def label_sets() -> list[dict[str, str]]:
    return [
        {key: value for key, value in zip("ab", pair, strict=True) if value is not None}
        for pair in product(CHOICES, repeat=2)
    ]


SETS = label_sets()


def is_possible(labels: Mapping[str, str]) -> bool:
    return all(map(VALUE.fullmatch, labels.values()))


@given(st.lists(formulas, max_size=3), st.lists(formulas, max_size=3))
def test_an_example_is_one_and_none_means_none(include: list[Selector], exclude: list[Selector]) -> None:
    def fits(labels: Mapping[str, str]) -> bool:
        return all(item.matches(labels) for item in include) and not any(item.matches(labels) for item in exclude)

    found = space.example(include, exclude)
    if found is None:
        assert not any(map(fits, SETS))
        return
    assert fits(found)
    assert is_possible(found)
    assert list(found) == sorted(found)
    for key in found:
        assert not fits({name: value for name, value in found.items() if name != key})


single_tests = st.builds(
    lambda form, text, negative: f"{'!' * negative}a {form} '{text}'",
    st.sampled_from(["==", "contains", "starts with", "ends with"]),
    values,
    st.booleans(),
)


@given(st.lists(single_tests, max_size=6))
def test_a_value_is_as_short_as_may_be(tests: list[str]) -> None:
    selector = parse(" && ".join(["has(a)", *tests]))
    found = space.example([selector])
    shortest = next((word for word in [*WORDS[1:], ""] if selector.matches({"a": word})), None)
    if shortest is not None:
        assert found is not None
        assert len(found["a"]) == len(shortest) or not shortest


@given(formulas, formulas)
def test_comparisons(one: Selector, other: Selector) -> None:
    pairs = [(one.matches(labels), other.matches(labels)) for labels in SETS]
    if space.implies(one, other):
        assert (True, False) not in pairs
    if space.disjoint(one, other):
        assert (True, True) not in pairs
    if space.equivalent(one, other):
        assert all(a is b for a, b in pairs)
    assert space.satisfiable(one) or not any(a for a, _ in pairs)
    assert space.implies(all_of(one, other), one)
    assert space.implies(one, any_of(one, other))
    assert space.disjoint(one, negated(one))
    assert space.equivalent(negated(all_of(one, other)), any_of(negated(one), negated(other)))


@given(st.lists(formulas, max_size=4))
def test_regions_are_all_combinations_that_occur(given_selectors: list[Selector]) -> None:
    def answers(labels: Mapping[str, str]) -> tuple[bool, ...]:
        return tuple(item.matches(labels) for item in given_selectors)

    found = list(space.regions(given_selectors))
    assert found[0] == {}
    assert all(map(is_possible, found))
    combinations = [answers(labels) for labels in found]
    assert len(set(combinations)) == len(combinations)
    assert {answers(labels) for labels in SETS} <= set(combinations)


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("all()", {}),
        ("has(a)", {"a": "a"}),
        ("has(a) && a != 'a'", {"a": "b"}),
        ("a != 'x'", {}),
        ("a == 'x' && b in {'zz', 'y'}", {"a": "x", "b": "y"}),
        ("a == '' && has(a)", {"a": ""}),
        ("a starts with 'front-'", {"a": "front-a"}),
        ("a starts with 'front' && a ends with 'tend'", {"a": "frontend"}),
        ("a starts with 'ab' && a starts with 'abc' && a contains 'x'", {"a": "abcx"}),
        ("a contains 'xy' && a contains 'yz' && a != 'xyz'", {"a": "axyz"}),
        ("a contains '.' && a contains '-'", {"a": "a-.a"}),
        ("a starts with 'x' && !a starts with 'xa' && a != 'x' && !a contains 'b'", {"a": "xc"}),
        ("(has(a) && has(b)) || has(c)", {"c": "a"}),
        ("has(a) && !(a == 'a' || b != 'x')", {"a": "b", "b": "x"}),
        ("a contains ''", {"a": "a"}),
        ("a starts with '" + "x" * 63 + "'", {"a": "x" * 63}),
        ("projectcalico.org/serviceaccount == '" + "x" * 200 + "'", {"projectcalico.org/serviceaccount": "x" * 200}),
    ],
)
def test_the_smallest_example(text: str, example: dict[str, str]) -> None:
    assert space.example([parse(text)]) == example


@pytest.mark.parametrize(
    "text",
    [
        "!all()",
        "a in {}",
        "a == 'x' && a == 'y'",
        "a == 'x' && !has(a)",
        "has(a) && a not in {'x'} && a in {'x'}",
        "a starts with 'x' && a starts with 'y'",
        "a ends with 'x' && a ends with 'yx' && !a contains 'y'",
        "a starts with 'x' && !a contains 'x'",
        "a contains 'no value'",
        "a == '-x'",
        "a starts with '-'",
        "a ends with '.'",
        "has(a) && !a contains ''",
        "a starts with '" + "x" * 64 + "'",
        "a == '" + "x" * 64 + "'",
        "a starts with '" + "x" * 63 + "' && a contains 'y'",
        "a starts with '" + "x" * 63 + "' && a != '" + "x" * 63 + "'",
        "a contains '" + "x" * 32 + "' && a contains '" + "y" * 32 + "'",
        "(has(a) || has(b)) && !has(a) && !has(b)",
        "(a == 'x' || a == 'y') && (a == 'y' || a == 'z') && a != 'y'",
    ],
)
def test_what_nothing_matches(text: str) -> None:
    assert not space.satisfiable(parse(text))
    assert space.equivalent(parse(text), NOTHING)


@pytest.mark.parametrize(
    ("one", "other", "implied"),
    [
        ("a == 'x'", "has(a)", True),
        ("has(a)", "a == 'x'", False),
        ("a == 'xyz'", "a contains 'y'", True),
        ("a starts with 'xy'", "a starts with 'x'", True),
        ("a starts with 'x'", "a contains 'x'", True),
        ("a ends with 'xy'", "a contains 'x' && has(a)", True),
        ("a contains 'x'", "a starts with 'x'", False),
        ("!has(a)", "a != 'x'", True),
        ("a != 'x'", "has(a)", False),
        ("a == 'x' && b == 'y'", "b == 'y' && a in {'x', 'z'}", True),
        ("a == 'x' || b == 'y'", "has(a) || has(b)", True),
        ("has(a) || has(b)", "a == 'x' || has(b)", False),
        ("a starts with '-'", "b == 'x'", True),
    ],
)
def test_implication(one: str, other: str, implied: bool) -> None:
    assert space.implies(parse(one), parse(other)) is implied


def test_regions_of_values_of_one_key() -> None:
    given_selectors = [parse(f"app == 'app{number}'") for number in range(50)]
    found = list(space.regions([*given_selectors, *given_selectors]))
    assert len(found) == 51
    assert {labels.get("app", "") for labels in found} == {"", *(f"app{number}" for number in range(50))}


def test_regions_beyond_the_limit_are_an_error_by_name() -> None:
    given_selectors = [parse(f"has(k{number})") for number in range(12)]
    assert len(list(space.regions(given_selectors, limit=4096))) == 4096
    found = space.regions(given_selectors, limit=4095)
    with pytest.raises(TooManyRegions, match="12 selectors tell apart more than 4095"):
        list(found)
    assert list(space.regions([], limit=1)) == [{}]


def test_large_questions_of_the_common_kind_need_no_search() -> None:
    wide = all_of(*(parse(f"k{number} == 'x'") for number in range(3_000)))
    assert space.implies(wide, parse("k7 == 'x' && k9 in {'x', 'y'}"))
    many = any_of(*(parse(f"a == 'v{number}'") for number in range(20_000)))
    assert space.example([many], [parse("a starts with 'v1'")]) == {"a": "v0"}
    assert space.example([parse("has(a)")], [many]) == {"a": "a"}
    others = [parse(f"app == 'a{number}' && tier == 't{number}'") for number in range(500)]
    assert space.example([parse("app == 'a7'")], others) == {"app": "a7"}
    choices = [parse(f"has(l{number}) || has(r{number})") for number in range(120)]
    found = space.example(choices)
    assert found is not None
    assert len(found) == 120


@pytest.mark.parametrize(
    "text",
    [
        "!(!has(a) && !has(a)) || has(a)",
        "(has(a) || has(b)) && (has(c) || has(d)) || (has(e) || has(f)) && (has(g) || has(h))",
        "!(!(has(a) && (has(b) || has(c))) && !(has(d) && (has(e) || has(f))))",
    ],
)
def test_choices_within_choices_come_to_an_end(text: str) -> None:
    found = space.example([parse(text)], [parse("a == ''")])
    assert found is not None
    assert parse(text).matches(found)


def test_a_deep_formula() -> None:
    text = "has(x)"
    for number in range(MAX_DEPTH):
        text = f"!(has(k{number}) {('||', '&&')[number % 2]} {text})"
    found = space.example([parse(text)])
    assert found is not None
    assert parse(text).matches(found)


def test_a_made_up_puzzle_is_refused_rather_than_pondered_for_ever() -> None:
    """Eleven pigeons in ten holes, each hole a label of its own per pigeon: no search by cases is short."""
    holes, pigeons = range(10), range(11)
    somewhere = [any_of(*(parse(f"has(p{pigeon}h{hole})") for hole in holes)) for pigeon in pigeons]
    apart = [
        parse(f"!(has(p{one}h{hole}) && has(p{other}h{hole}))")
        for hole in holes
        for one in pigeons
        for other in pigeons
        if one < other
    ]
    with pytest.raises(TooComplex):
        space.example([*somewhere, *apart])
    assert space.example([*somewhere[:3], *apart]) is not None


def test_texts_that_no_value_can_hold_together() -> None:
    words = [f"a contains '{one}{other}{one}'" for one in "abcdefg" for other in "hijklmn"]
    with pytest.raises(TooComplex, match="label's text"):
        space.satisfiable(parse(" && ".join(words)))
    assert space.satisfiable(parse(" && ".join(words[:4])))
    assert space.equivalent(ALL, parse("all()"))

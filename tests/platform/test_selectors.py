"""Selectors against each other, held against what they do to label sets."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.labels import LabelSelector, Requirement
from pilothouse.platform.selectors import implies, may_overlap, satisfiable

KEYS, VALUES = ("a", "b"), ("1", "2", "3")
# Every label set over two keys; a fourth value stands for any value that no selector names.
LABEL_SETS = [
    {key: value for key, value in zip(KEYS, choice, strict=True) if value}
    for choice in product((None, *VALUES, "other"), repeat=2)
]

some_values = st.lists(st.sampled_from(VALUES), min_size=1, max_size=3, unique=True).map(tuple)
some_requirement = st.one_of(
    st.builds(Requirement, st.sampled_from(KEYS), st.sampled_from(["In", "NotIn"]), some_values),
    st.builds(Requirement, st.sampled_from(KEYS), st.sampled_from(["Exists", "DoesNotExist"])),
)
some_selector = st.builds(
    LabelSelector,
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES)).map(lambda d: tuple(sorted(d.items()))),
    st.lists(some_requirement, max_size=3).map(tuple),
)


def matched(selector: LabelSelector) -> set[int]:
    return {index for index, labels in enumerate(LABEL_SETS) if selector.matches(labels)}


@given(some_selector, some_selector)
def test_they_agree_with_every_label_set(one: LabelSelector, other: LabelSelector) -> None:
    assert satisfiable(one) == bool(matched(one))
    assert may_overlap(one, other) == bool(matched(one) & matched(other))
    assert implies(one, other) == (matched(one) <= matched(other))


def test_the_empty_selector_is_implied_by_all() -> None:
    app = LabelSelector.of(app="x")
    assert implies(app, LabelSelector())
    assert not implies(LabelSelector(), app)

"""Made-up selectors and label sets, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from pilothouse.policies.selectors import (
    ALL,
    Contains,
    EndsWith,
    Equal,
    Has,
    In,
    NotEqual,
    NotIn,
    Selector,
    StartsWith,
    all_of,
    any_of,
    negated,
)


def selectors(
    keys: st.SearchStrategy[str], values: st.SearchStrategy[str], texts: st.SearchStrategy[str], *, leaves: int = 8
) -> st.SearchStrategy[Selector]:
    sets = st.frozensets(values, max_size=3)
    tests = st.one_of(
        st.builds(Has, keys),
        st.builds(Equal, keys, values),
        st.builds(NotEqual, keys, values),
        st.builds(In, keys, sets),
        st.builds(NotIn, keys, sets),
        st.builds(Contains, keys, texts),
        st.builds(StartsWith, keys, texts),
        st.builds(EndsWith, keys, texts),
        st.just(ALL),
    )
    return st.recursive(
        tests,
        lambda inner: st.one_of(
            inner.map(negated),
            st.lists(inner, max_size=3).map(lambda parts: all_of(*parts)),
            st.lists(inner, max_size=3).map(lambda parts: any_of(*parts)),
        ),
        max_leaves=leaves,
    )

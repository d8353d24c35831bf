"""The word that somebody most likely meant."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.problems import nearest

WORDS = st.text("abcd-é", min_size=1, max_size=8)


@given(WORDS, st.lists(WORDS, max_size=12))
def test_it_is_the_one_that_difflib_finds(word: str, known: list[str]) -> None:
    found = difflib.get_close_matches(word, sorted(set(known)), n=1, cutoff=0.6)
    assert nearest(word, known) == (f"did you mean `{found[0]}`?" if found else "")


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("paymants", ["payments", "cards"], "did you mean `payments`?"),
        ("zebra", ["payments", "cards"], ""),
        ("zebra", [], ""),
        ("ab", ["ac", "ad"], ""),
        ("abc", ["abd", "abe"], "did you mean `abe`?"),
    ],
)
def test_far_words_and_equal_ones(word: str, known: list[str], hint: str) -> None:
    assert nearest(word, known) == hint

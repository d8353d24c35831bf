"""Expressions: RE2's language, in linear time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.alerts.routing.regex import BadPattern, Pattern, compile_pattern

TABLE = [
    ("a|b", ["a", "b"], ["", "ab", "c"]),
    ("", [""], ["a"]),
    ("a.c", ["abc", "a-c"], ["ac", "a\nc"]),
    ("(?s)a.c", ["a\nc"], ["ac"]),
    ("(?m)^a$", ["a"], ["b"]),
    ("(?m)a$\n^b", ["a\nb"], ["ab"]),
    ("(?i)abc|x", ["ABC", "aBc", "X"], ["y"]),
    ("a(?i)b|c", ["ab", "aB", "C"], ["A", "AB"]),
    ("(?i:a)b", ["Ab", "ab"], ["AB"]),
    ("(?i-i:a)", ["a"], ["A"]),
    ("(?U)a+", ["a", "aa"], [""]),
    ("[a-c]+?", ["a", "abc"], ["", "d"]),
    ("[^a-c]", ["d", "\n"], ["a", ""]),
    ("[]a]", ["]", "a"], ["b"]),
    ("[a-]", ["-", "a"], ["b"]),
    (r"[\d_\]]+", ["1_]"], ["a"]),
    (r"[\x41-\x43]", ["A", "B", "C"], ["D"]),
    ("[[:alpha:][:digit:]]+", ["a1"], ["é", "-"]),
    ("[[:^space:]]", ["a"], [" "]),
    ("(?i)[a-c]", ["A", "b"], ["D"]),
    (r"\d{2,3}", ["12", "123"], ["1", "1234"]),
    (r"a{2}", ["aa"], ["a", "aaa"]),
    (r"a{1,}", ["a", "aaaa"], [""]),
    (r"a{,2}", ["a{,2}"], ["a", "aa"]),
    (r"a{x}", ["a{x}"], ["ax"]),
    (r"\w+\W\s\S\D", ["ab- x!"], ["ab-xx1"]),
    (r"\bab\b", ["ab"], ["abc"]),
    (r"a\Bb", ["ab"], ["a b"]),
    (r"\Aab\z", ["ab"], ["ab\n"]),
    ("^a$", ["a"], ["a\n"]),
    (r"\Qa.b\E+", ["a.b", "a.bb"], ["axb"]),
    (r"\Q(", ["("], [""]),
    (r"(?P<name>a)(?<other>b)", ["ab"], ["a"]),
    (r"\pL\p{Lu}\PL\p{^N}", ["éA1x"], ["1A1x"]),
    (r"\x{1F600}\t\101"[:9], ["\U0001f600"], ["x"]),
    (r"\n\011", ["\n\t"], ["n"]),
    (r"(a|)*b", ["b", "aab"], ["a"]),
    (r"((a|b)*c)+", ["c", "abcac"], ["ab"]),
    (r"\.\-\/", [".-/"], ["a-/"]),
]


@pytest.mark.parametrize(("pattern", "yes", "no"), TABLE)
def test_what_matches(pattern: str, yes: list[str], no: list[str]) -> None:
    compiled = compile_pattern(pattern)
    assert [text for text in yes if not compiled.fullmatch(text)] == []
    assert [text for text in no if compiled.fullmatch(text)] == []


@pytest.mark.parametrize(
    "pattern",
    [
        "(a", "a)", "[a", "*a", "+", "a**", "a{2}{3}", "a{1001}", "a{3,2}", "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", r"\1",
        r"\y", "[b-a]", "[[:nope:]]", r"\p{Greek}", r"\p{", "(?P<>a)", "(?P<1>a)", "(?z)", r"\xzz", r"\x{110000}", "\\",
        "(?", "((a{1000}){1000})", "(" * 150 + ")" * 150, "(?P<a", r"[a-\d]",
    ],
)  # fmt: skip
def test_what_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern) as refused:
        compile_pattern(pattern)
    assert str(refused.value)
    assert 0 <= refused.value.position <= len(pattern)


def test_a_list_of_words_is_known_as_such() -> None:
    assert Pattern("a|bc|").literals == {"a", "bc", ""}
    assert Pattern("a.|b").literals is None


def test_time_is_linear_where_a_backtracking_matcher_never_ends() -> None:
    assert not compile_pattern("(a+)+b").fullmatch("a" * 2000)
    assert not compile_pattern("(a|aa)*(a|aa)*c").fullmatch("a" * 2000)


SIMPLE = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "ab", "(?:)"]),
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{1,2}"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}")
    ),
    max_leaves=6,
)


@given(SIMPLE, st.text("abc", max_size=6))
def test_it_agrees_with_pythons_own_on_what_both_read_alike(pattern: str, text: str) -> None:
    assert compile_pattern(pattern).fullmatch(text) == bool(re.fullmatch(pattern, text))

"""Matchers as Alertmanager reads them, before and since UTF-8."""

from __future__ import annotations

import pytest

from pilothouse.alerts.routing.matchers import BadMatcher, classic, parse, utf8
from pilothouse.alerts.routing.model import Matcher, MatchOp, matchers_text


def read(text: str, version: tuple[int, ...] = (0, 27)) -> str:
    return matchers_text(parse(text, version))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a="b"', '{a="b"}'),
        ("a=b", '{a="b"}'),
        ('{a="b", c=~"d|e",}', '{a="b",c=~"d|e"}'),
        ('a != "b"', '{a!="b"}'),
        ("a!~b.*", '{a!~"b.*"}'),
        ("{}", "{}"),
        ("", "{}"),
        ('a="b\\"c\\\\d\\n"', '{a="b\\"c\\\\d\\n"}'),
        ("a=b c", '{a="b c"}'),  # classic only: an unquoted value with a space
        ('"foo bar"=x', '{foo bar="x"}'),  # UTF-8 only: a quoted name
        ("ä=x", '{ä="x"}'),
        (r'a="\d"', r'{a="\\d"}'),  # no escape of Go: classic takes the backslash for itself
        (r'a="\u00e9"', r'{a="\\u00e9"}'),  # both read it, and disagree: classic counts
        ('a=""', '{a=""}'),
        ("a=", '{a=""}'),
    ],
)
def test_both_grammars(text: str, expected: str) -> None:
    assert read(text) == expected


@pytest.mark.parametrize("text", ["a==b}", '{a="b"'])
def test_what_only_the_classic_grammar_reads(text: str) -> None:
    assert parse(text) == classic(text)
    with pytest.raises(BadMatcher):
        utf8(text)


@pytest.mark.parametrize("text", ["a", "=b", 'a="b', 'a=b"c', "a=~(", "a!b"])
def test_what_neither_reads(text: str) -> None:
    with pytest.raises(BadMatcher):
        parse(text)


def test_before_027_there_is_only_the_classic_grammar() -> None:
    assert read('a="b"', (0, 26)) == '{a="b"}'
    with pytest.raises(BadMatcher):
        parse('"foo bar"=x', (0, 26))


@pytest.mark.parametrize(
    "text",
    ['{a="b"', "{", '{a="b"} x', "a=b c", "a=,", ",", "a=b,,c=d", "{a=b}}", 'a="\\q"', 'a="\n"', "'a'=b", "a=b="],
)
def test_what_the_new_grammar_refuses(text: str) -> None:
    with pytest.raises(BadMatcher):
        utf8(text)


def test_escapes_of_go_in_the_new_grammar() -> None:
    assert utf8(r'a="\x41\101é\U0001F600\t\a"')[0].value == "AAé\U0001f600\t\a"
    with pytest.raises(BadMatcher):
        utf8(r'a="\xff"')


def test_a_trailing_backslash_and_quotes_in_the_classic_grammar() -> None:
    assert classic("a=b\\")[0].value == "b\\"
    assert classic('a="b,c",d="e\\",f"') == (
        Matcher("a", MatchOp.EQUAL, "b,c"),
        Matcher("d", MatchOp.EQUAL, 'e",f'),
    )


def test_a_missing_label_counts_as_empty_and_expressions_are_anchored() -> None:
    def holds(text: str, **labels: str) -> bool:
        return parse(text)[0].matches(labels)

    assert holds('a=""')
    assert holds('a!="x"')
    assert holds('a=~"x|"')
    assert not holds('a!~".*"')
    assert not holds('a=~"b"', a="abc")
    assert holds('a=~"a.c"', a="abc")
    assert holds('a!~"b"', a="abc")

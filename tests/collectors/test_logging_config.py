"""Fluentd's format: written, read back, and its units as Fluentd reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.collectors.logging import units
from pilothouse.collectors.logging.config import INCLUDE, Element, Param, Ruby, element, quoted, seconds, size, text
from pilothouse.collectors.logging.parse import MAX_DEPTH, parse
from pilothouse.source import Source


def read(body: str) -> Element:
    root, problems = parse(Source("fluent.conf", body))
    assert problems == ()
    return root


def refused(body: str) -> tuple[str, int, int]:
    _, problems = parse(Source("fluent.conf", body))
    assert [problem.code for problem in problems] == ["logging/syntax"]
    return problems[0].message, problems[0].place.line, problems[0].place.column


values = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=40)
keys = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
names = st.sampled_from(["match", "filter", "buffer", "record"])
params = st.lists(st.builds(Param, keys, values), max_size=4).map(tuple)
leaves = st.builds(Element, names, st.sampled_from(["", "**", "tag, time, $.k.ns", "a.** b.*"]), params)
trees = st.recursive(
    leaves, lambda inside: st.builds(Element, names, st.just("x.**"), params, st.lists(inside, max_size=3).map(tuple))
)


@given(st.lists(trees, max_size=3).map(tuple))
def test_what_is_written_reads_back_the_same(children: tuple[Element, ...]) -> None:
    root = Element("ROOT", children=children)
    assert read(text(root)) == root


@given(values)
def test_no_value_is_taken_for_code_or_a_comment(value: str) -> None:
    found = read(f"key {quoted(value)}\n").params[0]
    assert (found.value, found.ruby) == (value, False)


def test_ruby_is_kept_as_it_stands() -> None:
    root = Element("ROOT", children=(element("match", "**", {"password": Ruby("#{ENV['P']}\\\"x")}),))
    assert 'password "#{ENV[\'P\']}\\\\\\"x"' in text(root)
    found = read(text(root)).children[0].params[0]
    assert (found.value, found.ruby) == ("#{ENV['P']}\\\"x", True)


def test_plain_values_become_parameters() -> None:
    made = element("a", "", {"flag": True, "off": False, "n": 8, "f": 0.05, "l": ["x"], "m": {"k": "v"}})
    assert [param.value for param in made.params] == ["true", "false", "8", "0.05", '["x"]', '{"k": "v"}']


def test_an_include_keeps_its_place() -> None:
    body = (
        "<label @A>\n  <filter a>\n    @type b\n  </filter>\n  @include x-*.conf\n  <match a>\n  </match>\n</label>\n"
    )
    root = read(body)
    assert [child.name for child in root.children[0].children] == ["filter", INCLUDE, "match"]
    assert text(root) == body


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="parameter's name"):
        text(Element("ROOT", params=(Param("a b", "c"),)))
    with pytest.raises(ValueError, match="cannot be written"):
        text(Element("ROOT", children=(Element("a-b"),)))


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("k a#b", "a#b"),
        ("k a #b", "a"),
        ("k", ""),
        ("k # only a comment", ""),
        ("k 'it\\'s \\\\ \\n'", "it's \\ \\n"),
        ('k "a\\n\\"b\\" \\-"', 'a\n"b" -'),
        ('k "one\\\ntwo"', "onetwo"),
        ('k ["a", # first\n  "b"]', '["a", "b"]'),
        ('k {"a": "x]"}', '{"a": "x]"}'),
        ("k two words  ", "two words"),
    ],
)
def test_values_are_read_as_fluentd_reads_them(line: str, value: str) -> None:
    assert read(line + "\n").get("k") == value


def test_the_last_of_two_keys_counts() -> None:
    root = read("a 1\na 2\n")
    assert root.get("a") == "2"
    assert root.get("b", "none") == "none"
    assert [item.name for item in root.walk()] == ["ROOT"]


@pytest.mark.parametrize(
    ("body", "message", "line"),
    [
        ("<match a>\n", "<match> is never closed", 1),
        ("<match a>\n</filter>\n", "</filter> closes nothing here", 2),
        ("</match>\n", "</match> closes nothing here", 1),
        ("<match a>\n</match> x\n", "a closing tag must stand alone on its line", 2),
        ("<match a> x 1\n</match>\n", "not an element", 1),
        ("a 'b\n", "the quote is never closed", 1),
        ('a "b\n', "the quote is never closed", 1),
        ('a "#{b\n', "the quote is never closed", 1),
        ('a "\\q"\n', "\\q is no escape in double quotes", 1),
        ("a 'b' c\n", "something follows the value on its line", 1),
        ("'a' b\n", "a parameter cannot start with '", 1),
        ("a [1, 2\n", "a value that starts with [ or { must be JSON", 1),
        ('a ["b\n', "a value that starts with [ or { must be JSON", 1),
        ("<a>\n" * (MAX_DEPTH + 2), f"elements are nested more than {MAX_DEPTH} deep", MAX_DEPTH + 1),
    ],
)
def test_a_syntax_error_is_one_problem_with_its_place(body: str, message: str, line: int) -> None:
    assert refused(body)[:2] == (message, line)


# What Fluentd takes these for was tried with Fluentd itself.
@pytest.mark.parametrize(
    ("written", "taken"),
    [("8m", 8 << 20), ("8.5m", 5 << 20), ("1.5g", 5 << 30), ("abc", 0), ("64K", 65536), ("1t", 1 << 40), ("12", 12)],
)
def test_sizes(written: str, taken: int) -> None:
    assert units.read_size(written) == taken


@pytest.mark.parametrize(
    ("written", "taken"),
    [("500ms", 30000), ("0.5s", 5), ("1h30m", 1800), ("1w", 1), ("0.5", 0.5), ("5s", 5), ("1d", 86400), ("x", 0)],
)
def test_times(written: str, taken: float) -> None:
    assert units.read_time(written) == taken


def test_booleans() -> None:
    assert [units.read_bool(word) for word in ("true", "yes", "", "false", "no")] == [True, True, True, False, False]
    assert [units.read_bool(word) for word in ("on", "1", "TRUE")] == [None, None, None]


@pytest.mark.parametrize(
    ("written", "meant"), [("8.5m", 8.5 * (1 << 20)), ("2MiB", 2 << 20), ("7", 7), ("abc", None), ("3 parsecs", None)]
)
def test_what_a_size_was_meant_to_be(written: str, meant: float | None) -> None:
    assert units.meant_size(written) == meant


@pytest.mark.parametrize(
    ("written", "meant"), [("500ms", 0.5), ("1h30m", 5400), ("1w", 604800), ("0.5", 0.5), ("abc", None), ("5x", None)]
)
def test_what_a_time_was_meant_to_be(written: str, meant: float | None) -> None:
    assert units.meant_time(written) == meant


@given(st.integers(0, 1 << 45))
def test_a_written_size_is_read_as_that_size(number: int) -> None:
    assert units.read_size(size(number)) == number


@given(st.one_of(st.integers(0, 10**6), st.sampled_from([0.05, 0.5, 1.5, 2.25])))
def test_a_written_time_is_read_as_that_time(number: float) -> None:
    assert units.read_time(seconds(number)) == number

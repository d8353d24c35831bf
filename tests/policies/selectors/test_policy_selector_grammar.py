from __future__ import annotations

import sys
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies.made_selectors import selectors

from pilothouse.labels import LabelSelector, Requirement
from pilothouse.policies.selectors import (
    ALL,
    MAX_DEPTH,
    MAX_LENGTH,
    NOTHING,
    And,
    Equal,
    Has,
    In,
    Not,
    NotIn,
    Or,
    Selector,
    SelectorError,
    StartsWith,
    Term,
    all_of,
    any_of,
    from_labels,
    is_global,
    negated,
    parse,
    parse_namespaces,
    prefixed,
    select,
    to_labels,
)

# ---------------------------------------------------------------- reading

# What the reference says (https://docs.tigera.io/calico/latest/reference/resources/networkpolicy#selectors), and where
# it is silent the lexer and parser of Calico (libcalico-go/lib/selector).
CANONICAL = [
    ("", "all()"),
    (" \t", "all()"),
    (" (all( ) )", "all()"),
    ("a=='x'", 'a == "x"'),
    ("a!='x'", 'a != "x"'),
    ("""a == '"'""", """a == '"'"""),
    ("""a == "it's" """, '''a == "it's"'''),
    ("a in{'z','x' , 'z'}", 'a in {"x", "z"}'),
    ("a in {'x',}", 'a in {"x"}'),
    ("a in {}", "a in {}"),
    ("a not\tin {'x'}", 'a not in {"x"}'),
    ("a notin {'x'}", 'a not in {"x"}'),
    ("a contains'x'", 'a contains "x"'),
    ("a startswith 'x'", 'a starts with "x"'),
    ("a ends  with 'x'", 'a ends with "x"'),
    ("has( a.b/c-d_E )", "has(a.b/c-d_E)"),
    ("!!has(a)", "has(a)"),
    ("!! !has(a)", "!has(a)"),
    ("!(!has(a))", "has(a)"),
    ("!a == 'x'", '!a == "x"'),
    ("has(a)||has(b)&&!has(c)", "has(a) || has(b) && !has(c)"),
    ("(has(a) || (has(b))) && ((has(c) && has(d)))", "(has(a) || has(b)) && has(c) && has(d)"),
    ("!(has(a) && has(b))", "!(has(a) && has(b))"),
    ("all() && has(a)", "has(a)"),
    ("all() || has(a)", "all()"),
    ("!all() && has(a)", "!all()"),
    ("has == 'x' && in in {'x'} && all != 'x' && not not in {}", None),
]


@pytest.mark.parametrize(("text", "canonical"), CANONICAL)
def test_the_canonical_text(text: str, canonical: str | None) -> None:
    found = str(parse(text))
    if canonical is not None:
        assert found == canonical
    assert parse(found) == parse(text)


def test_words_of_the_grammar_may_be_keys() -> None:
    assert parse("has == 'x' && in in {'x'} && not not in {}") == And(
        (Equal("has", "x"), In("in", frozenset({"x"})), NotIn("not", frozenset()))
    )


def test_precedence() -> None:
    a, b, c = Has("a"), Has("b"), Has("c")
    assert parse("has(a) || has(b) && has(c)") == Or((a, And((b, c))))
    assert parse("!has(a) && has(b) || has(c)") == Or((And((Not(a), b)), c))


@pytest.mark.parametrize(
    ("text", "marked", "says"),
    [
        ("a = 'x'", "=", "write `==`"),
        ("a == b", "b", "expected a value in quotes after `a ==`"),
        ("a starts with b", "b", "expected a value in quotes after `a starts with`"),
        ("a == 'x' & b == 'y'", "&", "write `&&`"),
        ("a == 'x' | b == 'y'", "|", "write `||`"),
        ("a == 'x' and has(b)", "and", "expected `&&`, `||` or the end, found `and`"),
        ("a == 'x", "'x", "never closed"),
        ("a", "", "expected an operator after the key `a`"),
        ("a b", "b", "expected an operator after the key `a`"),
        ("a 'x'", "'", "expected an operator after the key `a`"),
        ("has(a", "", "expected `)` after `has(`"),
        ("has()", ")", "expected a label's key"),
        ("has (a)", " ", "no space may stand between `has` and its parenthesis"),
        ("any()", "any", "there is no function `any()`"),
        ("'x' == a", "'", "expected a test"),
        ("a in 'x'", "'", "expected a set"),
        ("a in {'x' 'y'}", "'", "expected `,` or `}`"),
        ("a in {,}", ",", "expected a value in quotes"),
        ("a in {'x'", "", "expected `,` or `}` in a set, found the end"),
        ("a in {", "{", "this set is never closed"),
        ("a in {b}", "b", "expected a value in quotes"),
        ("(has(a)", "(", "never closed"),
        ("has(a))", ")", "no parenthesis is open"),
        ("()", ")", "expected a test"),
        ("!", "", "expected a test"),
        ("has(a) &&", "", "expected a test"),
        ("&& has(a)", "&&", "expected a test"),
        ("has(a)\n&& has(b)", "\n", "a line break"),
        ("%", "%", "expected a test"),
        ("has(ä)", "ä", "expected a label's key"),
        ("has(a) || global()", "global()", "only stand alone"),
        ("global()", "global()", "only stand alone"),
        ("!global( )", "global( ", "only stand alone"),
        ("has(" + "k" * 513 + ")", "k" * 513, "at most 512 characters"),
    ],
)
def test_an_error_says_what_and_where(text: str, marked: str, says: str) -> None:
    with pytest.raises(SelectorError, match="selector") as raised:
        parse(text)
    error = raised.value
    assert says in error.message
    assert text[error.offset : error.offset + error.width] == marked
    assert error.width >= 1
    assert marked or error.offset == len(text)


def test_the_longest_key() -> None:
    assert parse("has(" + "k" * 512 + ")") == Has("k" * 512)


@given(st.text(alphabet="ab'\"{}()!&|=, \tinhas", max_size=24))
def test_whatever_is_read_is_read_again_from_its_text(text: str) -> None:
    found = _read(text)
    if isinstance(found, SelectorError):
        assert 0 <= found.offset <= len(text)
        assert found.width >= 1
    else:
        assert parse(str(found)) == found


def _read(text: str) -> Selector | SelectorError:
    try:
        return parse(text)
    except SelectorError as error:
        return error


def test_global_and_all_in_a_namespace_selector() -> None:
    assert is_global(" global( ) ")
    assert not is_global("global() || all()")
    assert parse_namespaces("global()") is None
    assert parse_namespaces(" all() ") is ALL
    assert parse_namespaces("a == 'x'") == Equal("a", "x")
    with pytest.raises(SelectorError):
        parse_namespaces("global() && has(a)")


# ---------------------------------------------------------------- hostile texts


@pytest.mark.parametrize(
    "piece", ["(", "!", "a=='x'||", "has(a)&&", " ", "'", "a in {", "a", "!(", "a starts", "{", "\x00", "é"]
)
def test_a_text_of_ten_million_characters_is_refused(piece: str) -> None:
    text = piece * (10_000_000 // len(piece))
    for read in (parse, parse_namespaces):
        with pytest.raises(SelectorError, match=r"more than 1,000,000 are not read") as raised:
            read(text)
        assert len(str(raised.value)) < 300
    assert not is_global(text)


@pytest.mark.parametrize("piece", ["(", "!", "has(a)&&", "'", '"', "a in {'x',", "!(", "a starts ", "a not ", "(("])
def test_the_longest_texts_fail_by_name(piece: str) -> None:
    with pytest.raises(SelectorError):
        parse(piece * (MAX_LENGTH // len(piece)))


def test_a_long_text_is_read() -> None:
    values = "'" + "','".join(map(str, range(100_000))) + "'"
    found = parse("a in {" + values + "}")
    assert isinstance(found, In)
    assert len(found.values) == 100_000
    found = parse("||".join(f"a=='{number}'" for number in range(60_000)))
    assert isinstance(found, Or)
    assert len(found.parts) == 60_000


def test_nesting_is_bounded_and_what_is_allowed_works() -> None:
    assert parse("(" * MAX_DEPTH + "has(a)" + ")" * MAX_DEPTH) == Has("a")
    with pytest.raises(SelectorError, match="deeper than 200 levels") as raised:
        parse("(" * (MAX_DEPTH + 1) + "has(a)" + ")" * (MAX_DEPTH + 1))
    assert raised.value.offset == MAX_DEPTH
    text = "has(x)"
    for number in range(MAX_DEPTH):
        text = f"!(has(k{number}) {('||', '&&')[number % 2]} {text})"
    deep = parse(text)
    assert parse(str(deep)) == deep
    assert hash(deep) == hash(parse(" " + text))
    assert deep.matches({}) is not negated(deep).matches({})
    assert len(list(deep.terms())) == MAX_DEPTH + 1
    assert select(deep, Population([{}, {"x": ""}])) in range(4)
    assert str(prefixed(deep, "p.")).count("p.") == MAX_DEPTH + 1
    assert sys.getrecursionlimit() == 1000, "the test means to hold under the usual limit"


# ---------------------------------------------------------------- trees

any_text = st.text(max_size=5).filter(lambda text: not ("'" in text and '"' in text))
any_key = st.text(alphabet="abcXYZ019._/-", min_size=1, max_size=6)


@given(selectors(any_key, any_text, any_text, leaves=12))
def test_a_tree_is_read_from_its_text(tree: Selector) -> None:
    assert parse(str(tree)) == tree
    assert str(parse(str(tree))) == str(tree)


class Population:
    """The plainest `Index`."""

    def __init__(self, members: list[dict[str, str]]) -> None:
        self.members = members
        self.everything = (1 << len(members)) - 1

    def pair(self, key: str, value: str) -> int:
        return sum(1 << number for number, labels in enumerate(self.members) if labels.get(key) == value)

    def having(self, key: str) -> int:
        return sum(1 << number for number, labels in enumerate(self.members) if key in labels)

    def values(self, key: str) -> Mapping[str, int]:
        return {labels[key]: self.pair(key, labels[key]) for labels in self.members if key in labels}


short_key = st.sampled_from("abc")
short_text = st.text(alphabet="xy", max_size=3)
label_sets = st.dictionaries(short_key, short_text, max_size=3)


@given(selectors(short_key, short_text, short_text), st.lists(label_sets, max_size=8))
def test_selecting_is_matching_all_at_once(selector: Selector, members: list[dict[str, str]]) -> None:
    found = select(selector, Population(members))
    assert found == sum(1 << number for number, labels in enumerate(members) if selector.matches(labels))


@given(selectors(short_key, short_text, short_text), selectors(short_key, short_text, short_text), label_sets)
def test_putting_together(one: Selector, other: Selector, labels: dict[str, str]) -> None:
    a, b = one.matches(labels), other.matches(labels)
    assert all_of(one, other).matches(labels) is (a and b)
    assert any_of(one, other).matches(labels) is (a or b)
    assert negated(one).matches(labels) is not a
    assert negated(negated(one)) == one
    assert prefixed(one, "pcns.").matches({f"pcns.{key}": value for key, value in labels.items()}) is a


def test_of_nothing() -> None:
    assert all_of() == ALL
    assert any_of() == NOTHING
    assert not NOTHING.matches({})
    assert all_of(Has("a"), NOTHING) == NOTHING
    assert any_of(Has("a"), NOTHING) == Has("a")
    assert prefixed(ALL, "pcns.") == ALL


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("a != 'x'", {}, True),
        ("a not in {'x'}", {}, True),
        ("a in {}", {"a": ""}, False),
        ("a not in {}", {"a": ""}, True),
        ("a == ''", {}, False),
        ("a == ''", {"a": ""}, True),
        ("a contains ''", {}, False),
        ("a starts with ''", {"a": "x"}, True),
        ("!a starts with 'x'", {}, True),
        ("!a == 'x' && b == 'y'", {"b": "y"}, True),
        ("!a == 'x' && b == 'y'", {}, False),
    ],
)
def test_missing_and_empty_labels(text: str, labels: dict[str, str], matches: bool) -> None:
    assert parse(text).matches(labels) is matches


def test_terms() -> None:
    text = "a == 'x' && b not in {'z', 'y'} && !has(c) || d starts with 'w' && !(e != 'v' || has(f))"
    assert list(parse(text).terms()) == [
        Term("a", "x"),
        Term("b", "y"),
        Term("b", "z"),
        Term("c", None),
        Term("d", "w", textual=True),
        Term("e", "v"),
        Term("f", None),
    ]
    assert list(StartsWith("d", "w").terms()) == [Term("d", "w", True)]


@given(selectors(short_key, short_text, short_text), label_sets, label_sets)
def test_label_sets_that_agree_on_all_terms_are_the_same(
    selector: Selector, one: dict[str, str], other: dict[str, str]
) -> None:
    def answers(labels: dict[str, str]) -> list[object]:
        return [_answer(term, labels) for term in selector.terms()]

    if answers(one) == answers(other):
        assert selector.matches(one) is selector.matches(other)


def _answer(term: Term, labels: dict[str, str]) -> object:
    value = labels.get(term.key)
    if value is None or term.value is None:
        return value is not None
    if term.textual:
        return value.startswith(term.value), value.endswith(term.value), term.value in value
    return value == term.value


# ---------------------------------------------------------------- Kubernetes

requirements = st.one_of(
    st.builds(
        Requirement,
        short_key,
        st.sampled_from(["In", "NotIn"]),
        st.lists(short_text, min_size=1, max_size=2).map(tuple),
    ),
    st.builds(Requirement, short_key, st.sampled_from(["Exists", "DoesNotExist"])),
)
label_selectors = st.builds(
    LabelSelector,
    st.dictionaries(short_key, short_text, max_size=2).map(lambda labels: tuple(sorted(labels.items()))),
    st.lists(requirements, max_size=3).map(tuple),
)


@given(label_selectors, label_sets)
def test_a_kubernetes_selector_means_the_same(selector: LabelSelector, labels: dict[str, str]) -> None:
    tree = from_labels(selector)
    assert tree.matches(labels) is selector.matches(labels)
    back = to_labels(tree)
    if back is None:  # it asks for the impossible
        assert not tree.matches(labels)
    else:
        assert back.matches(labels) is selector.matches(labels)


@given(selectors(short_key, short_text, short_text), label_sets)
def test_what_has_a_kubernetes_form_means_the_same_there(selector: Selector, labels: dict[str, str]) -> None:
    form = to_labels(selector)
    assert form is None or form.matches(labels) is selector.matches(labels)


def test_the_empty_selector() -> None:
    assert from_labels(LabelSelector()) is ALL
    assert to_labels(ALL) == LabelSelector()


def test_an_operator_that_kubernetes_lacks() -> None:
    with pytest.raises(ValueError, match="Gt"):
        from_labels(LabelSelector((), (Requirement("a", "Gt", ("1",)),)))


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("a == 'x' && b in {'y'}", LabelSelector((("a", "x"), ("b", "y")))),
        ("a != 'x'", LabelSelector((), (Requirement("a", "NotIn", ("x",)),))),
        ("!(a == 'y' || a == 'x')", LabelSelector((), (Requirement("a", "NotIn", ("x", "y")),))),
        ("a == 'y' || a == 'x'", LabelSelector((), (Requirement("a", "In", ("x", "y")),))),
        ("!(has(a) && a != 'x')", None),
        (
            "!(has(a) || b == 'x')",
            LabelSelector((), (Requirement("a", "DoesNotExist"), Requirement("b", "NotIn", ("x",)))),
        ),
        ("has(a) && a != 'x'", LabelSelector((), (Requirement("a", "Exists"), Requirement("a", "NotIn", ("x",))))),
        ("!has(a) || has(a)", LabelSelector()),
        ("a not in {}", LabelSelector()),
        ("a in {}", None),
        ("!all()", None),
        ("has(a) || has(b)", None),
        ("has(a) && (has(b) || has(c))", None),
        ("a starts with 'x'", None),
        ("!a contains 'x'", None),
        ("a == 'no value'", None),
        ("has(a/b/c)", None),
        ("has(projectcalico.org/name)", LabelSelector((), (Requirement("projectcalico.org/name", "Exists"),))),
    ],
)
def test_the_kubernetes_form(text: str, form: LabelSelector | None) -> None:
    assert to_labels(parse(text)) == form

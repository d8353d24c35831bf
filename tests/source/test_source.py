"""YAML with places: scalars, duplicate keys, anchors, bombs; and pydantic's complaints with carets."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pilothouse import source
from pilothouse.source import Node, Source


def one(text: str) -> Node:
    nodes, problems = source.load(Source("a.yaml", text))
    assert problems == []
    assert len(nodes) == 1
    return nodes[0]


def codes(text: str) -> list[str]:
    return [problem.code for problem in source.load(Source("a.yaml", text))[1]]


# ---------------------------------------------------------------- values and places


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.5", 1.5),
        (".5e3", 500.0),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("tomorrow", "tomorrow"),
        ("2027-01-31", "2027-01-31"),
        ("22:22", "22:22"),
        ("8000-8100", "8000-8100"),
        ("1.2.3", "1.2.3"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("~", None),
        ("", None),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    found = one(f"key: {text}").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_every_key_and_value_has_its_place() -> None:
    node = one("a:\n  - {name: x, other: 'two words'}\nb: [1, 2]\n")
    assert str(node.at("a", 0, "name")) == "a.yaml:2:12"
    assert str(node.key_at("a", 0, "other")) == "a.yaml:2:15"
    assert node.at("a", 0, "other").width == len("'two words'")
    assert node.at("b", 1).excerpt == "b: [1, 2]"


def test_an_unknown_path_gives_its_nearest_parent() -> None:
    node = one("a:\n  b: 1\n")
    assert str(node.at("a", "missing", "deeper")) == "a.yaml:2:3"
    assert str(node.key_at("a", "missing")) == "a.yaml:2:3"


def test_several_documents_and_empty_ones() -> None:
    nodes, problems = source.load(Source("a.yaml", "---\na: 1\n---\n---\n# nothing\n---\nb: 2\n"))
    assert [node.data for node in nodes] == [{"a": 1}, {"b": 2}]
    assert problems == []
    assert str(nodes[1].at("b")) == "a.yaml:7:4"


def test_a_long_line_is_cut_in_the_excerpt() -> None:
    assert len(one("a: " + "x" * 5000).at("a").excerpt) == 400


# ---------------------------------------------------------------- mistakes


def test_a_duplicate_key_names_the_first_one() -> None:
    nodes, problems = source.load(Source("a.yaml", "spec:\n  egress: [1]\n  egress: [2]\n"))
    assert nodes[0].data == {"spec": {"egress": [1]}}
    (problem,) = problems
    assert problem.code == "source/duplicate-key"
    assert str(problem.place) == "a.yaml:3:3"
    assert str(problem.related[0]) == "a.yaml:2:3"
    assert "line 2" in problem.hint


def test_a_key_must_be_plain_text() -> None:
    assert codes("{{ name }}: x") == ["source/complex-key"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a:\n\t- b", "spaces"),
        ("a: b: c", "quote the value"),
        ("a: [1, 2", "brackets"),
        ("a: *nothing", "*"),
    ],
)
def test_a_syntax_error_has_a_place_and_a_hint(text: str, hint: str) -> None:
    (problem,) = source.load(Source("a.yaml", text))[1]
    assert problem.code == "source/yaml-syntax"
    assert problem.place.line > 0
    assert hint in problem.hint


def test_documents_before_a_syntax_error_are_kept() -> None:
    nodes, problems = source.load(Source("a.yaml", "a: 1\n---\nb: [\n"))
    assert [node.data for node in nodes] == [{"a": 1}]
    assert [problem.code for problem in problems] == ["source/yaml-syntax"]


def test_control_characters_are_a_syntax_error() -> None:
    assert codes("a: \x07") == ["source/yaml-syntax"]


def test_an_alias_repeats_a_value() -> None:
    node = one("a: &x {k: [1, 2]}\nb: *x\n")
    assert node.data["b"] == {"k": [1, 2]}
    assert str(node.at("b", "k", 1)) == "a.yaml:1:15", "the place is where the value is written"


def test_an_alias_cannot_contain_itself() -> None:
    assert codes("a: &x [*x]") == ["source/recursive-alias"]


def test_a_yaml_bomb_is_stopped_early() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    nodes, problems = source.load(Source("bomb.yaml", "\n".join(lines)))
    assert nodes == []
    assert [problem.code for problem in problems] == ["source/too-complex"]
    assert "aliases" in problems[0].message


def test_deep_nesting_is_refused() -> None:
    nodes, problems = source.load(Source("deep.yaml", "[" * 200 + "]" * 200))
    assert nodes == []
    assert problems[0].code == "source/too-complex"
    assert "levels" in problems[0].message


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, "[" * 100_000 + "]" * 100_000, "- " * 100_000, "{a: " * 90_000],
    ids=["open", "closed", "block", "mappings"],
)
def test_absurd_nesting_neither_crashes_nor_takes_long(text: str) -> None:
    """The C composer would recurse until the process ends."""
    nodes, problems = source.load(Source("deep.yaml", text))
    assert nodes == []
    assert [problem.code for problem in problems] == ["source/too-complex"]


def test_aliases_cannot_nest_deeper_than_a_text_may() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 150)]
    nodes, problems = source.load(Source("a.yaml", "\n".join(lines)))
    assert nodes == []
    assert problems[0].code == "source/too-complex"
    assert "levels" in problems[0].message


def test_plain_data_of_another_program() -> None:
    text = "a: [1, yes, 2026-01-31, ~, {b: 0x10}]\nlast: &x {c: 1.5}\nagain: *x\n"
    assert source.plain(text) == {
        "a": [1, True, "2026-01-31", None, {"b": 16}],
        "last": {"c": 1.5},
        "again": {"c": 1.5},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "100 levels"),
        ("- " * 100_000, "100 levels"),
        ("!!timestamp 2026-13-45", "month"),
        ("1" * 5000, "digits"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: &a {b: 1}\nc: {<<: *a}\n", "merge keys"),
        ("a: 1\n---\na: 2\n", "single document"),
        ("a: [", "expected"),
    ],
)
def test_what_is_no_plain_data(text: str, message: str) -> None:
    with pytest.raises(yaml.YAMLError, match=message):
        source.plain(text)


def test_documents_before_one_that_is_too_deep_are_kept() -> None:
    nodes, problems = source.load(Source("a.yaml", "a: 1\n---\n" + "[" * 500 + "]" * 500))
    assert [node.data for node in nodes] == [{"a": 1}]
    assert [problem.code for problem in problems] == ["source/too-complex"]
    assert problems[0].place.line == 3


def test_many_brackets_side_by_side_are_not_deep() -> None:
    text = "a: [" + ", ".join("[1]" for _ in range(3000)) + "]"
    assert len(one(text).data["a"]) == 3000


def test_a_mistake_in_a_text_with_many_brackets_is_still_a_syntax_error() -> None:
    assert codes("a: [" + "[1], " * 3000) == ["source/yaml-syntax"]


def test_a_large_text_is_refused() -> None:
    (problem,) = source.load(Source("a.yaml", "a: " + "x" * source.MAX_BYTES))[1]
    assert problem.code == "source/too-large"


# ---------------------------------------------------------------- pydantic at the edge


def _even(value: object) -> object:
    if not isinstance(value, int) or value % 2:
        raise ValueError(f"{value!r} is odd | take the next one")
    return value


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    mode: Literal["fast", "slow"] = "fast"
    size: Annotated[int, BeforeValidator(_even)] = 2


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    item: Inner | None = None
    items: list[Inner] = Field(default_factory=list)
    by_name: dict[str, Inner] = Field(default_factory=dict, alias="byName")


def complaints(text: str) -> list[tuple[str, str, str, str]]:
    model, problems = source.validate(one(text), Outer, "test")
    assert (model is None) == bool(problems)
    return [(p.code, str(p.place), p.message, p.hint) for p in problems]


def test_a_valid_document_is_a_model() -> None:
    model, problems = source.validate(one("items: [{name: x}]"), Outer, "test")
    assert problems == []
    assert model is not None
    assert model.items[0].mode == "fast"


@pytest.mark.parametrize(
    ("text", "place", "inside"),
    [
        ("items: [{name: x, mdoe: fast}]", "a.yaml:1:19", "items[0]"),
        ("item: {name: x, mdoe: fast}", "a.yaml:1:17", "item"),
        ("byName: {one: {name: x, mdoe: fast}}", "a.yaml:1:25", "byName.one"),
    ],
)
def test_an_unknown_field_has_the_nearest_name(text: str, place: str, inside: str) -> None:
    assert complaints(text) == [
        ("test/unknown-field", place, f"unknown field `mdoe` in `{inside}`", "did you mean `mode`?")
    ]


def test_without_a_near_name_the_known_ones_are_listed() -> None:
    ((_, _, message, hint),) = complaints("zzz: 1")
    assert message == "unknown field `zzz`"
    assert hint == "known: byName, item, items"


def test_a_missing_field_points_at_its_parent() -> None:
    assert complaints("items:\n  - {mode: slow}") == [
        ("test/missing-field", "a.yaml:2:5", "`items[0].name` is missing", "add `name`")
    ]


def test_a_wrong_word_has_the_nearest_one() -> None:
    ((code, place, message, hint),) = complaints("item: {name: x, mode: slwo}")
    assert (code, place) == ("test/bad-value", "a.yaml:1:23")
    assert message == "`item.mode`: 'slwo' is not one of fast, slow"
    assert hint == "did you mean `slow`?"


def test_a_validator_gives_its_own_hint() -> None:
    ((_, _, message, hint),) = complaints("item: {name: x, size: 3}")
    assert message == "`item.size`: 3 is odd"
    assert hint == "take the next one"


def test_a_number_for_text_says_how_to_quote_it_as_it_was_written() -> None:
    ((_, _, message, hint),) = complaints("item: {name: 1.30}")
    assert message == "`item.name`: 1.30 is not text"
    assert hint == 'quote it: "1.30"'


def test_all_complaints_come_at_once() -> None:
    found = complaints("item: {mode: slwo, size: 3}\nzzz: 1")
    assert [code for code, *_ in found] == [
        "test/missing-field",
        "test/bad-value",
        "test/bad-value",
        "test/unknown-field",
    ]


def test_a_part_of_a_document_can_be_validated() -> None:
    node = one("spec:\n  item: {name: x, mdoe: fast}")
    _, (problem,) = source.validate(node, Inner, "test", at=("spec", "item"))
    assert str(problem.place) == "a.yaml:2:19"

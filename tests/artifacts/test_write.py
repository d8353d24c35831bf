from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.artifacts.model import Artifacts, Document, Format
from pilothouse.artifacts.write import serialise, serialise_all, to_yaml

AWKWARD = [
    "1e3", "y", "No", "0x1", "0o17", "089", "43e95", "1:20", "a: b", "- x", "#", "a #b", "2020-01-01", "=", "<<",
    "a\nb\n", "a\n  b", "~", "e1", "nan", ".inf", "a:b", "NULL", "on:x", "a\tb", " a", "a ", "@x", "%x", "`", "|", "?",
    "a\n\nb", "\n", "a\n\n", "trailing \nspace", "\u0085", "\ufeff", "\U0001f600", "{a}", "[a]", "!x", "&a", "*a",
]  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(AWKWARD),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.sampled_from(AWKWARD), inner, max_size=4)
    ),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    assert yaml.load(to_yaml(value), Loader=yaml.SafeLoader) == value


@pytest.mark.parametrize("text", AWKWARD)
def test_a_string_stays_a_string(text: str) -> None:
    assert yaml.safe_load(to_yaml({"key": text, text: "value", "list": [text]})) == {
        "key": text,
        text: "value",
        "list": [text],
    }


def test_plain_strings_stay_plain_and_text_becomes_a_block() -> None:
    written = to_yaml({"image": "team/app:v1", "when": "5m", "expr": "sum(x)\n> 3\n", "empty": {}, "none": []})
    assert written == 'image: team/app:v1\nwhen: "5m"\nexpr: |\n  sum(x)\n  > 3\nempty: {}\nnone: []\n'


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=3))
def test_shared_values_are_written_as_if_they_were_not(values: list[object]) -> None:
    """Each value stands at several depths, as an item and under a key, in two documents of one run."""
    data = {"items": values * 3, "deep": {"items": values, "again": [[value, {"x": value}] for value in values]}}
    shared = Artifacts.of(Document(name, {"a": data, "b": [data, data]}) for name in ("one", "two"))
    apart = {document.path: serialise(Document(document.path, copy(document.data))) for document in shared}
    assert serialise_all(shared) == apart


def copy(value: Any) -> Any:
    """Equal, and no object of it stands twice (`deepcopy` would keep what is shared)."""
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    return [copy(item) for item in value] if isinstance(value, list) else value


class Counted(Mapping[str, Any]):
    """Makes its values anew each time, so that a new one may lie where an old one did."""

    def __init__(self, numbers: range) -> None:
        self.numbers = numbers

    def __getitem__(self, key: str) -> Any:
        return {"number": [key]} if key in set(self) else {}[key]

    def __iter__(self) -> Iterator[str]:
        return (f"n{number}" for number in self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def test_values_that_are_made_on_the_way_are_not_mixed_up() -> None:
    given = [Counted(range(50)), {"in": Counted(range(50, 99))}]
    made = [Document("one", given), Document("two", given[0])]
    plain = {f"n{number}": {"number": [f"n{number}"]} for number in range(99)}
    first, second = dict(list(plain.items())[:50]), dict(list(plain.items())[50:])
    written = serialise_all(Artifacts.of(made))
    assert yaml.safe_load(written["one"]) == [first, {"in": second}]
    assert yaml.safe_load(written["two"]) == first


def test_a_text_of_several_lines_is_a_block_wherever_it_stands() -> None:
    text = "one\ntwo\n"
    assert to_yaml([{text: text}, [text], text]) == (
        '- "one\\ntwo\\n": |\n    one\n    two\n-\n  - |\n    one\n    two\n- |\n  one\n  two\n'
    )


def test_words_of_an_enumeration_are_their_text() -> None:
    assert to_yaml({Format.JSON: Format.YAML, "list": [Format.TEXT], "none": (), "numbers": (1, ())}) == (
        "json: yaml\nlist:\n  - text\nnone: []\nnumbers:\n  - 1\n  - []\n"
    )


def test_keys_must_be_strings_and_values_json() -> None:
    with pytest.raises(TypeError, match="a key must be a string, not 1"):
        to_yaml({1: "x"})
    with pytest.raises(TypeError, match="set cannot be written"):
        to_yaml({"a": {1}})
    with pytest.raises(ValueError, match="JSON compliant"):
        to_yaml({"a": float("nan")})


def test_each_format_is_written_in_its_own_way() -> None:
    manifests = [{"kind": "A"}, {"kind": "B"}]
    written = serialise(Document("a.yaml", manifests, Format.MANIFESTS, comment="from x\n\nand y"))
    assert written == b"# from x\n#\n# and y\nkind: A\n---\nkind: B\n"
    assert json.loads(serialise(Document("a.json", {"a": "ü"}, Format.JSON))) == {"a": "ü"}
    assert serialise(Document("a.conf", "x 1\n", Format.TEXT, comment="head")) == b"# head\nx 1\n"
    assert serialise(Document("a.yaml", [[1, [2]], {"a": None}])) == b"-\n  - 1\n  -\n    - 2\n- a: null\n"


def test_artifacts_are_sorted_and_one_path_stands_once() -> None:
    found = Artifacts.of([Document("b/x", 1), Document("a", 2)])
    assert [document.path for document in found] == ["a", "b/x"]
    assert len(found) == 2
    assert "a" in found
    assert found["a"].data == 2
    assert [document.path for document in found.under("b/")] == ["b/x"]
    assert [document.path for document in found | Artifacts.of([Document("c", 3)])] == ["a", "b/x", "c"]
    with pytest.raises(ValueError, match="two documents for a"):
        _ = found | found


def test_manifests_are_those_of_manifest_documents() -> None:
    found = Artifacts.of([Document("a", [{"kind": "A"}], Format.MANIFESTS), Document("b", {"kind": "B"})])
    assert list(found.manifests()) == [{"kind": "A"}]

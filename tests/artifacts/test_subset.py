"""What a document says, looked for in what a server made of it."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.artifacts.subset import Deviation, deviations


@pytest.mark.parametrize(
    ("said", "held"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": "1"}, {"a": 1}),
        ({"a": True}, {"a": True}),
        ({"a": False}, {}),
        ({"a": None}, {}),
        ({"url": "https://x.example"}, {"url": "<secret>"}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]}),
        ({"a": 5.0}, {"a": 5}),
        ({}, {"a": 1}),
    ],
)
def test_no_deviation(said: Any, held: Any) -> None:
    assert list(deviations(said, held)) == []


@pytest.mark.parametrize(
    ("said", "held", "expected"),
    [
        ({"a": 1}, {"a": 2}, Deviation("a", "1", "2")),
        ({"a": 1}, {}, Deviation("a", "1", "")),
        ({"a": {"b": 1}}, {"a": 3}, Deviation("a", "{'b': 1}", "3")),
        ({"a": [1, 2]}, {"a": [1]}, Deviation("a[1]", "2", "")),
        ({"a": [1]}, {"a": [1, 2]}, Deviation("a[1]", "", "2")),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, Deviation("a[0].b", "1", "2")),
        ({"a": False}, {"a": True}, Deviation("a", "", "true")),
        ({"a": ""}, {"a": "<secret>"}, Deviation("a", "", "<secret>")),
        ([1], {"a": 1}, Deviation("[0]", "1", "")),
    ],
)
def test_a_deviation(said: Any, held: Any, expected: Deviation) -> None:
    assert list(deviations(said, held)) == [expected]

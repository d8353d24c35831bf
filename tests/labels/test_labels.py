from __future__ import annotations

import pytest

from pilothouse.labels import EVERYTHING, LabelSelector, Requirement, ownership

MANIFEST = {
    "matchLabels": {"b": "2", "a": "1"},
    "matchExpressions": [
        {"key": "tier", "operator": "In", "values": ["web", "api"]},
        {"key": "old", "operator": "NotIn", "values": ["yes"]},
        {"key": "team", "operator": "Exists"},
        {"key": "gone", "operator": "DoesNotExist"},
    ],
}


def test_a_manifests_selector_is_read_and_written_back() -> None:
    selector = LabelSelector.from_dict(MANIFEST)
    assert selector.to_dict() == MANIFEST
    assert str(selector) == "a=1,b=2,tier in (web, api),old notin (yes),team,!gone"
    assert str(EVERYTHING) == "everything"
    assert EVERYTHING.to_dict() == {}
    assert LabelSelector.of({"a": "1"}, b="2").match_labels == (("a", "1"), ("b", "2"))


@pytest.mark.parametrize(
    ("labels", "matches"),
    [
        ({"a": "1", "b": "2", "tier": "api", "team": "x"}, True),
        ({"a": "1", "b": "2", "tier": "api", "team": "x", "old": "no"}, True),
        ({"a": "1", "b": "2", "tier": "api", "team": "x", "old": "yes"}, False),
        ({"a": "1", "b": "2", "tier": "api", "team": "x", "gone": ""}, False),
        ({"a": "1", "b": "2", "tier": "db", "team": "x"}, False),
        ({"a": "1", "b": "2", "team": "x"}, False),
        ({"a": "1", "b": "2", "tier": "api"}, False),
        ({"a": "1", "tier": "api", "team": "x"}, False),
    ],
)
def test_requirements_are_anded_and_a_missing_key_matches_what_denies_it(labels: dict[str, str], matches: bool) -> None:
    assert LabelSelector.from_dict(MANIFEST).matches(labels) is matches
    assert EVERYTHING.matches(labels)


def test_an_unknown_operator_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="unknown operator 'Gt'"):
        Requirement("a", "Gt", ("1",)).matches({"a": "2"})


def test_what_is_ours_names_its_cluster() -> None:
    assert ownership("dev") == {"app.kubernetes.io/managed-by": "pilothouse", "pilothouse.dev/cluster": "dev"}

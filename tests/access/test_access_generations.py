"""Generations of profiles: in names, in what is rendered, in the proof, and in who can do what."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from support.access_values import NOW, elevated, profile
from support.builders import cluster, inputs, service

from pilothouse.access import derive, names, rbac, reach
from pilothouse.access.can_i import Question
from pilothouse.access.history import Living
from pilothouse.access.names import GroupName
from pilothouse.access.permissions import Person
from pilothouse.inventory.model import Manifest, Snapshot
from pilothouse.labels import ownership
from pilothouse.platform.model import Elevation, Scope

SERVICES = (service("payments/api"),)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (GroupName("developer", generation=2), "ph:developer.g2"),
        (GroupName("developer", "payments", generation=12), "ph:developer.g12:payments"),
        (GroupName("admin", elevated=True, generation=1), "ph:elevated:admin.g1"),
        (GroupName("admin", "payments", True, generation=1), "ph:elevated:admin.g1:payments"),
    ],
)
def test_a_generation_stands_behind_the_name(name: GroupName, text: str) -> None:
    assert str(name) == text
    assert GroupName.parse(text) == name


@pytest.mark.parametrize(
    "text", ["ph:developer.g0", "ph:developer.g", "ph:developer.g01", "ph:developer.2", "ph:a.g1.g2"]
)
def test_what_is_no_generation_is_no_group_of_ours(text: str) -> None:
    assert GroupName.parse(text) is None


def test_a_team_called_like_a_generation_is_a_team() -> None:
    assert GroupName.parse("ph:developer:g2") == GroupName("developer", "g2")


def documents(item: Any, on: Any = None, live: tuple[Manifest, ...] = ()) -> Any:
    given = inputs(SERVICES, profiles={item.name: item}, on=on)
    return derive(replace(given, snapshot=Snapshot(rbac=live)))


def test_only_the_present_generation_is_bound_and_the_role_keeps_its_name() -> None:
    role, binding = documents(profile(generation=3)).artifacts["rbac/developer.yaml"].data
    assert role["metadata"]["name"] == "ph:developer"
    assert binding["metadata"]["name"] == binding["subjects"][0]["name"] == "ph:developer.g3:payments"
    assert binding["roleRef"]["name"] == "ph:developer"
    assert names.groups_for(profile(generation=3), ("payments",)) == ("ph:developer.g3:payments",)


def test_vault_signs_the_present_generation_under_the_same_role() -> None:
    found = documents(profile(generation=3))
    (role,) = [item for item in found.artifacts.under("vault/") if "/roles/" in item.path and "pki" in item.path]
    assert role.path.endswith("/roles/developer.payments.json")
    assert role.data["organization"] == ["ph:developer.g3:payments"]


def bound(name: str, labels: dict[str, str] | None = None) -> Manifest:
    data = {"metadata": {"name": name, "labels": ownership("dev") if labels is None else labels}}
    return Manifest("RoleBinding", rbac.API_VERSION, "payments", name, data)


@pytest.mark.parametrize(
    ("generation", "live", "is_found"),
    [
        (3, "ph:developer.g3:payments", False),
        (4, "ph:developer.g3:payments", False),
        (2, "ph:developer.g3:payments", True),
        (0, "ph:developer.g1", True),
        (0, "ph:developer:payments", False),
        (1, "ph:reader.g3:payments", False),
    ],
)
def test_it_never_goes_down(generation: int, live: str, is_found: bool) -> None:
    found = documents(profile(generation=generation), live=(bound(live),))
    messages = [item.message for item in found.problems if item.code == "access/generation-lowered"]
    assert bool(messages) is is_found
    foreign = documents(profile(generation=generation), live=(bound(live, {}),))
    assert "access/generation-lowered" not in [item.code for item in foreign.problems]


def test_it_does_nothing_where_each_request_is_bound() -> None:
    binds = cluster("dev", elevation=Elevation("system:serviceaccount:pilothouse:worker"))

    def codes(item: Any, where: Any) -> list[str]:
        return [problem.code for problem in documents(item, where).problems]

    code = "access/generation-without-effect"
    assert code in codes(elevated(generation=1), binds)
    assert code not in codes(elevated(), binds)
    assert code not in codes(elevated(generation=1), cluster("dev"))
    assert code not in codes(profile(generation=1), binds)


def test_who_can_knows_what_an_earlier_binding_is_worth() -> None:
    """It stands still: a living certificate passes by it, and nobody gets another one for it."""
    now_, before = profile(generation=2, scope=Scope.CLUSTER), profile(generation=1, scope=Scope.CLUSTER)
    given = inputs(SERVICES, profiles={now_.name: now_})
    old = inputs(SERVICES, profiles={before.name: before})
    present = [
        item for each, of in ((now_, given), (before, old)) for item in rbac.of_profile(each, of.platform, of.cluster)
    ]
    people = (Person("alice", groups=frozenset(("engineers",))),)
    held = Living("dev", "1", "alice", "developer", frozenset(("ph:developer.g1",)), NOW, NOW + timedelta(hours=1))
    ask = Question("get", "pods", "", "payments")
    found = reach.who_can(given.platform, "dev", ask, present, people, (held,))
    by_name = {way.subject.name: way for way in found.ways}
    assert by_name["ph:developer.g2"].people == ("alice",)
    assert by_name["ph:developer.g2"].certificates == ()
    assert by_name["ph:developer.g1"].people == ()
    assert by_name["ph:developer.g1"].groups == ()
    assert by_name["ph:developer.g1"].certificates == (held,)
    assert {item.group for item in reach.what_can(given.platform, given.cluster, people[0], present)} == {
        "ph:developer.g2"
    }

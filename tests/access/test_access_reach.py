"""Who can, where the worker binds each request for an elevated profile by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from support.access_values import elevated
from support.builders import cluster, inputs, service

from pilothouse.access.can_i import Question
from pilothouse.access.elevation import binding
from pilothouse.access.history import Living
from pilothouse.access.permissions import person_of
from pilothouse.access.reach import manifests, what_can, who_can
from pilothouse.platform.authority import Elevation

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
DELETE = Question("delete", "nodes")
PROFILE = elevated()
BINDING = cluster(elevation=Elevation("system:serviceaccount:pilothouse:pilothouse"))
PLATFORM = inputs((service("payments/api"),), on=BINDING, profiles={PROFILE.name: PROFILE}).platform


def test_what_may_be_asked_for_is_a_way_to_it() -> None:
    person = person_of(PLATFORM, "olga", PROFILE.groups)
    found = who_can(PLATFORM, "dev", DELETE, manifests(PLATFORM, BINDING, ()), (person,), ())
    (way,) = (item for item in found.ways if item.profile)
    assert (way.profile, way.elevated, way.people, way.certificates) == (PROFILE.name, True, ("olga",), ())
    rights = what_can(PLATFORM, BINDING, person, manifests(PLATFORM, BINDING, ()))
    assert {(right.profile, right.elevated) for right in rights} == {(PROFILE.name, True)}


def test_what_was_claimed_is_a_way_by_the_binding_of_its_request() -> None:
    held = Living("dev", "1", "olga", PROFILE.name, frozenset(("ph:elev:g-1",)), NOW, NOW + timedelta(hours=1))
    live = binding("g-1", "olga", "2026-11-21T09:00:00Z", PROFILE, "dev", "")
    found = who_can(PLATFORM, "dev", DELETE, manifests(PLATFORM, BINDING, (live,)), (), (held,))
    first = found.ways[0]
    assert first.subject.name == "ph:elev:g-1"
    assert first.certificates == (held,)

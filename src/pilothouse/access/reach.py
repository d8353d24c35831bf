"""Who could do something, and what somebody can do: RBAC, profiles, people and certificates put together.

`can_i` says which bindings allow a request; here each is led back to the profile it was rendered from, to the
people who may have that profile, and to the certificates that carry its group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pilothouse.access import can_i, names, rbac
from pilothouse.access.can_i import Grantor, Identity, Question, Subject
from pilothouse.access.history import Living
from pilothouse.access.names import GroupName
from pilothouse.access.permissions import Action, Person, may
from pilothouse.platform.authority import Elevation
from pilothouse.platform.model import AccessProfile, Cluster, Platform, Scope

Manifest = Mapping[str, Any]


CLUSTER_ADMIN: Manifest = {
    "kind": "ClusterRole",
    "metadata": {"name": "cluster-admin"},
    "rules": [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ],
}
"""The API server makes this role itself and keeps it so
(https://kubernetes.io/docs/reference/access-authn-authz/rbac/#user-facing-roles), so it is known without a snapshot."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to it. `people` are those known who may have the profile, `groups` the directory groups that may ask;
    both are empty for a subject that is not ours. `elevated` needs a request of its own, `approvers` agree to it."""

    subject: Subject
    by: Grantor
    profile: str = ""
    team: str = ""
    elevated: bool = False
    approvers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    certificates: tuple[Living, ...] = ()


@dataclass(frozen=True, slots=True)
class WhoCan:
    """`missing` are roles that bindings refer to and that were not given: whoever is bound to them is not listed."""

    ways: tuple[Way, ...]
    missing: tuple[str, ...] = ()


def manifests(platform: Platform, cluster: Cluster, present: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """What is there, what an elevated profile binds once it is claimed, and the role that every API server has."""
    found = {_key(item): item for item in present}
    found.setdefault(_key(CLUSTER_ADMIN), CLUSTER_ADMIN)
    # Where each request is bound by itself, the group of its profile stands for those that are still to come.
    standing = replace(cluster, elevation=Elevation())
    for profile in platform.profiles.values():
        if profile.elevated and profile.holds_on(cluster.name):
            for item in rbac.of_profile(profile, platform, standing):
                found.setdefault(_key(item), item)
    return tuple(found.values())


def _key(manifest: Manifest) -> tuple[str, str, str]:
    metadata = manifest.get("metadata") or {}
    return str(manifest.get("kind")), str(metadata.get("namespace", "")), str(metadata.get("name", ""))


def who_can(
    platform: Platform,
    cluster: str,
    question: Question,
    present: Iterable[Manifest],
    people: Iterable[Person],
    living: Iterable[Living],
) -> WhoCan:
    """Every way to it on that cluster; those with a living certificate first."""
    found, missing = can_i.who_can(question, present)
    known, certificates = tuple(people), tuple(item for item in living if item.cluster == cluster)
    ways = [_way(platform, cluster, subject, by, known, certificates) for subject, by in found]
    ways.sort(key=lambda way: (not way.certificates, way.elevated, not way.profile, str(way.subject.name)))
    return WhoCan(tuple(ways), missing)


def _way(
    platform: Platform,
    cluster: str,
    subject: Subject,
    by: Grantor,
    people: tuple[Person, ...],
    living: tuple[Living, ...],
) -> Way:
    carried = tuple(item for item in living if subject.is_held_by(Identity(item.user, item.groups)))
    group = GroupName.parse(subject.name) if subject.kind == "Group" else None
    profile = platform.profiles.get(group.profile) if group else None
    if group is None or profile is None:
        return Way(subject, by, certificates=carried)
    # The binding of an earlier generation that still stands: living certificates pass by it, and no new one is for it.
    is_present = group.generation == profile.generation
    holders = tuple(
        person.user
        for person in people
        if is_present
        and (not group.team or group.team in person.teams)
        and group_of(platform, cluster, profile, person)
    )
    approvers = profile.approver_groups if profile.approval else ()
    return Way(
        subject,
        by,
        profile.name,
        group.team,
        profile.elevated,
        approvers,
        profile.groups if is_present else (),
        tuple(sorted(holders)),
        carried,
    )


def group_of(platform: Platform, cluster: str, profile: AccessProfile, person: Person) -> tuple[str, ...]:
    """The groups that a certificate of that profile would carry for the person on the cluster; none where they may not
    have it there."""
    action = Action.ELEVATE if profile.elevated else Action.REQUEST
    if not profile.holds_on(cluster) or not may(person, action, profile, platform):
        return ()
    teams: tuple[str, ...] = ()
    if profile.scope is Scope.TEAM_NAMESPACES:
        teams = tuple(team for team in sorted(person.teams) if platform.namespaces_of(team, cluster))
    return names.groups_for(profile, teams)


@dataclass(frozen=True, slots=True)
class Right:
    """What a person can do by one rule of one binding. `profile` is "" for a binding of their own name or of everybody;
    `namespace` "" holds in all of them."""

    cluster: str
    profile: str
    team: str
    elevated: bool
    group: str
    namespace: str
    by: Grantor


def what_can(platform: Platform, cluster: Cluster, person: Person, present: Iterable[Manifest]) -> tuple[Right, ...]:
    """Everything that the person can do on the cluster, standing profiles before elevated ones."""
    objects = tuple(present)
    found: list[Right] = []
    for profile in platform.profiles.values():
        for group in group_of(platform, cluster.name, profile, person):
            parsed = GroupName.parse(group)
            team = parsed.team if parsed else ""
            found += [
                Right(cluster.name, profile.name, team, profile.elevated, group, namespace, by)
                for namespace, by in can_i.rules_of(Identity("", frozenset((group,))), objects)
                if by.subject == f"group {group}"
            ]
    # Bindings of the name itself: nothing of ours makes those, so they are worth seeing.
    found += [
        Right(cluster.name, "", "", False, "", namespace, by)
        for namespace, by in can_i.rules_of(Identity(person.user), objects)
        if by.subject == f"user {person.user}"
    ]
    return tuple(sorted(found, key=lambda right: (right.elevated, right.profile, right.team, right.namespace)))

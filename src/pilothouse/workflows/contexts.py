"""Where a person may go with kubectl: one context for each standing profile of theirs and cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pilothouse.access.permissions import Action, Person, may
from pilothouse.platform.model import AccessProfile, Cluster, Platform, Scope
from pilothouse.workflows.access import ApiServer, api_server


@dataclass(frozen=True, slots=True)
class Context:
    """`team` is set where Vault signs, which gives one team's group at a time."""

    cluster: str
    profile: str
    team: str
    api_server: ApiServer


def contexts(platform: Platform, person: Person) -> tuple[Context, ...]:
    """By cluster and profile. Elevated profiles are in none: they are asked for each time."""
    servers = {name: api_server(platform, name) for name in platform.clusters}
    return tuple(
        Context(name, profile.name, team, servers[name])
        for name, cluster in sorted(platform.clusters.items())
        for profile in sorted(platform.profiles.values(), key=lambda item: item.name)
        if not profile.elevated and profile.holds_on(name) and may(person, Action.REQUEST, profile, platform)
        for team in _teams(platform, person, profile, cluster)
    )


def _teams(platform: Platform, person: Person, profile: AccessProfile, cluster: Cluster) -> Iterator[str]:
    """ "" for a certificate of all teams; none where the profile would hold nowhere."""
    if profile.scope is not Scope.TEAM_NAMESPACES:
        yield ""
        return
    teams = [team for team in sorted(person.teams) if platform.namespaces_of(team, cluster.name)]
    if cluster.authority.backend == "vault":
        yield from teams
    elif teams:
        yield ""

"""The names that a profile has in a cluster: groups of certificates, roles and bindings.

A group is what RBAC sees of a certificate's O field. Its form says everything:

    ph:<profile>                      a standing profile
    ph:<profile>:<team>               the same, in the namespaces of one team
    ph:elevated:<profile>[:<team>]    an elevated one, where its bindings stand
    ph:elev:<request>                 one request for an elevated profile, where the worker binds each of them

A profile that names a generation has it behind its name, as `ph:developer.g2:payments`: no name of a profile or team
holds a dot. Only the group of the present generation is bound, so that raising it ends every certificate of before.

Names of RBAC objects may hold `:` (https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#path-segment-names).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilothouse.labels import GROUP_PREFIX
from pilothouse.platform.model import AccessProfile, Scope

ELEVATED = "elevated"
"""The word that marks the group of an elevated profile."""

ELEVATION = "elev"
"""The word that marks the group of one request."""

RESERVED = (ELEVATED, ELEVATION)
"""No profile may be called so: its groups would look like those of elevated ones."""

REQUEST = re.compile(r"g-[a-z0-9]{1,18}")
"""The id of a request."""

GENERATION = re.compile(r"[1-9][0-9]{0,5}")
"""How a generation is written behind a profile's name."""

PROFILE_LABEL = "pilothouse.dev/profile"
"""Label of every Role and binding of ours: the profile that it was derived from."""

SYSTEM_PREFIX = "system:"
"""Kubernetes' own users and groups. `system:masters` bypasses RBAC: nothing of ours ever carries the prefix."""


@dataclass(frozen=True, slots=True)
class GroupName:
    """A group of ours, taken apart; `team` is "" where the profile holds for all, `generation` 0 where it names none.
    With a `request` it is that of one request, and names neither profile nor team."""

    profile: str
    team: str = ""
    elevated: bool = False
    request: str = ""
    generation: int = 0

    def __str__(self) -> str:
        if self.request:
            return f"{GROUP_PREFIX}{ELEVATION}:{self.request}"
        parts = [ELEVATED] if self.elevated else []
        parts.append(f"{self.profile}.g{self.generation}" if self.generation else self.profile)
        if self.team:
            parts.append(self.team)
        return GROUP_PREFIX + ":".join(parts)

    @classmethod
    def parse(cls, group: str) -> GroupName | None:
        """None for a group that is not of our form."""
        if not group.startswith(GROUP_PREFIX):
            return None
        parts = group.removeprefix(GROUP_PREFIX).split(":")
        if parts[0] == ELEVATION:
            is_one = len(parts) == 2 and REQUEST.fullmatch(parts[1])
            return cls("", elevated=True, request=parts[1]) if is_one else None
        elevated = parts[0] == ELEVATED
        if elevated:
            parts = parts[1:]
        if not 1 <= len(parts) <= 2 or not all(parts):
            return None
        profile, dot, generation = parts[0].partition(".g")
        if "." in profile or (dot and not GENERATION.fullmatch(generation)):
            return None
        return cls(profile, parts[1] if len(parts) == 2 else "", elevated, generation=int(generation or 0))


def group(profile: AccessProfile, team: str = "") -> str:
    """The group of a profile (in one team's namespaces, where its scope says so)."""
    return str(GroupName(profile.name, team, profile.elevated, generation=profile.generation))


def groups_for(profile: AccessProfile, teams: tuple[str, ...]) -> tuple[str, ...]:
    """The groups that a certificate of that profile carries for a member of these teams, sorted."""
    if profile.scope is Scope.TEAM_NAMESPACES:
        return tuple(group(profile, team) for team in sorted(set(teams)))
    return (group(profile),)


def role(profile: AccessProfile) -> str:
    """The name of the ClusterRole that the profile's bindings refer to."""
    return profile.cluster_role or str(GroupName(profile.name, elevated=profile.elevated))


def is_system(name: str) -> bool:
    """Whether a user or group name is Kubernetes' own, however it is written."""
    return name.strip().lower().startswith(SYSTEM_PREFIX)

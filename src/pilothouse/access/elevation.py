"""The binding of one request for an elevated profile: how it is made, and whether one that is found may stand.

Where a cluster declares who binds (`Cluster.binds_requests`), a certificate of an elevated profile carries one group,
`ph:elev:<request>`, and nothing is bound to it but for the time of the elevation: the worker binds it to the profile's
role at the claim, and deletes that binding at the end. The binding says itself until when it may stand, so that whoever
finds it can tell. It does not carry the labels of what is applied (`labels.ownership`): an apply knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pilothouse.access import names
from pilothouse.access.grants import Grant, State, settle
from pilothouse.labels import CLUSTER_LABEL, GROUP_PREFIX, OWNED_BY
from pilothouse.platform.model import AccessProfile, Platform, Scope

API_GROUP = "rbac.authorization.k8s.io"
API_VERSION = f"{API_GROUP}/v1"
OWNER = "pilothouse-elevation"
"""The value of `OWNED_BY` on a request's bindings."""
PREFIX = f"{GROUP_PREFIX}{names.ELEVATION}:"
"""What names and groups of these bindings begin with."""
REQUEST_LABEL = "pilothouse.dev/request"
USER_ANNOTATION = "pilothouse.dev/user"
EXPIRES_ANNOTATION = "pilothouse.dev/expires"
"""When the binding may not stand any more: UTC, as RFC 3339 writes it, in whole seconds."""

Manifest = Mapping[str, Any]


def group_of(request: str) -> str:
    """The group of one request, which is also the name of its bindings."""
    return str(names.GroupName("", elevated=True, request=request))


def written(moment: datetime) -> str:
    """A moment as the annotation has it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def places(profile: AccessProfile, platform: Platform, cluster: str, teams: tuple[str, ...]) -> tuple[str, ...]:
    """The namespaces in which a request is bound for a member of these teams; `("",)` for the whole cluster."""
    match profile.scope:
        case Scope.CLUSTER:
            return ("",)
        case Scope.NAMESPACES:
            return tuple(sorted(set(profile.namespaces)))
        case Scope.TEAM_NAMESPACES:
            return tuple(sorted({item for team in teams for item in platform.namespaces_of(team, cluster)}))


def all_places(profile: AccessProfile, platform: Platform, cluster: str) -> tuple[str, ...]:
    """The namespaces in which any request for the profile may be bound."""
    return places(profile, platform, cluster, tuple(platform.teams))


def bindings(
    request: str,
    user: str,
    expires: datetime,
    profile: AccessProfile,
    platform: Platform,
    cluster: str,
    teams: tuple[str, ...],
) -> tuple[dict[str, Any], ...]:
    """The bindings of one request: a ClusterRoleBinding, or a RoleBinding in each namespace."""
    return tuple(
        binding(request, user, written(expires), profile, cluster, namespace)
        for namespace in places(profile, platform, cluster, teams)
    )


def binding(
    request: str, user: str, expires: str, profile: AccessProfile, cluster: str, namespace: str = ""
) -> dict[str, Any]:
    """One binding; `expires` is written already."""
    name = f"{PREFIX}{request}"
    metadata: dict[str, Any] = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    metadata["labels"] = {
        OWNED_BY: OWNER,
        CLUSTER_LABEL: cluster,
        names.PROFILE_LABEL: profile.name,
        REQUEST_LABEL: request,
    }
    metadata["annotations"] = {USER_ANNOTATION: user, EXPIRES_ANNOTATION: expires}
    return {
        "apiVersion": API_VERSION,
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": metadata,
        "subjects": [{"kind": "Group", "name": name, "apiGroup": API_GROUP}],
        "roleRef": {"apiGroup": API_GROUP, "kind": "ClusterRole", "name": names.role(profile)},
    }


# ---------------------------------------------------------------- what is found on a cluster


def is_one(manifest: Manifest) -> bool:
    """Whether a binding is one of a request, by its name or by our label: somebody may have taken either away."""
    metadata = manifest.get("metadata") or {}
    return str(metadata.get("name", "")).startswith(PREFIX) or (metadata.get("labels") or {}).get(OWNED_BY) == OWNER


def request_of(manifest: Manifest) -> str:
    """The request whose binding it is, "" where it names none. The name counts: it cannot be changed."""
    metadata = manifest.get("metadata") or {}
    name = str(metadata.get("name", ""))
    if name.startswith(PREFIX):
        return name.removeprefix(PREFIX)
    return str((metadata.get("labels") or {}).get(REQUEST_LABEL, ""))


def expiry_of(manifest: Manifest) -> datetime | None:
    """When it may not stand any more, as it says itself; None where it does not say."""
    said = ((manifest.get("metadata") or {}).get("annotations") or {}).get(EXPIRES_ANNOTATION, "")
    try:
        moment = datetime.fromisoformat(str(said))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def same(found: Manifest, wanted: Manifest) -> bool:
    """Whether a binding that is there is the one that should be."""
    return not differences(found, wanted)


def differences(found: Manifest, wanted: Manifest) -> tuple[str, ...]:
    """What of a binding is not as it was made, in words."""
    changed = [
        word
        for word, key in (("its subjects", "subjects"), ("its role", "roleRef"))
        if found.get(key) != wanted.get(key)
    ]
    given, meant = found.get("metadata") or {}, wanted["metadata"]
    for word, field in (("its labels", "labels"), ("its annotations", "annotations")):
        present = given.get(field) or {}
        if any(present.get(key) != value for key, value in meant[field].items()):
            changed.append(word)
    return tuple(changed)


class Verdict(StrEnum):
    """What is to become of a binding that was found."""

    STANDS = "stands"
    EXPIRED = "expired"
    ENDED = "ended"
    UNKNOWN = "unknown"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Judged:
    """`why` is a clause for people; everything that does not stand is deleted."""

    verdict: Verdict
    why: str = ""

    @property
    def goes(self) -> bool:
        return self.verdict is not Verdict.STANDS


def judge(
    found: Manifest, grant: Grant | None, profile: AccessProfile | None, platform: Platform, cluster: str, now: datetime
) -> Judged:
    """Whether a binding of a request may stand now. `profile` is that of the request, None where it is declared no
    more."""
    expires = expiry_of(found)
    if expires is not None and expires <= now:
        return Judged(Verdict.EXPIRED, f"it was to end at {written(expires)}")
    if grant is None or grant.cluster != cluster:
        return Judged(Verdict.UNKNOWN, "no request of that id is known for this cluster")
    state = settle(grant, now).state
    if state is not State.CLAIMED or grant.expires_at is None:
        return Judged(Verdict.ENDED, f"its request is {state}")
    if profile is None:
        return Judged(Verdict.STANDS)  # it ends by itself, and what its role was is not known here
    namespace = str((found.get("metadata") or {}).get("namespace", ""))
    wanted = binding(grant.id, grant.user, written(grant.expires_at), profile, cluster, namespace)
    changed = list(differences(found, wanted))
    if namespace not in all_places(profile, platform, cluster):
        changed.append("the place where it holds")
    if changed:
        return Judged(Verdict.CHANGED, f"{' and '.join(changed)} {'is' if len(changed) == 1 else 'are'} not as made")
    return Judged(Verdict.STANDS)


def requested(profile: AccessProfile, platform: Platform, cluster: str, teams: tuple[str, ...]) -> Iterator[Manifest]:
    """The bindings that a request would have once it is claimed, to ask what its holder may: the request is called
    `<request>`, and so is its group."""
    for namespace in places(profile, platform, cluster, teams):
        yield binding("<request>", "", "", profile, cluster, namespace)


REQUESTED_GROUP = f"{PREFIX}<request>"

"""Access profiles as RBAC: one ClusterRole per profile, bound to the groups of its certificates.

A profile with rules gets a ClusterRole of its own; one that names a `clusterRole` binds that
existing one. Namespaced scopes use RoleBindings, so that the rules hold there and nowhere else
(https://kubernetes.io/docs/reference/access-authn-authz/rbac/#rolebinding-and-clusterrolebinding).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pilothouse.access import names
from pilothouse.artifacts.model import Document, Format
from pilothouse.labels import SOURCE_ANNOTATION, TEAM_LABEL, ownership
from pilothouse.platform.model import AccessProfile, Cluster, Platform, RbacRule, Scope

API_GROUP = "rbac.authorization.k8s.io"
API_VERSION = f"{API_GROUP}/v1"
Manifest = dict[str, Any]


def documents(platform: Platform, cluster: Cluster) -> Iterator[Document]:
    """One file per profile that holds on the cluster, `rbac/<profile>.yaml`."""
    for profile in platform.profiles.values():
        if not profile.holds_on(cluster.name):
            continue
        if manifests := tuple(of_profile(profile, platform, cluster)):
            yield Document(f"rbac/{profile.name}.yaml", manifests, Format.MANIFESTS, _comment(profile, cluster))


def _comment(profile: AccessProfile, cluster: Cluster) -> str:
    lines = [f"Access profile {profile.name}: {profile.description or profile.title or 'no description'}"]
    if profile.elevated:
        lines.append(
            "Elevated: the worker binds each request by itself."
            if cluster.binds_requests
            else "Elevated: no certificate carries this group without a request of its own."
        )
    return "\n".join(lines)


def of_profile(profile: AccessProfile, platform: Platform, cluster: Cluster) -> Iterator[Manifest]:
    """The ClusterRole (where the profile has rules) and every binding that stands: none of an elevated profile where
    the worker binds its requests."""
    if not profile.cluster_role:
        yield _object(
            "ClusterRole", names.role(profile), profile, cluster, rules=[rule(item) for item in profile.rules]
        )
    if profile.elevated and cluster.binds_requests:
        return
    match profile.scope:
        case Scope.CLUSTER:
            yield _binding(profile, cluster, names.group(profile))
        case Scope.NAMESPACES:
            for namespace in sorted(set(profile.namespaces)):
                yield _binding(profile, cluster, names.group(profile), namespace)
        case Scope.TEAM_NAMESPACES:
            for team in platform.teams.values():
                for namespace in platform.namespaces_of(team.name, cluster.name):
                    yield _binding(profile, cluster, names.group(profile, team.name), namespace, team.name)


def rule(item: RbacRule) -> Manifest:
    """A PolicyRule in the manifest's form."""
    data: Manifest = {}
    if item.resources:
        data["apiGroups"] = list(item.api_groups) or [""]
        data["resources"] = list(item.resources)
    if item.resource_names:
        data["resourceNames"] = list(item.resource_names)
    if item.non_resource_urls:
        data["nonResourceURLs"] = list(item.non_resource_urls)
    data["verbs"] = list(item.verbs)
    return data


def _binding(profile: AccessProfile, cluster: Cluster, group: str, namespace: str = "", team: str = "") -> Manifest:
    return _object(
        "RoleBinding" if namespace else "ClusterRoleBinding",
        group,
        profile,
        cluster,
        namespace=namespace,
        team=team,
        subjects=[{"kind": "Group", "name": group, "apiGroup": API_GROUP}],
        roleRef={"apiGroup": API_GROUP, "kind": "ClusterRole", "name": names.role(profile)},
    )


def _object(
    kind: str, name: str, profile: AccessProfile, cluster: Cluster, namespace: str = "", team: str = "", **body: Any
) -> Manifest:
    metadata: Manifest = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    metadata["labels"] = (
        ownership(cluster.name) | {names.PROFILE_LABEL: profile.name} | ({TEAM_LABEL: team} if team else {})
    )
    if profile.place.path:
        # Without the line: a comment above the document would otherwise change every object.
        metadata["annotations"] = {SOURCE_ANNOTATION: profile.place.path}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata} | body

"""The kinds that are read, and those that are applied: where the API serves them.

Calico's kinds stand in one of two groups, by its API server or as CRDs. They are the same objects, so only one of
both is ever looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True)
class Kind:
    """A list of the API: `path` below the server, and what to say when it may not be read."""

    path: str
    plural: str
    name: str
    group: str = ""

    @property
    def group_version(self) -> str:
        """As `apiVersion` writes it."""
        return self.path.removeprefix("/apis/").removeprefix("/api/").rpartition("/")[0]

    @property
    def namespaced(self) -> bool:
        return not self.name.startswith(("Cluster", "Global", "StagedGlobal")) and self.name not in _CLUSTER_WIDE

    def at(self, namespace: str, name: str = "") -> str:
        """The path of one object, or of the list of a namespace."""
        prefix, _, plural = self.path.rpartition("/")
        where = f"{prefix}/namespaces/{quote(namespace, safe='')}/{plural}" if namespace else self.path
        return f"{where}/{quote(name, safe='')}" if name else where

    @property
    def resource(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


def _kinds(prefix: str, group: str, *names: str) -> tuple[Kind, ...]:
    """`names` are kinds; `Ingress` → `ingresses`, `NetworkPolicy` → `networkpolicies`."""
    found = []
    for name in names:
        lower = name.lower()
        plural = f"{lower[:-1]}ies" if lower.endswith("y") else f"{lower}es" if lower.endswith("s") else f"{lower}s"
        found.append(Kind(f"{prefix}/{plural}", plural, name, group))
    return tuple(found)


def _group(group: str, version: str, *names: str) -> tuple[Kind, ...]:
    return _kinds(f"/apis/{group}/{version}", group, *names)


CORE = (
    *_kinds("/api/v1", "", "Namespace", "Node", "Pod", "Service", "ServiceAccount"),
    *_group("discovery.k8s.io", "v1", "EndpointSlice"),
    *_group("networking.k8s.io", "v1", "NetworkPolicy", "Ingress"),
    *_group("rbac.authorization.k8s.io", "v1", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
)
"""What every cluster serves."""

_CALICO = (
    "Tier",
    "NetworkPolicy",
    "GlobalNetworkPolicy",
    "StagedNetworkPolicy",
    "StagedGlobalNetworkPolicy",
    "StagedKubernetesNetworkPolicy",
    "NetworkSet",
    "GlobalNetworkSet",
    "HostEndpoint",
)
CALICO = (
    _group("projectcalico.org", "v3", *_CALICO),
    _group("crd.projectcalico.org", "v1", *_CALICO),
)
"""Calico's kinds by its API server, else as CRDs: the same objects, so the first that is served is read alone."""

OPTIONAL = (
    *_group("policy.networking.k8s.io", "v1alpha1", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"),
    *_group("policy.networking.k8s.io", "v1alpha2", "ClusterNetworkPolicy"),
)

_CLUSTER_WIDE = frozenset(
    (
        "Namespace",
        "Node",
        "Tier",
        "HostEndpoint",
        "AdminNetworkPolicy",
        "BaselineAdminNetworkPolicy",
        "CustomResourceDefinition",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    )
)

_APPLIED_EVERYWHERE = (
    *_kinds("/api/v1", "", "ServiceAccount", "ConfigMap"),
    *_group("apps", "v1", "DaemonSet"),
    *_group("networking.k8s.io", "v1", "NetworkPolicy"),
    *_group("rbac.authorization.k8s.io", "v1", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
    *_group("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
)
_APPLIED_CALICO = ("Tier", "NetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy", "GlobalNetworkSet")
_ISOLATING_CALICO = ("GlobalNetworkPolicy",)

_KNOWN = {
    (kind.group_version, kind.name): kind
    for kind in (
        *CORE,
        *_APPLIED_EVERYWHERE,
        *(kind for group in CALICO for kind in group),
        *OPTIONAL,
        *_group("apps", "v1", "Deployment", "StatefulSet"),
        *_group("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
        *_group("coordination.k8s.io", "v1", "Lease"),
        *_kinds("/api/v1", "", "Secret"),
    )
}


def applied(served: frozenset[str] | None, calico_api: str) -> tuple[Kind, ...]:
    """Every kind of which something of ours may lie in the cluster.

    `served` are the versions of groups that the cluster serves (None: not known); of Calico's kinds those of
    `calico_api` are meant, or of the group that is served where none is declared.
    """
    return _APPLIED_EVERYWHERE + _of_calico(served, calico_api, _APPLIED_CALICO)


def isolating(served: frozenset[str] | None, calico_api: str) -> tuple[Kind, ...]:
    """Kinds beside `applied` that say what pods may reach, whoever wrote them."""
    others = tuple(kind for kind in OPTIONAL if served is not None and kind.group_version in served)
    return _of_calico(served, calico_api, _ISOLATING_CALICO) + others


def _of_calico(served: frozenset[str] | None, calico_api: str, names: tuple[str, ...]) -> tuple[Kind, ...]:
    versions = [calico_api] if calico_api else [group[0].group_version for group in CALICO]
    for version in versions:
        if served is None or version in served:
            return tuple(_KNOWN[version, name] for name in names)
    return ()


def of(manifest: Mapping[str, Any]) -> Kind:
    """The kind of a manifest that we make. KeyError for one that we never do."""
    return _KNOWN[str(manifest["apiVersion"]), str(manifest["kind"])]

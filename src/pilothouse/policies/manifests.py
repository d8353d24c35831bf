"""Network policies as data: Kubernetes' kinds, and Calico's where Kubernetes' cannot say it.

Sources of the shapes: https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/
and https://docs.tigera.io/calico/latest/reference/resources/.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pilothouse import labels
from pilothouse.labels import LabelSelector
from pilothouse.policies.addresses import Block
from pilothouse.policies.matching import PolicyPort

PREFIX = "pilothouse-"
PART_LABEL = "pilothouse.dev/part"
"""Which part of the policy set an object is: `default-deny`, `dns`, `ingress`, `egress`, `domains`, `forbidden`,
`domain-set` or `tier`."""
RULES_ANNOTATION = "pilothouse.dev/rules"
EXPIRES_ANNOTATION = "pilothouse.dev/expires"
"""When the last address that was resolved for it ends (RFC 3339, UTC): once that has passed, nothing refreshes it."""
DOMAIN_LABEL = "pilothouse.dev/domain"
ALLOW_ORDER = 900
"""Order of our Calico policies in the default tier; Kubernetes' own stand at 1000. Both only allow, so it is free."""

_LABEL_VALUE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")

Manifest = dict[str, Any]


def metadata(
    name: str,
    namespace: str,
    cluster: str,
    part: str,
    source: str = "",
    rules: Sequence[str] = (),
    expires: datetime | None = None,
    **more: str,
) -> Manifest:
    """`rules` says, line by line, why each rule is there; `expires` when resolved addresses in it end; `more` are
    further labels."""
    data: Manifest = {"name": name}
    if namespace:
        data["namespace"] = namespace
    data["labels"] = {**labels.ownership(cluster), PART_LABEL: part, **more}
    annotations = {}
    if source:
        annotations[labels.SOURCE_ANNOTATION] = source
    if rules:
        annotations[RULES_ANNOTATION] = "\n".join(rules) + "\n"
    if expires:
        annotations[EXPIRES_ANNOTATION] = expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if annotations:
        data["annotations"] = annotations
    return data


# ---------------------------------------------------------------- Kubernetes


def pods_peer(own_namespace: str, namespace: str | LabelSelector | None, selector: LabelSelector) -> Manifest:
    """Pods by label: of the own namespace (None, or its name), of a namespace by name, or of those a selector finds."""
    if namespace is None or namespace == own_namespace:
        return {"podSelector": selector.to_dict()}
    if isinstance(namespace, str):
        namespace = LabelSelector.of({labels.NAMESPACE_NAME_LABEL: namespace})
    peer: Manifest = {"namespaceSelector": namespace.to_dict()}
    if not selector.is_empty:
        peer["podSelector"] = selector.to_dict()
    return peer


def block_peer(block: Block) -> Manifest:
    data: Manifest = {"cidr": str(block.network)}
    if block.excluded:
        data["except"] = [str(item) for item in block.excluded]
    return {"ipBlock": data}


def ports(items: Iterable[PolicyPort]) -> list[Manifest]:
    found = []
    for item in items:
        data: Manifest = {"protocol": item.protocol, "port": item.name or item.number}
        if item.end > item.number:
            data["endPort"] = item.end
        found.append(data)
    return found


def rule(direction: str, peers: Sequence[Manifest], items: Sequence[PolicyPort]) -> Manifest:
    """One rule of `ingress` or `egress`; no ports means every port."""
    data: Manifest = {"from" if direction == "ingress" else "to": list(peers)}
    if items:
        data["ports"] = ports(items)
    return data


def network_policy(meta: Manifest, selector: LabelSelector, **directions: Sequence[Manifest]) -> Manifest:
    """`network_policy(meta, pods, ingress=[…])`: a direction that is named is isolated, even with no rules."""
    spec: Manifest = {
        "podSelector": selector.to_dict(),
        "policyTypes": [name.capitalize() for name in ("ingress", "egress") if name in directions],
    }
    spec.update({name: list(directions[name]) for name in ("ingress", "egress") if directions.get(name)})
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


# ---------------------------------------------------------------- Calico


def staged(manifest: Mapping[str, Any], calico_api: str) -> Manifest:
    """The same policy in its staged form, which Calico evaluates and reports but does not enforce."""
    if manifest["kind"] != "NetworkPolicy":
        return dict(manifest)
    ours = str(manifest["apiVersion"]).startswith("networking.k8s.io/")
    return {
        "apiVersion": calico_api,
        "kind": "StagedKubernetesNetworkPolicy" if ours else "StagedNetworkPolicy",
        "metadata": manifest["metadata"],
        "spec": {"stagedAction": "Set", **manifest["spec"]},
    }


def calico_name(name: str, calico_api: str) -> str:
    """The stored form (`crd.projectcalico.org`) carries the tier's name before the policy's; the API adds it itself."""
    return f"default.{name}" if calico_api.startswith("crd.") else name


def calico_selector(selector: LabelSelector) -> str:
    """A Kubernetes selector in Calico's grammar."""
    parts = [f"{key} == '{value}'" for key, value in selector.match_labels]
    for item in selector.match_expressions:
        values = ", ".join(f"'{value}'" for value in item.values)
        match item.operator:
            case "In":
                parts.append(f"{item.key} in {{{values}}}")
            case "NotIn":
                parts.append(f"{item.key} not in {{{values}}}")
            case "Exists":
                parts.append(f"has({item.key})")
            case _:
                parts.append(f"!has({item.key})")
    return " && ".join(parts) or "all()"


def domain_value(domain: str) -> str:
    """The value of `DOMAIN_LABEL` for a domain: its name, or a part of it with a hash where a label cannot hold it."""
    if _LABEL_VALUE.fullmatch(domain):
        return domain
    readable = re.sub(r"[^a-z0-9.-]+", "", domain[:50]).strip("-.")
    return f"{readable}-{hashlib.sha256(domain.encode()).hexdigest()[:12]}"


def domain_set(
    domain: str, nets: Sequence[str], cluster: str, calico_api: str, source: str, expires: datetime | None = None
) -> Manifest:
    """A GlobalNetworkSet with the addresses of one domain; `expires` where they were resolved."""
    name = f"{PREFIX}domain-{domain_value(domain)}"
    meta = metadata(name, "", cluster, "domain-set", source, expires=expires, **{DOMAIN_LABEL: domain_value(domain)})
    return {"apiVersion": calico_api, "kind": "GlobalNetworkSet", "metadata": meta, "spec": {"nets": list(nets)}}


def domain_rules(domain: str, items: Sequence[PolicyPort]) -> list[Manifest]:
    """Egress rules towards one domain's set: one for each protocol, or one for everything."""
    destination: Manifest = {
        "selector": f"{DOMAIN_LABEL} == '{domain_value(domain)}'",
        "namespaceSelector": "global()",
    }
    if not items:
        return [{"action": "Allow", "destination": destination}]
    found = []
    for protocol in sorted({item.protocol for item in items}):
        numbers: list[int | str] = [
            f"{item.number}:{item.end}" if item.end > item.number else item.number
            for item in items
            if item.protocol == protocol
        ]
        found.append({"action": "Allow", "protocol": protocol, "destination": {**destination, "ports": numbers}})
    return found


def calico_egress(meta: Manifest, selector: LabelSelector, rules: Sequence[Manifest], calico_api: str) -> Manifest:
    return {
        "apiVersion": calico_api,
        "kind": "NetworkPolicy",
        "metadata": {**meta, "name": calico_name(meta["name"], calico_api)},
        "spec": {
            "tier": "default",
            "order": ALLOW_ORDER,
            "selector": calico_selector(selector),
            "types": ["Egress"],
            "egress": list(rules),
        },
    }

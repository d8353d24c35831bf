"""What a profile may do, in words that need no knowledge of RBAC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from pilothouse.platform.model import AccessProfile, Platform, RbacRule, Scope


class Weight(StrEnum):
    """How much a statement gives: `read` looks, `change` alters, `power` can become more than it says."""

    READ = "read"
    CHANGE = "change"
    POWER = "power"


@dataclass(frozen=True, slots=True)
class Statement:
    text: str
    weight: Weight


_READS = ("get", "list", "watch")
_CHANGES = ("create", "update", "patch")
_DELETES = ("delete", "deletecollection")

_SPECIAL: Mapping[tuple[str, str], tuple[str, Weight]] = {
    ("pods/exec", "create"): ("open a shell in pods", Weight.POWER),
    ("pods/exec", "get"): ("open a shell in pods", Weight.POWER),
    ("pods/attach", "create"): ("attach to running containers", Weight.POWER),
    ("pods/portforward", "create"): ("forward ports of pods", Weight.CHANGE),
    ("pods/portforward", "get"): ("forward ports of pods", Weight.CHANGE),
    ("pods/eviction", "create"): ("evict pods", Weight.CHANGE),
    ("pods/proxy", "get"): ("reach pods through the API server", Weight.CHANGE),
    ("services/proxy", "get"): ("reach services through the API server", Weight.CHANGE),
    ("nodes/proxy", "get"): ("run commands in any pod through its node", Weight.POWER),
    ("pods/ephemeralcontainers", "patch"): ("put a debugging container into pods", Weight.POWER),
    ("serviceaccounts/token", "create"): ("make tokens of ServiceAccounts", Weight.POWER),
}

_NAMES: Mapping[str, str] = {
    "pods/log": "logs",
    "pods/status": "the state of pods",
    "configmaps": "ConfigMaps",
    "secrets": "Secrets",
    "persistentvolumeclaims": "volume claims",
    "persistentvolumes": "volumes",
    "replicasets": "ReplicaSets",
    "statefulsets": "StatefulSets",
    "daemonsets": "DaemonSets",
    "cronjobs": "CronJobs",
    "networkpolicies": "network policies",
    "horizontalpodautoscalers": "autoscalers",
    "poddisruptionbudgets": "disruption budgets",
    "serviceaccounts": "ServiceAccounts",
    "rolebindings": "RoleBindings",
    "clusterroles": "ClusterRoles",
    "clusterrolebindings": "ClusterRoleBindings",
    "endpointslices": "endpoint slices",
    "resourcequotas": "quotas",
    "limitranges": "limit ranges",
    "storageclasses": "storage classes",
    "volumeattachments": "volume attachments",
    "replicationcontrollers": "replication controllers",
}

_BUILT_IN: Mapping[str, tuple[Statement, ...]] = {
    "cluster-admin": (
        Statement("do everything, on every resource", Weight.POWER),
        Statement("read every Secret", Weight.POWER),
        Statement("change roles and bindings, and so give anything to anyone", Weight.POWER),
    ),
    "admin": (
        Statement("change everything in the namespace, Secrets among it", Weight.POWER),
        Statement("change roles and bindings of the namespace", Weight.POWER),
    ),
    "edit": (
        Statement("change workloads, ConfigMaps and Secrets", Weight.POWER),
        Statement("open a shell in pods, and act as their ServiceAccounts", Weight.POWER),
    ),
    "view": (Statement("see most things, but no Secrets and no roles", Weight.READ),),
}
"""https://kubernetes.io/docs/reference/access-authn-authz/rbac/#user-facing-roles"""


def may_do(profile: AccessProfile) -> tuple[Statement, ...]:
    """What the profile allows, from the strongest to the weakest, each statement once."""
    if profile.cluster_role:
        return _BUILT_IN.get(
            profile.cluster_role,
            (Statement(f"do what the cluster's role `{profile.cluster_role}` allows", Weight.CHANGE),),
        )
    return of_rules(profile.rules)


def of_rules(rules: Iterable[RbacRule]) -> tuple[Statement, ...]:
    """The rules as statements; what is said of several resources is said once."""
    said: dict[tuple[str, Weight], list[str]] = {}
    for rule in rules:
        for verb, weight, objects in _rule(rule):
            found = said.setdefault((verb, weight), [])
            found.extend(name for name in objects if name not in found)
    order = [Weight.POWER, Weight.CHANGE, Weight.READ]
    statements = [
        Statement(f"{verb} {_and(objects)}" if objects else verb, weight) for (verb, weight), objects in said.items()
    ]
    return tuple(sorted(statements, key=lambda s: order.index(s.weight)))


def _rule(rule: RbacRule) -> Iterable[tuple[str, Weight, list[str]]]:
    verbs = set(rule.verbs)
    only = f" (only {', '.join(rule.resource_names)})" if rule.resource_names else ""
    if rule.non_resource_urls:
        yield "read the URLs", Weight.READ, list(rule.non_resource_urls)
    plain: list[str] = []
    for resource in rule.resources:
        special = [_SPECIAL[resource, verb] for verb in rule.verbs if (resource, verb) in _SPECIAL]
        if special:
            yield special[0][0] + only, special[0][1], []
        elif resource.endswith("/scale"):
            if verbs & {*_CHANGES, "*"}:
                yield "scale", Weight.CHANGE, [_name(resource.removesuffix("/scale"), rule) + only]
        else:
            plain.append(_name(resource, rule) + only)
    if not plain:
        return
    secret = "Secrets" in plain or "everything" in plain
    if "*" in verbs:
        yield "do everything with", Weight.POWER, plain
        return
    if verbs & set(_READS):
        yield "see", Weight.POWER if secret else Weight.READ, plain
    created = "create" in verbs
    changed = bool(verbs & {"update", "patch"})
    strong = secret or any(group in rule.api_groups for group in ("rbac.authorization.k8s.io", "*"))
    weight = Weight.POWER if strong else Weight.CHANGE
    if created or changed:
        yield ("create and change" if created and changed else "create" if created else "change"), weight, plain
    if verbs & set(_DELETES):
        yield "delete", weight, plain
    known = {*_READS, *_CHANGES, *_DELETES}
    for verb in rule.verbs:
        if verb not in known:
            yield verb, Weight.POWER, plain


def _name(resource: str, rule: RbacRule) -> str:
    if resource == "*":
        return "everything" + (
            "" if "*" in rule.api_groups else f" of {_and([g or 'the core' for g in rule.api_groups])}"
        )
    base = _NAMES.get(resource) or resource.replace("/", " ")
    return f"{base} metrics" if rule.api_groups == ("metrics.k8s.io",) else base


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def where(profile: AccessProfile, platform: Platform, cluster: str, teams: Iterable[str]) -> str:
    """Where it holds, for a member of these teams: "in namespaces cards and payments"."""
    match profile.scope:
        case Scope.CLUSTER:
            return f"everywhere on {cluster}"
        case Scope.NAMESPACES:
            return _in(list(profile.namespaces))
        case Scope.TEAM_NAMESPACES:
            return _in(sorted({name for team in teams for name in platform.namespaces_of(team, cluster)}))


def _in(namespaces: list[str]) -> str:
    if not namespaces:
        return "in no namespace"
    return f"in namespace{'s' if len(namespaces) > 1 else ''} {_and(namespaces)}"


def duration(seconds: int) -> str:
    """`57600` → "16 h", `5400` → "1 h 30 min", `45` → "45 s"."""
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    return " ".join(part for part in (f"{hours} h" if hours else "", f"{minutes} min" if minutes else "") if part)


def remaining(left: timedelta) -> str:
    """What is left of a time, rounded to whole minutes where it is more than one."""
    seconds = int(left.total_seconds())
    return duration(seconds if seconds < 60 else round(seconds / 60) * 60)


def terms(profile: AccessProfile) -> str:
    """How it is got and how long it lasts, in one sentence."""
    most = "" if profile.max_lifetime == profile.lifetime else f", at most {duration(profile.max_lifetime)}"
    length = f"{duration(profile.lifetime)}{most}"
    if profile.renewal:
        return (
            f"At once, for {duration(profile.lifetime)} from the login, in certificates of"
            f" {duration(profile.renewal)}: account, groups and locks are checked again before each."
        )
    if not profile.elevated:
        return f"At once, for {length}."
    given = "a reason and a ticket" if profile.ticket else "a reason"
    if profile.break_glass:
        return (
            f"With {given}, after another of {', '.join(profile.break_glass)} agrees; {length}."
            " Everybody is told, and it is reviewed afterwards."
        )
    if profile.approval:
        return f"With {given}, after another person of {' or '.join(profile.approver_groups)} agrees; {length}."
    return f"With {given}, at once; {length}."


def to_dict(profile: AccessProfile) -> dict[str, Any]:
    """What the profile may do as data, for JSON."""
    return {
        "profile": profile.name,
        "title": profile.title,
        "description": profile.description,
        "may": [{"text": item.text, "weight": item.weight.value} for item in may_do(profile)],
        "terms": terms(profile),
    }


def rule_text(rule: Mapping[str, Any]) -> str:
    """A PolicyRule in one line."""
    what = rule.get("nonResourceURLs") or rule.get("resources") or ()
    only = f" named {', '.join(rule['resourceNames'])}" if rule.get("resourceNames") else ""
    return f"{', '.join(rule.get('verbs') or ())} on {', '.join(what)}{only}"

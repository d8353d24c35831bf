"""In which order changes of a cluster are made, so that nothing is opened or cut on the way.

Objects change one by one, and policies add up: what is allowed at a moment is the union of the policies that are there.
So everything that allows more comes first, in whole, and everything that allows less afterwards. Between the first step
and the last, each direction of each pod allows at least what both the old and the new state allow, and at most what
one of them does. Three things need more than an order:

- A policy that changes both ways (a rule comes, another goes) would drop the old rule before the policy is there that
  has it now. A **copy** of the old policy holds it until everything new is there.
- The first policy that selects a pod isolates it, long before the last one allows what it needs; and the last one that
  goes leaves it isolated until then. Where a direction of a namespace changes between open and isolated, a **shelter**
  that allows everything stands there meanwhile. It opens nothing: one of the two states is open.
- A binding whose role grows must not grow with it when it is to go: bindings go first, before any role changes.

Where somebody else's policies isolate pods too, a shelter would open what those deny, so there is none: pods may then
miss a connection for the moment between two steps. So may pods that a policy no longer selects, or newly selects,
because its selector changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pilothouse.artifacts.objects import Object, ObjectKey, is_owned, written
from pilothouse.labels import ownership

PART = "pilothouse.dev/part"
TRANSITION = "transition"
"""The part of what stands only while an apply runs. One that is found later was left by a run that was killed."""
SHELTER = "pilothouse-transition"
MAX_NAME = 253
_KUBERNETES = "networking.k8s.io"
_DIRECTIONS = ("ingress", "egress")


class Phase(IntEnum):
    """What is done when. Within a phase the order does not matter."""

    FOUNDATIONS = 0
    """Namespaces and definitions of kinds."""
    REVOKE = 1
    """Bindings that go, or that will name another role, which only a new object can."""
    ROLES = 2
    """Accounts, roles and whatever others refer to."""
    BIND = 3
    RUN = 4
    """What runs, with the accounts and configuration of before."""
    SETS = 5
    """Sets of addresses that gain some."""
    SHELTER = 6
    COPY = 7
    ALLOW = 8
    RESET = 9
    """Sets of addresses that lose some."""
    DENY = 10
    """Policies that only lose rules, or that have none."""
    PRUNE_POLICIES = 11
    UNSHELTER = 12
    PRUNE = 13


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of one object: `before` as the server has it (None: not there), `after` None: removed."""

    key: ObjectKey
    before: Object | None
    after: Object | None


@dataclass(frozen=True, slots=True)
class Step:
    """One request. `manifest` is what is applied, or the object that is deleted; `before` what the server had."""

    phase: Phase
    action: str
    """"apply" or "delete"."""
    key: ObjectKey
    manifest: Object
    before: Object | None = None
    passing: bool = False
    """Whether it is only there while the apply runs."""


def order(changes: Iterable[Change], policies: Iterable[Object], cluster: str) -> tuple[Step, ...]:
    """The steps in their order. `policies` is every policy of the cluster as it is, whoever wrote it."""
    wanted = tuple(changes)
    present = tuple(policies)
    steps = [step for change in wanted for step in _steps(change, cluster)]
    steps += _shelters(wanted, present, cluster)
    return tuple(sorted(steps, key=lambda step: (step.phase, _rank(step), step.key)))


def is_transition(manifest: Object) -> bool:
    return bool((manifest.get("metadata") or {}).get("labels", {}).get(PART) == TRANSITION)


# ---------------------------------------------------------------- one change


def _steps(change: Change, cluster: str) -> Iterator[Step]:
    key, before, after = change.key, change.before, change.after
    if after is None:
        if before is not None:
            yield Step(_pruned(key), "delete", key, before, before)
        return
    if _is_binding(key) and before is not None and before.get("roleRef") != after.get("roleRef"):
        # https://kubernetes.io/docs/reference/access-authn-authz/rbac/#clusterrolebinding-example: it cannot change.
        yield Step(Phase.REVOKE, "delete", key, before, before)
        yield Step(Phase.BIND, "apply", key, after)
        return
    phase = _applied(key, before, after)
    if phase is Phase.ALLOW and before is not None and _needs_copy(before, after):
        copy = _copy(before, cluster)
        copied = ObjectKey.of(copy)
        yield Step(Phase.COPY, "apply", copied, copy, passing=True)
        yield Step(Phase.PRUNE_POLICIES, "delete", copied, copy, passing=True)
    yield Step(phase, "apply", key, after, before)


def _applied(key: ObjectKey, before: Object | None, after: Object) -> Phase:
    if key.kind in ("Namespace", "CustomResourceDefinition"):
        return Phase.FOUNDATIONS
    if _is_binding(key):
        return Phase.BIND
    if key.kind in ("DaemonSet", "Deployment", "StatefulSet"):
        return Phase.RUN
    if key.kind == "GlobalNetworkSet":
        gains = before is None or _nets(before) <= _nets(after)
        return Phase.SETS if gains else Phase.RESET
    if not _is_policy(key):
        return Phase.ROLES
    new = _Meaning.of(after)
    if not new.rules:
        return Phase.DENY
    if before is None:
        return Phase.ALLOW
    old = _Meaning.of(before)
    return Phase.DENY if old.selects == new.selects and new.rules < old.rules else Phase.ALLOW


def _pruned(key: ObjectKey) -> Phase:
    if _is_binding(key):
        return Phase.REVOKE
    if key.name == SHELTER:  # left by a run that was killed
        return Phase.UNSHELTER
    return Phase.PRUNE_POLICIES if _is_policy(key) else Phase.PRUNE


def _needs_copy(before: Object, after: Object) -> bool:
    old, new = _Meaning.of(before), _Meaning.of(after)
    if not old.only_allows or not old.rules:
        return False  # what denies is not kept longer than it must be, and what has no rule has none to lose
    return old.selects != new.selects or not old.rules <= new.rules


def _copy(before: Object, cluster: str) -> dict[str, Any]:
    """The policy as it is, under another name."""
    found = written(before)
    metadata = found["metadata"]
    name = f"{metadata['name']}-before"
    if len(name) > MAX_NAME:
        name = f"{name[: MAX_NAME - 21]}-{hashlib.sha256(name.encode()).hexdigest()[:20]}"
    own = {"name": name, "labels": {**ownership(cluster), PART: TRANSITION}}
    if metadata.get("namespace"):
        own["namespace"] = metadata["namespace"]
    return {**found, "metadata": own}


# ---------------------------------------------------------------- shelters


def _shelters(changes: tuple[Change, ...], present: tuple[Object, ...], cluster: str) -> Iterator[Step]:
    """Where a direction of a namespace opens or closes as a whole, and nobody else has a say there."""
    enforced = {ObjectKey.of(item): item for item in present if _is_enforced(item)}
    if any(key.namespace == "" for key in enforced):
        return  # a policy for the whole cluster may isolate pods anywhere
    after = dict(enforced)
    touched: set[str] = set()
    for change in changes:
        if change.after is not None and _is_enforced(change.after):
            after[change.key] = change.after
        elif change.after is None and change.key in after:
            del after[change.key]
        else:
            continue
        touched.add(change.key.namespace)
    was, becomes = _isolated(enforced.values()), _isolated(after.values())
    for namespace in sorted(touched):
        directions = sorted(was.get(namespace, set()) ^ becomes.get(namespace, set()))
        if not directions:
            continue
        manifest = {
            "apiVersion": f"{_KUBERNETES}/v1",
            "kind": "NetworkPolicy",
            "metadata": {
                "name": SHELTER,
                "namespace": namespace,
                "labels": {**ownership(cluster), PART: TRANSITION},
            },
            "spec": {
                "podSelector": {},
                "policyTypes": [item.capitalize() for item in _DIRECTIONS if item in directions],
                **{item: [{}] for item in _DIRECTIONS if item in directions},
            },
        }
        key = ObjectKey.of(manifest)
        yield Step(Phase.SHELTER, "apply", key, manifest, enforced.get(key), passing=True)
        if not any(change.key == key and change.after is None for change in changes):
            yield Step(Phase.UNSHELTER, "delete", key, manifest, passing=True)


def _isolated(policies: Iterable[Object]) -> dict[str, set[str]]:
    """Namespace → the directions in which some policy isolates pods of it."""
    found: dict[str, set[str]] = {}
    for item in policies:
        if not is_transition(item):
            found.setdefault(item["metadata"]["namespace"], set()).update(_Meaning.of(item).directions)
    return found


def foreign_policies(policies: Iterable[Object], cluster: str) -> tuple[ObjectKey, ...]:
    """The enforced policies that are not ours, because of which there may be no shelter."""
    return tuple(sorted(ObjectKey.of(item) for item in policies if _is_enforced(item) and not is_owned(item, cluster)))


# ---------------------------------------------------------------- what a policy says


@dataclass(frozen=True, slots=True)
class _Meaning:
    """A policy as the pods that it selects, the directions it isolates, and single things that it allows."""

    selects: str
    directions: frozenset[str]
    rules: frozenset[str]
    only_allows: bool = True

    @classmethod
    def of(cls, manifest: Object) -> _Meaning:
        spec: Mapping[str, Any] = manifest.get("spec") or {}
        if ObjectKey.of(manifest).group == _KUBERNETES:
            # https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/ (policyTypes)
            types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
            directions = frozenset(str(item).lower() for item in types)
            rules = frozenset(rule for item in sorted(directions) for rule in _atoms(item, spec.get(item) or ()))
            return cls(_text([spec.get("podSelector"), sorted(directions)]), directions, rules)
        # https://docs.tigera.io/calico/latest/reference/resources/networkpolicy (types)
        only_egress = spec.get("egress") and not spec.get("ingress")
        types = spec.get("types") or [
            *([] if only_egress else ["Ingress"]),
            *(["Egress"] if spec.get("egress") else []),
        ]
        directions = frozenset(str(item).lower() for item in types)
        found = [(item, rule) for item in sorted(directions) for rule in spec.get(item) or ()]
        where = [spec.get(name) for name in ("selector", "serviceAccountSelector", "tier", "order")]
        return cls(
            _text([where, sorted(directions)]),
            directions,
            frozenset(_text([item, rule]) for item, rule in found),
            all(rule.get("action") == "Allow" for _, rule in found),
        )


def _atoms(direction: str, rules: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A rule of so many peers and ports is that many rules of one each."""
    for rule in rules:
        peers = rule.get("from" if direction == "ingress" else "to") or [None]
        ports = rule.get("ports") or [None]
        yield from (_text([direction, peer, port]) for peer in peers for port in ports)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _nets(manifest: Object) -> frozenset[str]:
    return frozenset((manifest.get("spec") or {}).get("nets") or ())


def _is_policy(key: ObjectKey) -> bool:
    return key.kind.endswith("NetworkPolicy")


def _is_enforced(manifest: Object) -> bool:
    kind = ObjectKey.of(manifest).kind
    return kind.endswith("NetworkPolicy") and not kind.startswith("Staged")


def _is_binding(key: ObjectKey) -> bool:
    return key.kind in ("RoleBinding", "ClusterRoleBinding")


_RANKS = {"DaemonSet": 0, "ConfigMap": 1, "Role": 2, "ClusterRole": 2, "ServiceAccount": 3}


def _rank(step: Step) -> int:
    """When pruning: what runs before what it needs. When adding: the other way round."""
    rank = _RANKS.get(step.key.kind, 1)
    return rank if step.action == "delete" else -rank

"""In which order changes of a cluster are made, so that nothing is opened or cut on the way.

Objects change one by one, and policies add up: what is allowed at a moment is the union of the policies that are there.
So everything that allows more comes first, in whole, and everything that allows less afterwards. Between the first step
and the last, each direction of each pod allows at least what both the old and the new state allow, and at most what
one of them does. Four things need more than an order:

- A policy that changes both ways (a rule comes, another goes) would drop the old rule before the policy is there that
  has it now. A **copy** of the old policy holds it until everything new is there.
- The first policy that selects a pod isolates it, long before the last one allows what it needs; and the last one that
  goes leaves it isolated until then. Where a direction of a namespace changes between open and isolated, a **shelter**
  that allows everything stands there meanwhile. It opens nothing: one of the two states is open.
- A policy that refuses (Calico's, of Deny and Pass alone) stands above what allows. What it refuses newly comes before
  anything is allowed, and what it no longer refuses goes after everything else; meanwhile it refuses both.
- A binding whose role grows must not grow with it when it is to go: bindings go first, before any role changes.

Staged policies decide about nothing, so they come before everything that does, and go after it.

Where somebody else's policies isolate pods too, a shelter might open what those deny, so there is none unless whoever
asks for the order knows better (`beside`): pods may then miss a connection for the moment between two steps. So may
pods that a policy no longer selects, or newly selects, because its selector changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
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
    STAGE = 5
    """Staged policies."""
    REFUSE = 6
    """Policies that refuse more."""
    SETS = 7
    """Sets of addresses that gain some."""
    SHELTER = 8
    COPY = 9
    ALLOW = 10
    RESET = 11
    """Sets of addresses that lose some."""
    DENY = 12
    """Policies that only lose rules, or that have none."""
    PRUNE_POLICIES = 13
    UNSHELTER = 14
    RELEASE = 15
    """Policies that refuse less."""
    UNSTAGE = 16
    """Staged policies that go."""
    PRUNE = 17


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


def order(
    changes: Iterable[Change], policies: Iterable[Object], cluster: str, beside: Collection[str] = ()
) -> tuple[Step, ...]:
    """The steps in their order. `policies` is every policy of the cluster as it is, whoever wrote it. `beside` are
    namespaces in which a shelter may stand beside policies of others."""
    wanted = tuple(changes)
    present = tuple(policies)
    steps = [step for change in wanted for step in _steps(change, cluster)]
    steps += _shelters(wanted, present, cluster, beside)
    return tuple(sorted(steps, key=lambda step: (step.phase, _rank(step), step.key)))


def is_transition(manifest: Object) -> bool:
    return bool((manifest.get("metadata") or {}).get("labels", {}).get(PART) == TRANSITION)


# ---------------------------------------------------------------- one change


def _steps(change: Change, cluster: str) -> Iterator[Step]:
    key, before, after = change.key, change.before, change.after
    if after is None:
        if before is not None:
            yield Step(_pruned(key, before), "delete", key, before, before)
        return
    if _is_binding(key) and before is not None and before.get("roleRef") != after.get("roleRef"):
        # https://kubernetes.io/docs/reference/access-authn-authz/rbac/#clusterrolebinding-example: it cannot change.
        yield Step(Phase.REVOKE, "delete", key, before, before)
        yield Step(Phase.BIND, "apply", key, after)
        return
    phase = _applied(key, before, after)
    if phase is Phase.REFUSE and before is not None and not _rules(before) <= _rules(after):
        both = _refusing_both(before, after)
        yield Step(Phase.REFUSE, "apply", key, both, before, passing=True)
        yield Step(Phase.RELEASE, "apply", key, after, both)
        return
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
    if _is_staged(key):
        return Phase.STAGE
    new = _Meaning.of(after)
    if new.only_refuses and (before is None or _refuses_alike(_Meaning.of(before), new)):
        return Phase.RELEASE if before is not None and _rules(after) < _rules(before) else Phase.REFUSE
    if not new.rules:
        return Phase.DENY
    if before is None:
        return Phase.ALLOW
    old = _Meaning.of(before)
    return Phase.DENY if old.selects == new.selects and new.rules < old.rules else Phase.ALLOW


def _pruned(key: ObjectKey, before: Object) -> Phase:
    if _is_binding(key):
        return Phase.REVOKE
    if key.name == SHELTER:  # left by a run that was killed
        return Phase.UNSHELTER
    if not _is_policy(key):
        return Phase.PRUNE
    if _is_staged(key):
        return Phase.UNSTAGE
    return Phase.RELEASE if _Meaning.of(before).only_refuses else Phase.PRUNE_POLICIES


def _refuses_alike(old: _Meaning, new: _Meaning) -> bool:
    """Whether both refuse, of the same pods, so that one policy can refuse what either does."""
    return old.only_refuses and old.selects == new.selects


def _rules(manifest: Object) -> frozenset[str]:
    return _Meaning.of(manifest).rules


def _refusing_both(before: Object, after: Object) -> dict[str, Any]:
    """The new policy, which refuses what the old one did as well: that goes before its first Pass."""
    spec = dict(after["spec"])
    for direction in _DIRECTIONS:
        kept = {_text(_bare(rule)) for rule in spec.get(direction) or ()}
        old = [rule for rule in (before.get("spec") or {}).get(direction) or () if rule.get("action") == "Deny"]
        lost = [rule for rule in old if _text(_bare(rule)) not in kept]
        if lost:
            spec[direction] = [*lost, *(spec.get(direction) or ())]
    return {**after, "spec": spec}


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


def _shelters(
    changes: tuple[Change, ...], present: tuple[Object, ...], cluster: str, beside: Collection[str]
) -> Iterator[Step]:
    """Where a direction of a namespace opens or closes as a whole, and nobody else has a say there; in the namespaces
    of `beside` also where somebody has."""
    enforced = {ObjectKey.of(item): item for item in present if _is_enforced(item)}
    ours = {key for key, item in enforced.items() if is_owned(item, cluster)} | {change.key for change in changes}
    alone = all(key.namespace for key in enforced)  # a policy for the whole cluster may isolate pods anywhere
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
    states = (_by_namespace(enforced), _by_namespace(after))
    for namespace in sorted(touched):
        if not alone and namespace not in beside:
            continue
        was, becomes = (
            _isolated(item for key, item in state.get(namespace, ()) if namespace not in beside or key in ours)
            for state in states
        )
        directions = sorted(was ^ becomes)
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


def _by_namespace(policies: Mapping[ObjectKey, Object]) -> dict[str, list[tuple[ObjectKey, Object]]]:
    found: dict[str, list[tuple[ObjectKey, Object]]] = {}
    for key, item in policies.items():
        found.setdefault(key.namespace, []).append((key, item))
    return found


def _isolated(policies: Iterable[Object]) -> set[str]:
    """The directions in which some policy isolates pods."""
    return {direction for item in policies if not is_transition(item) for direction in _Meaning.of(item).directions}


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
    only_refuses: bool = False
    """Deny in any number, and then perhaps Pass."""

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
        found = [(item, _bare(rule)) for item in sorted(directions) for rule in spec.get(item) or ()]
        actions = [[rule.get("action") for rule in spec.get(item) or ()] for item in sorted(directions)]
        where = [spec.get(name) for name in ("selector", "serviceAccountSelector", "tier", "order")]
        return cls(
            _text([where, sorted(directions)]),
            directions,
            frozenset(_text([item, rule]) for item, rule in found),
            all(rule.get("action") == "Allow" for _, rule in found),
            bool(found) and all(listed == sorted(listed) and {*listed} <= {"Deny", "Pass"} for listed in actions),
        )


def _bare(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule without what only people read (https://docs.tigera.io/calico/latest/reference/resources/networkpolicy)."""
    return {name: value for name, value in rule.items() if name != "metadata"}


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


def _is_staged(key: ObjectKey) -> bool:
    return key.kind.startswith("Staged")


def _is_enforced(manifest: Object) -> bool:
    key = ObjectKey.of(manifest)
    return _is_policy(key) and not _is_staged(key)


def _is_binding(key: ObjectKey) -> bool:
    return key.kind in ("RoleBinding", "ClusterRoleBinding")


_RANKS = {"DaemonSet": 0, "ConfigMap": 1, "Role": 2, "ClusterRole": 2, "ServiceAccount": 3}


def _rank(step: Step) -> int:
    """When pruning: what runs before what it needs. When adding: the other way round."""
    rank = _RANKS.get(step.key.kind, 1)
    return rank if step.action == "delete" else -rank

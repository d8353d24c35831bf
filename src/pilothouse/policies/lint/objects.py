"""Checks of objects beside one another: twins, leftovers, and what nothing refers to."""

from __future__ import annotations

from dataclasses import replace

from pilothouse.inventory.model import Manifest
from pilothouse.policies.engine import bitsets
from pilothouse.policies.lint.check import Finding, Findings
from pilothouse.policies.lint.context import Context
from pilothouse.policies.rules import Direction, Family, NetworkSet, Peer, Policy, Rule, Scope
from pilothouse.problems import NOWHERE, nearest

_TYPES = {Family.KUBERNETES: "policyTypes", Family.CALICO: "types"}
_TO_USE = "name one of its labels in a rule's selector, or remove it"
_KIND = {"StagedNetworkPolicy": "NetworkPolicy", "StagedGlobalNetworkPolicy": "GlobalNetworkPolicy"}


def duplicates(context: Context) -> Findings:
    """Policies that differ in their names only."""
    found: dict[object, Policy] = {}
    for policy in context.written:
        if not policy.directions:
            continue
        key = (policy.kind, policy.family, _content(policy))
        first = found.setdefault(key, policy)
        if first is not policy:
            yield Finding(
                f"{policy.key}: says the same as {first.key}",
                context.places.name(policy),
                "remove one of them",
                (context.places.name(first),),
            )


def _content(policy: Policy) -> Policy:
    """All that a policy does, without its names."""
    return replace(policy, kind="", name="", api_version="", labels=(), staged=False, staged_action="", place=NOWHERE)


def staged_twin(context: Context) -> Findings:
    """A staged policy that is enforced already, word for word."""
    enforced = {_name(policy): policy for policy in context.enforced}
    for policy in context.written:
        if policy.staged:
            twin = enforced.get(_name(policy))
            if twin is not None and _content(twin) == _content(policy):
                yield Finding(
                    f"{policy.key}: is enforced already: {twin.key} says the same",
                    context.places.name(policy),
                    "remove the staged one",
                    (context.places.name(twin),),
                )


def staged_delete(context: Context) -> Findings:
    enforced = {_name(policy) for policy in context.enforced}
    for policy in context.policies.policies:
        if policy.staged_action == "Delete" and _name(policy) not in enforced:
            yield Finding(
                f"{policy.key}: stages the removal of a policy that does not exist",
                context.places.name(policy),
                nearest(policy.name, (name for *_, space, name in enforced if space == policy.namespace))
                or "remove it",
            )


def _name(policy: Policy) -> tuple[str, str, str, str]:
    kind = "NetworkPolicy" if policy.family is Family.KUBERNETES else _KIND.get(policy.kind, policy.kind)
    return (policy.family, kind, policy.namespace, policy.name)


# ---------------------------------------------------------------- address sets


def unused_set(context: Context) -> Findings:
    peers = _selecting(context)
    for item in context.policies.sets:
        if not _is_used(context, item, peers):
            yield Finding(
                f"{_shown(item)}: no rule selects it",
                context.places.of(item),
                _TO_USE if item.namespace else f"{_TO_USE}; policies of a namespace need `namespaceSelector: global()`",
            )


def empty_set(context: Context) -> Findings:
    peers = _selecting(context)
    for item in context.policies.sets:
        if not item.nets and _is_used(context, item, peers):
            yield Finding(
                f"{_shown(item)}: holds no address, and rules select it",
                context.places.of(item),
                "add `nets`, or remove it",
            )


def _selecting(context: Context) -> list[Peer]:
    """Each distinct peer that may select address sets; what a `notSelector` excludes is selected by it."""
    found: dict[Peer, None] = {}
    for policy in context.policies.policies:
        for rule in (*policy.ingress, *policy.egress):
            for peer in (*rule.peers, rule.subject):
                _add(found, peer)
    for profile in context.policies.profiles:
        for rule in (*profile.ingress, *profile.egress):
            for peer in rule.peers:
                _add(found, peer)
    return list(found)


def _add(found: dict[Peer, None], peer: Peer) -> None:
    if not peer.pods_only and peer.scope not in (Scope.ANY, Scope.NODES):
        found[Peer(peer.scope, peer.namespace, peer.namespace_selector, peer.selector)] = None
    if peer.not_selector is not None:
        found[Peer(Scope.CLUSTER, selector=peer.not_selector)] = None


def _is_used(context: Context, item: NetworkSet, peers: list[Peer]) -> bool:
    return any(context.holds_set(peer, item) for peer in peers)


def _shown(item: NetworkSet) -> str:
    return f"NetworkSet {item.namespace}/{item.name}" if item.namespace else f"GlobalNetworkSet {item.name}"


# ---------------------------------------------------------------- host endpoints


def closed_host(context: Context) -> Findings:
    """A host endpoint denies everything but failsafe ports until a policy or profile allows something
    (https://docs.tigera.io/calico/latest/reference/host-endpoints/overview)."""
    covered = context.isolated[Direction.INGRESS] | context.isolated[Direction.EGRESS]
    for host in context.policies.hosts:
        pieces = bitsets.of(context.universe.pieces_of(f"host:{host.name}"))
        if pieces and not host.profiles and not pieces & covered:
            yield Finding(
                f"HostEndpoint {host.name}: no policy and no profile is for it: all but failsafe ports are denied",
                context.places.of(host, "spec", "node"),
                "write the policies for it first, or add the profile `projectcalico-default-allow`",
            )


def unknown_node(context: Context) -> Findings:
    nodes = {node.name for node in context.snapshot.nodes}
    if not nodes:
        return
    for host in context.policies.hosts:
        if host.node not in nodes:
            yield Finding(
                f"HostEndpoint {host.name}: there is no node `{host.node}`",
                context.places.of(host, "spec", "node"),
                nearest(host.node, nodes) or "correct `node`, or remove the host endpoint",
            )


# ---------------------------------------------------------------- fields that are left out


def rules_without_type(context: Context) -> Findings:
    """Rules of a direction that the policy's types leave out are never looked at
    (https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/)."""
    for policy in context.written:
        for direction in Direction:
            rules: tuple[Rule, ...] = policy.rules(direction)
            if not rules or direction in policy.directions:
                continue
            field = _TYPES.get(policy.family, "types")
            yield Finding(
                f"{policy.key}: its {direction} rules never apply: `{field}` names the other direction only",
                context.places.at(policy, ("spec", field), rules[0].place),
                f"add {direction.capitalize()} to `{field}`, or remove the rules",
                (rules[0].place,),
            )


def types_left_out(context: Context) -> Findings:
    """Without `policyTypes` a policy with no egress rule leaves egress open, which a reader may not know."""
    for policy in context.written:
        if policy.family is not Family.KUBERNETES or context.places.manifest(policy) is None:
            continue
        if not context.places.value(policy, ("spec", "policyTypes")):
            meant = " and ".join(sorted(direction.capitalize() for direction in policy.directions))
            yield Finding(
                f"{policy.key}: has no `policyTypes`, which means {meant}",
                context.places.at(policy, ("spec",)),
                f"write it: `policyTypes: [{meant.replace(' and ', ', ')}]`",
            )


def namespace_left_out(context: Context) -> Findings:
    for policy in context.written:
        manifest: Manifest | None = context.places.manifest(policy)
        if policy.namespace and manifest is not None:
            metadata = manifest.data.get("metadata")
            if isinstance(metadata, dict) and not metadata.get("namespace"):
                yield Finding(
                    f"{policy.key}: names no namespace: it is read as one of `{policy.namespace}`, and goes"
                    " wherever it is applied",
                    context.places.at(policy, ("metadata",)),
                    "add `namespace`",
                )

"""The reference evaluator: one packet at a time, first match, straight from the manifests.

It shares no code with `pilothouse.policies` and is as plain as it can be, so that it can be read against the
specifications. In short: an endpoint meets, per direction, its tiers by order; in a tier the policies that apply to it
by order; in a policy the rules one after the other; the first rule that matches decides. After the tiers come the
profiles (https://docs.tigera.io/calico/latest/reference/resources/tier). A connection needs the source's egress and
the destination's ingress; replies need no rule.

What it leaves out, because no policy decides it: DNAT (hand in the backend's address and port), SNAT, encapsulation;
and untracked and pre-DNAT policies on what is forwarded. What always passes whatever the policies say is answered on
request (`own_traffic`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from policies.reference_rules import admin_rule, admin_subject, calico_rule, kubernetes_rule
from policies.reference_selectors import label_selector, selects
from policies.reference_world import (
    NAMESPACE,
    SERVICE_ACCOUNT,
    End,
    Manifest,
    Member,
    Packet,
    World,
    ip_address,
    name,
    namespace,
)

__all__ = ["FAILSAFE_INBOUND", "FAILSAFE_OUTBOUND", "End", "Packet", "World", "verdict"]

KUBERNETES_ORDER = 1000.0
DEFAULT_TIERS: Mapping[str, tuple[float, str]] = {
    "default": (1_000_000.0, "Deny"),
    "kube-admin": (1_000.0, "Pass"),
    "adminnetworkpolicy": (1_000.0, "Pass"),
    "kube-baseline": (10_000_000.0, "Pass"),
    "baselineadminnetworkpolicy": (10_000_000.0, "Pass"),
}
"""Tiers that exist without a manifest: order and default action."""

FAILSAFE_INBOUND = (
    (6, 22), (17, 68), (6, 179), (6, 2379), (6, 2380), (6, 5473), (6, 6443), (6, 6666), (6, 6667),
)  # fmt: skip
FAILSAFE_OUTBOUND = (
    (17, 53), (17, 67), (6, 179), (6, 2379), (6, 2380), (6, 5473), (6, 6443), (6, 6666), (6, 6667),
)  # fmt: skip
"""(protocol, destination port) that stay open on every host endpoint unless Felix is told otherwise
(https://docs.tigera.io/calico/latest/reference/host-endpoints/failsafe)."""


@dataclass(frozen=True)
class Policy:
    """A manifest and where it stands. `family` is "kubernetes", "calico" or "admin"."""

    family: str
    name: str
    namespace: str
    tier: str
    order: float
    spec: Manifest
    stored: bool = False
    """Written in the form that Calico stores (crd.projectcalico.org), past the API that fills in defaults."""


def verdict(
    world: World,
    source: End,
    destination: End,
    packet: Packet,
    preview: bool = False,
    own_traffic: bool = False,
) -> str:
    """ "allow", "deny", or "conditional" where an `http` match would decide.

    `preview`: staged policies count as enforced. `own_traffic`: also let through what is always let through, whatever
    the policies say: a pod to itself, and between a pod and its own node.
    """
    if ip_address(source.address).version != ip_address(destination.address).version:
        raise ValueError("a packet's two addresses are of one family")
    if own_traffic and (_same_pod(source, destination) or _own_node(world, source, destination)):
        return "allow"
    sides = (
        _side(world, "Egress", source, source, destination, packet, preview),
        _side(world, "Ingress", destination, source, destination, packet, preview),
        *_on_the_way(world, "Egress", source, destination, source, destination, packet, preview),
        *_on_the_way(world, "Ingress", destination, source, source, destination, packet, preview),
    )
    for answer in ("deny", "conditional"):
        if answer in sides:
            return answer
    return "allow"


def _same_pod(source: End, destination: End) -> bool:
    return source.pod != "" and source.pod == destination.pod


def _own_node(world: World, source: End, destination: End) -> bool:
    """Whether one is a pod and the other an address of its node (of its Node object or of a host endpoint there).

    https://kubernetes.io/docs/concepts/services-networking/network-policies/ ("traffic to and from the node where a
    Pod is running is always allowed"); Calico says so of the way from the host to its pods
    (https://docs.tigera.io/calico/latest/reference/resources/hostendpoint).
    """
    for pod, other in ((source, destination), (destination, source)):
        if pod.pod not in world.pods or other.pod:
            continue
        [manifest] = [each for each in world.of("Pod") if f"{namespace(each)}/{name(each)}" == pod.pod]
        node = manifest["spec"]["nodeName"]
        addresses = [
            each["address"]
            for found in world.of("Node")
            if name(found) == node
            for each in (found.get("status") or {}).get("addresses") or []
            if each["type"] in ("InternalIP", "ExternalIP")
        ]
        for host in world.of("HostEndpoint"):
            if host["spec"]["node"] == node:
                addresses += host["spec"].get("expectedIPs") or []
        if any(ip_address(each) == ip_address(other.address) for each in addresses):
            return True
    return False


# ---------------------------------------------------------------- one side


def _side(world: World, direction: str, own: End, source: End, destination: End, packet: Packet, preview: bool) -> str:
    """What the endpoint at `own` says to the packet in this direction; an address outside says "allow"."""
    endpoint = world.endpoint(own)
    if endpoint is None:
        return "allow"
    walk = _Walk(world, direction, source, destination, packet)
    policies = [each for each in _policies(world, preview) if _applies(world, each, endpoint, direction)]
    if endpoint.kind == "host":
        failsafe = FAILSAFE_INBOUND if direction == "Ingress" else FAILSAFE_OUTBOUND
        if (packet.protocol, packet.destination_port) in failsafe:
            return "allow"
        # Untracked and pre-DNAT policies come first. What they allow or deny is final; what they do not match goes on,
        # without a tier's default action. An interface "*" has no untracked policy.
        # https://docs.tigera.io/calico/latest/reference/host-endpoints/summary and .../pre-dnat
        untracked = [each for each in policies if each.spec.get("doNotTrack") and endpoint.interface != "*"]
        pre_dnat = [each for each in policies if each.spec.get("preDNAT")]
        for early in (untracked, pre_dnat):
            action = walk.tiers(early, with_default=False)
            if action is not None:
                return walk.answer(action)
    # For a pod the two early kinds are no policies at all (https://docs.tigera.io/calico/latest/network-policy/hosts).
    normal = [each for each in policies if not each.spec.get("doNotTrack") and not each.spec.get("preDNAT")]
    action = walk.tiers(normal, with_default=True)
    if action is None:
        action = walk.profiles(endpoint)
    return walk.answer(action)


def _on_the_way(
    world: World, direction: str, own: End, peer: End, source: End, destination: End, packet: Packet, preview: bool
) -> list[str]:
    """What the host endpoints of a pod's node say to its traffic with somebody who is not on that node: only policies
    with applyOnForward count, and where there are none, it passes; no profile is asked
    (https://docs.tigera.io/calico/latest/network-policy/hosts/host-forwarded-traffic).

    Of pods, only an endpoint for all interfaces sees the traffic for sure: through a single one it may be encapsulated.
    """
    pod, other = world.endpoint(own), world.endpoint(peer)
    if pod is None or pod.kind != "pod" or (other is not None and other.node == pod.node):
        return []
    found = []
    for host in world.hosts.values():
        if host.node != pod.node or (other is not None and other.kind == "pod" and host.interface != "*"):
            continue
        policies = [
            each
            for each in _policies(world, preview)
            if each.spec.get("applyOnForward")
            and not each.spec.get("doNotTrack")
            and not each.spec.get("preDNAT")
            and _applies(world, each, host, direction)
        ]
        walk = _Walk(world, direction, source, destination, packet)
        found.append(walk.answer(walk.tiers(policies, with_default=True) or "Allow"))
    return found


class _Walk:
    """Goes through the rules for one packet and one direction, and remembers an `http` rule that might allow it."""

    def __init__(self, world: World, direction: str, source: End, destination: End, packet: Packet) -> None:
        self.world, self.direction, self.source, self.destination = world, direction, source, destination
        self.packet = packet
        self.maybe = False

    def answer(self, action: str) -> str:
        if action == "Allow":
            return "allow"
        return "conditional" if self.maybe else "deny"

    def tiers(self, policies: list[Policy], with_default: bool) -> str | None:
        """Allow or Deny; None if every tier passed. Only tiers that hold one of `policies` are met at all."""
        for tier in sorted({each.tier for each in policies}, key=lambda tier: (*_tier(self.world, tier)[:2], tier)):
            inside = sorted((each for each in policies if each.tier == tier), key=lambda each: (each.order, each.name))
            action = None
            for policy in inside:
                action = self.policy(policy)
                if action is not None:
                    break
            if action is None and with_default:
                action = _tier(self.world, tier)[2]
            if action in ("Allow", "Deny"):
                return action
        return None

    def profiles(self, endpoint: Member) -> str:
        """A packet that no profile allows is denied; also one that a profile passes (checkTiers in Calico's
        app-policy/checker/check.go)."""
        for each in endpoint.profiles:
            spec = _profile(self.world, each)
            action = self.first(spec.get(self.direction.lower()) or [], "calico", "")
            if action is not None:
                return "Allow" if action == "Allow" else "Deny"
        return "Deny"

    def policy(self, policy: Policy) -> str | None:
        return self.first(policy.spec.get(self.direction.lower()) or [], policy.family, policy.namespace)

    def first(self, rules: Iterable[Manifest], family: str, space: str) -> str | None:
        """The action of the first rule that matches. Log goes on; an `http` rule allows some requests, so that the
        rest is judged by what follows."""
        for rule in rules:
            if not self.matches(rule, family, space):
                continue
            action = {"Accept": "Allow"}.get(rule.get("action", "Allow"), rule.get("action", "Allow"))
            if action == "Log":
                continue
            if rule.get("http"):
                if self.packet.protocol == 6:  # nothing else carries a request that could match
                    self.maybe = True
                continue
            return str(action)
        return None

    def matches(self, rule: Manifest, family: str, space: str) -> bool:
        if family == "kubernetes":
            return kubernetes_rule(self.world, rule, self.direction, space, self.source, self.destination, self.packet)
        if family == "admin":
            return admin_rule(self.world, rule, self.direction, self.source, self.destination, self.packet)
        return calico_rule(self.world, rule, space, self.source, self.destination, self.packet)


def _tier(world: World, tier: str) -> tuple[int, float, str]:
    """(1 if there is no such tier, order, default action). No order comes last; a tier that does not exist later."""
    for each in world.of("Tier"):
        if name(each) == tier:
            spec = each.get("spec") or {}
            order, action = DEFAULT_TIERS.get(tier, (math.inf, "Deny"))
            return 0, order if spec.get("order") is None else float(spec["order"]), spec.get("defaultAction") or action
    if tier in DEFAULT_TIERS:
        return 0, *DEFAULT_TIERS[tier]
    return 1, math.inf, "Deny"


def _profile(world: World, profile: str) -> Manifest:
    """A namespace's profile allows everything both ways, and so does the one for host endpoints
    (https://docs.tigera.io/calico/latest/reference/resources/profile)."""
    if profile in world.profiles:
        return world.profiles[profile].get("spec") or {}
    if profile.startswith("kns.") or profile == "projectcalico-default-allow":
        return {"ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}]}
    return {}


# ---------------------------------------------------------------- policies

STAGED = {
    "StagedNetworkPolicy": "NetworkPolicy",
    "StagedGlobalNetworkPolicy": "GlobalNetworkPolicy",
    "StagedKubernetesNetworkPolicy": "NetworkPolicy",
}


def _policies(world: World, preview: bool) -> list[Policy]:
    """The policies in force. In preview a staged policy takes the place of the enforced one of its kind and name, or
    removes it, as its stagedAction says (https://docs.tigera.io/calico/latest/network-policy/staged-network-policies)."""
    found: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    kinds = (
        "NetworkPolicy",
        "GlobalNetworkPolicy",
        "AdminNetworkPolicy",
        "BaselineAdminNetworkPolicy",
        "ClusterNetworkPolicy",
    )
    for each in world.of(*kinds):
        found[_key(each)] = each
    if preview:
        for each in world.of(*STAGED):
            action = each["spec"].get("stagedAction") or "Set"
            if action == "Delete":
                found.pop(_key(each), None)
            elif action == "Set":
                found[_key(each)] = each
    return [_policy(each) for each in found.values()]


def _family(manifest: Manifest) -> str:
    if manifest["apiVersion"].startswith("policy.networking.k8s.io/"):
        return "admin"
    kubernetes = manifest["apiVersion"].startswith("networking.k8s.io/")
    return "kubernetes" if kubernetes or manifest["kind"] == "StagedKubernetesNetworkPolicy" else "calico"


def _key(manifest: Manifest) -> tuple[str, str, str, str]:
    kind = STAGED.get(manifest["kind"], manifest["kind"])
    space = namespace(manifest) if kind == "NetworkPolicy" else ""
    return _family(manifest), kind, space, name(manifest)


def _policy(manifest: Manifest) -> Policy:
    family, kind, space, own_name = _key(manifest)
    spec = manifest["spec"]
    if family == "kubernetes":
        return Policy(family, f"knp.default.{own_name}", space, "default", KUBERNETES_ORDER, spec)
    if family == "admin":
        baseline = kind == "BaselineAdminNetworkPolicy" or spec.get("tier") == "Baseline"
        # The one BaselineAdminNetworkPolicy has no priority.
        return Policy(
            family, own_name, "", "kube-baseline" if baseline else "kube-admin", spec.get("priority", 0), spec
        )
    order = math.inf if spec.get("order") is None else float(spec["order"])
    stored = manifest["apiVersion"].startswith("crd.")
    return Policy(family, own_name, space, spec.get("tier") or "default", order, spec, stored)


def _applies(world: World, policy: Policy, endpoint: Member, direction: str) -> bool:
    return direction in _directions(policy) and _selects(world, policy, endpoint)


def _selects(world: World, policy: Policy, endpoint: Member) -> bool:
    spec = policy.spec
    if policy.family == "admin":
        return endpoint.kind == "pod" and admin_subject(world, spec["subject"], endpoint)
    if policy.namespace and endpoint.namespace != policy.namespace:  # a host endpoint is in none
        return False
    if policy.family == "kubernetes":
        return label_selector(spec.get("podSelector") or {}, endpoint.own_labels)
    accounts = "" if policy.namespace else SERVICE_ACCOUNT  # in a global policy all() is every account, not everything
    return (
        selects(spec.get("selector") or "", endpoint.labels)
        and (
            not spec.get("namespaceSelector") or selects(spec["namespaceSelector"], endpoint.labels, "pcns.", NAMESPACE)
        )
        and (
            not spec.get("serviceAccountSelector")
            or selects(spec["serviceAccountSelector"], endpoint.labels, "pcsa.", accounts)
        )
    )


def _directions(policy: Policy) -> tuple[str, ...]:
    """In which directions the policy applies at all, and so makes its tier's default action count."""
    spec = policy.spec
    ingress, egress = bool(spec.get("ingress")), bool(spec.get("egress"))
    if policy.family == "admin":  # without rules it affects nothing
        return (*(["Ingress"] if ingress else []), *(["Egress"] if egress else []))
    given = spec.get("policyTypes" if policy.family == "kubernetes" else "types")
    if given:
        return tuple(given)
    if policy.family == "kubernetes":
        return ("Ingress", "Egress") if egress else ("Ingress",)
    if policy.stored:
        return ("Ingress", "Egress")  # nothing fills the stored form in, and Felix takes it as both (policy_sorter.go)
    if egress:
        return ("Ingress", "Egress") if ingress else ("Egress",)
    return ("Ingress",)

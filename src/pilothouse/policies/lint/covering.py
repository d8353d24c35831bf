"""Whether one rule says no more than another, whatever pods there will be: by the conditions alone."""

from __future__ import annotations

from pilothouse.policies.engine.traffic import connections, names
from pilothouse.policies.rules import Direction, Nets, Peer, Policy, PortMatch, Rule, Scope, Traffic
from pilothouse.policies.selectors import ALL, Selector
from pilothouse.policies.selectors.space import TooComplex, implies


def covers(one: tuple[Policy, Rule], other: tuple[Policy, Rule], direction: Direction) -> bool:
    """Whether every connection that the rule `other` matches is one that the rule `one` matches, for every endpoint of
    the other's policy. False where that would take more than conditions compared one by one."""
    policy, rule = one
    inner_policy, inner = other
    if direction not in policy.directions or any(traffic.http for traffic in rule.traffic):
        return False
    if not rule.subject.is_anyone and rule.subject != inner.subject:
        return False
    if (policy.untracked, policy.pre_dnat) != (inner_policy.untracked, inner_policy.pre_dnat):
        return False
    return (
        _each(inner_policy.subjects, policy.subjects)
        and _each(inner.peers, rule.peers)
        and all(any(_traffic(item, wide) for wide in rule.traffic) for item in inner.traffic)
    )


def _has(ports: tuple[PortMatch, ...] | None, wide: tuple[PortMatch, ...]) -> bool:
    return ports is not None and set(ports) <= set(wide)


def _each(inner: tuple[Peer, ...], outer: tuple[Peer, ...]) -> bool:
    return all(any(within(peer, wide) for wide in outer) for peer in inner)


def within(peer: Peer, wide: Peer) -> bool:
    """Whether whoever is `peer` is `wide`, too."""
    if wide.is_anyone or peer == wide:
        return True
    if wide.not_selector != peer.not_selector and wide.not_selector is not None:
        return False
    if wide.services is not None or wide.not_nets != peer.not_nets or not _nets(peer, wide):
        return False
    if wide.pods_only and not peer.pods_only and wide.scope is not Scope.ANY:
        return False
    return _scope(peer, wide) and _implies(peer.selector, wide.selector)


def _scope(peer: Peer, wide: Peer) -> bool:
    if wide.scope is Scope.ANY:
        return True
    if wide.scope is peer.scope:
        if wide.scope is Scope.NAMESPACE:
            return wide.namespace == peer.namespace
        return wide.scope is not Scope.NAMESPACES or _implies(peer.namespace_selector, wide.namespace_selector)
    if wide.scope is Scope.NAMESPACES and peer.scope is Scope.NAMESPACE:
        return wide.namespace_selector is None or _implies(ALL, wide.namespace_selector)
    return wide.scope is Scope.CLUSTER and peer.scope in (Scope.NAMESPACE, Scope.NAMESPACES, Scope.GLOBAL)


def _nets(peer: Peer, wide: Peer) -> bool:
    if wide.nets is None:
        return True
    return peer.nets is not None and all(any(_net(inner, outer) for outer in wide.nets) for inner in peer.nets)


def _net(inner: Nets, outer: Nets) -> bool:
    """Ranges within ranges, whose exceptions are all exceptions of the inner ones, or do not touch them."""
    for network in inner.ranges:
        if not any(network.version == wide.version and network.subnet_of(wide) for wide in outer.ranges):  # type: ignore[arg-type]
            return False
        for hole in outer.excluded:
            if hole.version != network.version or not hole.overlaps(network):
                continue
            if not any(hole.version == own.version and hole.subnet_of(own) for own in inner.excluded):  # type: ignore[arg-type]
                return False
    return True


def _implies(one: Selector | None, other: Selector | None) -> bool:
    if other is None or one == other:
        return True
    try:
        return implies(one or ALL, other)
    except TooComplex:
        return False


def _traffic(inner: Traffic, wide: Traffic) -> bool:
    if inner == wide:
        return True
    if wide.http or wide.ip_version not in (None, inner.ip_version):
        return False
    if names(wide, True) or names(wide, False) or names(inner, True) or names(inner, False):
        return _named(inner, wide)
    return not connections(inner) - connections(wide)


def _named(inner: Traffic, wide: Traffic) -> bool:
    """With port names: where nothing but a list of destination ports is longer, or there is none."""
    if wide.destination_ports is not None and not _has(inner.destination_ports, wide.destination_ports):
        return False
    protocols = wide.protocols is None or set(inner.protocols or range(256)) <= set(wide.protocols)
    rest = (wide.not_protocols, wide.not_destination_ports, wide.source_ports, wide.not_source_ports, wide.icmp)
    own = (inner.not_protocols, inner.not_destination_ports, inner.source_ports, inner.not_source_ports, inner.icmp)
    plain = ((), (), None, (), None)
    return protocols and wide.not_icmp is None and rest in (plain, own)

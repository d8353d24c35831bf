"""What a set of policies can tell apart: every label, port name and address range that some part of it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_network

from pilothouse.inventory.model import Snapshot
from pilothouse.platform.model import Network
from pilothouse.policies.engine.backends import backends
from pilothouse.policies.engine.universe import Vocabulary
from pilothouse.policies.rules import Peer, Policy, PolicySet, Profile, Rule, Scope
from pilothouse.policies.selectors import Selector


class _Collector:
    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.selectors: set[Selector] = set()
        self.names: set[str] = set()
        self.ranges: set[Network] = set()
        self.services: set[tuple[str, str]] = set()
        self.seen: dict[int, object] = {}
        """By identity: the objects are kept, so that none is given twice."""
        self.nodes = False
        self.forwarding = False

    def policy(self, policy: Policy | Profile) -> None:
        if isinstance(policy, Policy):
            for peer in policy.subjects:
                self.peer(peer)
            self.forwarding = self.forwarding or is_forwarding(policy)
        for rule in policy.ingress:
            self.rule(rule)
        for rule in policy.egress:
            self.rule(rule)

    def rule(self, rule: Rule) -> None:
        for peer in rule.peers:
            self.peer(peer)
        if rule.subject.scope is not Scope.ANY or not rule.subject.is_anyone:
            self.peer(rule.subject)
        for traffic in rule.traffic:
            if id(traffic) in self.seen:
                continue
            self.seen[id(traffic)] = traffic
            for items in (
                traffic.destination_ports or (),
                traffic.source_ports or (),
                traffic.not_destination_ports,
                traffic.not_source_ports,
            ):
                self.names.update(item.name for item in items if item.name)

    def peer(self, peer: Peer) -> None:
        if id(peer) in self.seen:
            return
        self.seen[id(peer)] = peer
        if peer.scope is Scope.NODES:
            self.nodes = True
        elif peer.selector is not None:
            self.selectors.add(peer.selector)
        if peer.not_selector is not None:
            self.selectors.add(peer.not_selector)
        if peer.nets is not None:
            for nets in peer.nets:
                self.ranges.update(nets.ranges)
                self.ranges.update(nets.excluded)
        if peer.not_nets:
            self.ranges.update(peer.not_nets)
        if peer.services is not None:
            self.services.add(peer.services)

    def addresses(self) -> Iterator[Network]:
        yield from self.ranges
        for service in self.services:
            for backend in backends(self.snapshot, *service):
                if backend.address:
                    yield ip_network(backend.address)
        if self.nodes:
            for node in self.snapshot.nodes:
                for text in node.addresses:
                    yield ip_network(text)

    def found(self) -> Vocabulary:
        terms = (term for selector in self.selectors for term in selector.terms())
        found = Vocabulary.of(terms, self.names, self.addresses())
        return replace(found, nodes=True) if self.forwarding else found


def is_forwarding(policy: Policy) -> bool:
    """Whether it decides about what passes a node. Untracked and pre-DNAT policies on such traffic are left out."""
    return policy.forward and not policy.untracked and not policy.pre_dnat


def of_policies(policies: Iterable[Policy | Profile], snapshot: Snapshot) -> Vocabulary:
    """What these policies alone name. `snapshot` has the backends of the Services and the nodes that they name."""
    collector = _Collector(snapshot)
    for policy in policies:
        collector.policy(policy)
    return collector.found()


def of_set(policies: PolicySet, snapshot: Snapshot) -> Vocabulary:
    """What a whole set names, its address sets among it."""
    collector = _Collector(snapshot)
    for policy in policies.policies:
        collector.policy(policy)
    for profile in policies.profiles:
        collector.policy(profile)
    for item in policies.sets:
        collector.ranges.update(item.nets)
    found = collector.found()
    return found if policies.hosts else replace(found, nodes=False)

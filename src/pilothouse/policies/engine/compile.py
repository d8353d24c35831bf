"""Policies over one universe: which pieces each applies to, and what its rules match there.

A rule becomes cells: a set of peers and the connections that it decides with each of them. Where a port is named, peers
that mean different numbers by it are in different cells; where the policy's own end resolves the name, or the rule
narrows that end, the policy has a variant for each group of its endpoints that it treats alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pilothouse.policies.engine import bitsets
from pilothouse.policies.engine.backends import Backend, backends
from pilothouse.policies.engine.connections import Connections
from pilothouse.policies.engine.labels import EndpointLabels, Namespaces, SetLabels
from pilothouse.policies.engine.traffic import connections, names_ports, peer_names, subject_names
from pilothouse.policies.engine.universe import Names, Signature, Universe
from pilothouse.policies.rules import (
    Action,
    Direction,
    NetworkSet,
    Peer,
    Policy,
    Profile,
    Rule,
    Scope,
    Traffic,
)
from pilothouse.policies.selectors import Selector, all_of, negated, select

Cells = tuple[tuple[int, Connections], ...]
"""(peers, connections): what a rule decides."""


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRule:
    """`conditional` says that the rule matches some requests of a connection only (`http`)."""

    rule: Rule
    action: Action
    cells: Cells
    conditional: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """The rules of one policy (or profile) in one direction, as some of its endpoints meet them. Compared by identity:
    there is one object for each variant."""

    policy: Policy | Profile
    direction: Direction
    rules: tuple[CompiledRule, ...]


@dataclass(slots=True, eq=False)
class CompiledPolicy:
    """`subjects` are the endpoints that it applies to, by direction empty where it has none."""

    policy: Policy
    subjects: int
    variants: dict[tuple[Direction, object], Variant] = field(default_factory=dict)
    needs: dict[Direction, Needs] = field(default_factory=dict)

    def needed(self, direction: Direction) -> Needs:
        found = self.needs.get(direction)
        if found is None:
            found = self.needs[direction] = needs(self.policy, direction)
        return found


@dataclass(frozen=True)
class Semantics:
    """What Kubernetes leaves to the network plugin. `blocks_match_pods`: an `ipBlock` matches pods by their address."""

    blocks_match_pods: bool = True


AS_CALICO = Semantics()


class Compiler:
    def __init__(self, universe: Universe, sets: Sequence[NetworkSet] = (), semantics: Semantics = AS_CALICO) -> None:
        self.universe = universe
        self.semantics = semantics
        self.labels = EndpointLabels(universe)
        self.sets = SetLabels(universe, sets)
        self.namespaces = Namespaces(universe, sets)
        self._selected: dict[Selector, int] = {}
        self._peers: dict[Peer, int] = {}
        # Hashing a peer or a rule's traffic by value takes as long as the rest. The objects are kept beside, so that no
        # identity is given twice.
        self._by_identity: dict[int, tuple[Peer, int]] = {}
        self._packets: dict[int, tuple[Traffic, Connections | None]] = {}
        self._within: dict[Selector | None, int] = {}

    # -------------------------------------------------------- who

    def selected(self, selector: Selector | None) -> int:
        """The endpoints of all namespaces that a selector selects."""
        if selector is None:
            return self.universe.endpoints
        found = self._selected.get(selector)
        if found is None:
            found = self._selected[selector] = select(selector, self.labels)
        return found

    def in_namespaces(self, selector: Selector | None) -> int:
        """The pods of the namespaces that a selector selects."""
        found = self._within.get(selector)
        if found is None:
            found = 0
            for name in self.namespaces.selected(selector):
                found |= self.universe.by_namespace.get(name, 0)
            self._within[selector] = found
        return found

    def peer(self, peer: Peer) -> int:
        """The pieces that a peer means, whatever the port."""
        known = self._by_identity.get(id(peer))
        if known is not None:
            return known[1]
        found = self._peers.get(peer)
        if found is None:
            found = self._peers[peer] = self._peer(peer)
        self._by_identity[id(peer)] = (peer, found)
        return found

    def _peer(self, peer: Peer) -> int:
        return self._chosen(peer) & self._where(peer)

    def _chosen(self, peer: Peer, *, with_sets: bool = True) -> int:
        """By selectors. Beside a positive one, `not_selector` is part of it: it must fail for the very endpoint or set
        that was chosen, not for everything that has its address (as Felix' rule scanner combines the two)."""
        if peer.not_selector is None:
            return self._scoped(peer, with_sets)
        if peer.scope is Scope.ANY:
            return self.universe.everything & ~(
                self.selected(peer.not_selector) | self.sets.selected(peer.not_selector)
            )
        both = (
            negated(peer.not_selector) if peer.selector is None else all_of(peer.selector, negated(peer.not_selector))
        )
        return self._scoped(replace(peer, selector=both), with_sets)

    def named(self, peer: Peer) -> int:
        """The pieces among which a port's name is looked up: the endpoints that were chosen themselves, and not what
        lies in an address set."""
        if peer.scope is Scope.ANY or peer.pods_only:
            return self.peer(peer)
        return self._chosen(peer, with_sets=False) & self._where(peer)

    def _where(self, peer: Peer) -> int:
        """By address."""
        universe = self.universe
        found = universe.everything
        if peer.nets is not None:
            among = 0
            for nets in peer.nets:
                inside = 0
                for network in nets.ranges:
                    inside |= universe.network(network)
                for network in nets.excluded:
                    inside &= ~universe.network(network)
                among |= inside
            found &= among
        for network in peer.not_nets:
            found &= ~universe.network(network)
        if peer.ip_block and not self.semantics.blocks_match_pods:
            found &= ~universe.pods
        if peer.services is not None:
            found &= self._addresses(peer.services)
        return found

    def _scoped(self, peer: Peer, with_sets: bool) -> int:
        """What the selectors select: endpoints, and the addresses of sets."""
        universe, selector = self.universe, peer.selector
        if peer.scope is Scope.ANY:
            return universe.everything
        if peer.scope is Scope.NODES:
            return self._nodes(selector)
        found = self.selected(selector)
        spaces: tuple[str | None, ...] = ()
        match peer.scope:
            case Scope.NAMESPACE:
                found &= universe.by_namespace.get(peer.namespace, 0)
                spaces = (peer.namespace,)
            case Scope.NAMESPACES:
                found &= self.in_namespaces(peer.namespace_selector)
                spaces = self.namespaces.selected(peer.namespace_selector) if self.sets.sets else ()
            case Scope.GLOBAL:
                found &= universe.endpoints & ~universe.pods
                spaces = ("",)
            case _:
                spaces = (None,)
        if with_sets and not peer.pods_only:
            for name in spaces:
                found |= self.sets.selected(selector, name)
        return found

    def _nodes(self, selector: Selector | None) -> int:
        found = 0
        for node in self.universe.snapshot.nodes:
            if selector is None or selector.matches(node.labels):
                for text in node.addresses:
                    found |= self.universe.address(text)
        return found

    def _addresses(self, service: tuple[str, str]) -> int:
        found = 0
        for backend in self.backends(service):
            found |= self.pieces_at(backend)
        return found

    def backends(self, service: tuple[str, str]) -> tuple[Backend, ...]:
        return backends(self.universe.snapshot, *service)

    def pieces_at(self, backend: Backend) -> int:
        if backend.address:
            return self.universe.address(backend.address)
        return bitsets.of(self.universe.pieces_of(backend.pod))

    def subjects(self, policy: Policy) -> int:
        """The endpoints that a policy applies to: those that it selects, and not what lies in an address set."""
        found = 0
        for peer in policy.subjects:
            found |= self._chosen(peer, with_sets=False) & self.universe.endpoints
        if policy.untracked or policy.pre_dnat:
            found &= ~self.universe.pods
        if policy.untracked:  # https://docs.tigera.io/calico/latest/reference/host-endpoints/summary
            for number in bitsets.bits(found):
                host = self.universe.pieces[number].host
                if host is not None and host.interface == "*":
                    found &= ~(1 << number)
        return found

    # -------------------------------------------------------- rules

    def variant(self, policy: Policy | Profile, direction: Direction, needs: Needs, piece: int) -> Variant:
        """The rules as one endpoint meets them."""
        meaning = self.universe.meaning(piece, needs.names) if needs.names else ()
        compiled = []
        for rule in policy.rules(direction):
            if not rule.subject.is_anyone and not self.peer(rule.subject) >> piece & 1:
                continue
            compiled.append(self.rule(rule, direction, meaning))
        return Variant(policy, direction, tuple(compiled))

    def rule(self, rule: Rule, direction: Direction, meaning: Signature) -> CompiledRule:
        cells: list[tuple[int, Connections]] = []
        for peer in rule.peers:
            members = self.peer(peer)
            if not members:
                continue
            for traffic in rule.traffic:
                for group, packets in self._cells(peer, members, traffic, direction, meaning):
                    if group and packets:
                        cells.append((group, packets))
        conditional = any(traffic.http for traffic in rule.traffic)
        return CompiledRule(rule, rule.action, _joined(cells), conditional)

    def _cells(
        self, peer: Peer, members: int, traffic: Traffic, direction: Direction, meaning: Signature
    ) -> Iterator[tuple[int, Connections]]:
        if traffic.ip_version is not None:
            members &= self.universe.family[traffic.ip_version]
        if peer.services is not None and direction is Direction.EGRESS:
            for backend in self.backends(peer.services):
                packets = connections(traffic, (), meaning) & backend.connections
                yield members & self.pieces_at(backend), packets
            return
        plain = self._plain(traffic)
        if plain is not None:
            yield members, plain
            return
        wanted = peer_names(traffic, direction)
        if not wanted:
            yield members, _sides(traffic, direction, meaning, ())
            return
        own = self.named(peer)
        unnamed = 0
        for other, group in self.universe.signatures(wanted):
            if among := members & group:
                if other and (known := among & own):
                    yield known, _sides(traffic, direction, meaning, other)
                    among ^= known
                unnamed |= among
        if unnamed:
            yield unnamed, _sides(traffic, direction, meaning, ())

    def _plain(self, traffic: Traffic) -> Connections | None:
        """The connections of traffic that names no port, which are the same for every end; else None."""
        known = self._packets.get(id(traffic))
        if known is None:
            found = None if names_ports(traffic) else connections(traffic)
            known = self._packets[id(traffic)] = (traffic, found)
        return known[1]


def _sides(traffic: Traffic, direction: Direction, own: Signature, other: Signature) -> Connections:
    if direction is Direction.INGRESS:
        return connections(traffic, own, other)
    return connections(traffic, other, own)


def _joined(cells: list[tuple[int, Connections]]) -> Cells:
    """Cells of the same connections as one."""
    if len(cells) < 2:
        return tuple(cells)
    found: dict[Connections, int] = {}
    for members, packets in cells:
        found[packets] = found.get(packets, 0) | members
    return tuple((members, packets) for packets, members in found.items())


@dataclass(frozen=True, slots=True)
class Needs:
    """Why a policy may have several variants in one direction: the port names that its own end resolves, and the ends
    that single rules are narrowed to."""

    names: Names = ()
    subjects: tuple[Peer, ...] = ()

    @property
    def is_nothing(self) -> bool:
        return not self.names and not self.subjects


_NOTHING = Needs()


def needs(policy: Policy | Profile, direction: Direction) -> Needs:
    names: set[tuple[str, int]] = set()
    subjects: list[Peer] = []
    for rule in policy.rules(direction):
        for traffic in rule.traffic:
            if names_ports(traffic):
                names.update(subject_names(traffic, direction))
        if not rule.subject.is_anyone:
            subjects.append(rule.subject)
    return Needs(tuple(sorted(names)), tuple(subjects)) if names or subjects else _NOTHING

"""What the declarations mean, straight from the edges: the other side of the proof.

Nothing of how policies are written or evaluated is used here. Each edge is expanded to the pods and addresses that it
means with plain matching of labels and addresses, and to the numbers that its ports mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from pilothouse.inputs import Inputs
from pilothouse.labels import LabelSelector
from pilothouse.platform.model import (
    ApiServerPeer,
    CidrPeer,
    DomainPeer,
    InternetPeer,
    Network,
    PodsPeer,
    PortRef,
    Service,
    ServicePeer,
)
from pilothouse.policies import edges
from pilothouse.policies.adoption import exempt_selector
from pilothouse.policies.content import Baseline, SystemPeer, read
from pilothouse.policies.edges import Edges, Origin, ServiceEdge
from pilothouse.policies.engine import ALL, NONE, Connections, Reach, Universe
from pilothouse.policies.engine.bitsets import bits, of
from pilothouse.policies.engine.connections import PROTOCOLS, TCP
from pilothouse.policies.engine.fold import Effect, of_union
from pilothouse.policies.rules import Direction

Allowed = tuple[int, Connections]
"""(peers, connections)."""
Meaning = tuple[Connections, tuple[tuple[str, int], ...]]
"""Fixed connections, and the (name, protocol) pairs that each destination resolves for itself."""


class Declared:
    """The reach that the declarations mean, over the pieces of one universe. `governed` are the namespaces that have
    policies of ours."""

    def __init__(
        self, inputs: Inputs, baseline: Baseline, found: Edges, universe: Universe, governed: frozenset[str]
    ) -> None:
        self.inputs = inputs
        self.cluster = inputs.cluster
        self.baseline = baseline
        self.edges = found
        self.universe = universe
        self.governed = governed
        self.services = {service.key: service for service in inputs.platform.services_on(self.cluster.name)}
        self._by_label: dict[str, Mapping[tuple[str, str], list[int]]] = {}
        self.members = {key: self.pods(s.namespace, s.pod_selector) for key, s in self.services.items()}
        self._peers: dict[object, int] = {}
        self._labelled: dict[tuple[LabelSelector, LabelSelector | None, str], int] = {}
        self._meanings: dict[tuple[object, ...], Meaning] = {}

    def reach(self) -> Reach:
        """Both sides of every endpoint."""
        dns = [
            allowed
            for peer, ports, _, _ in edges.dns_ends(self.baseline, self.cluster)
            for allowed in self.spread(self.meaning(ports, self.end(peer, ""), ()), self.end(peer, ""))
        ]
        sides: dict[Direction, list[list[Allowed]]] = {
            Direction.EGRESS: [list(dns) for _ in self.universe.pieces],
            Direction.INGRESS: [[] for _ in self.universe.pieces],
        }
        for service in self.services.values():
            for direction, lists in sides.items():
                for edge in self.edges.of(service.key, direction):
                    if edge.needs_rule and edge.origin is not Origin.DNS:
                        for number, allowed in self.allowed(service, edge):
                            lists[number].append(allowed)
        bound = self.governed_pieces
        open_ = Effect(((ALL, self.universe.everything, 0),))
        known: dict[tuple[Allowed, ...], Effect] = {}

        refused = self.refused()

        def effect(number: int, allowed: list[Allowed], direction: Direction) -> Effect:
            if not bound >> number & 1:
                return open_
            if refused and direction is Direction.EGRESS:
                allowed = [(peers & ~refused, packets) for peers, packets in allowed]
            key = tuple(allowed)
            if key not in known:
                known[key] = of_union(key)
            return known[key]

        egress, ingress = (
            [effect(number, allowed, direction) for number, allowed in enumerate(sides[direction])]
            for direction in (Direction.EGRESS, Direction.INGRESS)
        )
        return Reach(self.universe, egress, ingress)

    @cached_property
    def governed_pieces(self) -> int:
        """The pods that policies of ours must isolate, in both directions."""
        found = 0
        for name in sorted(self.governed):
            found |= self.pods(name, exempt_selector(self.baseline, name))
        return found

    def allowed(self, service: Service, edge: ServiceEdge) -> Iterable[tuple[int, Allowed]]:
        """(own piece, what it is allowed) of one edge."""
        peers = self.end(edge.peer, service.namespace)
        own = self.members[service.key]
        if edge.direction is Direction.INGRESS:
            meaning = self.meaning(edge.ports, own, (service.key,))
            for number in bits(own):
                for _, packets in self.spread(meaning, 1 << number):
                    yield number, (peers, packets)
            return
        if isinstance(edge.peer, ApiServerPeer):
            port = self.cluster.api_server_port
            found: list[Allowed] = [(peers, Connections.of(TCP, port, port))]
        else:
            found = list(self.spread(self.meaning(edge.ports, peers, edge.others), peers))
        for number in bits(own):
            for item in found:
                yield number, item

    # -------------------------------------------------------- who

    def refused(self) -> int:
        """Whoever has an address that nobody may reach, whatever is declared."""
        found = 0
        for item in read(self.inputs.content).refused_on(self.cluster):
            found |= self.universe.network(item.network)
        return found

    def pods(self, namespace: str, selector: LabelSelector) -> int:
        everyone = self.universe.by_namespace.get(namespace, 0)
        if selector.is_empty or not everyone:
            return everyone
        pieces = self.universe.pieces
        if selector.match_labels:
            key, value = selector.match_labels[0]
            among: Iterable[int] = self._having(key).get((namespace, value), ())
        else:
            among = bits(everyone)
        return of(number for number in among if selector.matches(pieces[number].labels))

    def _having(self, key: str) -> Mapping[tuple[str, str], list[int]]:
        """(namespace, value) → the pods with that label."""
        if key not in self._by_label:
            found: dict[tuple[str, str], list[int]] = {}
            for number, piece in enumerate(self.universe.pieces):
                value = piece.labels.get(key)
                if value is not None and piece.pods:
                    found.setdefault((piece.namespace, value), []).append(number)
            self._by_label[key] = found
        return self._by_label[key]

    def labelled(self, peer: PodsPeer, own: str) -> int:
        key = (peer.pod_selector, peer.namespace_selector, "" if peer.namespace_selector else own)
        if key not in self._labelled:
            spaces = peer.namespace_selector
            self._labelled[key] = sum(
                self.pods(name, peer.pod_selector)
                for name, labels in self.universe.namespace_labels.items()
                if (name == own if spaces is None else spaces.matches(labels))
            )
        return self._labelled[key]

    def end(self, peer: object, own: str) -> int:
        """The pieces that an end of an edge means, seen from namespace `own`."""
        match peer:
            case ServicePeer():
                return self.members.get(str(peer), 0)
            case PodsPeer():
                return self.labelled(peer, own)
            case SystemPeer():
                if peer.host_network:
                    return self.addresses(self.cluster.node_cidrs)
                return self.pods(peer.namespace, peer.pod_selector)
            case CidrPeer(network):
                if network in self.cluster.node_local_dns:
                    return self.addresses((network,))
                return self.addresses((network,), less=(*self.cluster.pod_cidrs, *self.cluster.service_cidrs))
            case ApiServerPeer():
                return self.addresses(self.cluster.api_server)
            case DomainPeer(name):
                return self.addresses(self.inputs.domain_addresses(name))
            case InternetPeer():
                return self.addresses(None, less=(*self.baseline.private_ranges, *self.cluster.cluster_networks))
        raise AssertionError(peer)

    def addresses(self, networks: tuple[Network, ...] | None, less: tuple[Network, ...] = ()) -> int:
        """Addresses outside, never pods: those in `networks` (None: everywhere) and in none of `less`."""
        memo = (networks, less)
        if memo not in self._peers:
            found = 0
            for number in bits(self.universe.outside):
                region = self.universe.region(number).network
                inside = networks is None or any(_holds(net, region) for net in networks)
                if inside and not any(_holds(net, region) for net in less):
                    found |= 1 << number
            self._peers[memo] = found
        return self._peers[memo]

    # -------------------------------------------------------- at which ports

    def meaning(self, ports: tuple[PortRef, ...], among: int, services: tuple[str, ...]) -> Meaning:
        """What these ports stand for at the pods of `among`: one number where the declarations and all pods agree on a
        name, else the name itself, which each pod resolves."""
        memo = (ports, among, services)
        if memo not in self._meanings:
            self._meanings[memo] = self._meaning(ports, among, services)
        return self._meanings[memo]

    def _meaning(self, ports: tuple[PortRef, ...], among: int, services: tuple[str, ...]) -> Meaning:
        if not ports:
            return ALL, ()
        fixed, own = NONE, []
        for port in ports:
            if not port.name:
                protocol = PROTOCOLS[port.protocol.value if port.protocol else "TCP"]
                fixed = fixed | Connections.of(protocol, port.number, port.end or port.number)
                continue
            known = self.known(port, among, services)
            for protocol in sorted({protocol for protocol, _ in known}):
                numbers = {number for of, number in known if of == protocol}
                if len(numbers) == 1:
                    number = numbers.pop()
                    fixed = fixed | Connections.of(protocol, number, number)
                else:
                    own.append((port.name, protocol))
            if not known:
                own.append((port.name, PROTOCOLS[port.protocol.value if port.protocol else "TCP"]))
        return fixed, tuple(own)

    def spread(self, meaning: Meaning, destination: int) -> Iterable[Allowed]:
        """What these pieces are reached at."""
        fixed, own = meaning
        if fixed:
            yield destination, fixed
        for name, protocol in own:
            for number in bits(destination & self.universe.endpoints):
                for item in self.universe.pieces[number].pods[0].ports:
                    if item.name == name and PROTOCOLS[item.protocol] == protocol:
                        yield 1 << number, Connections.of(protocol, item.number, item.number)

    def known(self, port: PortRef, among: int, services: tuple[str, ...]) -> set[tuple[int, int]]:
        """(protocol, number) that the name stands for: in declarations, and on the pods that run."""
        wanted = None if port.protocol is None else PROTOCOLS[port.protocol.value]
        found = {
            (PROTOCOLS[item.protocol.value], item.number)
            for key in services
            for item in self.services[key].ports
            if item.name == port.name
        }
        for number in bits(among & self.universe.endpoints):
            piece = self.universe.pieces[number]
            if not piece.future:
                found |= {(PROTOCOLS[p.protocol], p.number) for p in piece.pods[0].ports if p.name == port.name}
        return {item for item in found if wanted in (None, item[0])}


def _holds(network: Network, region: Network) -> bool:
    return network.version == region.version and region.subnet_of(network)  # type: ignore[arg-type]

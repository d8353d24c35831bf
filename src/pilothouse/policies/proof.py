"""The proof: what the generated policies allow is what was declared, no more and no less.

Both sides stand on the same snapshot and are computed apart. One is `evaluate` over the generated manifests.
The other is computed here, straight from the edges: each is expanded to the pods and addresses that
it means, with plain matching of labels and addresses. Whatever differs is an error with a witness: a source,
a destination, a port, and the policy that decides.

Proved for enforced and staged namespaces alike, staged policies as if they were enforced.
Where a port's name means different numbers on different pods, each pod's own number counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pilothouse.artifacts.model import Artifacts
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
from pilothouse.policies import adoption, edges, evaluate
from pilothouse.policies.adoption import Mode, exempt_selector
from pilothouse.policies.content import Baseline, SystemPeer, read
from pilothouse.policies.edges import Direction, Edges, Origin, ServiceEdge
from pilothouse.policies.evaluate import decide
from pilothouse.policies.groups import grouped
from pilothouse.policies.parties import Parties
from pilothouse.policies.portset import NONE, PortSet
from pilothouse.policies.reach import EVERY_PORT, Ports, Reach, Rule, Side, differences, flips
from pilothouse.policies.universe import Universe, bits
from pilothouse.problems import NOWHERE, Place, Problem, Problems, error, ordered

MAX_WITNESSES = 50
"""More mismatches than this have one cause; the rest is counted."""


class Rendered(Protocol):
    """Whatever holds the rendered documents: this component's own result, or the whole bundle's."""

    @property
    def artifacts(self) -> Artifacts: ...


def prove(inputs: Inputs, derived: Rendered) -> Problems:
    """A problem `policies/unproved` for each group of connections that the policies allow and nobody declared, or
    the other way round. Empty means proved. Nothing is said where the baseline could not be read.

    Withheld namespaces have no policies, so that there is nothing to prove about their own pods.
    """
    content = read(inputs.content)
    if content.baseline is None:
        return ()
    policies = tuple(derived.artifacts.under("policies/").manifests())
    universe = Universe(inputs.snapshot, (*evaluate.ranges(policies), *_ranges(inputs, content.baseline)))
    evaluation = evaluate.evaluate(policies, universe, preview=True)
    modes = adoption.modes(inputs, content.baseline)
    governed = frozenset(name for name, item in modes.items() if item.mode in (Mode.ENFORCED, Mode.STAGED))
    declared = _Declared(inputs, content.baseline, edges.of(inputs), universe, governed).reach()
    problems = [
        _unproved(inputs, f"{item.policy} is not evaluated: {item.reason}", "report this as a defect")
        for item in evaluation.unsupported
    ]
    return ordered([*problems, *_mismatches(inputs, declared, evaluation.reach)])


def _ranges(inputs: Inputs, baseline: Baseline) -> Iterable[Network]:
    cluster = inputs.cluster
    yield from baseline.private_ranges
    yield from (*cluster.cluster_networks, *cluster.api_server, *cluster.node_local_dns)
    for nets in cluster.domain_addresses.values():
        yield from nets
    for service in inputs.platform.services_on(cluster.name):
        for edge in (*service.egress, *(service.ingress or ())):
            if isinstance(edge.peer, CidrPeer):
                yield edge.peer.network


class _Declared:
    """The reach that the declarations mean, over the same pieces as the evaluation."""

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
        self.members = {key: self.pods(s.namespace, s.pod_selector) for key, s in self.services.items()}
        self._peers: dict[object, int] = {}
        self._labelled: dict[tuple[LabelSelector, LabelSelector | None, str], int] = {}

    def reach(self) -> Reach:
        egress: list[list[Rule] | None] = []
        ingress: list[list[Rule] | None] = []
        names = [(peer, ports) for peer, ports, _, _ in edges.dns_ends(self.baseline, self.cluster)]
        dns = [Rule(self.end(peer, ""), self.meaning(ports, 0, ()), "DNS") for peer, ports in names]
        for item in self.universe.classes:
            governed = item.namespace in self.governed
            governed = governed and exempt_selector(self.baseline, item.namespace).matches(item.labels)
            egress.append(list(dns) if governed else None)
            ingress.append([] if governed else None)
        for service in self.services.values():
            if service.namespace in self.governed:
                for sides, direction in ((egress, Direction.EGRESS), (ingress, Direction.INGRESS)):
                    rules = [
                        self.rule(service, edge)
                        for edge in self.edges.of(service.key, direction)
                        if edge.needs_rule and edge.origin is not Origin.DNS
                    ]
                    for number in bits(self.members[service.key]):
                        side = sides[number]
                        if side is not None:  # an exempt pod stays exempt, also where a service selects it
                            side.extend(rules)
        return Reach(self.universe, _frozen(egress), _frozen(ingress))

    def rule(self, service: Service, edge: ServiceEdge) -> Rule:
        peers = self.end(edge.peer, service.namespace)
        if edge.direction is Direction.INGRESS:
            ports = self.meaning(edge.ports, self.members[service.key], (service.key,))
        elif isinstance(edge.peer, ApiServerPeer):
            ports = Ports(PortSet.of("TCP", self.cluster.api_server_port, self.cluster.api_server_port))
        else:
            ports = self.meaning(edge.ports, peers, edge.others)
        return Rule(peers, ports, str(edge.place))

    # -------------------------------------------------------- who

    def pods(self, namespace: str, selector: LabelSelector) -> int:
        found = 0
        for number in bits(self.universe.by_namespace.get(namespace, 0)):
            if selector.matches(self.universe.classes[number].labels):
                found |= 1 << number
        return found

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
                return self.addresses(self.cluster.domain_addresses.get(name, ()))
            case InternetPeer():
                return self.addresses(None, less=(*self.baseline.private_ranges, *self.cluster.cluster_networks))
        raise AssertionError(peer)

    def addresses(self, networks: tuple[Network, ...] | None, less: tuple[Network, ...] = ()) -> int:
        """Addresses outside, never pods: the atoms in `networks` (None: everywhere) and in none of `less`."""
        memo = (networks, less)
        if memo not in self._peers:
            found = 0
            for index, atom in enumerate(self.universe.atoms, len(self.universe.classes)):
                inside = networks is None or any(_holds(net, atom.version, atom.first) for net in networks)
                if inside and not any(_holds(net, atom.version, atom.first) for net in less):
                    found |= 1 << index
            self._peers[memo] = found
        return self._peers[memo]

    # -------------------------------------------------------- at which ports

    def meaning(self, ports: tuple[PortRef, ...], destination: int, services: tuple[str, ...]) -> Ports:
        """One number where the declarations and all pods of the destination agree on a name, else each pod's own."""
        if not ports:
            return EVERY_PORT
        fixed, named = NONE, []
        for port in ports:
            if not port.name:
                protocol = port.protocol.value if port.protocol else "TCP"
                fixed = fixed | PortSet.of(protocol, port.number, port.end or port.number)
                continue
            known = self.known(port, destination, services)
            for protocol in sorted({protocol for protocol, _ in known}):
                numbers = {number for of, number in known if of == protocol}
                if len(numbers) == 1:
                    number = numbers.pop()
                    fixed = fixed | PortSet.of(protocol, number, number)
                else:
                    named.append((port.name, protocol))
            if not known:
                named.append((port.name, port.protocol.value if port.protocol else "TCP"))
        return Ports(fixed, tuple(named))

    def known(self, port: PortRef, destination: int, services: tuple[str, ...]) -> set[tuple[str, int]]:
        """(protocol, number) that the name stands for: in declarations, and on the destination's pods."""
        wanted = None if port.protocol is None else port.protocol.value
        declared = [(p.name, p.protocol.value, p.number) for key in services for p in self.services[key].ports]
        running = [item for number in bits(destination & self.universe.pods) for item in self._ports_of(number)]
        return {
            (protocol, number)
            for name, protocol, number in (*declared, *running)
            if name == port.name and wanted in (None, protocol)
        }

    def _ports_of(self, number: int) -> tuple[tuple[str, str, int], ...]:
        return self.universe.classes[number].ports


def _frozen(sides: list[list[Rule] | None]) -> list[Side]:
    return [None if side is None else tuple(side) for side in sides]


def _holds(network: Network, version: int, address: int) -> bool:
    return network.version == version and int(network.network_address) <= address <= int(network.broadcast_address)


# ---------------------------------------------------------------- what differs


def _mismatches(inputs: Inputs, declared: Reach, allowed: Reach) -> list[Problem]:
    universe = declared.universe
    parties = Parties(inputs, universe)
    problems: list[Problem] = []
    for direction, flipped in zip(("egress", "ingress"), flips(declared, allowed), strict=True):
        for number in bits(flipped):
            side = declared.egress[number] if direction == "egress" else declared.ingress[number]
            what = "is not isolated by any policy" if side is not None else "is isolated, though it is exempt"
            message = f"the {direction} of {universe.name(number)} {what}"
            problems.append(_unproved(inputs, message, _REPORT, parties.place(number), parties.teams(number)))
    groups = grouped(universe, differences(declared, allowed), parties, parties)
    for group in groups[:MAX_WITNESSES]:
        protocol, port = group.ports.first()
        verdict = decide(allowed, *group.example, protocol, port)
        one, other = (universe.name(piece) for piece in group.example)
        wrong = "allow, and nobody declares," if group.gained else "do not allow, though it is declared,"
        message = (
            f"the policies {wrong} {group.source} to {group.destination} at {group.ports}: for example {one} to "
            f"{other} at {protocol} {port} (egress: {verdict.egress}; ingress: {verdict.ingress})"
        )
        places = [place for piece in group.example if (place := parties.place(piece)).path]
        teams = [team for piece in group.example for team in parties.teams(piece)]
        problems.append(_unproved(inputs, message, _hint(group.gained), places[0] if places else NOWHERE, teams))
    if len(groups) > MAX_WITNESSES:
        message = f"{len(groups) - MAX_WITNESSES} more groups of connections differ"
        problems.append(_unproved(inputs, message, _REPORT))
    return problems


_REPORT = "do not apply these policies; if the Cluster document's ranges are right, this is a defect to report"


def _hint(extra: bool) -> str:
    if extra:
        return "do not apply these policies; check the Cluster document's pod, service and node ranges first"
    return _REPORT


def _unproved(inputs: Inputs, message: str, hint: str, place: Place = NOWHERE, teams: Iterable[str] = ()) -> Problem:
    where = place if place.path else inputs.cluster.place
    name = inputs.cluster.name
    return error("policies/unproved", message, where, hint, teams=tuple(sorted(set(teams))), cluster=name)

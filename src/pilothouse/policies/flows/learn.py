"""Declarations drafted from observed flows: the lines that are missing for what went through.

A flow that the derived policies would deny, were they enforced, asks for a line at each end that denies it. Whatever
they allow already, because it is declared or because it follows from other fields (DNS, scraping, secrets), asks for
none. Pods that nobody declares in a governed namespace get a draft of a Service first.

A draft says what was seen, not what is right: that is for the team to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network

from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Pod
from pilothouse.labels import NAMESPACE_NAME_LABEL, LabelSelector
from pilothouse.platform.model import (
    ApiServerPeer,
    CidrPeer,
    DomainPeer,
    Edge,
    Peer,
    PodsPeer,
    Port,
    PortRef,
    Protocol,
    Service,
    ServicePeer,
)
from pilothouse.policies import site as sites
from pilothouse.policies.addresses import collapsed
from pilothouse.policies.adoption import modes
from pilothouse.policies.content import read
from pilothouse.policies.derive import derive
from pilothouse.policies.edges import Origin
from pilothouse.policies.engine.connections import NAMES, TCP, WITH_PORTS
from pilothouse.policies.engine.decide import Outcome, decide
from pilothouse.policies.flows.ends import Ends, Found
from pilothouse.policies.flows.model import Flow, FlowEnd, Observed
from pilothouse.policies.flows.replay import Amount, added, shown
from pilothouse.policies.flows.verdicts import Pair, Standing, Verdicts, packet
from pilothouse.policies.parties import Kind, Parties, pod_workload
from pilothouse.policies.rules import Direction

NONE = Amount()
REASON = "seen in observed traffic"
_NAMING = ("app.kubernetes.io/name", "app", "k8s-app", "app.kubernetes.io/instance", "app.kubernetes.io/component")
"""Labels that say what a pod is, in the order in which they are tried
(https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/)."""
_PASSING = (
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
)
"""Labels that a controller gives, which change with each rollout, pod or run."""


@dataclass(frozen=True, slots=True)
class Line:
    """One item for a list of a service. `amount` is what asks for it: nothing where it only keeps what a service
    accepts today (naming one caller names the whole list)."""

    service: str
    direction: Direction
    edge: Edge
    amount: Amount = NONE


@dataclass(frozen=True, slots=True)
class Left:
    """Flows that would be denied and that no line is drafted for, and why."""

    reason: str
    example: str
    amount: Amount


@dataclass(frozen=True)
class Learnt:
    """`lines` are sorted by service and direction; `drafts` are services that nobody declared, without their lines."""

    lines: tuple[Line, ...] = ()
    drafts: tuple[Service, ...] = ()
    left: tuple[Left, ...] = ()
    unknown: Amount = NONE
    """Flows with an end that is not known: nothing is learnt from them."""

    @property
    def is_empty(self) -> bool:
        return not self.lines and not self.drafts


def learn(flows: Iterable[Flow], inputs: Inputs) -> Learnt:
    """What to declare so that the flows which were not denied stay allowed on this cluster."""
    chosen = [flow for flow in flows if flow.action is not Observed.DENY]
    drafts = tuple(_drafts(_Judged(chosen, inputs)))
    if drafts:
        known = {**inputs.platform.services, **{service.key: service for service in drafts}}
        inputs = replace(inputs, platform=replace(inputs.platform, services=known))
    return _Learner(_Judged(chosen, inputs)).learnt(drafts)


class _Judged:
    """Flows before the policies of the declarations, every governed namespace enforced."""

    def __init__(self, flows: Sequence[Flow], inputs: Inputs) -> None:
        self.flows = flows
        self.inputs = inputs
        self.derived = derive(inputs)
        site = sites.of_platform(inputs, self.derived, as_if_enforced=True)
        self.engine = site.engine
        self.parties = Parties(inputs, self.engine.universe)
        self.ends = Ends(self.engine.universe)
        self.verdicts = Verdicts(self.engine, self.engine, self.ends)

    def denied(self) -> Iterator[tuple[Flow, tuple[Pair, ...]]]:
        """The flows that would be denied, with the pairs of pieces for which they would."""
        for flow in self.flows:
            verdict = self.verdicts.of(flow)
            pairs = tuple(pair for pair in verdict.pairs if self.verdicts.outcome(pair) is Outcome.DENY)
            if pairs:
                yield flow, pairs

    def unknown(self) -> Amount:
        """An address set of the cluster is not looked up here: nothing that is declared names one."""
        return added(flow for flow in self.flows if self.verdicts.of(flow).standing is Standing.UNKNOWN)


# ---------------------------------------------------------------- services that nobody declared


def _drafts(judged: _Judged) -> Iterator[Service]:
    """A service for each undeclared workload of a governed namespace that would lose a connection."""
    inputs, universe = judged.inputs, judged.engine.universe
    baseline = read(inputs.content).baseline
    if baseline is None:
        return
    found = modes(inputs, baseline)
    wanted: dict[tuple[str, str], list[Pod]] = {}
    for _, pairs in judged.denied():
        for piece in dict.fromkeys(end for pair in pairs for end in pair[:2]):
            if not universe.is_endpoint(piece) or judged.parties.service(piece) is not None:
                continue
            for pod in universe.pieces[piece].pods:
                mode = found.get(pod.namespace)
                if mode is not None and mode.mode.governs and pod.name in mode.undeclared:
                    pods = wanted.setdefault((pod.namespace, pod_workload(pod)), [])
                    if pod not in pods:
                        pods.append(pod)
    for (namespace, name), pods in sorted(wanted.items()):
        selector = naming(inputs, pods)
        if selector is not None and f"{namespace}/{name}" not in inputs.platform.services:
            yield _draft(inputs, namespace, name, pods, selector)


def _draft(inputs: Inputs, namespace: str, name: str, pods: Sequence[Pod], selector: LabelSelector) -> Service:
    ports = {port.name: Port(port.name, port.number, Protocol(port.protocol)) for port in pods[0].ports if port.name}
    return Service(
        namespace,
        name,
        _team(inputs, namespace),
        selector,
        pods[0].service_account,
        ports=tuple(ports[key] for key in sorted(ports)),
        clusters=frozenset((inputs.cluster.name,)) if len(inputs.platform.clusters) > 1 else frozenset(),
    )


def _team(inputs: Inputs, namespace: str) -> str:
    """Whoever has the most services in the namespace; a guess, and the draft says so."""
    services = [item for item in inputs.platform.services.values() if item.namespace == namespace]
    counts: dict[str, int] = {}
    for item in services or inputs.platform.services.values():
        counts[item.team] = counts.get(item.team, 0) + 1
    return min(counts, key=lambda team: (-counts[team], team)) if counts else min(inputs.platform.teams)


def naming(inputs: Inputs, pods: Sequence[Pod]) -> LabelSelector | None:
    """A selector by one label if possible, for these pods and no others of their namespace; None where they carry no
    label that tells them apart."""
    common = dict(pods[0].labels)
    for pod in pods[1:]:
        common = {key: value for key, value in common.items() if pod.labels.get(key) == value}
    lasting = {key: value for key, value in sorted(common.items()) if key not in _PASSING}
    tried: list[Mapping[str, str]] = [{key: lasting[key]} for key in _NAMING if key in lasting]
    names = {pod_workload(pod) for pod in pods}
    for labels in (*tried, lasting):
        selector = LabelSelector.of(labels)
        others = inputs.snapshot.select(pods[0].namespace, selector) if labels else ()
        if labels and all(pod_workload(pod) in names for pod in others):
            return selector
    return None


# ---------------------------------------------------------------- lines


_Key = tuple[str, Direction, Peer, PortRef, frozenset[str], str]
_Alike = tuple[str, Direction, PortRef, frozenset[str], str]
"""The same without the peer."""


class _Learner:
    def __init__(self, judged: _Judged) -> None:
        self.judged = judged
        self.inputs = judged.inputs
        self.parties = judged.parties
        self.universe = judged.engine.universe
        baseline = read(self.inputs.content).baseline
        peers = (*baseline.metrics, *baseline.secrets, *baseline.edge) if baseline else ()
        self.implied = frozenset(peer.title for peer in peers)
        self._lines: dict[_Key, list[Flow]] = {}
        self._left: dict[str, list[Flow]] = {}

    def learnt(self, drafts: tuple[Service, ...]) -> Learnt:
        for flow, pairs in self.judged.denied():
            wanted: set[_Key] = set()
            for pair in pairs:
                asked = self._asked(flow, pair)
                if isinstance(asked, str):
                    kept = self._left.setdefault(asked, [])
                    if not kept or kept[-1] is not flow:
                        kept.append(flow)
                else:
                    wanted.update(asked)
            for key in wanted:
                self._lines.setdefault(key, []).append(flow)
        lines = [*self._accepted(), *(self._line(key, flows) for key, flows in self._collapsed().items())]
        lines.sort(
            key=lambda line: (line.service, line.direction, str(line.edge.peer), [str(p) for p in line.edge.ports])
        )
        left = (
            Left(reason, shown(max(flows, key=lambda flow: flow.count)), added(flows))
            for reason, flows in sorted(self._left.items())
        )
        return Learnt(tuple(lines), drafts, tuple(left), self.judged.unknown())

    def _collapsed(self) -> Mapping[_Key, Sequence[Flow]]:
        """Neighbouring addresses that ask for the same are one range, of which each address was seen."""
        found: dict[_Key, Sequence[Flow]] = {}
        apart: dict[_Alike, dict[str, list[Flow]]] = {}
        for key, flows in self._lines.items():
            service, direction, peer, port, clusters, reason = key
            if isinstance(peer, CidrPeer):
                seen = apart.setdefault((service, direction, port, clusters, reason), {})
                seen[str(peer.network.network_address)] = flows
            else:
                found[key] = flows
        for (service, direction, port, clusters, reason), seen in apart.items():
            for network in collapsed(map(ip_network, seen)):
                within = {id(flow): flow for address in network for flow in seen[str(address)]}
                found[service, direction, CidrPeer(network), port, clusters, reason] = list(within.values())
        return found

    def _line(self, key: _Key, flows: Sequence[Flow]) -> Line:
        service, direction, peer, port, clusters, reason = key
        return Line(service, direction, Edge(peer, (port,), clusters, reason), added(flows))

    def _accepted(self) -> Iterator[Line]:
        """Whom a service accepts without a list, once it gets one."""
        named = {key[0] for key in self._lines if key[1] is Direction.INGRESS}
        for service in sorted(named):
            if self.inputs.platform.services[service].ingress is not None:
                continue
            for edge in self.judged.derived.edges.of(service, Direction.INGRESS):
                if edge.origin is Origin.ACCEPTED:
                    assert isinstance(edge.peer, ServicePeer)
                    yield Line(service, Direction.INGRESS, Edge(edge.peer, edge.ports))

    def _asked(self, flow: Flow, pair: Pair) -> set[_Key] | str:
        """The lines that would allow a pair, or why there are none."""
        source, destination, protocol, number = pair
        if protocol not in WITH_PORTS or number <= 0:
            return "an edge has ports, and this protocol has none"
        for end in (source, destination):
            party = self.parties.party(end)
            if party.kind is Kind.SYSTEM and party.name in self.implied:
                return f"{party.name} is reached by what a service declares besides: `metrics`, `secrets` or `exposure`"
        egress, ingress = decide(self.judged.engine, source, destination, packet(pair))
        caller, called = self.parties.service(source), self.parties.service(destination)
        found: set[_Key] = set()
        accepts = called is not None and called.ingress is None and caller is not None
        if egress.outcome is Outcome.DENY or (ingress.outcome is Outcome.DENY and accepts):
            if caller is None:
                return f"nobody declares the pods of {self.parties.name(source)}"
            peers = self._peers(destination, flow.destination, self.judged.ends.destination(flow))
            if not peers:
                return f"no edge can name {self.parties.name(destination)}"
            found.update(self._key(caller, Direction.EGRESS, peer, called, called, pair) for peer in peers)
        if ingress.outcome is Outcome.DENY and not accepts:
            if called is None:
                return f"nobody declares the pods of {self.parties.name(destination)}"
            peers = self._peers(source, flow.source, self.judged.ends.source(flow))
            peers = [peer for peer in peers if not isinstance(peer, DomainPeer)]
            if not peers:
                return f"no edge can name {self.parties.name(source)}"
            found.update(self._key(called, Direction.INGRESS, peer, caller, called, pair) for peer in peers)
        return found

    def _key(
        self,
        service: Service,
        direction: Direction,
        peer: Peer,
        other: Service | None,
        target: Service | None,
        pair: Pair,
    ) -> _Key:
        """An address, and a service that does not run everywhere, is meant on this cluster alone."""
        alone = isinstance(peer, CidrPeer) or (other is not None and bool(other.clusters))
        several = len(service.clusters or self.inputs.platform.clusters) > 1
        clusters = frozenset((self.inputs.cluster.name,)) if alone and several else frozenset()
        reason = REASON if direction is Direction.EGRESS and isinstance(peer, CidrPeer) else ""
        return (service.key, direction, peer, _port(target, self._pods(pair[1]), pair[2], pair[3]), clusters, reason)

    def _pods(self, piece: int) -> Sequence[Pod]:
        return self.universe.pieces[piece].pods if self.universe.is_endpoint(piece) else ()

    def _peers(self, piece: int, end: FlowEnd, found: Found) -> list[Peer]:
        """The other end as an edge names it: a service, pods by label, the API server, a domain, or each address."""
        service = self.parties.service(piece)
        if service is not None:
            return [ServicePeer(service.namespace, service.name)]
        pods = self._pods(piece)
        if pods:
            selector = naming(self.inputs, pods)
            spaces = LabelSelector.of({NAMESPACE_NAME_LABEL: pods[0].namespace})
            return [PodsPeer(selector, spaces)] if selector is not None else []
        name = self.parties.name(piece)
        if self.inputs.cluster.api_server and name == "the API server":
            return [ApiServerPeer()]
        if name in self.inputs.known_domains:
            return [DomainPeer(name)]
        version = self.universe.version(piece)
        texts = [end.address] if end.address else [ip for pod in found.pods for ip in pod.ips]
        texts += [ip for node in self.inputs.snapshot.nodes if node.name == end.name for ip in node.addresses]
        networks = [ip_network(text) for text in dict.fromkeys(texts)]
        return [CidrPeer(network) for network in networks if network.version == version]


def _port(service: Service | None, pods: Sequence[Pod], protocol: int, number: int) -> PortRef:
    """By the name that the destination declares, where its pods mean that number by it."""
    kind = Protocol(NAMES[protocol])
    own = {port.name: port.number for port in (pods[0].ports if pods else ()) if port.protocol == kind.value}
    for port in service.ports if service is not None else ():
        if port.protocol is kind and own.get(port.name, port.number) == number:
            return PortRef(name=port.name)
    return PortRef(number=number, protocol=None if protocol == TCP else kind)

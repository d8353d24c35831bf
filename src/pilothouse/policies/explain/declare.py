"""Edits of declarations: one line of a Service document instead of the policies that are derived from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pilothouse.inputs import Inputs
from pilothouse.labels import NAMESPACE_NAME_LABEL, LabelSelector
from pilothouse.platform.edit import flow
from pilothouse.platform.model import (
    ApiServerPeer,
    CidrPeer,
    DomainPeer,
    Edge,
    InternetPeer,
    Peer,
    PodsPeer,
    PortRef,
    Protocol,
    Service,
    ServicePeer,
)
from pilothouse.policies.derive import derive
from pilothouse.policies.edges import Origin
from pilothouse.policies.engine import Packet
from pilothouse.policies.engine.connections import NAMES, TCP, WITH_PORTS
from pilothouse.policies.explain.declarations import Declarations
from pilothouse.policies.explain.fragments import Addresses, Pods, Whom
from pilothouse.policies.explain.near import Side, is_ours
from pilothouse.policies.guardrails import check_guardrails
from pilothouse.policies.reading import from_data
from pilothouse.policies.rules import Direction, PolicySet
from pilothouse.policies.site import Site
from pilothouse.problems import Place

_END = {Direction.EGRESS: "to", Direction.INGRESS: "from"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list of a Service document that comes (`add`), goes (`remove`, with its number from 1), or both."""

    service: Service
    direction: Direction
    add: Edge | None = None
    remove: Edge | None = None
    number: int = 0
    listed: tuple[Edge, ...] = ()
    """The whole list, where there was none yet."""

    @property
    def place(self) -> Place:
        if self.remove is not None:
            return self.remove.place
        edges = self.service.egress if self.direction is Direction.EGRESS else self.service.ingress
        return edges[-1].place if edges else self.service.place

    @property
    def title(self) -> str:
        whom = self.add or self.remove
        verb = "declare" if self.remove is None else "take back" if self.add is None else "change"
        assert whom is not None
        return f"{verb} {self.direction} of {self.service.key} {_END[self.direction]} {whom.peer}"

    @property
    def text(self) -> str:
        """The lines as a difference, with the line before them where its text is known."""
        key = self.direction.value
        if self.listed:
            return "\n".join(["+  " + f"{key}:", *(f"+    - {_flow(edge, self.direction)}" for edge in self.listed)])
        lines = []
        if self.remove is not None:
            lines.append(f"-    - {_flow(self.remove, self.direction)}")
        else:
            before = self.place.excerpt.strip()
            lines.append(f"     {before}" if before.startswith("- ") else f"+  {key}:")
        if self.add is not None:
            lines.append(f"+    - {_flow(self.add, self.direction)}")
        return "\n".join(lines)

    @property
    def command(self) -> str:
        """How to propose it; "" for a list of who may come, which is changed in the document."""
        if self.direction is not Direction.EGRESS:
            return ""
        parts = [f"pilothouse egress propose {self.service.key}"]
        if self.remove is not None:
            parts.append(f"--remove {self.number}")
        if self.add is not None:
            parts.append(f"--add '{_flow(self.add, self.direction)}'")
        return " ".join([*parts, "--reason …"])

    def applied(self) -> Service:
        """The service with that line."""
        edges = self.service.egress if self.direction is Direction.EGRESS else self.service.ingress or ()
        kept = [edge for number, edge in enumerate(edges, 1) if self.remove is None or number != self.number]
        if self.listed:
            kept = list(self.listed)
        elif self.add is not None:
            kept.append(self.add)
        if self.direction is Direction.EGRESS:
            return replace(self.service, egress=tuple(kept))
        return replace(self.service, ingress=tuple(kept))


@dataclass(frozen=True)
class Proposal:
    """Lines that go together, the inputs with them, and the policies that follow."""

    lines: tuple[Line, ...]
    inputs: Inputs = field(compare=False, repr=False)
    policies: PolicySet = field(compare=False, repr=False)
    remarks: tuple[str, ...] = ()


class Declaring:
    """Proposals for one connection."""

    def __init__(self, site: Site, policies: PolicySet, declarations: Declarations) -> None:
        assert site.inputs is not None
        self.inputs: Inputs = site.inputs
        self.policies = policies
        self.declarations = declarations

    def allowing(
        self, sides: Iterable[Side], packet: Packet, whom: Mapping[Direction, Whom | None]
    ) -> Iterator[Proposal]:
        """So that the denying `sides` allow; `whom` is the other end of each direction."""
        if packet.protocol not in WITH_PORTS:
            return  # edges have ports, and without any they mean everything
        lines: list[Line] = []
        for side in sides:
            service = self.declarations.service(side.own)
            other = self.declarations.service(side.other)
            if service is None or not self.declarations.governs(side.own):
                continue
            if side.direction is Direction.INGRESS and service.ingress is None and other is not None:
                if any(line.direction is Direction.EGRESS for line in lines):
                    continue  # it accepts whoever declares
                lines += self._declared(other, service, Direction.EGRESS, packet, None)
                continue
            lines += self._declared(service, other, side.direction, packet, whom[side.direction])
        if lines:
            yield self.proposal(lines)

    def denying(self, sides: Iterable[Side], packet: Packet) -> Iterator[Proposal]:
        """So that one of the sides denies: without the lines that allow it."""
        for side in sides:
            found = self.declarations.behind(side, packet)
            service = self.declarations.service(side.own)
            if not found or service is None or any(edge.origin is not Origin.DECLARED for edge in found):
                continue
            edges = service.egress if side.direction is Direction.EGRESS else service.ingress or ()
            lines = [
                self._less(service, side.direction, number, edge, packet)
                for number, edge in enumerate(edges, 1)
                if any((edge.peer, edge.ports, edge.place) == (item.peer, item.ports, item.place) for item in found)
            ]
            if len(lines) == 1:
                yield self.proposal(lines)

    def proposal(self, lines: Iterable[Line]) -> Proposal:
        changed = {line.service.key: line.applied() for line in lines}
        platform = replace(self.inputs.platform, services={**self.inputs.platform.services, **changed})
        inputs = replace(self.inputs, platform=platform)
        known = {problem.message for problem in check_guardrails(self.inputs)}
        remarks = tuple(
            problem.message + (f": {problem.hint}" if problem.hint else "")
            for problem in check_guardrails(inputs)
            if problem.message not in known
        )
        return Proposal(tuple(lines), inputs, self._policies(inputs), remarks)

    def _policies(self, inputs: Inputs) -> PolicySet:
        """The same policies with those of ours derived anew, for the namespaces in which they were in force."""
        derived = derive(inputs)
        ours = {item.namespace for item in self.policies.policies if is_ours(item)}
        data = [item for name, items in derived.policies.items() if name in ours for item in items]
        fresh = from_data(*data, *derived.sets).policies
        kept = [item for item in self.policies.policies if not is_ours(item)]
        sets = {(item.namespace, item.name): item for item in (*self.policies.sets, *fresh.sets)}
        return replace(self.policies, policies=(*kept, *fresh.policies), sets=tuple(sets.values()))

    # -------------------------------------------------------- lines

    def _declared(
        self, service: Service, other: Service | None, direction: Direction, packet: Packet, whom: Whom | None
    ) -> Iterator[Line]:
        peer = ServicePeer(other.namespace, other.name) if other is not None else self._peer(whom, service.namespace)
        if peer is None or (direction is Direction.INGRESS and isinstance(peer, DomainPeer | InternetPeer)):
            return
        target = other if direction is Direction.EGRESS else service
        port = _port(target, packet)
        edges = service.egress if direction is Direction.EGRESS else service.ingress
        for number, edge in enumerate(edges or (), 1):
            if edge.peer == peer and edge.ports and edge.holds_on(self.inputs.cluster.name):
                yield Line(service, direction, replace(edge, ports=(*edge.ports, port)), edge, number)
                return
        fresh = Edge(peer, (port,))
        if edges is None:  # naming one names the whole list, so that those who come today are named too
            callers = [
                Edge(item.peer, item.ports)
                for item in self.declarations.edges.of(service.key, Direction.INGRESS)
                if item.origin is Origin.ACCEPTED and isinstance(item.peer, ServicePeer)
            ]
            yield Line(service, direction, fresh, listed=(*callers, fresh))
            return
        yield Line(service, direction, fresh)

    def _peer(self, whom: Whom | None, own_namespace: str) -> Peer | None:
        if isinstance(whom, Pods):
            labels = LabelSelector.of(dict(whom.labels))
            if whom.namespace == own_namespace:
                return PodsPeer(labels)
            return PodsPeer(labels, LabelSelector.of({NAMESPACE_NAME_LABEL: whom.namespace}))
        if not isinstance(whom, Addresses):
            return None
        if len(whom.blocks) == 1 and not whom.has_exceptions:
            network = whom.blocks[0].network
            if network in self.inputs.cluster.api_server:
                return ApiServerPeer()
            for domain in self.inputs.known_domains:
                if network in self.inputs.domain_addresses(domain):
                    return DomainPeer(domain)
            return CidrPeer(network)
        return InternetPeer() if whom.has_exceptions else None

    def _less(self, service: Service, direction: Direction, number: int, edge: Edge, packet: Packet) -> Line:
        """Without the edge, or where it has other ports without this one."""
        target = service
        if direction is Direction.EGRESS and isinstance(edge.peer, ServicePeer):
            target = self.inputs.platform.services.get(str(edge.peer), service)
        kept = tuple(port for port in edge.ports if not _means(port, target, packet))
        if kept and kept != edge.ports:
            return Line(service, direction, replace(edge, ports=kept), edge, number)
        return Line(service, direction, None, edge, number)


def _port(service: Service | None, packet: Packet) -> PortRef:
    """The packet's port as an edge names it: by its name, where the destination declares one."""
    protocol = Protocol(NAMES[packet.protocol])
    for port in service.ports if service is not None else ():
        if (port.number, port.protocol) == (packet.destination_port, protocol):
            return PortRef(name=port.name)
    return PortRef(number=packet.destination_port, protocol=None if packet.protocol == TCP else protocol)


def _means(port: PortRef, service: Service, packet: Packet) -> bool:
    protocol = NAMES.get(packet.protocol)
    if port.name:
        found = service.port(port.name)
        return found is not None and (found.number, found.protocol.value) == (packet.destination_port, protocol)
    inside = port.number <= packet.destination_port <= (port.end or port.number)
    return inside and (port.protocol or Protocol.TCP).value == protocol


# ---------------------------------------------------------------- as people write it


def edge_data(edge: Edge, direction: Direction) -> dict[str, Any]:
    """An edge as an item of the document's list."""
    data: dict[str, Any] = {_END[direction]: _peer_data(edge.peer)}
    if edge.ports:
        data["ports"] = [
            port.name or (port.number if not port.end and not port.protocol else str(port)) for port in edge.ports
        ]
    if edge.clusters:
        data["clusters"] = sorted(edge.clusters)
    if edge.reason:
        data["reason"] = edge.reason
    if edge.expires is not None:
        data["expires"] = edge.expires
    return data


def _peer_data(peer: Peer) -> dict[str, Any]:
    match peer:
        case ServicePeer():
            return {"service": str(peer)}
        case PodsPeer(pods, namespaces):
            found: dict[str, Any] = {} if namespaces is None else {"namespaceSelector": namespaces.to_dict()}
            return {**found, "podSelector": pods.to_dict()} if not pods.is_empty or not found else found
        case CidrPeer(network):
            return {"cidr": str(network)}
        case DomainPeer(name):
            return {"domain": name}
        case ApiServerPeer():
            return {"apiServer": True}
        case InternetPeer():
            return {"internet": True}
    raise AssertionError(peer)


def _flow(edge: Edge, direction: Direction) -> str:
    return flow(edge_data(edge, direction))

"""The declarations behind the policies of ours: which line allows a connection, and which nearly does."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from pilothouse.inputs import Inputs
from pilothouse.platform.model import Service
from pilothouse.policies.content import read
from pilothouse.policies.edges import Edges, Origin, ServiceEdge
from pilothouse.policies.engine import Engine, Packet
from pilothouse.policies.engine.connections import union
from pilothouse.policies.explain.near import NearMiss, Side, is_ours
from pilothouse.policies.explain.reasons import Here, Kind, Reason
from pilothouse.policies.parties import Parties
from pilothouse.policies.prove.declared import Declared
from pilothouse.policies.rules import Direction
from pilothouse.policies.site import Site
from pilothouse.problems import NOWHERE


class Declarations:
    """Of one site, on the pieces of one engine. Without declarations every answer is empty."""

    def __init__(self, site: Site, engine: Engine) -> None:
        self._site = site
        self.inputs: Inputs | None = site.inputs
        self.universe = engine.universe
        self.parties = Parties(site.inputs, engine.universe)
        self._governed = {item.namespace for item in engine.policies.policies if is_ours(item) and not item.staged}

    def governs(self, end: Here) -> bool:
        """Whether policies of ours are in force on an end."""
        return self.universe.is_endpoint(end.piece) and self.universe.pieces[end.piece].namespace in self._governed

    def service(self, end: Here) -> Service | None:
        return self.parties.service(end.piece) if self.universe.is_endpoint(end.piece) else None

    @property
    def edges(self) -> Edges:
        return self._site.edges

    @cached_property
    def _declared(self) -> Declared | None:
        baseline = read(self.inputs.content).baseline if self.inputs is not None else None
        if self.inputs is None or baseline is None:
            return None
        return Declared(self.inputs, baseline, self.edges, self.universe, frozenset(self._governed))

    def behind(self, side: Side, packet: Packet) -> tuple[ServiceEdge, ...]:
        """The edges that say what one side allows."""
        return tuple(edge for edge, peer, port in self._judged(side, packet) if peer and port)

    def _judged(self, side: Side, packet: Packet) -> Iterator[tuple[ServiceEdge, bool, bool]]:
        """(edge, whether it means the other end, whether it means the packet) of the own end's service."""
        service = self.service(side.own)
        if service is None or self._declared is None:
            return
        for edge in self.edges.of(service.key, side.direction):
            if not edge.needs_rule:
                continue
            found = [item for number, item in self._declared.allowed(service, edge) if number == side.own.piece]
            peer = any(members >> side.other.piece & 1 for members, _ in found)
            # An edge that means nobody on this cluster still has ports to compare.
            port = not edge.ports or union(packets for _, packets in found).contains(packet)
            yield edge, peer, port

    # -------------------------------------------------------- near misses

    def near(self, side: Side, packet: Packet) -> tuple[NearMiss, ...]:
        """Lines of the own end's service, and of the other end's, that nearly declare the connection."""
        service = self.service(side.own)
        if service is None or not self.governs(side.own):
            return ()
        found = [*self._lines(service, side, packet), *self._lapsed(service, side)]
        if not self.behind(side, packet):
            found += self._missing(service, side)
        return tuple(sorted(found, key=lambda miss: len(miss.reasons)))

    def _lines(self, service: Service, side: Side, packet: Packet) -> Iterator[NearMiss]:
        other = self.service(side.other)
        for edge, peer, port in self._judged(side, packet):
            if edge.origin is Origin.DNS and not peer:
                continue
            name = f"{edge.direction} of {service.key} to {edge.peer}"
            if side.direction is Direction.INGRESS:
                name = f"{edge.direction} of {service.key} from {edge.peer}"
            if peer and not port:
                reason = Reason(Kind.PORT, f"wanted {packet}, it is declared for {edge.ports_text}")
                yield NearMiss(name, (reason,), edge.place)
            elif port and edge.ports and not peer and _neighbour(edge, other, side, self):
                reason = Reason(Kind.LABEL, f"it means {edge.peer}, not {self.parties.name(side.other.piece)}")
                yield NearMiss(name, (reason,), edge.place)

    def _lapsed(self, service: Service, side: Side) -> Iterator[NearMiss]:
        other = self.service(side.other)
        for edge in self.edges.expired:
            same = other is not None and other.key in edge.others
            if edge.service == service.key and edge.direction is side.direction and same:
                reason = Reason(Kind.DECLARATION, f"it ended on {edge.expires}")
                yield NearMiss(f"{edge.direction} of {service.key} to {edge.peer}", (reason,), edge.place)

    def _missing(self, service: Service, side: Side) -> Iterator[NearMiss]:
        whom = self.parties.name(side.other.piece)
        if side.direction is Direction.EGRESS:
            reason = Reason(Kind.DECLARATION, f"it declares no such connection to {whom}")
            yield NearMiss(f"egress of {service.key}", (reason,), service.place)
        elif service.ingress is not None:
            reason = Reason(Kind.DECLARATION, f"its list of who may come does not let {whom} in at that port")
            yield NearMiss(f"ingress of {service.key}", (reason,), service.place)
        else:
            reason = Reason(Kind.DECLARATION, f"{whom} declares no such connection to it")
            other = self.service(side.other)
            yield NearMiss(f"ingress of {service.key}", (reason,), other.place if other is not None else NOWHERE)


def _neighbour(edge: ServiceEdge, other: Service | None, side: Side, declarations: Declarations) -> bool:
    """Whether an edge means something in the namespace of the other end: only such a line can be a slip."""
    if not declarations.universe.is_endpoint(side.other.piece):
        return False
    namespace = declarations.universe.pieces[side.other.piece].namespace
    return any(key.startswith(f"{namespace}/") for key in edge.others if other is None or key != other.key)

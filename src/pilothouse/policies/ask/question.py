"""One question: may this reach that, at this port?

Answered for every pair of pods and addresses that the two ends mean, in each address family that they have in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pilothouse.inventory.model import KubeService
from pilothouse.policies.ask import basis
from pilothouse.policies.ask.basis import Basis
from pilothouse.policies.ask.ends import End, Kind, Point, find
from pilothouse.policies.ask.judge import Judge, Profile, Relation, Said, Translation
from pilothouse.policies.ask.packets import Asked, NamedPort
from pilothouse.policies.ask.pairs import Group, Pieces, meets, named, relation
from pilothouse.policies.ask.services import of_pod
from pilothouse.policies.engine import Engine, Packet
from pilothouse.policies.engine.connections import NAMES, NONE, PROTOCOLS
from pilothouse.policies.engine.decide import Outcome, both, decide
from pilothouse.policies.site import Site
from pilothouse.problems import Severity, one_of

__all__ = ["Answer", "Member", "Pair", "Profile", "ask", "verdict"]


@dataclass(frozen=True, slots=True)
class Member:
    """Two pieces of the engine that was asked, and a pod or address of each."""

    pieces: tuple[int, int]
    points: tuple[Point, Point]
    version: int
    relation: Relation = Relation.STRANGERS


@dataclass(frozen=True, slots=True)
class Pair:
    """Sources and destinations that get one answer, each of one with each of the other. `packet` is what arrives, after
    a Service translated `sent`; None asks about every connection. `members` are the pairs of pieces."""

    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    versions: tuple[int, ...]
    said: Said
    packet: Packet | None = None
    sent: Packet | None = None
    relation: Relation = Relation.STRANGERS
    members: tuple[Member, ...] = field(default=(), compare=False, repr=False)

    @property
    def outcome(self) -> Outcome:
        return self.said.outcome

    @property
    def is_own(self) -> bool:
        """Whether it is only about what pods send to themselves."""
        return self.relation is Relation.SAME_POD

    def __str__(self) -> str:
        return f"{self.sources[0]} → {self.destinations[0]}"


@dataclass(frozen=True)
class Answer:
    """`basis` is what holds for the whole; each pair has its own. `unread` are policies that were left out."""

    source: End
    destination: End
    asked: Asked | None
    profile: Profile
    pairs: tuple[Pair, ...] = ()
    basis: tuple[Basis, ...] = ()
    unread: tuple[str, ...] = ()
    engine: Engine | None = field(default=None, compare=False, repr=False)

    @cached_property
    def verdict(self) -> Outcome:
        """Mixed where pairs differ; what pods send to themselves counts only where nothing else was asked about."""
        pairs = [pair for pair in self.pairs if not pair.is_own] or self.pairs
        found = {pair.outcome for pair in pairs}
        if len({(pair.said.allowed, pair.said.conditional) for pair in pairs if pair.packet is None}) > 1:
            found.add(Outcome.MIXED)
        if len(found) > 1:
            return Outcome.MIXED
        return found.pop() if found else Outcome.DENY


def ask(
    site: Site,
    source: str | End,
    destination: str | End,
    packet: Asked | None = None,
    profile: Profile = Profile.CALICO,
) -> Answer:
    """Whether `source` reaches `destination` (`ends.find` says what may be written) at a port, or with `packet` None at
    what. The port of a Kubernetes Service is its own; every other that of the pod.

    Raises `Invalid` where an end means nothing on the site.
    """
    one = find(site, source, source=True) if isinstance(source, str) else source
    other = find(site, destination) if isinstance(destination, str) else destination
    future = (*one.future, *other.future)
    engine = site.engine_for(future=future) if future else site.engine
    return _Question(site, engine, one, other, packet, profile).answer()


def verdict(engine: Engine, source: str, destination: str, packet: Packet) -> Outcome:
    """The same for many questions to one engine, policies alone: each end a pod (`namespace/name`) or an address.

    Both must be known to the engine: an address lies in some region, a pod that is none of its endpoints has no piece
    (`ValueError`). Families are mixed where they differ.
    """
    universe = engine.universe
    ends = [
        universe.pieces_of(text) if "/" in text else (universe.piece_of_address(text),)
        for text in (source, destination)
    ]
    found = {
        both(*decide(engine, one, other, packet))
        for one in ends[0]
        for other in ends[1]
        if universe.version(one) == universe.version(other)
    }
    if not found:
        raise ValueError(f"{source} and {destination} are no endpoints of one family")
    return found.pop() if len(found) == 1 else Outcome.MIXED


class _Question:
    def __init__(
        self, site: Site, engine: Engine, source: End, destination: End, asked: Asked | None, profile: Profile
    ) -> None:
        self.site = site
        self.engine = engine
        self.source = source
        self.destination = destination
        self.asked = asked
        self.profile = profile
        self.pieces = Pieces(site, engine)
        self.judge = Judge(engine, profile)
        self.notes: list[Basis] = [*source.notes, *destination.notes]

    def answer(self) -> Answer:
        pairs = tuple(self._merged(self._pairs()))
        if not pairs and basis.FAMILIES not in self.notes and not self._said_why:
            self.notes.append(basis.FAMILIES)
        notes = [*self.notes, *self._hints(pairs)]
        unread = (problem.message for problem in self.site.problems if problem.severity is Severity.ERROR)
        if any(pair.said.egress is not None or pair.packet is None for pair in pairs):
            notes.append(basis.BOTH_ENDS)
        return Answer(
            self.source,
            self.destination,
            self.asked,
            self.profile,
            pairs,
            tuple(dict.fromkeys(notes)),
            tuple(dict.fromkeys(unread)),
            self.engine,
        )

    _said_why = False

    # -------------------------------------------------------- pairs

    def _pairs(self) -> Iterator[Pair]:
        service, sent = self._service()
        nodes = any(point.node for point in self.source.points if point.pod is None)
        to_nodes = any(point.node for point in self.destination.points if point.pod is None)
        sources = self.pieces.sources(self.source, by_node=to_nodes)
        if service is None:
            found = self.pieces.destinations(self.destination, self.asked, by_node=nodes)
            yield from self._crossed(sources, found, None)
            return
        for packet in sent:
            version = None
            if self.destination.address and ":" not in self.destination.address:
                version = 4
            elif self.destination.address:
                version = 6
            by_node = nodes or self._enters(service)
            behind = self.pieces.behind(service, packet, version, by_node=by_node)
            if not behind:
                self._said_why = True
                self.notes.append(self._nobody(service, packet))
            yield from self._crossed(sources, behind, service)

    def _service(self) -> tuple[KubeService | None, Sequence[Packet]]:
        """The Service that the connection goes to, and the packets that are asked about there."""
        service = self.destination.service or self._node_port()
        if service is None:
            return None, ()
        if self.destination.service is None:
            assert isinstance(self.asked, Packet)
            port = next(item for item in service.ports if item.node_port == self.asked.destination_port)
            self.notes.append(
                Basis(
                    f"port {port.node_port} of a node leads to Service {service.namespace}/{service.name}",
                    basis.SERVICES,
                )
            )
            return service, (Packet(self.asked.protocol, port.port, self.asked.source_port),)
        self.notes += [basis.HEADLESS if service.is_headless else basis.AFTER_DNAT, basis.NOT_READY]
        if isinstance(self.asked, Packet):
            return service, (self.asked,)
        if isinstance(self.asked, NamedPort):
            found = named(service, self.asked)
            if found is not None:
                return service, (found,)
            self._said_why = True
            names = one_of([port.name for port in service.ports if port.name])
            self.notes.append(Basis(f"Service {self.destination.name} has no port named {self.asked}; {names}"))
            return service, ()
        return service, tuple(Packet(PROTOCOLS[port.protocol], port.port) for port in service.ports)

    def _node_port(self) -> KubeService | None:
        """The Service behind a port of a node."""
        if not isinstance(self.asked, Packet) or self.destination.kind not in (Kind.ADDRESS, Kind.HOST):
            return None
        if not any(point.node for point in self.destination.points):
            return None
        wanted = (self.asked.protocol, self.asked.destination_port)
        for service in self.site.snapshot.services:
            if any(port.node_port and (PROTOCOLS[port.protocol], port.node_port) == wanted for port in service.ports):
                return service
        return None

    def _enters(self, service: KubeService) -> bool:
        """Whether the connection comes into the cluster through a node."""
        outside = any(point.pod is None and point.on_host is None for point in self.source.points)
        outside = outside or self.source.kind in (Kind.RANGE, Kind.INTERNET)
        return outside and service.type in ("NodePort", "LoadBalancer")

    def _nobody(self, service: KubeService, packet: Packet) -> Basis:
        name = f"{service.namespace}/{service.name}"
        known = [f"{port.port}/{port.protocol}" for port in service.ports]
        if not service.is_headless and f"{packet.destination_port}/{NAMES.get(packet.protocol)}" not in known:
            return Basis(f"Service {name} has no port {packet}; {one_of(known)}", basis.SERVICES)
        return Basis(f"Service {name} has no ready backend for {packet}: nothing answers", basis.SERVICES)

    def _crossed(
        self, sources: Iterable[Group], destinations: Sequence[Group], service: KubeService | None
    ) -> Iterator[Pair]:
        universe = self.engine.universe
        for one in sources:
            version = universe.version(one.piece)
            for other in destinations:
                if universe.version(other.piece) == version and meets(other.packet, version):
                    yield from self._pair(one, other, version, service)

    def _pair(self, one: Group, other: Group, version: int, service: KubeService | None) -> Iterator[Pair]:
        own = {point.pod.key for point in one.points if point.pod is not None and not point.later}
        own &= {point.pod.key for point in other.points if point.pod is not None and not point.later}
        if own:
            names = tuple(sorted(own))
            point = next(p for p in one.points if p.pod is not None and p.pod.key == names[0])
            said = self.judge.say(one.piece, other.piece, other.packet, Relation.SAME_POD)
            member = Member((one.piece, other.piece), (point, point), version, Relation.SAME_POD)
            yield Pair(names, names, (version,), said, other.packet, other.sent, Relation.SAME_POD, (member,))
        pair = next(((a, b) for a in one.points for b in other.points if relation(a, b) is not Relation.SAME_POD), None)
        if pair is None:
            return
        related = relation(*pair)
        said = self._unnamed() if other.unnamed else self._say(one.piece, other, pair, related, service)
        names, others = (tuple(dict.fromkeys(point.name for point in group.points)) for group in (one, other))
        member = Member((one.piece, other.piece), pair, version, related)
        yield Pair(names, others, (version,), said, other.packet, other.sent, related, (member,))

    def _say(
        self, source: int, other: Group, pair: tuple[Point, Point], related: Relation, service: KubeService | None
    ) -> Said:
        translation = None
        if service is not None and other.sent is not None and not service.is_headless:
            translation = Translation(self._cluster_ip(service, source), other.sent)
        entering = self._entering(source, pair[1]) if service is not None and self._enters(service) else ()
        return self.judge.say(
            source,
            other.piece,
            other.packet,
            related,
            also=self._as_endpoints(pair),
            entering=entering,
            translation=translation,
        )

    def _unnamed(self) -> Said:
        return Said(NONE, basis=(Basis(f"the destination has no port named {self.asked}", basis.KUBERNETES),))

    def _cluster_ip(self, service: KubeService, source: int) -> int | None:
        version = self.engine.universe.version(source)
        for ip in service.cluster_ips:
            if (6 if ":" in ip else 4) == version and ip != "None":
                return self.engine.universe.piece_of_address(ip)
        return None

    def _entering(self, source: int, backend: Point) -> Iterator[int]:
        """The other nodes, whose address the connection may take."""
        universe = self.engine.universe
        for node in self.site.snapshot.nodes:
            for address in node.addresses:
                piece = universe.piece_of_address(address)
                if node.name != backend.node and universe.version(piece) == universe.version(source):
                    yield piece

    def _as_endpoints(self, pair: tuple[Point, Point]) -> Iterator[tuple[Engine, int, int]]:
        """The reading in which policies select pods on the host's network."""
        hosts = tuple(point.on_host for point in pair if point.on_host is not None)
        if not hosts or self.profile is not Profile.STRICT:
            return
        pods = tuple(replace(pod, host_network=False, from_template=True) for pod in hosts)
        engine = self.site.engine_for(future=(*self.source.future, *self.destination.future, *pods))
        pieces = Pieces(self.site, engine)
        sides = [_as_pod(point) for point in pair]
        ones, others = (pieces.sources(End("", Kind.POD, "", (side,)), by_node=False) for side in sides)
        for one in ones:
            for other in others:
                if engine.universe.version(one.piece) == engine.universe.version(other.piece):
                    yield engine, one.piece, other.piece

    # -------------------------------------------------------- all together

    @staticmethod
    def _merged(pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Pairs with one answer as one: over families, then over destinations, then over sources."""
        found = list(pairs)
        for fields in (("sources", "destinations"), ("sources", "versions"), ("destinations", "versions")):
            groups: dict[Any, Pair] = {}
            for pair in found:
                same = (_answer(pair.said), pair.packet, pair.sent, pair.relation)
                key = (*(getattr(pair, name) for name in fields), same)
                known = groups.get(key)
                groups[key] = pair if known is None else _joined(known, pair)
            found = list(groups.values())
        yield from found

    def _hints(self, pairs: Iterable[Pair]) -> Iterator[Basis]:
        """Where the port is a Service's, and its pods are asked about."""
        for pair in pairs:
            pod, packet = pair.members[0].points[1].pod, pair.packet
            if pair.outcome is not Outcome.DENY or pod is None or packet is None or pair.sent is not None:
                continue
            for item in of_pod(self.site.snapshot, pod.key):
                asked = (item.protocol, item.port) == (packet.protocol, packet.destination_port)
                if asked and item.target != item.port:
                    yield Basis(f"{item}: ask with svc:{item.service}, or at {item.target}", basis.KUBERNETES)


def _answer(said: Said) -> tuple[object, ...]:
    return (said.allowed, said.conditional, said.undefined, said.mixed, str(said.egress), str(said.ingress), said.basis)


def _joined(one: Pair, other: Pair) -> Pair:
    def both(name: str) -> Any:
        return tuple(dict.fromkeys((*getattr(one, name), *getattr(other, name))))

    fields = {name: both(name) for name in ("sources", "destinations", "versions")}
    return replace(one, members=(*one.members, *other.members), **fields)


def _as_pod(point: Point) -> Point:
    return point if point.on_host is None else Point(point.on_host.key, point.on_host)

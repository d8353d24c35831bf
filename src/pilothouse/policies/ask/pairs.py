"""From what was typed to pairs of pieces: pods that nothing tells apart are asked about once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import ip_address, ip_network

from pilothouse.inventory.model import KubeService, Pod
from pilothouse.platform.model import Network
from pilothouse.policies import addresses
from pilothouse.policies.ask.ends import End, Kind, Point
from pilothouse.policies.ask.judge import Relation
from pilothouse.policies.ask.packets import Asked, NamedPort
from pilothouse.policies.ask.services import leading_to
from pilothouse.policies.content import read
from pilothouse.policies.engine import Engine, Packet, Universe
from pilothouse.policies.engine.addresses import Region
from pilothouse.policies.engine.bitsets import bits
from pilothouse.policies.engine.connections import ICMP, ICMPV6, NAMES, PROTOCOLS
from pilothouse.policies.site import Site

PRIVATE: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/96", "64:ff9b:1::/48", "fc00::/7", "fe80::/10", "ff00::/8"),
    )
)
"""What is not the internet where no baseline says so (https://www.iana.org/assignments/iana-ipv4-special-registry/)."""


@dataclass(frozen=True, slots=True)
class Group:
    """Points that are one piece, and of one node where that matters. `packet` is what arrives there, None for every
    connection; `sent` what was sent, where a Service translated it."""

    piece: int
    points: tuple[Point, ...]
    packet: Packet | None = None
    sent: Packet | None = None
    unnamed: bool = False
    """Whether the port was asked for by a name that nobody here gives to any."""


class Pieces:
    """The groups of ends on one engine."""

    def __init__(self, site: Site, engine: Engine) -> None:
        self.site = site
        self.engine = engine
        self.universe = engine.universe

    def sources(self, end: End, *, by_node: bool) -> tuple[Group, ...]:
        return tuple(self._grouped(self._located(end), by_node))

    def destinations(self, end: End, asked: Asked | None, *, by_node: bool) -> tuple[Group, ...]:
        """The groups of a destination that is no Service; each resolves a port's name for itself."""
        found: list[Group] = []
        for group in self._grouped(self._located(end), by_node):
            if isinstance(asked, NamedPort):
                found += _resolved(group, asked)
            else:
                found.append(replace(group, packet=asked))
        return tuple(found)

    def behind(self, service: KubeService, sent: Packet, version: int | None, *, by_node: bool) -> tuple[Group, ...]:
        """The ready backends to which a Service sends a packet."""
        pods = {pod.key: pod for pod in self.site.snapshot.pods_by_namespace.get(service.namespace, ())}
        found: dict[tuple[int, Packet, str], list[Point]] = {}
        for item in leading_to(service, self.site.snapshot, sent):
            if not item.ready:
                continue
            port = sent.destination_port if service.is_headless or not item.port else item.port
            packet = Packet(sent.protocol, port, sent.source_port)
            pod = pods.get(item.pod)
            for piece in self._backend(item.pod, item.address):
                if version in (None, self.universe.version(piece)):
                    point = _backend_point(pod, item.address)
                    key = (piece, packet, point.node if by_node else "")
                    points = found.setdefault(key, [])
                    if point not in points:
                        points.append(point)
        return tuple(Group(piece, tuple(points), packet, sent) for (piece, packet, _), points in found.items())

    def _backend(self, pod: str, address: str) -> Iterable[int]:
        pieces = self.universe.pieces_of(pod) if pod else ()
        if not pieces:
            return (self.universe.piece_of_address(address),) if address else ()
        wanted = ip_address(address).version if address else None
        return [piece for piece in pieces if wanted in (None, self.universe.version(piece))]

    # -------------------------------------------------------- points and regions

    def _located(self, end: End) -> Iterator[tuple[int, Point]]:
        version = ip_address(end.address).version if end.address else None
        for point in end.points:
            for piece in located(self.universe, point):
                if version in (None, self.universe.version(piece)):
                    yield piece, point
        if end.kind is Kind.RANGE:
            yield from self._pods_in(end.networks[0])
        if end.kind in (Kind.RANGE, Kind.INTERNET):
            for piece in bits(self.universe.outside):
                met = self._meets(self.universe.region(piece), end)
                if met is not None:
                    yield piece, met

    def _pods_in(self, network: Network) -> Iterator[tuple[int, Point]]:
        for pod in self.site.snapshot.pods:
            if pod.is_endpoint and any(ip_address(ip) in network for ip in pod.ips):
                for piece in self.universe.pieces_of(pod.key):
                    if self.universe.version(piece) == network.version:
                        yield piece, Point(pod.key, pod, node=pod.node)

    def _meets(self, region: Region, end: End) -> Point | None:
        """What a region has in common with a range or the internet, and one address of that; None where nothing."""
        if end.kind is Kind.RANGE:
            own = end.networks[0]
            if own.version != region.network.version:
                return None
            if addresses.covers(own, region.network):
                return Point(_shown(region.networks()), address=str(region.address()))
            left = addresses.without(own, region.holes) if addresses.covers(region.network, own) else None
            if left is None:
                return None
            name = str(own) + (" but for its parts" if left.excluded else "")
            return Point(name, address=str(Region(own, left.excluded).address()))
        public = [block for net in region.networks() if (block := addresses.without(net, self._private)) is not None]
        if not public:
            return None
        size = sum(block.network.num_addresses for block in public)
        wide = size > 1 << (28 if region.network.version == 4 else 120)
        name = "the internet" if wide else _shown(tuple(block.network for block in public))
        return Point(name, address=str(Region(public[0].network, public[0].excluded).address()))

    @cached_property
    def _private(self) -> tuple[Network, ...]:
        return private(self.site)

    @staticmethod
    def _grouped(located: Iterable[tuple[int, Point]], by_node: bool) -> Iterator[Group]:
        found: dict[tuple[int, str], list[Point]] = {}
        for piece, point in located:
            found.setdefault((piece, point.node if by_node else ""), []).append(point)
        for (piece, _), points in found.items():
            yield Group(piece, tuple(points))


def private(site: Site) -> tuple[Network, ...]:
    """What is not the internet."""
    baseline = read(site.inputs.content).baseline if site.inputs is not None else None
    if site.inputs is None or baseline is None:
        return PRIVATE
    return (*baseline.private_ranges, *site.inputs.cluster.cluster_networks)


def located(universe: Universe, point: Point) -> tuple[int, ...]:
    """The pieces of a point, one for each family that it has an address in."""
    if point.pod is not None:
        return universe.pieces_of(point.pod.key)
    if point.host:
        own = universe.pieces_of(f"host:{point.host}")
        found = tuple(piece for piece in own if universe.pieces[piece].address == point.address)
        if found:
            return found
    return (universe.piece_of_address(point.address),)


def locate(universe: Universe, point: Point, version: int) -> int:
    """The piece of a point in one family. `ValueError` where it has none."""
    for piece in located(universe, point):
        if universe.version(piece) == version:
            return piece
    raise ValueError(f"{point.name} has no IPv{version} address")


def meets(packet: Packet | None, version: int) -> bool:
    """Whether such a packet exists in an address family: ICMP is IPv4's, ICMPv6 IPv6's."""
    return packet is None or packet.protocol != (ICMPV6 if version == 4 else ICMP)


def relation(source: Point, destination: Point) -> Relation:
    """What two points are to each other."""
    if source.pod is not None and destination.pod is not None:
        same = source.pod.key == destination.pod.key and not source.later
        return Relation.SAME_POD if same else Relation.STRANGERS
    if source.node and source.node == destination.node:
        if source.pod is None and destination.pod is not None:
            return Relation.FROM_OWN_NODE
        if destination.pod is None and source.pod is not None:
            return Relation.TO_OWN_NODE
    return Relation.STRANGERS


def number_of(pod: Pod, port: NamedPort) -> int | None:
    """The number that a pod means by a port's name."""
    protocol = NAMES[port.protocol]
    return next((item.number for item in pod.ports if (item.name, item.protocol) == (port.name, protocol)), None)


def named(service: KubeService, port: NamedPort) -> Packet | None:
    """The port of a Kubernetes Service that has that name."""
    found = (item for item in service.ports if (item.name, PROTOCOLS[item.protocol]) == (port.name, port.protocol))
    return next((Packet(port.protocol, item.port) for item in found), None)


def _resolved(group: Group, port: NamedPort) -> Iterator[Group]:
    found: dict[int | None, list[Point]] = {}
    for point in group.points:
        number = number_of(point.pod, port) if point.pod is not None else None
        found.setdefault(number, []).append(point)
    for number, points in found.items():
        packet = Packet(port.protocol, number or 0)
        yield replace(group, points=tuple(points), packet=packet, unnamed=number is None)


def _backend_point(pod: Pod | None, address: str) -> Point:
    if pod is None:
        return Point(address, address=address)
    if pod.host_network:
        return Point(f"{pod.key} ({address})", address=address, on_host=pod, node=pod.node)
    return Point(pod.key, pod, node=pod.node)


def _shown(networks: tuple[Network, ...], limit: int = 3) -> str:
    tail = f" and {len(networks) - limit} more ranges" if len(networks) > limit else ""
    return ", ".join(map(str, networks[:limit])) + tail

"""Why a rule does not match, condition by condition, in words that name the two values that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network

from pilothouse.labels import NAMESPACE_NAME_LABEL
from pilothouse.policies.ask.ends import Point
from pilothouse.policies.ask.services import of_pod
from pilothouse.policies.engine import Engine, Packet
from pilothouse.policies.engine.connections import WITH_PORTS, protocol_name
from pilothouse.policies.engine.traffic import connections, names
from pilothouse.policies.engine.universe import (
    ACCOUNT_KEY,
    ACCOUNT_PREFIX,
    NAME_KEY,
    NAMESPACE_KEY,
    NAMESPACE_PREFIX,
    ORCHESTRATOR_KEY,
)
from pilothouse.policies.rules import Nets, Peer, PortMatch, Scope, Traffic
from pilothouse.policies.selectors import ALL, And, Equal, Has, In, Not, Selector


class Kind(StrEnum):
    """What differs."""

    LABEL = "label"
    NAMESPACE = "namespace"
    ADDRESS = "address"
    EXCEPTION = "exception"
    PORT = "port"
    PROTOCOL = "protocol"
    SUBJECT = "subject"
    DIRECTION = "direction"
    ORDER = "order"
    STAGED = "staged"
    DECLARATION = "declaration"


@dataclass(frozen=True, slots=True)
class Reason:
    """One condition that does not hold."""

    kind: Kind
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class Here:
    """One end: its piece, and the pod or address that stands for it."""

    piece: int
    point: Point


class Reasons:
    """Asked about the ends of one connection on one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.compiler = engine.compiler
        self.universe = engine.universe
        self.snapshot = engine.universe.snapshot

    # -------------------------------------------------------- who

    def peer(self, peer: Peer, end: Here) -> tuple[Reason, ...]:
        """Why an end is not that peer; empty where it is."""
        if self.compiler.peer(peer) >> end.piece & 1:
            return ()
        found = [*self._scope(peer, end), *self._nets(peer, end)]
        if peer.not_selector is not None and peer.not_selector.matches(self.labels(end)):
            found.append(Reason(Kind.LABEL, f"`notSelector: {peer.not_selector}` leaves {end.point.name} out"))
        if peer.services is not None:
            found.append(Reason(Kind.ADDRESS, f"{end.point.name} is no backend of Service {'/'.join(peer.services)}"))
        return tuple(found) or (Reason(Kind.LABEL, f"it does not mean {end.point.name}"),)

    def nearest_peer(self, peers: tuple[Peer, ...], end: Here) -> tuple[Reason, ...]:
        """The reasons of the peer that is nearest to matching."""
        return min((self.peer(peer, end) for peer in peers), key=len)

    def _scope(self, peer: Peer, end: Here) -> Iterator[Reason]:
        name = end.point.name
        if peer.scope is Scope.ANY:
            return
        if peer.scope is Scope.NODES:
            yield Reason(Kind.ADDRESS, f"it means nodes, and {name} is none that it selects")
            return
        if not self.universe.is_endpoint(end.piece):
            whom = "pods" if peer.pods_only else "pods and network sets"
            yield Reason(Kind.ADDRESS, f"its selectors mean {whom}, and {name} is an address that none of them has")
            return
        namespace = self.universe.pieces[end.piece].namespace
        if peer.scope is Scope.NAMESPACE and peer.namespace != namespace:
            yield Reason(
                Kind.NAMESPACE, f"it means pods of its own namespace {peer.namespace}, {name} is in {namespace}"
            )
        elif peer.scope is Scope.GLOBAL and namespace:
            yield Reason(Kind.NAMESPACE, f"`global()` means what is in no namespace, {name} is in {namespace}")
        elif peer.scope is Scope.NAMESPACES and peer.namespace_selector is not None:
            space = {NAME_KEY: namespace, **self.universe.namespace_labels.get(namespace, {})}
            if not namespace:
                yield Reason(Kind.NAMESPACE, f"it means pods of namespaces, and {name} is in none")
            for part in failing(peer.namespace_selector, space):
                yield Reason(Kind.NAMESPACE, _of_namespace(part, namespace, space))
        if peer.selector is not None:
            yield from self.selector(peer.selector, end, Kind.LABEL)

    def selector(self, selector: Selector, end: Here, kind: Kind) -> Iterator[Reason]:
        """The tests of a selector that an endpoint fails."""
        labels = self.labels(end)
        for part in failing(selector, labels):
            yield Reason(kind, differing(part, labels, end.point.name))

    def labels(self, end: Here) -> Mapping[str, str]:
        """Own and inherited labels, as policies see them."""
        if not self.universe.is_endpoint(end.piece):
            return {}
        piece = self.universe.pieces[end.piece]
        pod = end.point.pod
        if pod is None:
            return piece.labels
        account = self.snapshot.account_labels.get((pod.namespace, pod.service_account), {})
        space = self.universe.namespace_labels.get(pod.namespace, {})
        return {
            **{f"{NAMESPACE_PREFIX}{key}": value for key, value in space.items()},
            f"{NAMESPACE_PREFIX}{NAME_KEY}": pod.namespace,
            **{f"{ACCOUNT_PREFIX}{key}": value for key, value in account.items()},
            f"{ACCOUNT_PREFIX}{NAME_KEY}": pod.service_account,
            NAMESPACE_KEY: pod.namespace,
            ACCOUNT_KEY: pod.service_account,
            ORCHESTRATOR_KEY: "k8s",
            **pod.labels,
        }

    # -------------------------------------------------------- addresses

    def _nets(self, peer: Peer, end: Here) -> Iterator[Reason]:
        address = self.address(end)
        if not address:
            if peer.nets is not None:
                yield Reason(Kind.ADDRESS, f"the address of {end.point.name} is not known")
            return
        own = ip_address(address)
        if peer.nets is not None and not any(_inside(nets, address) for nets in peer.nets):
            around = [nets for nets in peer.nets if any(own in net for net in nets.ranges)]
            if around:
                gap = next(net for net in around[0].excluded if own in net)
                yield Reason(Kind.EXCEPTION, f"{address} lies in {gap}, which is excepted from {around[0].ranges[0]}")
            else:
                ranges = [str(net) for nets in peer.nets for net in nets.ranges]
                tail = f" and {len(ranges) - 3} more" if len(ranges) > 3 else ""
                yield Reason(Kind.ADDRESS, f"{address} does not lie in {', '.join(ranges[:3])}{tail}")
        for network in peer.not_nets:
            if own in network:
                yield Reason(Kind.EXCEPTION, f"{address} lies in {network}, which `notNets` leaves out")

    def address(self, end: Here) -> str:
        """One address of an end in the family that is asked about; "" where none is known."""
        version = self.universe.version(end.piece)
        for text in (end.point.address, *(end.point.pod.ips if end.point.pod is not None else ())):
            if text and ip_address(text).version == version:
                return text
        if not self.universe.is_endpoint(end.piece):
            return str(self.universe.region(end.piece).address())
        return ""

    # -------------------------------------------------------- what

    def traffic(self, traffic: Traffic, packet: Packet, source: Here, destination: Here) -> tuple[Reason, ...]:
        """Why a packet is not what the rule says; empty where it is."""
        version = self.universe.version(source.piece)
        found: list[Reason] = []
        if traffic.ip_version not in (None, version):
            found.append(Reason(Kind.PROTOCOL, f"the rule is for IPv{traffic.ip_version}, this is IPv{version}"))
        meaning = [
            self.universe.meaning(end.piece, names(traffic, at_destination))
            for end, at_destination in ((destination, True), (source, False))
        ]
        if connections(traffic, meaning[0], meaning[1]).contains(packet):
            return tuple(found)
        found += _protocol(traffic, packet)
        if not found or (traffic.destination_ports is not None and packet.protocol in WITH_PORTS):
            found += self._ports(traffic, packet, destination)
        return tuple(found) or (Reason(Kind.PORT, f"its other conditions do not fit {packet}"),)

    def nearest_traffic(
        self, items: tuple[Traffic, ...], packet: Packet, source: Here, destination: Here
    ) -> tuple[Reason, ...]:
        return min((self.traffic(item, packet, source, destination) for item in items), key=len)

    def _ports(self, traffic: Traffic, packet: Packet, destination: Here) -> Iterator[Reason]:
        if packet.protocol not in WITH_PORTS:
            if traffic.destination_ports is not None:
                yield Reason(Kind.PORT, f"it is about ports, and {packet} has none")
            elif traffic.icmp is not None:
                code = "" if traffic.icmp.code is None else f" code {traffic.icmp.code}"
                yield Reason(Kind.PORT, f"it is about ICMP type {traffic.icmp.type}{code}, this is {packet}")
            return
        wanted = packet.destination_port
        if traffic.destination_ports is not None and not self._any(traffic.destination_ports, packet, destination):
            listed = ", ".join(str(port) for port in traffic.destination_ports)
            text = f"wanted port {wanted}, the rule has {listed or 'none'}"
            yield Reason(Kind.PORT, text + self._why(traffic.destination_ports, packet, destination))
        if self._any(traffic.not_destination_ports, packet, destination):
            yield Reason(Kind.PORT, f"`notPorts` leaves port {wanted} out")
        if traffic.source_ports is not None and not any(_holds(p, packet.source_port) for p in traffic.source_ports):
            listed = ", ".join(str(port) for port in traffic.source_ports)
            yield Reason(Kind.PORT, f"it asks for source port {listed}")

    def _any(self, ports: tuple[PortMatch, ...], packet: Packet, destination: Here) -> bool:
        return any(
            _holds(port, packet.destination_port)
            if not port.name
            else (packet.destination_port in self._numbers(port.name, packet.protocol, destination))
            for port in ports
        )

    def _numbers(self, name: str, protocol: int, end: Here) -> tuple[int, ...]:
        found = self.universe.meaning(end.piece, ((name, protocol),))
        return tuple(number for _, _, number in found)

    def _why(self, ports: tuple[PortMatch, ...], packet: Packet, destination: Here) -> str:
        """What the rule's ports are instead: a name that means another number, or the port of a Service."""
        name = destination.point.name
        for port in ports:
            if port.name:
                numbers = self._numbers(port.name, packet.protocol, destination)
                means = f"is {numbers[0]}" if numbers else "is no port"
                return f": `{port.name}` {means} of {name}"
        pod = destination.point.pod
        for item in of_pod(self.snapshot, pod.key) if pod is not None else ():
            if item.protocol != packet.protocol or item.port == item.target:
                continue
            if item.target == packet.destination_port and any(_holds(port, item.port) for port in ports):
                return f": {item}, and policies see the pod's"
            if item.port == packet.destination_port and any(_holds(port, item.target) for port in ports):
                return f": {item}, and it is at the pod's port that it is reached"
        return ""


def failing(selector: Selector, labels: Mapping[str, str]) -> tuple[Selector, ...]:
    """The conditions of a conjunction that labels do not meet."""
    if selector == ALL:
        return ()
    parts = selector.parts if isinstance(selector, And) else (selector,)
    return tuple(part for part in parts if not part.matches(labels))


def differing(part: Selector, labels: Mapping[str, str], name: str) -> str:
    """Which label keeps a name from meeting one condition."""
    match part:
        case Equal(key, value):
            return f"{_has(name, key, labels)}, not `{key}: {value}`"
        case In(key, values):
            wanted = ", ".join(f"`{value}`" for value in sorted(values)) or "none at all"
            return f"{_has(name, key, labels)}, and it must be one of {wanted}"
        case Has(key):
            return f"{name} has no label `{key}`"
        case Not(Has(key)):
            return f"{name} has a label `{key}`, and must have none"
    return f"{name} does not meet `{part}`"


def _has(name: str, key: str, labels: Mapping[str, str]) -> str:
    return f"{name} has `{key}: {labels[key]}`" if key in labels else f"{name} has no label `{key}`"


def _of_namespace(part: Selector, namespace: str, labels: Mapping[str, str]) -> str:
    if isinstance(part, Equal) and part.key in (NAMESPACE_NAME_LABEL, NAME_KEY):
        return f"it means namespace {part.value}, this is {namespace}"
    return differing(part, labels, f"namespace {namespace}")


def _protocol(traffic: Traffic, packet: Packet) -> Iterator[Reason]:
    if traffic.protocols is not None and packet.protocol not in traffic.protocols:
        shown = ", ".join(protocol_name(number) for number in traffic.protocols)
        yield Reason(Kind.PROTOCOL, f"wanted {protocol_name(packet.protocol)}, the rule is for {shown}")
    if packet.protocol in traffic.not_protocols:
        yield Reason(Kind.PROTOCOL, f"`notProtocol` leaves {protocol_name(packet.protocol)} out")


def _holds(port: PortMatch, number: int) -> bool:
    return not port.name and port.first <= number <= port.last


def _inside(nets: Nets, address: str) -> bool:
    own = ip_network(address)
    return any(_in(own, net) for net in nets.ranges) and not any(_in(own, net) for net in nets.excluded)


def _in(own: object, network: object) -> bool:
    return own.version == network.version and own.subnet_of(network)  # type: ignore[attr-defined, no-any-return]

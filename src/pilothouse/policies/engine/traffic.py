"""What a rule says about packets, as a set of connections."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from pilothouse.policies.engine.connections import ALL, ICMP, ICMPV6, NONE, WITH_PORTS, Connections, of_protocols
from pilothouse.policies.engine.universe import Names, Signature
from pilothouse.policies.rules import Direction, Icmp, PortMatch, Traffic


def names_ports(traffic: Traffic) -> bool:
    """Whether any of its ports is a name."""
    for items in (
        traffic.destination_ports,
        traffic.source_ports,
        traffic.not_destination_ports,
        traffic.not_source_ports,
    ):
        if items:
            for item in items:
                if item.name:
                    return True
    return False


@lru_cache(maxsize=1 << 14)
def names(traffic: Traffic, destination: bool) -> Names:
    """The (name, protocol) pairs that one end must resolve: the destination, or the source."""
    if destination:
        items = (*(traffic.destination_ports or ()), *traffic.not_destination_ports)
    else:
        items = (*(traffic.source_ports or ()), *traffic.not_source_ports)
    found = {item.name for item in items if item.name}
    return tuple(sorted((name, protocol) for name in found for protocol in _protocols(traffic)))


def subject_names(traffic: Traffic, direction: Direction) -> Names:
    """Those that the policy's own end resolves."""
    return names(traffic, direction is Direction.INGRESS)


def peer_names(traffic: Traffic, direction: Direction) -> Names:
    """Those that the other end resolves."""
    return names(traffic, direction is Direction.EGRESS)


@lru_cache(maxsize=1 << 16)
def connections(traffic: Traffic, destination: Signature = (), source: Signature = ()) -> Connections:
    """The packets that the rule means, where both ends mean these numbers by its port names."""
    found = ALL if traffic.protocols is None else of_protocols(traffic.protocols)
    if traffic.not_protocols:
        found = found - of_protocols(traffic.not_protocols)
    protocols = _protocols(traffic)
    if traffic.destination_ports is not None:
        found = found & _ports(traffic.destination_ports, protocols, destination, at_source=False)
    if traffic.not_destination_ports:
        found = found - _ports(traffic.not_destination_ports, protocols, destination, at_source=False)
    if traffic.source_ports is not None:
        found = found & _ports(traffic.source_ports, protocols, source, at_source=True)
    if traffic.not_source_ports:
        found = found - _ports(traffic.not_source_ports, protocols, source, at_source=True)
    if traffic.icmp is not None:
        found = found & _icmp(traffic.icmp)
    if traffic.not_icmp is not None:
        found = found - _icmp(traffic.not_icmp)
    return found


def _protocols(traffic: Traffic) -> tuple[int, ...]:
    """The protocols with ports that it speaks of."""
    return tuple(number for number in (traffic.protocols or WITH_PORTS) if number in WITH_PORTS)


def _ports(
    items: Iterable[PortMatch], protocols: tuple[int, ...], meaning: Signature, *, at_source: bool
) -> Connections:
    found = NONE
    for item in items:
        for protocol in protocols:
            if item.name:
                ranges = [(number, number) for name, of, number in meaning if (name, of) == (item.name, protocol)]
            else:
                ranges = [(item.first, item.last)]
            for first, last in ranges:
                found |= (
                    Connections.of(protocol, source_first=first, source_last=last)
                    if at_source
                    else Connections.of(protocol, first, last)
                )
    return found


def _icmp(item: Icmp) -> Connections:
    """Of both families: the rule's protocol says which."""
    last = None if item.code is None else item.code
    parts = (Connections.of(protocol, item.code or 0, last, item.type, item.type) for protocol in (ICMP, ICMPV6))
    found = NONE
    for part in parts:
        found |= part
    return found

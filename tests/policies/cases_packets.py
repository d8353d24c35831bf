"""What is worth asking of a world: each of its ends and the addresses at the edges of its ranges, with ports,
protocols and ICMP types that its policies mention, their neighbours, and one that nobody mentions."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Any

from policies.reference import End, Packet, World
from policies.reference_world import cidr, protocol_number

OUTSIDE = ("203.0.113.200", "192.0.2.1", "2001:db8:ffff::1")

Probe = tuple[End, End, Packet]


def packets(world: World, limit: int = 300, seed: int = 0) -> list[Probe]:
    """At most `limit` of them, the same for the same world and seed: (source, destination, first packet).

    Never a pod to itself, nor an address to itself: no policy decides about those.
    """
    ends = _ends(world)
    pairs = [
        (source, destination)
        for source in ends
        for destination in ends
        if ip_address(source.address).version == ip_address(destination.address).version
        and ip_address(source.address) != ip_address(destination.address)
        and not (source.pod and source.pod == destination.pod)
        and (source.pod or source.host or destination.pod or destination.host)
    ]
    if not pairs:
        return []
    choice = random.Random(seed)
    between = [pair for pair in pairs if all(end.pod or end.host for end in pair)] or pairs
    plain, edges = _packets(world, 0), _packets(world, 1)
    found = {}
    for _ in range(limit):  # endpoints among themselves, and ports just as they are mentioned, are more often decisive
        source, destination = choice.choice(choice.choice((between, pairs)))
        version = ip_address(source.address).version
        packet = choice.choice(choice.choice((plain, edges))[version])
        found[source, destination, packet] = None
    return list(found)


def _ends(world: World) -> list[End]:
    """The endpoints, then every other address worth a look: a node's, a finished pod's, the edges of ranges."""
    ends = world.ends()
    taken = {ip_address(end.address) for end in ends}
    for address in (*_others(world), *OUTSIDE):
        if ip_address(address) not in taken:
            taken.add(ip_address(address))
            ends.append(End(address))
    return ends


def _others(world: World) -> Iterator[str]:
    for pod in world.of("Pod"):
        yield from (each["ip"] for each in pod["status"].get("podIPs", []))
    for node in world.of("Node"):
        yield from (each["address"] for each in node["status"]["addresses"])
    for text in sorted({text for each in world.objects for text in _strings(each) if "/" in text}):
        try:
            net = cidr(text)
        except ValueError:
            continue  # a name with a slash
        first, last = int(net.network_address), int(net.broadcast_address)
        largest = (1 << net.max_prefixlen) - 1
        for number in (first - 1, first, last, last + 1):
            if 0 < number < largest:
                yield str(type(net.network_address)(number))


def _strings(thing: Any) -> Iterator[str]:
    if isinstance(thing, str):
        yield thing
    elif isinstance(thing, dict):
        for each in thing.values():
            yield from _strings(each)
    elif isinstance(thing, list):
        for each in thing:
            yield from _strings(each)


def _packets(world: World, around: int) -> dict[int, list[Packet]]:
    """By IP version; with the ports mentioned, and those up to `around` beside them."""
    rules = [each for each in world.objects if each["kind"].endswith(("Policy", "Profile"))]
    mentioned = [22, 80, 9000]
    for each in [*rules, *world.of("Pod", "HostEndpoint", "EndpointSlice")]:
        mentioned += _ports(each)
    ports = sorted(
        {near for each in mentioned for near in range(each - around, each + around + 1) if 0 < near <= 65535}
    )
    found = [Packet(protocol, 40000, port) for protocol in (6, 6, 17, 132) for port in ports]
    found += [Packet(protocol, port, 80) for protocol in (6, 17) for port in ports]
    found += [Packet(number) for number in sorted({47, 136, 200, *_protocols(rules)} - {1, 6, 17, 58, 132})]
    types = [(type_, code) for type_ in (0, 3, 8, 128) for code in (0, 1)]
    return {
        version: found + [Packet(icmp, icmp_type=type_, icmp_code=code) for type_, code in types]
        for version, icmp in ((4, 1), (6, 58))
    }


def _ports(thing: Any, key: str = "") -> Iterator[int]:
    """Whole numbers under the keys that hold ports, and the ends of ranges written `first:last`."""
    if isinstance(thing, dict):
        for name, each in thing.items():
            yield from _ports(each, name)
    elif isinstance(thing, list):
        for each in thing:
            yield from _ports(each, key)
    elif key in ("port", "ports", "notPorts", "endPort", "number", "start", "end", "containerPort"):
        if isinstance(thing, int):
            yield thing
        elif isinstance(thing, str) and ":" in thing:
            yield from map(int, thing.split(":"))


def _protocols(things: Iterable[Any]) -> Iterator[int]:
    for each in things:
        for direction in ("ingress", "egress"):
            for rule in each["spec"].get(direction) or []:
                for key in ("protocol", "notProtocol"):
                    if key in rule:
                        yield protocol_number(rule[key])

"""A world of manifests put before the engine, and the engine's answer to one packet."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from policies.reference import End, Packet, World

from pilothouse.inventory.parse import at, parse
from pilothouse.policies.engine import Engine
from pilothouse.policies.engine import Packet as EnginePacket
from pilothouse.policies.engine.connections import ICMP, ICMPV6
from pilothouse.policies.engine.decide import both, decide
from pilothouse.policies.reading import read
from pilothouse.problems import Place, Severity


class Judged:
    """`addresses` outside that will be asked for are cut out, so that each is a piece of its own."""

    def __init__(self, objects: Iterable[dict[str, Any]], addresses: Iterable[str] = (), preview: bool = False) -> None:
        self.snapshot, problems = parse((each, at(Place("world"))) for each in objects)
        reading = read(self.snapshot.policies)
        found = [p for p in (*problems, *reading.problems) if p.severity is Severity.ERROR]
        assert not found, found
        policies = reading.policies.preview() if preview else reading.policies.enforced()
        self.engine = Engine.of(self.snapshot, policies, ranges=[ip_network(text) for text in addresses])

    def piece(self, end: End) -> int:
        universe = self.engine.universe
        if end.pod or end.host:
            version = ip_address(end.address).version
            for number in universe.pieces_of(end.pod or f"host:{end.host}"):
                if universe.version(number) == version and (
                    not end.host or ip_address(universe.pieces[number].address) == ip_address(end.address)
                ):
                    return number
        return universe.piece_of_address(end.address)

    def verdict(self, source: End, destination: End, packet: Packet) -> str:
        """The answer for one packet; the folded effects of both ends must say the same as the walk along the rules."""
        one, other, asked = self.piece(source), self.piece(destination), packet_of(packet)
        answer = both(*decide(self.engine, one, other, asked)).value
        reach = self.engine.reach
        sure, possible = reach.allowed(one, other).contains(asked), reach.possible(one, other).contains(asked)
        assert (sure, possible) == {"allow": (True, True), "conditional": (False, True), "deny": (False, False)}[answer]
        return answer


def packet_of(packet: Packet) -> EnginePacket:
    if packet.protocol in (ICMP, ICMPV6):
        return EnginePacket.icmp(packet.protocol, packet.icmp_type, packet.icmp_code)
    return EnginePacket(packet.protocol, packet.destination_port, packet.source_port)


def judge(world: World, probes: Iterable[tuple[End, End, Packet]], preview: bool = False) -> Judged:
    addresses = {end.address for source, destination, _ in probes for end in (source, destination)}
    return Judged(world.objects, sorted(addresses), preview)

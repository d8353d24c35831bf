"""What an edit changes besides: every connection of every pair, counted and named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pilothouse.policies.address_names import AddressNames
from pilothouse.policies.engine import Connections, Difference, Engine, Universe, differences
from pilothouse.policies.engine.bitsets import bits
from pilothouse.policies.engine.connections import ICMP, ICMPV6
from pilothouse.policies.parties import Parties, Party
from pilothouse.policies.site import Site

_MOST_PAIRS = 20_000
"""An edit that changes more pairs of pieces than this is not counted further."""


@dataclass(frozen=True, slots=True, order=True)
class Besides:
    """Connections between two parties that an edit opens (`gained`) or cuts although nobody asked about them."""

    gained: bool
    source: Party
    destination: Party
    connections: str

    def __str__(self) -> str:
        return f"{'+' if self.gained else '-'} {self.source} → {self.destination} at {self.connections}"


def of(
    site: Site, before: Engine, after: Engine, wished: Mapping[tuple[int, int], Connections]
) -> tuple[tuple[Besides, ...], int, bool]:
    """(what changes, how much, whether it is more than was counted), with the `wished` connections of pairs of pieces
    left aside. Both engines stand on one universe."""
    found: list[Difference] = []
    size = 0
    for item in differences(before.reach, after.reach):
        less = wished.get((item.source, item.destination))
        rest = (
            item if less is None else Difference(item.source, item.destination, item.before - less, item.after - less)
        )
        if rest.before != rest.after:
            found.append(rest)
            size += _weight(after.universe, rest)
        if len(found) >= _MOST_PAIRS:
            break
    return _named(site, after, found), size, len(found) >= _MOST_PAIRS


def _weight(universe: Universe, item: Difference) -> int:
    """How much a difference is: pairs of pods or addresses, times ports."""
    changed = (item.before - item.after) | (item.after - item.before)
    return _many(universe, item.source) * _many(universe, item.destination) * _measure(changed)


def _many(universe: Universe, piece: int) -> int:
    return universe.weight(1 << piece) if universe.is_endpoint(piece) else universe.region(piece).size


def _measure(connections: Connections) -> int:
    """Destination ports, types of ICMP and protocols in a set."""
    ports = sum(last - first + 1 for _, ranges in connections.ranges() for first, last in ranges)
    types = sum(last - first + 1 for number in (ICMP, ICMPV6) for first, last, _ in connections.region(number))
    return ports + types + sum(1 for _ in bits(connections.other))


def _named(site: Site, engine: Engine, found: list[Difference]) -> tuple[Besides, ...]:
    universe = engine.universe
    parties = Parties(site.inputs, universe)
    names = AddressNames(universe, site.inputs, engine.policies.sets)
    besides: set[Besides] = set()
    outside: dict[tuple[bool, Party, bool, Connections], int] = {}
    for item in found:
        for gained, changed in ((True, item.after - item.before), (False, item.before - item.after)):
            if not changed:
                continue
            inward = not universe.is_endpoint(item.source)
            if inward or not universe.is_endpoint(item.destination):
                pod, address = (item.destination, item.source) if inward else (item.source, item.destination)
                key = (gained, parties.party(pod), inward, changed)
                outside[key] = outside.get(key, 0) | 1 << address
            else:
                besides.add(Besides(gained, parties.party(item.source), parties.party(item.destination), str(changed)))
    for (gained, party, inward, changed), pieces in outside.items():
        for name, _ in names.named(pieces):
            source, destination = (name, party) if inward else (party, name)
            besides.add(Besides(gained, source, destination, str(changed)))
    return tuple(sorted(besides))

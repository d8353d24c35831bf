"""The address space of one family, cut into as few regions as the ranges that policies name can tell apart.

Ranges either nest or do not meet, so they form a tree, and a region is a range less the ranges right below it. Regions
are numbered in the order of a walk from the root: a range is then the run of numbers from its own to its last
descendant's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from pilothouse.platform.model import Network

BITS = {4: 32, 6: 128}
_ROOTS: dict[int, Network] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}


@dataclass(frozen=True, slots=True)
class Region:
    """The addresses of `network` that lie in none of `holes`."""

    network: Network
    holes: tuple[Network, ...]

    @property
    def is_empty(self) -> bool:
        return sum(hole.num_addresses for hole in self.holes) == self.network.num_addresses

    @property
    def size(self) -> int:
        return self.network.num_addresses - sum(hole.num_addresses for hole in self.holes)

    def address(self) -> IPv4Address | IPv6Address:
        """One address as a witness: not the network's own where there is another."""
        first = int(self.network.network_address)
        last = int(self.network.broadcast_address)
        candidate = first + 1 if last > first else first
        for hole in self.holes:
            if int(hole.network_address) <= candidate <= int(hole.broadcast_address):
                candidate = int(hole.broadcast_address) + 1
        if candidate > last:
            candidate = first
        return IPv4Address(candidate) if self.network.version == 4 else IPv6Address(candidate)

    def networks(self) -> tuple[Network, ...]:
        """The same addresses as ranges, sorted."""
        found: list[Network] = []
        _subtract(self.network, self.holes, found)
        return tuple(found)


def _subtract(network: Network, holes: tuple[Network, ...], found: list[Network]) -> None:
    if not holes:
        found.append(network)
        return
    if holes[0] == network:
        return
    for half in network.subnets(prefixlen_diff=1):
        _subtract(half, tuple(hole for hole in holes if hole.subnet_of(half)), found)  # type: ignore[arg-type]


class Space:
    """One family's regions. `regions[0]` is what no range holds."""

    def __init__(self, version: int, ranges: Iterable[Network]) -> None:
        self.version = version
        root = _ROOTS[version]
        nodes = sorted({root, *ranges}, key=lambda item: (int(item.network_address), item.prefixlen))
        width = BITS[version]
        self.numbers: dict[Network, int] = {}
        self._by_prefix: dict[int, dict[int, int]] = {}
        spans: list[tuple[int, int]] = []
        below: list[list[Network]] = []
        ends: list[int] = []
        open_: list[int] = []
        for number, network in enumerate(nodes):
            first, last = int(network.network_address), int(network.broadcast_address)
            while open_ and spans[open_[-1]][1] < first:
                ends[open_.pop()] = number
            if open_:
                below[open_[-1]].append(network)
            self.numbers[network] = number
            spans.append((first, last))
            below.append([])
            ends.append(len(nodes))
            open_.append(number)
            length = network.prefixlen
            self._by_prefix.setdefault(length, {})[first >> (width - length)] = number
        self.regions = tuple(Region(network, tuple(holes)) for network, holes in zip(nodes, below, strict=True))
        self._ends = tuple(ends)
        self._lookups = tuple(
            (width - length, found) for length, found in sorted(self._by_prefix.items(), reverse=True)
        )

    def innermost(self, address: int) -> int:
        """The number of the region that holds an address."""
        for shift, found in self._lookups:
            number = found.get(address >> shift)
            if number is not None:
                return number
        raise AssertionError("the root holds every address")

    def run(self, network: Network) -> tuple[int, int]:
        """(first, end): the numbers of the regions that make up a range. Raises `KeyError` for an unknown range."""
        number = self.numbers[network]
        return number, self._ends[number]

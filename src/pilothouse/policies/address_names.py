"""Addresses in words: a domain, the API server, a network set, the internet, or ranges.

What one end reaches of the addresses outside is often several things at once. Those that have a name of their own are
named one by one, the rest together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pilothouse.inputs import Inputs
from pilothouse.platform.model import Network
from pilothouse.policies.addresses import collapsed
from pilothouse.policies.engine.bitsets import bits
from pilothouse.policies.engine.universe import FAMILIES, Universe
from pilothouse.policies.parties import Kind, Party
from pilothouse.policies.rules import NetworkSet

SHOWN = 4
"""So many ranges are listed; the others are counted."""
_EXCEPTIONS = 3
_MOST = {4: 1 << 30, 6: 1 << 123}
"""More addresses of a family than that are the internet."""

NODE_LOCAL_DNS = "the node-local DNS cache"


class AddressNames:
    """Names for sets of pieces outside, of one universe. `sets` are the network sets that policies may name."""

    def __init__(self, universe: Universe, inputs: Inputs | None = None, sets: Iterable[NetworkSet] = ()) -> None:
        self.universe = universe
        self._known = [
            (Party(Kind.ADDRESSES, name), nets, self._pieces(nets), self._around(nets))
            for name, nets in _named(inputs, sets)
            if nets
        ]
        self._found: dict[tuple[int, tuple[int, ...]], tuple[tuple[Party, int], ...]] = {}

    def named(self, pieces: int, families: tuple[int, ...] = FAMILIES) -> tuple[tuple[Party, int], ...]:
        """(name, its pieces) of everything in a set, each piece once. `families` are those that the other end has: to a
        pod without IPv6 every IPv4 address is every address."""
        key = (pieces, families)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = tuple(self._split(pieces, families))
        return found

    def _split(self, pieces: int, families: tuple[int, ...]) -> Iterator[tuple[Party, int]]:
        rest = pieces
        wide = self._is_wide(pieces)
        whole = self._almost_everything(pieces, families) if wide else ""
        if whole:
            yield Party(Kind.ADDRESSES, whole), pieces
            return
        for party, nets, known, around in self._known:
            if around & pieces or (wide and not all(net.is_private for net in nets)):
                continue  # a part of more: of a range around it, or of the internet
            if self._holds(rest, known):
                yield party, rest & known
                rest &= ~known
        if rest:
            yield Party(Kind.ADDRESSES, "the internet" if wide else self._ranges(rest)), rest

    def _holds(self, pieces: int, known: int) -> bool:
        """Whether all of something is in a set, as far as the set has to do with a family at all."""
        common = pieces & known
        if not common:
            return False
        return not any(known & family & ~pieces for family in self.universe.family.values() if pieces & family)

    def _pieces(self, nets: tuple[Network, ...]) -> int:
        """The pieces of these ranges; none where the universe cannot tell all of them apart."""
        if any(net not in self.universe.spaces[net.version].numbers for net in nets):
            return 0
        found = 0
        for net in nets:
            found |= self.universe.network(net)
        return found & self.universe.outside

    def _around(self, nets: tuple[Network, ...]) -> int:
        """The regions right around these ranges."""
        found = 0
        for net in nets:
            numbers = self.universe.spaces[net.version].numbers
            outer = (net.supernet(new_prefix=length) for length in range(net.prefixlen - 1, -1, -1))
            number = next((numbers[item] for item in outer if item in numbers), None)
            if number is not None:
                found |= 1 << self.universe.offset(net.version) + number
        return found

    def _networks(self, pieces: int) -> tuple[Network, ...]:
        """As few ranges as possible. A range that is there with all that lies in it is taken whole."""
        found: list[Network] = []
        for version in FAMILIES:
            space = self.universe.spaces[version]
            offset = self.universe.offset(version)
            done = 0
            for piece in bits(pieces & self.universe.family[version]):
                if piece < done:
                    continue
                region = self.universe.region(piece)
                end = space.run(region.network)[1] + offset
                whole = (1 << end) - (1 << piece) & self.universe.everything
                if whole & ~pieces:
                    found += region.networks()
                else:
                    found.append(region.network)
                    done = end
        return collapsed(found)

    def _is_wide(self, pieces: int) -> bool:
        for version in FAMILIES:
            size = sum(self.universe.region(piece).size for piece in bits(pieces & self.universe.family[version]))
            if size > _MOST[version]:
                return True
        return False

    def _almost_everything(self, pieces: int, there: tuple[int, ...]) -> str:
        """ "every address", or all but a few ranges; "" where more is missing."""
        outside, families = self.universe.outside, self.universe.family
        own = [version for version in FAMILIES if pieces & families[version]]
        missing = sum(outside & families[version] & ~pieces for version in own)
        if any(missing >> self.universe.offset(version) & 1 for version in own):
            return ""  # what no range holds
        every = "every address" if set(own) >= set(there) else f"every IPv{own[0]} address"
        exceptions = self._networks(missing)
        if len(exceptions) > _EXCEPTIONS:
            return ""
        return f"{every} but {' and '.join(map(str, exceptions))}" if exceptions else every

    def _ranges(self, pieces: int) -> str:
        networks = self._networks(pieces)
        tail = f" and {len(networks) - SHOWN} more ranges" if len(networks) > SHOWN else ""
        return ", ".join(map(str, networks[:SHOWN])) + tail


def _named(inputs: Inputs | None, sets: Iterable[NetworkSet]) -> Iterator[tuple[str, tuple[Network, ...]]]:
    if inputs is not None:
        for domain in inputs.known_domains:
            yield domain, inputs.domain_addresses(domain)
        yield "the API server", inputs.cluster.api_server
        yield NODE_LOCAL_DNS, inputs.cluster.node_local_dns
        yield "the nodes", inputs.cluster.node_cidrs
    domains = set() if inputs is None else {frozenset(inputs.domain_addresses(name)) for name in inputs.known_domains}
    for item in sets:
        if frozenset(item.nets) not in domains:
            name = f"{item.namespace}/{item.name}" if item.namespace else item.name
            yield f"network set {name}", item.nets

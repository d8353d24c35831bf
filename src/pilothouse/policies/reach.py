"""Who reaches whom, at which ports: the common form of what policies allow and of what declarations say.

Both are rules per piece and direction over one `Universe`, so that they can be compared exactly:
a connection needs the source's egress AND the destination's ingress. Addresses outside are never isolated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from pilothouse.policies.portset import ALL, NONE, PortSet, union
from pilothouse.policies.universe import Universe, bits


@dataclass(frozen=True, slots=True)
class Ports:
    """Fixed ports, and (name, protocol) pairs that each destination resolves for itself."""

    fixed: PortSet = NONE
    named: tuple[tuple[str, str], ...] = ()

    def at(self, universe: Universe, destination: int) -> PortSet:
        """An address outside names no ports, and a name that a pod does not know matches nothing."""
        if not self.named or not universe.is_pod(destination):
            return self.fixed
        pods = universe.classes[destination]
        return self.fixed | union(
            PortSet.of(protocol, number, number)
            for name, protocol in self.named
            for number in pods.named(name, protocol)
        )


EVERY_PORT = Ports(ALL)


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows `ports` (of the destination) between the selected pods and `peers`. `basis` says where it stands."""

    peers: int
    ports: Ports
    basis: str = ""


Side = tuple[Rule, ...] | None
"""The rules of one class of pods in one direction; None where nothing isolates it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What one piece reaches of another in two reaches; they differ."""

    source: int
    destination: int
    before: PortSet
    after: PortSet


@dataclass(frozen=True)
class Reach:
    """`egress` and `ingress` are given by the number of the pod class."""

    universe: Universe
    egress: Sequence[Side]
    ingress: Sequence[Side]

    def egress_ports(self, source: int, destination: int) -> PortSet:
        """What the source's own side allows."""
        return self._ports(self.egress[source] if self.universe.is_pod(source) else None, destination, destination)

    def ingress_ports(self, source: int, destination: int) -> PortSet:
        """What the destination's own side allows."""
        side = self.ingress[destination] if self.universe.is_pod(destination) else None
        return self._ports(side, source, destination)

    def allowed(self, source: int, destination: int) -> PortSet:
        """The ports at which the source reaches the destination."""
        return self.egress_ports(source, destination) & self.ingress_ports(source, destination)

    def _ports(self, side: Side, peer: int, destination: int) -> PortSet:
        if side is None:
            return ALL
        found = NONE
        for rule in side:
            if rule.peers >> peer & 1:
                found = found | rule.ports.at(self.universe, destination)
        return found

    def targets(self, source: int) -> int:
        """The pieces that a source may reach at some port: a superset, exact but for the ports."""
        inward = self._open | self._entered.get(source, 0) | self._entered_by_all
        if not self.universe.is_pod(source):
            return inward & self.universe.pods
        return self._peers(self.egress[source]) & inward

    def _peers(self, side: Side) -> int:
        if side is None:
            return self.universe.everything
        found = 0
        for rule in side:
            found |= rule.peers
        return found

    @cached_property
    def _open(self) -> int:
        """Whatever no ingress isolates, addresses outside among them."""
        found = self.universe.outside
        for number, side in enumerate(self.ingress):
            if side is None:
                found |= 1 << number
        return found

    @cached_property
    def _entered_by_all(self) -> int:
        found = 0
        for number, side in enumerate(self.ingress):
            if side is not None and self._peers(side) == self.universe.everything:
                found |= 1 << number
        return found

    @cached_property
    def _entered(self) -> dict[int, int]:
        """Source → the isolated pods whose ingress names it."""
        found: dict[int, int] = {}
        for number, side in enumerate(self.ingress):
            if side is None or self._entered_by_all >> number & 1:
                continue
            for source in bits(self._peers(side)):
                found[source] = found.get(source, 0) | 1 << number
        return found


def flips(before: Reach, after: Reach) -> tuple[int, int]:
    """The pod classes whose egress, and those whose ingress, is isolated in one of the two only."""
    sides = ((before.egress, after.egress), (before.ingress, after.ingress))
    egress, ingress = (
        sum(1 << number for number, (one, two) in enumerate(zip(a, b, strict=True)) if (one is None) != (two is None))
        for a, b in sides
    )
    return egress, ingress


def differences(before: Reach, after: Reach) -> Iterator[Difference]:
    """Every pair that reaches something else in `after`, by source. Pairs with a flipped end (`flips`) are left out:
    there, everything changes at once, and one sentence says more than thousands of pairs."""
    universe = before.universe
    egress, ingress = flips(before, after)
    shut = 0
    for number, (one, two) in enumerate(zip(before.ingress, after.ingress, strict=True)):
        if one is not None or two is not None:
            shut |= 1 << number
    for source in range(universe.size):
        if egress >> source & 1:
            continue
        relevant = universe.everything & ~ingress
        if not universe.is_pod(source) or (before.egress[source] is None and after.egress[source] is None):
            relevant &= shut
        for destination in bits((before.targets(source) | after.targets(source)) & relevant):
            was, now = before.allowed(source, destination), after.allowed(source, destination)
            if was != now:
                yield Difference(source, destination, was, now)

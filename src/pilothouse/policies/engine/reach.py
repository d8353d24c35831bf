"""Who reaches whom at which connections: the common form of what policies allow and of what declarations say.

Both are effects per endpoint and direction over one `Universe`, so that they can be compared exactly: a connection
needs the source's egress and the destination's ingress. Addresses outside have no policy of their own. Only pieces of
one address family meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from pilothouse.policies.engine import bitsets
from pilothouse.policies.engine.connections import ALL, NONE, Connections, meet
from pilothouse.policies.engine.fold import Effect
from pilothouse.policies.engine.universe import FAMILIES, Universe


@dataclass(frozen=True, slots=True)
class Block:
    """Every piece of `sources` reaches every piece of `destinations` at `connections`; conditionally, where some
    requests only are allowed. All of one family."""

    sources: int
    destinations: int
    connections: Connections
    conditional: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """What one piece reaches of another in two reaches; they differ."""

    source: int
    destination: int
    before: Connections
    after: Connections


class Reach:
    """`egress` and `ingress` are given by the number of the endpoint."""

    def __init__(self, universe: Universe, egress: Sequence[Effect], ingress: Sequence[Effect]) -> None:
        self.universe = universe
        self.egress = egress
        self.ingress = ingress
        self.open = Effect(((ALL, universe.everything, 0),))

    def of_egress(self, piece: int) -> Effect:
        return self.egress[piece] if self.universe.is_endpoint(piece) else self.open

    def of_ingress(self, piece: int) -> Effect:
        return self.ingress[piece] if self.universe.is_endpoint(piece) else self.open

    def allowed(self, source: int, destination: int) -> Connections:
        """The connections at which the source reaches the destination, whatever the request."""
        if self.universe.version(source) != self.universe.version(destination):
            return NONE
        return self.of_egress(source).allowed(destination) & self.of_ingress(destination).allowed(source)

    def possible(self, source: int, destination: int) -> Connections:
        """The connections that are allowed, or allowed for some requests."""
        if self.universe.version(source) != self.universe.version(destination):
            return NONE
        out, into = self.of_egress(source), self.of_ingress(destination)
        return (out.allowed(destination) | out.conditional(destination)) & (
            into.allowed(source) | into.conditional(source)
        )

    # -------------------------------------------------------- all pairs

    @cached_property
    def sources(self) -> tuple[tuple[Effect, int], ...]:
        """(effect, the pieces that have it) of egress; addresses outside come last, by themselves."""
        return (*_groups(self.egress), (self.open, self.universe.outside))

    @cached_property
    def destinations(self) -> tuple[tuple[Effect, int], ...]:
        return (*_groups(self.ingress), (self.open, self.universe.outside))

    @cached_property
    def _destination_of(self) -> Sequence[int]:
        """Endpoint → its number in `destinations`."""
        found = [0] * len(self.universe.pieces)
        for index, (_, members) in enumerate(self.destinations[:-1]):
            for number in bitsets.bits(members):
                found[number] = index
        return found

    def blocks(self, sources: int = -1, destinations: int = -1) -> Iterator[Block]:
        """Every allowed connection of every pair, as disjoint blocks; between two addresses outside there are none.
        Pieces that are not in `sources` (or `destinations`) are left out on that side."""
        for effect, members in self.sources:
            members &= sources
            if not members:
                continue
            for index in self._met(effect, members):
                inward, targets = self.destinations[index]
                if targets & destinations and inward.peers & members:
                    yield from _blocks(self.universe, effect, members, inward, targets & destinations)

    def _met(self, effect: Effect, members: int) -> Sequence[int]:
        """The groups of destinations that a group of sources may reach."""
        peers = effect.peers
        last = len(self.destinations) - 1
        if members & self.universe.outside:
            return [i for i, (inward, _) in enumerate(self.destinations[:-1]) if inward.peers & members]
        inside = peers & self.universe.endpoints
        if inside.bit_count() < len(self.destinations):
            of = self._destination_of
            found = sorted({of[number] for number in bitsets.bits(inside)})
        else:
            found = [index for index, (_, targets) in enumerate(self.destinations[:-1]) if targets & inside]
        return [*found, last] if peers & self.universe.outside else found


def _groups(effects: Sequence[Effect]) -> tuple[tuple[Effect, int], ...]:
    numbers: dict[Effect, list[int]] = {}
    for number, effect in enumerate(effects):
        known = numbers.get(effect)
        if known is None:
            numbers[effect] = [number]
        else:
            known.append(number)
    return tuple((effect, bitsets.of(found)) for effect, found in numbers.items())


def _blocks(universe: Universe, out: Effect, members: int, into: Effect, targets: int) -> Iterator[Block]:
    for packets, allowed, conditional in out.cells:
        reached, perhaps = allowed & targets, conditional & targets
        if not reached and not perhaps:
            continue
        for other, accepted, conditionally in into.cells:
            sources, some = accepted & members, conditionally & members
            if not sources and not some:
                continue
            common = meet(packets, other)
            if common is NONE:
                continue
            yield from _split(universe, sources, reached, common, conditional=False)
            if perhaps or some:
                yield from _split(universe, sources, perhaps, common, conditional=True)
                yield from _split(universe, some, reached | perhaps, common, conditional=True)


def _split(
    universe: Universe, sources: int, targets: int, packets: Connections, *, conditional: bool
) -> Iterator[Block]:
    if not sources or not targets:
        return
    for version in FAMILIES:
        family = universe.family[version]
        if (one := sources & family) and (other := targets & family):
            yield Block(one, other, packets, conditional)


# ---------------------------------------------------------------- two reaches

Granted = tuple[Connections, Connections]
"""What is allowed whatever the request, and what is allowed for some requests."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Every piece of `sources` is granted something else of every piece of `destinations` than before; all of one
    family."""

    sources: int
    destinations: int
    before: Granted
    after: Granted


def changed(before: Reach, after: Reach, sources: int = -1, destinations: int = -1) -> Iterator[Changed]:
    """All that differs between two reaches over one universe, as disjoint rectangles. Pieces that are not in `sources`
    (or `destinations`) are left out on that side."""
    universe = before.universe
    inward = _paired(before, after, egress=False)
    differing = [item for item in inward if item[1][0] != item[1][1]]
    for members, out in _paired(before, after, egress=True):
        for targets, into in differing if out[0] == out[1] else inward:
            yield from _changed(universe, members & sources, out, targets & destinations, into)


def differences(before: Reach, after: Reach, sources: int = -1, destinations: int = -1) -> Iterator[Difference]:
    """The same by pairs of pieces, where conditional counts as reached."""
    for item in changed(before, after, sources, destinations):
        was, now = item.before[0] | item.before[1], item.after[0] | item.after[1]
        if was != now:
            for source in bitsets.bits(item.sources):
                for destination in bitsets.bits(item.destinations):
                    yield Difference(source, destination, was, now)


def _paired(before: Reach, after: Reach, *, egress: bool) -> list[tuple[int, tuple[Effect, Effect]]]:
    """(pieces, their effect before and after): pieces alike in both are together."""
    universe = before.universe
    one, two = (before.egress, after.egress) if egress else (before.ingress, after.ingress)
    numbers: dict[tuple[Effect, Effect], list[int]] = {}
    for number, pair in enumerate(zip(one, two, strict=True)):
        numbers.setdefault(pair, []).append(number)
    found = [(bitsets.of(items), pair) for pair, items in numbers.items()]
    return [*found, (universe.outside, (before.open, after.open))]


def _changed(
    universe: Universe, sources: int, out: tuple[Effect, Effect], targets: int, into: tuple[Effect, Effect]
) -> Iterator[Changed]:
    if not sources & (into[0].peers | into[1].peers) or not targets & (out[0].peers | out[1].peers):
        return
    was, now = (tuple(_blocks(universe, out[at], sources, into[at], targets)) for at in (0, 1))
    common = set(was) & set(now)
    was, now = (tuple(block for block in side if block not in common) for side in (was, now))
    for version in FAMILIES:
        family = universe.family[version]
        one, two = (tuple(block for block in side if block.sources & family) for side in (was, now))
        if not one and not two:
            continue
        for left in bitsets.cut(block.sources for block in (*one, *two)):
            for right in bitsets.cut(block.destinations for block in (*one, *two)):
                before, after = _granted(one, left, right), _granted(two, left, right)
                if before != after:
                    yield Changed(left, right, before, after)


def _granted(blocks: Iterable[Block], sources: int, destinations: int) -> Granted:
    """Both sets lie whole within a block, or whole outside it."""
    allowed, conditional = NONE, NONE
    for block in blocks:
        if block.sources & sources and block.destinations & destinations:
            if block.conditional:
                conditional = conditional | block.connections
            else:
                allowed = allowed | block.connections
    return allowed, conditional

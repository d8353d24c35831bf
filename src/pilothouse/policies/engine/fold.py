"""What an endpoint's whole chain of policies allows in one direction, computed once for each chain that occurs.

The state is a partition of all connections into cells, each with the peers that are still undecided. A rule takes from
the undecided what it matches: Allow adds it to the allowed, Deny drops it, Pass sets it aside for the next tier. A tier
that ends denies what is left, or passes it on, as its default action says
(https://docs.tigera.io/calico/latest/reference/resources/tier); the last word have the profiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from pilothouse.policies.engine.compile import CompiledRule, Variant
from pilothouse.policies.engine.connections import ALL, NONE, Connections, meet
from pilothouse.policies.rules import Action


@dataclass(frozen=True, slots=True)
class Stage:
    """The policies of one tier on an endpoint. `default_pass`: what no rule matched goes on to the next."""

    tier: str
    default_pass: bool
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Forwarded:
    """What a host endpoint says to traffic that passes its node on the way to or from a pod: `chain` decides about
    `peers`, and does not concern the others. Without a policy that applies to forwarded traffic, it is allowed
    (https://docs.tigera.io/calico/latest/network-policy/hosts/host-forwarded-traffic)."""

    host: str
    chain: Chain
    peers: int


@dataclass(frozen=True, slots=True)
class Chain:
    """Everything that an endpoint meets in one direction. `failsafe` is let through before any policy;
    `profiles` None means that whatever is left is allowed (a namespace's own profile). `forwarded` must allow, too."""

    stages: tuple[Stage, ...] = ()
    profiles: tuple[Variant, ...] | None = None
    failsafe: Connections = NONE
    forwarded: tuple[Forwarded, ...] = ()

    @property
    def is_open(self) -> bool:
        return not self.stages and self.profiles is None


class Effect:
    """`cells`: (connections, allowed peers, conditionally allowed peers), the connections disjoint, and no two cells
    with the same peers: equal effects are equal values."""

    __slots__ = ("__dict__", "_hash", "cells")

    def __init__(self, cells: tuple[tuple[Connections, int, int], ...]) -> None:
        self.cells = cells
        self._hash = hash(cells)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Effect):
            return NotImplemented
        return self._hash == other._hash and self.cells == other.cells

    @cached_property
    def peers(self) -> int:
        """Everyone that is allowed something, conditionally or not."""
        found = 0
        for _, allowed, conditional in self.cells:
            found |= allowed | conditional
        return found

    @cached_property
    def has_conditions(self) -> bool:
        return any(conditional for _, _, conditional in self.cells)

    def allowed(self, peer: int) -> Connections:
        found = NONE
        for packets, allowed, _ in self.cells:
            if allowed >> peer & 1:
                found = found | packets
        return found

    def conditional(self, peer: int) -> Connections:
        found = NONE
        if self.has_conditions:
            for packets, _, conditional in self.cells:
                if conditional >> peer & 1:
                    found = found | packets
        return found


class _Cell:
    __slots__ = ("allowed", "conditional", "packets", "passed", "undecided")

    def __init__(self, packets: Connections, undecided: int, allowed: int, conditional: int, passed: int) -> None:
        self.packets = packets
        self.undecided = undecided
        self.allowed = allowed
        self.conditional = conditional
        self.passed = passed


def fold(chain: Chain, everything: int) -> Effect:
    """The effect of a chain; `everything` are all pieces of the universe."""
    cells = [_Cell(ALL, everything, 0, 0, 0)]
    if chain.failsafe:
        _match(cells, everything, chain.failsafe, Action.ALLOW, conditional=False)
    for stage in chain.stages:
        for variant in stage.variants:
            _apply(cells, variant.rules)
        for cell in cells:
            cell.undecided = cell.passed | cell.undecided if stage.default_pass else cell.passed
            cell.passed = 0
    if chain.profiles is None:
        for cell in cells:
            cell.allowed |= cell.undecided
    else:
        for variant in chain.profiles:
            _apply(cells, variant.rules)  # a Pass in a profile is never taken up again, so it denies
    found = effect((cell.packets, cell.allowed, cell.conditional) for cell in cells)
    for item in chain.forwarded:
        found = _both(found, _passing(item, everything))
    return found


def _passing(item: Forwarded, everything: int) -> list[tuple[Connections, int, int]]:
    """The cells of a host endpoint's say, over all connections; who it does not concern passes."""
    exempt = everything & ~item.peers
    cells, left = [], ALL
    for packets, allowed, conditional in fold(item.chain, everything).cells:
        cells.append((packets, allowed & item.peers | exempt, conditional & item.peers))
        left = left - packets
    return [*cells, (left, exempt, 0)] if left else cells


def _both(one: Effect, cells: Iterable[tuple[Connections, int, int]]) -> Effect:
    """What both allow; the second are disjoint cells that cover all connections."""
    found = []
    for packets, allowed, conditional in one.cells:
        for other, passed, perhaps in cells:
            common = meet(packets, other)
            if common is not NONE:
                found.append((common, allowed & passed, (allowed | conditional) & (passed | perhaps)))
    return effect(found)


def _apply(cells: list[_Cell], rules: Sequence[CompiledRule]) -> None:
    for rule in rules:
        if rule.action is not Action.LOG:
            for peers, packets in rule.cells:
                _match(cells, peers, packets, rule.action, conditional=rule.conditional)


def _match(cells: list[_Cell], peers: int, packets: Connections, action: Action, *, conditional: bool) -> None:
    fresh: list[_Cell] = []
    for cell in cells:
        hit = cell.undecided & peers
        if not hit:
            continue
        own = cell.packets
        if own is not packets:
            common = meet(own, packets)
            if common is NONE:
                continue
            if common is not own:
                fresh.append(_Cell(own - packets, cell.undecided, cell.allowed, cell.conditional, cell.passed))
                cell.packets = common
        if action is Action.ALLOW:
            if conditional:
                cell.conditional |= hit
                continue
            cell.allowed |= hit
        elif action is Action.PASS:
            cell.passed |= hit
        cell.undecided ^= hit
    cells += fresh


def effect(cells: Iterable[tuple[Connections, int, int]]) -> Effect:
    """The effect of disjoint cells, in its one canonical form."""
    found: dict[tuple[int, int], Connections] = {}
    for packets, allowed, conditional in cells:
        conditional &= ~allowed
        if allowed or conditional:
            known = found.get((allowed, conditional))
            found[allowed, conditional] = packets if known is None else known | packets
    ordered = sorted(found.items(), key=lambda item: (item[1].regions, item[1].other))
    return Effect(tuple((packets, allowed, conditional) for (allowed, conditional), packets in ordered))


def of_union(cells: Iterable[tuple[int, Connections]]) -> Effect:
    """The effect of allowing all of these (peers, connections), which may overlap."""
    state = [_Cell(ALL, -1, 0, 0, 0)]
    for peers, packets in cells:
        fresh: list[_Cell] = []
        for cell in state:
            common = meet(cell.packets, packets)
            if common is NONE:
                continue
            if common is not cell.packets:
                fresh.append(_Cell(cell.packets - packets, -1, cell.allowed, 0, 0))
                cell.packets = common
            cell.allowed |= peers
        state += fresh
    return effect((cell.packets, cell.allowed, 0) for cell in state)

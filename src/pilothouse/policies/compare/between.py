"""The rule for whatever stands between two states of a cluster: in each direction of each endpoint it allows at least
what both states allow, and at most what one of them does.

Held exactly, over every peer and every connection. What is allowed for some requests counts as less than what is
allowed, and more than what is denied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pilothouse.policies.engine import ALL, NONE, Connections, Engine
from pilothouse.policies.engine.bitsets import bits
from pilothouse.policies.engine.connections import meet
from pilothouse.policies.engine.fold import Effect
from pilothouse.policies.rules import Direction

Cell = tuple[Connections, int, int]
"""Connections, peers that are allowed, peers that are allowed or allowed for some requests."""


@dataclass(frozen=True, slots=True)
class Break:
    """One endpoint and direction in which a state breaks the rule, with one peer and the connections that show it.
    `opened`: more is allowed than in either state; else something is missing that both allow."""

    piece: int
    direction: Direction
    opened: bool
    peer: int
    connections: Connections


class Between:
    """The rule for the way from one engine's state to another's; states are engines over the same universe."""

    def __init__(self, before: Engine, after: Engine) -> None:
        self.before = before
        self.after = after
        self.universe = before.universe
        self._known: dict[tuple[Effect, Effect, Effect, int], tuple[bool, int, Connections] | None] = {}

    def breaks(self, state: Engine) -> Iterator[Break]:
        """Where a state breaks the rule: at most one for each endpoint and direction."""
        for direction in Direction:
            sides = (_effects(engine, direction) for engine in (self.before, self.after, state))
            for piece, (old, new, now) in enumerate(zip(*sides, strict=True)):
                if now in (old, new):
                    continue
                version = self.universe.version(piece)
                key = (old, new, now, version)
                if key not in self._known:
                    self._known[key] = _broken(old, new, now, self.universe.family[version])
                found = self._known[key]
                if found is not None:
                    opened, peers, connections = found
                    yield Break(piece, direction, opened, next(bits(peers)), connections)


def _effects(engine: Engine, direction: Direction) -> tuple[Effect, ...]:
    reach = engine.reach
    return tuple(reach.egress if direction is Direction.EGRESS else reach.ingress)


def _broken(old: Effect, new: Effect, now: Effect, family: int) -> tuple[bool, int, Connections] | None:
    """(opened or cut, the peers, at what); what is opened comes first."""
    cut: tuple[bool, int, Connections] | None = None
    ends = [(*one, *other) for one in _whole(old) for other in _whole(new)]
    for one, allowed, possible, other, newly, perhaps in ends:
        common = meet(one, other)
        if common is NONE:
            continue
        for packets, granted, conditionally in _whole(now):
            here = meet(common, packets)
            if here is NONE:
                continue
            more = ((granted & ~(allowed | newly)) | (conditionally & ~(possible | perhaps))) & family
            if more:
                return True, more, here
            less = ((allowed & newly & ~granted) | (possible & perhaps & ~conditionally)) & family
            if less and cut is None:
                cut = False, less, here
    return cut


def _whole(effect: Effect) -> tuple[Cell, ...]:
    """Cells that cover every connection."""
    found: list[Cell] = []
    left = ALL
    for packets, allowed, conditional in effect.cells:
        found.append((packets, allowed, allowed | conditional))
        left = left - packets
    return (*found, (left, 0, 0)) if left else tuple(found)

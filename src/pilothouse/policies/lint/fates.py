"""What became of every rule over all chains in which it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from pilothouse.policies.engine import bitsets
from pilothouse.policies.engine.connections import TCP, Connections, Packet
from pilothouse.policies.engine.fold import Chain, Effect, Forwarded, fold
from pilothouse.policies.lint.context import METADATA, Context
from pilothouse.policies.lint.walk import Parts, Step, Walk, whole
from pilothouse.policies.rules import Action, Direction, Policy, Rule

Key = tuple[str, Direction, int]
"""A rule: its policy (`identity`), the direction and the index."""


@dataclass(slots=True, eq=False)
class Fate:
    """`pieces` are the endpoints that meet the rule.

    - `matches`: it matches something; `takes`: on some chain it decides something.
    - `reached`: on some chain, something was undecided when its tier began.
    - `needed`: on some chain, a verdict would be another without it. `because` are the rules that decide in its place.
    - `otherwise`: rules before it that decide in another way what it matches.
    - `last`: the endpoints on whose chains nothing follows the rule's tier. `to_metadata`: those that it lets there.
    - `met`: what it allows, some other end allows, too.
    """

    policy: Policy
    direction: Direction
    rule: Rule
    pieces: int = 0
    matches: bool = False
    takes: bool = False
    reached: bool = False
    needed: bool = False
    met: bool = False
    last: int = 0
    to_metadata: int = 0
    because: set[Key] = field(default_factory=set)
    otherwise: set[Key] = field(default_factory=set)

    @property
    def key(self) -> Key:
        return key_of(self.policy, self.direction, self.rule)


@dataclass(frozen=True, slots=True)
class Tie:
    """Two rules of policies with the same order that decide differently about the same connections."""

    first: Key
    second: Key


def identity(policy: Policy) -> str:
    """Calico and Kubernetes both have a kind NetworkPolicy."""
    return f"{policy.family} {policy.key}"


def key_of(policy: Policy, direction: Direction, rule: Rule) -> Key:
    return (identity(policy), direction, rule.index)


class Fates:
    """Of the enforced policies. Made by one walk of each distinct chain."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.rules: dict[Key, Fate] = {}
        self.ties: dict[Tie, int] = {}
        self._metadata = tuple(
            next(bitsets.bits(context.universe.network(item) & context.universe.outside)) for item in METADATA
        )
        """The regions of the metadata addresses."""
        for policy in context.enforced:
            for direction in policy.directions:
                for rule in policy.rules(direction):
                    self.rules[key_of(policy, direction, rule)] = Fate(policy, direction, rule)
        for direction in Direction:
            passing: dict[int, Forwarded] = {}
            for chain, members in context.chains[direction]:
                if chain.stages:
                    self._chain(chain, members, direction)
                passing.update((id(item), item) for item in chain.forwarded)
            for item in passing.values():
                hosts = bitsets.of(context.universe.pieces_of(f"host:{item.host}"))
                self._chain(item.chain, hosts, direction, own=False)

    def _chain(self, chain: Chain, members: int, direction: Direction, *, own: bool = True) -> None:
        """`own` is whether it is the endpoints' own chain, and not what a host endpoint says to traffic that passes."""
        walk = Walk(chain, self.context.universe.everything)
        last = len(chain.stages) - 1 if own else len(chain.stages)
        for index, step in enumerate(walk.steps):
            if step.stage < 0 or not isinstance(step.variant.policy, Policy):
                continue
            fate = self.rules[key_of(step.variant.policy, direction, step.rule.rule)]
            fate.pieces |= members
            fate.matches = fate.matches or bool(step.rule.cells)
            fate.takes = fate.takes or bool(step.taken)
            fate.reached = fate.reached or walk.entered[step.stage]
            if step.stage == last and step.taken:
                fate.last |= members
            self._decides(walk, index, fate)
            if own and step.taken and step.action is Action.ALLOW:
                if direction is Direction.EGRESS and self._reaches_metadata(step.taken):
                    fate.to_metadata |= members
                fate.met = fate.met or self._is_met(step.taken, members, direction)
        self._ties(walk, direction, members)

    # ------------------------------------------------------------ is it needed

    def _decides(self, walk: Walk, index: int, fate: Fate) -> None:
        step = walk.steps[index]
        if step.action is Action.LOG or not step.rule.cells:
            fate.needed = fate.needed or step.action is Action.LOG
            return
        if not step.taken:
            for other in walk.deciders(index):
                self._blame(fate, other, step.action)
            return
        if fate.needed:
            return
        if step.action is Action.ALLOW and not walk.may_be_allowed(index):
            fate.needed = True
            return
        found = walk.without(index)
        if found is None:
            same = False
        elif step.action is Action.ALLOW:
            same = found.allowed == whole(step.taken)
        elif step.action is Action.DENY:
            same = not found.allowed.cells and not found.conditional.cells
        else:
            passed = walk.after_tier(index)
            same = passed is not None and (found.allowed, found.conditional) == (passed.allowed, passed.conditional)
        if found is None or not same:
            fate.needed = True
            return
        for other in (*found.by, *walk.deciders(index)):
            self._blame(fate, other, other.action)

    def _blame(self, fate: Fate, other: Step, action: Action) -> None:
        if not isinstance(other.variant.policy, Policy):
            return
        key = key_of(other.variant.policy, fate.direction, other.rule.rule)
        (fate.because if other.action is action else fate.otherwise).add(key)

    # ------------------------------------------------------------ the other end

    def _reaches_metadata(self, taken: Parts) -> bool:
        packet = Packet(TCP, 80)
        return any(
            members >> piece & 1 and packets.contains(packet) for packets, members in taken for piece in self._metadata
        )

    def _is_met(self, taken: Parts, members: int, direction: Direction) -> bool:
        universe = self.context.universe
        for packets, peers in taken:
            if peers & universe.outside:
                return True
            seen: set[int] = set()
            for number in bitsets.bits(peers):
                effect = self._other[direction][number]
                if id(effect) not in seen:
                    seen.add(id(effect))
                    if _accepts(effect, packets, members):
                        return True
        return False

    @cached_property
    def _other(self) -> Mapping[Direction, list[Effect]]:
        reach = self.context.engine.reach
        return {Direction.INGRESS: list(reach.egress), Direction.EGRESS: list(reach.ingress)}

    # ------------------------------------------------------------ names decide

    def _ties(self, walk: Walk, direction: Direction, members: int) -> None:
        """Within one tier and order, pairs of opposing rules: the one that comes first by its policy's name takes what
        the other matches, too."""
        groups: dict[tuple[int, float], list[Step]] = {}
        for step in walk.steps:
            policy = step.variant.policy
            if step.stage >= 0 and isinstance(policy, Policy) and step.action is not Action.LOG:
                groups.setdefault((step.stage, policy.order), []).append(step)
        for steps in groups.values():
            if len({id(step.variant) for step in steps}) < 2 or len({step.action for step in steps}) < 2:
                continue
            among = {step.number for step in steps}
            for second in steps:
                for first in walk.deciders(second.number):
                    if first.number in among and _oppose(first, second):
                        self._tie(first, second, direction, members)
                        break

    def _tie(self, first: Step, second: Step, direction: Direction, members: int) -> None:
        one, two = first.variant.policy, second.variant.policy
        if isinstance(one, Policy) and isinstance(two, Policy):
            tie = Tie(key_of(one, direction, first.rule.rule), key_of(two, direction, second.rule.rule))
            self.ties[tie] = self.ties.get(tie, 0) | members

    # ------------------------------------------------------------ answers

    def of(self, policy: Policy) -> list[Fate]:
        """The fates of a policy's rules, ingress first."""
        return [
            self.rules[key_of(policy, direction, rule)]
            for direction in Direction
            if direction in policy.directions
            for rule in policy.rules(direction)
        ]

    @cached_property
    def redundant(self) -> frozenset[Key]:
        """Rules that could all go together: what each is redundant for stays."""
        candidates = [
            fate
            for fate in self.rules.values()
            if fate.pieces and fate.matches and not fate.needed and not fate.otherwise
        ]
        kept: set[Key] = set()
        found: set[Key] = set()
        for fate in reversed(candidates):
            if fate.key not in kept and not fate.because & found:
                found.add(fate.key)
                kept |= fate.because
        return frozenset(found)

    @cached_property
    def unneeded(self) -> frozenset[str]:
        """Policies whose absence changes nothing for any endpoint, each by itself: tried, chain by chain."""
        by_policy: dict[str, list[Fate]] = {}
        for fate in self.rules.values():
            by_policy.setdefault(identity(fate.policy), []).append(fate)
        candidates = {key for key, fates in by_policy.items() if all(not fate.needed and fate.pieces for fate in fates)}
        return frozenset(candidates - self._missed(candidates))

    def _missed(self, candidates: set[str]) -> set[str]:
        """Those of some policies that are missed somewhere."""
        missed: set[str] = set()
        if not candidates:
            return missed
        everything = self.context.universe.everything
        for direction in Direction:
            for chain, _ in self.context.chains[direction]:
                whole_effect: Effect | None = None
                for policy in _policies(chain):
                    key = identity(policy)
                    if key in candidates and key not in missed:
                        whole_effect = whole_effect or fold(chain, everything)
                        if fold(_less(chain, policy), everything) != whole_effect:
                            missed.add(key)
        return missed


def _oppose(first: Step, second: Step) -> bool:
    return first.variant is not second.variant and first.action is not second.action


def _policies(chain: Chain) -> Iterator[Policy]:
    for stage in chain.stages:
        for variant in stage.variants:
            if isinstance(variant.policy, Policy):
                yield variant.policy
    for item in chain.forwarded:
        yield from _policies(item.chain)


def _less(chain: Chain, policy: Policy) -> Chain:
    """The chain without one policy."""
    stages = []
    for stage in chain.stages:
        variants = tuple(variant for variant in stage.variants if variant.policy is not policy)
        if variants:
            stages.append(replace(stage, variants=variants))
    passing = (replace(item, chain=_less(item.chain, policy)) for item in chain.forwarded)
    return replace(chain, stages=tuple(stages), forwarded=tuple(item for item in passing if item.chain.stages))


def _accepts(effect: Effect, packets: Connections, members: int) -> bool:
    return any((allowed | conditional) & members and own & packets for own, allowed, conditional in effect.cells)

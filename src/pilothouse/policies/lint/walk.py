"""A chain walked rule by rule: what each rule takes of what is still undecided, and what would become of it without it.

`fold` answers what a whole chain allows; here the question is which rule is the reason. Both go by the same rules: the
first match decides, Pass sets aside for the next tier, what a tier leaves is denied or goes on, as it says.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pilothouse.policies.engine.compile import Cells, CompiledRule, Variant
from pilothouse.policies.engine.connections import ALL, Connections
from pilothouse.policies.engine.fold import Chain, Effect, of_union
from pilothouse.policies.rules import Action

_OPPOSITE = {Action.ALLOW: Action.DENY, Action.DENY: Action.ALLOW}

Parts = list[tuple[Connections, int]]
"""(connections, peers), no two of which overlap."""


@dataclass(slots=True, eq=False)
class Step:
    """One rule of a chain, the `number`-th. `taken` is what it decides; under an `http` condition, what it may decide.
    `stage` is that of its tier, -1 in a profile."""

    number: int
    variant: Variant
    rule: CompiledRule
    stage: int
    taken: Parts = field(default_factory=list)

    @property
    def action(self) -> Action:
        return self.rule.action


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of some connections: which are allowed, and which on a condition. `by` are the steps that say so."""

    allowed: Effect
    conditional: Effect
    by: frozenset[Step]


class Walk:
    """`entered` says for each stage whether anything was still undecided when it began."""

    def __init__(self, chain: Chain, everything: int) -> None:
        self.chain = chain
        self.steps: list[Step] = []
        self.entered: list[bool] = []
        self.ends: list[int] = []
        """For each stage the index of the first step after it."""
        left: Parts = [(ALL - chain.failsafe if chain.failsafe else ALL, everything)]
        for number, stage in enumerate(chain.stages):
            self.entered.append(bool(left))
            passed: Parts = []
            for variant in stage.variants:
                left = self._variant(variant, number, left, passed)
            self.ends.append(len(self.steps))
            left = passed + left if stage.default_pass else passed
        for variant in chain.profiles or ():
            left = self._variant(variant, -1, left, [])
        self._deciders: dict[int, list[Step]] = {}
        self._later: list[int] | None = None
        self._everything = everything

    def _variant(self, variant: Variant, stage: int, left: Parts, passed: Parts) -> Parts:
        for rule in variant.rules:
            step = Step(len(self.steps), variant, rule, stage)
            self.steps.append(step)
            hit, rest = cut(left, rule.cells)
            step.taken = hit
            if rule.conditional or rule.action is Action.LOG:
                continue
            left = rest
            if rule.action is Action.PASS:
                passed += hit
        return left

    # ------------------------------------------------------------ what if

    def may_be_allowed(self, index: int) -> bool:
        """Whether rules after a step allow all the peers of what it takes: a quick look before `without`."""
        if self._later is None:
            later = [0] * (len(self.steps) + 1)
            later[-1] = self._everything if self.chain.profiles is None else 0
            for number in range(len(self.steps) - 1, -1, -1):
                step = self.steps[number]
                later[number] = later[number + 1]
                if step.action is Action.ALLOW and not step.rule.conditional:
                    for peers, _ in step.rule.cells:
                        later[number] |= peers
            self._later = later
        mask = self._later[index + 1]
        return not any(peers & ~mask for _, peers in self.steps[index].taken)

    def without(self, index: int) -> Outcome | None:
        """What would become of what a step takes, were it not there; None as soon as some of it ends otherwise than the
        step has it, where that is Allow or Deny."""
        step = self.steps[index]
        return self._follow(step.taken, step.stage, index + 1, _OPPOSITE.get(step.action))

    def after_tier(self, index: int) -> Outcome | None:
        """What becomes of what a step takes in the tiers after its own."""
        step = self.steps[index]
        return self._follow(step.taken, step.stage + 1, self.ends[step.stage], None)

    def _follow(self, parts: Parts, stage: int, index: int, stop: Action | None) -> Outcome | None:
        """Along the steps from `index` on; None once a step with the action `stop` meets some of it."""
        state = _State(stop)
        left = list(parts)
        numbers = self._meeting(mask(peers for _, peers in parts), index)
        stages = self.chain.stages
        while 0 <= stage < len(stages):
            end = bisect_left(numbers, self.ends[stage])
            left = state.run(self.steps, numbers[:end], left)
            numbers = numbers[end:]
            if stop is Action.DENY and left and not stages[stage].default_pass:
                state.stopped = True
            if state.stopped:
                return None
            left = state.passed + left if stages[stage].default_pass else state.passed
            state.passed = []
            stage += 1
        if self.chain.profiles is None:
            state.allowed += left
        else:
            state.run(self.steps, numbers, left)
        if state.stopped:
            return None
        _, perhaps = cut(state.conditional, tuple((peers, packets) for packets, peers in state.allowed))
        return Outcome(_union(state.allowed), _union(perhaps), frozenset(state.by))

    def _meeting(self, peers: int, first: int) -> list[int]:
        """The numbers of the steps from `first` on that match some of these peers."""
        found: list[int] = []
        for members, numbers in self._by_match.items():
            if members & peers:
                found += numbers[bisect_left(numbers, first) :]
        return sorted(found)

    @cached_property
    def _by_match(self) -> Mapping[int, list[int]]:
        """The numbers of steps by whom they match: few sets, where there are many rules."""
        found: dict[int, list[int]] = {}
        for number, step in enumerate(self.steps):
            if step.action is not Action.LOG:
                found.setdefault(mask(members for members, _ in step.rule.cells), []).append(number)
        return found

    def deciders(self, index: int) -> list[Step]:
        """The steps that decide what a step matches and does not take, in order: they all come before it."""
        known = self._deciders.get(index)
        if known is not None:
            return known
        own = self.steps[index]
        peers = mask(members for members, _ in own.rule.cells)
        found = []
        for members, steps in self._by_peers.items():
            if members & peers:
                found += [step for step in steps if step.number < index and overlap(step.taken, own.rule.cells)]
        found.sort(key=lambda step: step.number)
        self._deciders[index] = found
        return found

    @cached_property
    def _by_peers(self) -> Mapping[int, list[Step]]:
        """Steps that decide something by whom they decide about."""
        found: dict[int, list[Step]] = {}
        for step in self.steps:
            if step.taken and step.action is not Action.LOG and not step.rule.conditional:
                found.setdefault(mask(members for _, members in step.taken), []).append(step)
        return found


class _State:
    """What has become of connections that are followed along a chain."""

    def __init__(self, stop: Action | None) -> None:
        self.stop = stop
        self.stopped = False
        self.allowed: Parts = []
        self.conditional: Parts = []
        self.passed: Parts = []
        self.by: set[Step] = set()

    def run(self, steps: Sequence[Step], numbers: Sequence[int], left: Parts) -> Parts:
        """What those of the steps leave."""
        for number in numbers:
            if not left or self.stopped:
                break
            step = steps[number]
            hit, rest = cut(left, step.rule.cells)
            if not hit:
                continue
            self.by.add(step)
            self.stopped = step.action is self.stop
            if step.rule.conditional:
                self.conditional += hit
                continue
            left = rest
            if step.action is Action.ALLOW:
                self.allowed += hit
            elif step.action is Action.PASS:
                self.passed += hit
        return left


def cut(left: Parts, cells: Cells) -> tuple[Parts, Parts]:
    """(what of `left` the cells match, the rest)."""
    hit: Parts = []
    for peers, packets in cells:
        if not left:
            break
        rest: Parts = []
        for own, members in left:
            met = members & peers
            if not met:
                rest.append((own, members))
                continue
            common = own if own is packets else own & packets
            if not common:
                rest.append((own, members))
                continue
            hit.append((common, met))
            if common != own:
                rest.append((own - packets, members))
            if met != members:
                rest.append((common, members ^ met))
        left = rest
    return hit, left


def mask(sets: Iterable[int]) -> int:
    """All members of some sets."""
    found = 0
    for item in sets:
        found |= item
    return found


def overlap(parts: Parts, cells: Cells) -> bool:
    return any(members & peers and own & packets for own, members in parts for peers, packets in cells)


def whole(parts: Sequence[tuple[Connections, int]]) -> Effect:
    """Parts in their one canonical form, for comparisons."""
    return _union(list(parts))


def _union(parts: Parts) -> Effect:
    return of_union((peers, packets) for packets, peers in parts)

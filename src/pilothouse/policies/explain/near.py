"""Rules that nearly decided otherwise, and the conditions that kept them from it; the nearest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from pilothouse.inventory.model import Pod
from pilothouse.labels import OWNED_BY, OWNER
from pilothouse.policies.ask.pairs import locate
from pilothouse.policies.engine import Engine, Packet
from pilothouse.policies.engine.decide import Decision, Outcome
from pilothouse.policies.explain.reasons import Here, Kind, Reason, Reasons
from pilothouse.policies.rules import Action, Direction, Policy, Rule
from pilothouse.policies.site import Site
from pilothouse.problems import Place

MOST = 5
MOST_REASONS = 3
"""A rule that misses by more is no near miss."""


@dataclass(frozen=True, slots=True)
class NearMiss:
    """`name` says which rule, as `NetworkPolicy shop/web ingress[0]`, or which line of a declaration."""

    name: str
    reasons: tuple[Reason, ...]
    place: Place
    policy: Policy | None = None
    rule: Rule | None = None

    def __str__(self) -> str:
        return f"{self.name}: {'; '.join(map(str, self.reasons))}"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a connection: `own` is the end whose policies are meant, `other` the other end."""

    direction: Direction
    own: Here
    other: Here
    decision: Decision

    @property
    def source(self) -> Here:
        return self.own if self.direction is Direction.EGRESS else self.other

    @property
    def destination(self) -> Here:
        return self.other if self.direction is Direction.EGRESS else self.own


class Nearness:
    """Asked about connections on one site and engine."""

    def __init__(self, site: Site, engine: Engine, future: tuple[Pod, ...] = ()) -> None:
        self.site = site
        self.reasons = Reasons(engine)
        self.future = future

    @cached_property
    def _staged(self) -> Reasons:
        """On a universe that tells apart what staged policies ask for."""
        return Reasons(self.site.preview().engine_for(future=self.future))

    def of(self, side: Side, packet: Packet) -> tuple[NearMiss, ...]:
        """The rules that would have decided the side otherwise, had a few conditions held."""
        universe = self.reasons.universe
        if not universe.is_endpoint(side.own.piece):
            return ()
        wanted = (Action.DENY,) if side.decision.outcome is Outcome.ALLOW else (Action.ALLOW, Action.PASS)
        found: list[NearMiss] = []
        namespace = universe.pieces[side.own.piece].namespace
        for policy in self.reasons.engine.policies.policies:
            if policy.namespace in ("", namespace) and not (self.site.inputs is not None and is_ours(policy)):
                found += _of_policy(self.reasons, side, packet, policy, wanted)
        for policy in () if self.site.previewed else self.site.policies.policies:
            if policy.staged and policy.namespace in ("", namespace) and policy.staged_action != "Delete":
                found += _of_policy(self._staged, self._moved(side), packet, policy, wanted)
        found = [miss for miss in found if len(miss.reasons) <= MOST_REASONS]
        found.sort(key=lambda miss: (len(miss.reasons), miss.name))
        return tuple(found[:MOST])

    def _moved(self, side: Side) -> Side:
        """The same side on the universe of staged policies."""
        version = self.reasons.universe.version(side.own.piece)
        own, other = (
            Here(locate(self._staged.universe, end.point, version), end.point) for end in (side.own, side.other)
        )
        return replace(side, own=own, other=other)


def is_ours(policy: Policy) -> bool:
    """Whether it is derived from declarations: then these say what is missing (`declared`)."""
    return (OWNED_BY, OWNER) in policy.labels


def _of_policy(
    reasons: Reasons, side: Side, packet: Packet, policy: Policy, wanted: tuple[Action, ...]
) -> Iterator[NearMiss]:
    around = tuple(_around(reasons, side, policy))
    if len(around) > MOST_REASONS:
        return
    for direction in Direction:
        for rule in policy.rules(direction):
            if rule.action not in wanted or (direction is not side.direction and around):
                continue
            own = _rule(reasons, side, packet, rule)
            if direction is not side.direction:
                # Only a rule that says exactly this, the wrong way round, is worth telling.
                own = () if own else (_wrong_way(direction, side),)
                if not own:
                    continue
            elif not own and not around:
                if rule is side.decision.rule or not _comes_later(side, policy, rule):
                    continue
                own = (Reason(Kind.ORDER, f"it comes too late: {side.decision} decides before it"),)
            name = f"{policy.key} {direction}[{rule.index}]"
            yield NearMiss(name, (*around, *own), rule.place if rule.place.path else policy.place, policy, rule)


def _around(reasons: Reasons, side: Side, policy: Policy) -> Iterator[Reason]:
    """Why the policy as a whole does not apply."""
    if policy.staged:
        yield Reason(Kind.STAGED, "it is staged: it decides nothing until it is enforced")
    if side.direction not in policy.directions and not policy.staged:
        yield Reason(Kind.DIRECTION, f"its types do not list {side.direction.capitalize()}")
    compiler = reasons.compiler
    if not compiler.subjects(policy) >> side.own.piece & 1:
        found = [
            Reason(Kind.SUBJECT, f"it does not apply: {reason}")
            for reason in reasons.nearest_peer(policy.subjects, side.own)
        ]
        yield from found


def _rule(reasons: Reasons, side: Side, packet: Packet, rule: Rule) -> tuple[Reason, ...]:
    return (
        *(reasons.peer(rule.subject, side.own) if not rule.subject.is_anyone else ()),
        *reasons.nearest_peer(rule.peers, side.other),
        *reasons.nearest_traffic(rule.traffic, packet, side.source, side.destination),
    )


def _wrong_way(direction: Direction, side: Side) -> Reason:
    opens = "connections that it opens" if direction is Direction.EGRESS else "connections that come to it"
    return Reason(Kind.DIRECTION, f"it is an {direction} rule: about {opens}, and this is {side.direction}")


def _comes_later(side: Side, policy: Policy, rule: Rule) -> bool:
    """Whether a rule that matches is one that was not met."""
    met = [step for step in side.decision.steps if step.policy is policy]
    return not met or (met[-1].rule is not None and met[-1].rule.index < rule.index)

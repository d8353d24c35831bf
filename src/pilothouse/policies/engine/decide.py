"""One packet between two pieces: who decides on each side, and the way there, tier by tier."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from pilothouse.policies.engine.compile import CompiledRule, Variant
from pilothouse.policies.engine.connections import Packet
from pilothouse.policies.engine.engine import Engine
from pilothouse.policies.engine.fold import Chain
from pilothouse.policies.rules import Action, Direction, Policy, Profile, Rule


class Outcome(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    CONDITIONAL = "conditional"
    """Some requests of the connection are allowed (an `http` match), others are not."""
    MIXED = "mixed"
    """The pods or backends that were asked about differ."""
    UNDEFINED = "undefined"
    """The specification leaves it to the network plugin."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one policy (or profile) of the chain did. `rule` is None where none of its rules matched."""

    tier: str
    policy: Policy | Profile
    rule: Rule | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What one side says. `policy` and `rule` decided; without `rule`, no rule matched and the tier's default action
    did (`policy` is then None), or nothing isolates this side. `steps` are all that was met, in order."""

    outcome: Outcome
    direction: Direction
    tier: str = ""
    policy: Policy | Profile | None = None
    rule: Rule | None = None
    steps: tuple[Step, ...] = ()
    reason: str = ""

    @property
    def isolating(self) -> tuple[Policy, ...]:
        """The policies that apply to the endpoint in the tier that decided."""
        return tuple(step.policy for step in self.steps if isinstance(step.policy, Policy) and step.tier == self.tier)

    def __str__(self) -> str:
        if self.rule is not None and self.policy is not None:
            return f"{shown(self.policy)} {self.direction}[{self.rule.index}]"
        if self.outcome is Outcome.DENY and self.isolating:
            return "no rule of " + ", ".join(sorted({policy.shown for policy in self.isolating}))
        return self.reason


def shown(policy: Policy | Profile) -> str:
    return policy.shown if isinstance(policy, Policy) else f"profile {policy.name}"


OUTSIDE = "addresses outside have no policy"
NOT_ISOLATED = "not isolated"


def decide(engine: Engine, source: int, destination: int, packet: Packet) -> tuple[Decision, Decision]:
    """(egress, ingress) of a packet. Pieces of two families never meet: `ValueError`."""
    universe = engine.universe
    if universe.version(source) != universe.version(destination):
        raise ValueError("an IPv4 and an IPv6 address do not meet")
    return (
        side(engine, source, destination, packet, Direction.EGRESS),
        side(engine, destination, source, packet, Direction.INGRESS),
    )


def both(egress: Decision, ingress: Decision) -> Outcome:
    """What two sides come to."""
    outcomes = {egress.outcome, ingress.outcome}
    if Outcome.DENY in outcomes:
        return Outcome.DENY
    return Outcome.CONDITIONAL if Outcome.CONDITIONAL in outcomes else Outcome.ALLOW


def side(engine: Engine, own: int, peer: int, packet: Packet, direction: Direction) -> Decision:
    """What one endpoint's own chain says."""
    if not engine.universe.is_endpoint(own):
        return Decision(Outcome.ALLOW, direction, reason=OUTSIDE)
    return walk(engine.chain(own, direction), peer, packet, direction)


def walk(chain: Chain, peer: int, packet: Packet, direction: Direction) -> Decision:
    """What an endpoint's chain says, and the host endpoints that the traffic passes."""
    own = _walk(chain, peer, packet, direction)
    for item in chain.forwarded:
        if item.peers >> peer & 1 and own.outcome is not Outcome.DENY:
            passing = _walk(item.chain, peer, packet, direction)
            if passing.outcome is not Outcome.ALLOW:
                reason = f"on the way, at host endpoint {item.host}"
                own = replace(passing, steps=(*own.steps, *passing.steps), reason=reason)
    return own


def _walk(chain: Chain, peer: int, packet: Packet, direction: Direction) -> Decision:
    """First match, tier after tier, then the profiles."""
    if chain.failsafe.contains(packet):
        return Decision(Outcome.ALLOW, direction, reason="a failsafe port of the host endpoint")
    steps: list[Step] = []
    perhaps: Step | None = None
    tier = ""
    for stage in chain.stages:
        tier = stage.tier
        passed = stage.default_pass
        for variant in stage.variants:
            rule, condition = _first(variant, peer, packet)
            if condition is not None:
                steps.append(Step(tier, variant.policy, condition))
                perhaps = perhaps or steps[-1]
            if rule is None:
                if condition is None:
                    steps.append(Step(tier, variant.policy))
                continue
            steps.append(Step(tier, variant.policy, rule))
            if rule.action is Action.PASS:
                passed = True
                break
            return _final(rule.action is Action.ALLOW, steps[-1], perhaps, steps, direction)
        if not passed:
            return _final(False, Step(tier, stage.variants[0].policy), perhaps, steps, direction)
    if chain.profiles is None:
        reason = NOT_ISOLATED if not steps else "passed by every tier; the namespace's profile allows"
        return Decision(Outcome.ALLOW, direction, tier, steps=tuple(steps), reason=reason)
    for variant in chain.profiles:
        rule, _ = _first(variant, peer, packet)
        steps.append(Step("", variant.policy, rule))
        if rule is not None:
            return _final(rule.action is Action.ALLOW, steps[-1], perhaps, steps, direction)
    if perhaps is not None:
        return _conditional(perhaps, steps, direction)
    return Decision(Outcome.DENY, direction, steps=tuple(steps), reason="no profile allows it")


def _final(allowed: bool, step: Step, perhaps: Step | None, steps: list[Step], direction: Direction) -> Decision:
    if not allowed and perhaps is not None:
        return _conditional(perhaps, steps, direction)
    outcome = Outcome.ALLOW if allowed else Outcome.DENY
    policy = step.policy if step.rule is not None else None
    return Decision(outcome, direction, step.tier, policy, step.rule, tuple(steps))


def _conditional(step: Step, steps: Iterable[Step], direction: Direction) -> Decision:
    return Decision(Outcome.CONDITIONAL, direction, step.tier, step.policy, step.rule, tuple(steps))


def _first(variant: Variant, peer: int, packet: Packet) -> tuple[Rule | None, Rule | None]:
    """(the first rule that decides for good, the first before it that decides under a condition)."""
    condition: Rule | None = None
    for rule in variant.rules:
        if rule.action is not Action.LOG and matches(rule, peer, packet):
            if rule.conditional:
                condition = condition or rule.rule
            else:
                return rule.rule, condition
    return None, condition


def matches(rule: CompiledRule, peer: int, packet: Packet) -> bool:
    return any(members >> peer & 1 and packets.contains(packet) for members, packets in rule.cells)

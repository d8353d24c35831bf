"""Why one connection is allowed or denied, and the smallest edit after which it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pilothouse.policies.ask.data import as_data as answer_data
from pilothouse.policies.ask.judge import Relation
from pilothouse.policies.ask.packets import Asked
from pilothouse.policies.ask.question import Answer, Member, Pair, Profile, ask
from pilothouse.policies.edges import ServiceEdge
from pilothouse.policies.engine import Engine, Packet
from pilothouse.policies.engine.decide import Decision, Outcome
from pilothouse.policies.explain.declarations import Declarations
from pilothouse.policies.explain.edits import Change, Edit, Flipping
from pilothouse.policies.explain.near import MOST, NearMiss, Nearness, Side
from pilothouse.policies.explain.reasons import Here
from pilothouse.policies.rules import ANY_ORDER, Action, Direction, Policy
from pilothouse.policies.rules import Profile as RuleProfile
from pilothouse.policies.site import Site
from pilothouse.problems import NOWHERE, Place


@dataclass(frozen=True, slots=True)
class Met:
    """One thing that a connection meets on a side, in order: a policy or profile (`name`) and what it `did`, or with
    `name` "" the end of a tier. `rule` is its number in the direction, None where none matched."""

    tier: str
    tier_order: float
    name: str
    did: str
    order: float | None = None
    rule: int | None = None
    place: Place = NOWHERE
    decides: bool = False

    def __str__(self) -> str:
        order = "" if self.order is None else f" (order {shown_order(self.order)})"
        return f"{self.name or f'end of tier {self.tier}'}{order}: {self.did}"


@dataclass(frozen=True, slots=True)
class SideStory:
    """One side of a story. `endpoint` false: no policy applies to an address outside. `edges` are the declarations that
    allow it, where the policies are derived."""

    direction: Direction
    end: str
    decision: Decision
    chain: tuple[Met, ...] = ()
    near: tuple[NearMiss, ...] = ()
    edges: tuple[ServiceEdge, ...] = ()
    endpoint: bool = True


@dataclass(frozen=True, slots=True)
class Story:
    """What happened to one pair of those that were asked about."""

    pair: Pair
    egress: SideStory
    ingress: SideStory

    @property
    def sides(self) -> tuple[SideStory, SideStory]:
        return (self.egress, self.ingress)


@dataclass(frozen=True)
class Explanation:
    """`stories`: one for each answer that pairs got. `edits` lead to `wanted`, the best first; where there are none,
    `no_edit` says why."""

    answer: Answer
    stories: tuple[Story, ...]
    wanted: Outcome
    edits: tuple[Edit, ...] = ()
    no_edit: str = ""

    @property
    def edit(self) -> Edit | None:
        return self.edits[0] if self.edits else None


def explain(
    site: Site,
    source: str,
    destination: str,
    packet: Asked,
    profile: Profile = Profile.CALICO,
    *,
    edits: bool = True,
) -> Explanation:
    """Why `source` reaches `destination` at a port, or does not; the ends are those of `ask`.

    Where all of it is allowed, the edit is one that denies it; else one that allows it. Not with `edits` false: looking
    for one takes longer than all the rest. Raises `Invalid` as `ask` does.
    """
    answer = ask(site, source, destination, packet, profile)
    stories = tuple(_stories(site, answer))
    allow = answer.verdict is not Outcome.ALLOW
    wanted = Outcome.ALLOW if allow else Outcome.DENY
    reason = _no_edit(answer, allow)
    if reason or not edits:
        return Explanation(answer, stories, wanted, no_edit=reason)
    found = Flipping(site, answer, tuple(_pairs(answer)), allow=allow).edits()
    return Explanation(answer, stories, wanted, found, "" if found else _none(stories))


def _none(stories: tuple[Story, ...]) -> str:
    """Why no edit was found."""
    sides = [side.decision for story in stories for side in story.sides]
    if any("failsafe" in decision.reason for decision in sides):
        return "Felix lets its failsafe ports through, whatever the policies say"
    if any(isinstance(decision.policy, RuleProfile) for decision in sides):
        return "a profile decides, and no policy that was tried comes before it"
    return "no edit of one policy or two that was tried does it"


def _pairs(answer: Answer) -> Iterator[tuple[Member, Packet]]:
    """The pairs that an edit has to flip: those that policies decide about."""
    for pair in answer.pairs:
        if pair.relation in (Relation.STRANGERS, Relation.TO_OWN_NODE) and pair.packet is not None:
            for member in pair.members:
                yield member, pair.packet


def _no_edit(answer: Answer, allow: bool) -> str:
    pairs = list(_pairs(answer))
    if not answer.pairs:
        return "there is nothing that policies could decide about"
    if not pairs:
        return "no policy decides it"
    if any(packet.destination_port == 0 and packet.protocol in (6, 17, 132) for _, packet in pairs):
        return f"give the container port of the destination the name {answer.asked}"
    assert answer.engine is not None
    universe = answer.engine.universe
    if not any(universe.is_endpoint(piece) for member, _ in pairs for piece in member.pieces):
        return "no policy decides about two addresses outside"
    return ""


# ---------------------------------------------------------------- stories


def _stories(site: Site, answer: Answer) -> Iterator[Story]:
    engine = answer.engine
    assert engine is not None
    near = Nearness(site, engine, (*answer.source.future, *answer.destination.future))
    declarations = Declarations(site, engine)
    for pair in answer.pairs:
        said = pair.said
        if said.egress is None or said.ingress is None or pair.packet is None:
            continue
        member = pair.members[0]
        ends = tuple(Here(piece, point) for piece, point in zip(member.pieces, member.points, strict=True))
        sides = (
            Side(Direction.EGRESS, ends[0], ends[1], said.egress),
            Side(Direction.INGRESS, ends[1], ends[0], said.ingress),
        )
        told = pair.outcome is Outcome.ALLOW
        one, other = (_side(near, declarations, side, pair.packet, told) for side in sides)
        yield Story(pair, one, other)


def _side(nearness: Nearness, declarations: Declarations, side: Side, packet: Packet, whole: bool) -> SideStory:
    """`whole` says that the pair as a whole is allowed: then what nearly denied it is told, too."""
    engine = nearness.reasons.engine
    if not engine.universe.is_endpoint(side.own.piece):
        return SideStory(side.direction, side.own.point.name, side.decision, endpoint=False)
    near: list[NearMiss] = []
    edges: tuple[ServiceEdge, ...] = ()
    allowed = side.decision.outcome is Outcome.ALLOW
    if allowed and declarations.governs(side.own):
        edges = declarations.behind(side, packet)
    if whole or not allowed:
        near += nearness.of(side, packet)
    if not allowed:
        near += declarations.near(side, packet)
    near.sort(key=lambda miss: len(miss.reasons))
    chain = tuple(
        replace(met, place=edges[0].place) if met.decides and edges and not met.place.path else met
        for met in _chain(engine, side)
    )
    return SideStory(side.direction, side.own.point.name, side.decision, chain, tuple(near[:MOST]), edges)


def _chain(engine: Engine, side: Side) -> Iterator[Met]:
    """Tier by tier, with the end of each that was come to."""
    decision = side.decision
    steps = decision.steps
    for number, step in enumerate(steps):
        order = engine.policies.tier(step.tier).order if step.tier else ANY_ORDER
        policy = step.policy if isinstance(step.policy, Policy) else None
        name = policy.key if policy is not None else f"Profile {step.policy.name}"
        rule = step.rule
        decides = rule is not None and rule is decision.rule and step.policy is decision.policy
        yield Met(
            step.tier,
            order,
            name,
            _did(decision, rule is not None and rule.action, decides),
            policy.order if policy is not None else None,
            None if rule is None else rule.index,
            rule.place if rule is not None and rule.place.path else step.policy.place,
            decides,
        )
        last = number + 1 == len(steps) or steps[number + 1].tier != step.tier
        if step.tier and last and not decides:
            yield _end(
                engine,
                side,
                step.tier,
                order,
                rule is not None and rule.action is Action.PASS,
                number + 1 == len(steps),
            )
    if not steps or (decision.outcome is Outcome.ALLOW and decision.rule is None):
        yield Met("", ANY_ORDER, "", decision.reason, decides=True)


def _did(decision: Decision, action: Action | bool, decides: bool) -> str:
    if not isinstance(action, Action):
        return "no rule matches"
    if decides and decision.outcome is Outcome.CONDITIONAL:
        return "allows some requests"
    return {Action.ALLOW: "allows", Action.DENY: "denies", Action.PASS: "passes to the next tier"}.get(action, "logs")


def _end(engine: Engine, side: Side, tier: str, order: float, passed: bool, last: bool) -> Met:
    default = engine.policies.tier(tier).default_action
    if passed:
        return Met(tier, order, "", "passed on")
    if default is Action.PASS:
        return Met(tier, order, "", "no rule matched: its default action passes it on")
    denies = last and side.decision.outcome is Outcome.DENY
    return Met(tier, order, "", "no rule matched: its default action denies", decides=denies)


def shown_order(order: float) -> str:
    return "last" if order == ANY_ORDER else f"{order:g}" if order < 1e6 else f"{int(order):,}"


# ---------------------------------------------------------------- as data


def as_data(found: Explanation) -> dict[str, Any]:
    """The explanation as JSON can hold it."""
    return {
        **answer_data(found.answer),
        "stories": [
            {
                "pair": str(story.pair),
                "verdict": story.pair.outcome.value,
                "sides": [_side_data(s) for s in story.sides],
            }
            for story in found.stories
        ],
        "wanted": found.wanted.value,
        "edits": [edit_data(edit) for edit in found.edits],
        "noEdit": found.no_edit or None,
    }


def _side_data(side: SideStory) -> dict[str, Any]:
    return {
        "direction": side.direction.value,
        "end": side.end,
        "outcome": side.decision.outcome.value,
        "by": str(side.decision),
        "chain": [
            {
                "tier": met.tier,
                "tierOrder": None if met.tier_order == ANY_ORDER else met.tier_order,
                "policy": met.name or None,
                "order": None if met.order in (None, ANY_ORDER) else met.order,
                "rule": met.rule,
                "did": met.did,
                "place": str(met.place) or None,
                "decides": met.decides,
            }
            for met in side.chain
        ],
        "declared": [{"edge": edge_text(edge), "place": str(edge.place) or None} for edge in side.edges],
        "near": [
            {
                "rule": miss.name,
                "place": str(miss.place) or None,
                "reasons": [{"kind": reason.kind.value, "sentence": reason.sentence} for reason in miss.reasons],
            }
            for miss in side.near
        ],
    }


def edge_text(edge: ServiceEdge) -> str:
    way = "to" if edge.direction is Direction.EGRESS else "from"
    return f"{edge.direction} of {edge.service} {way} {edge.peer} at {edge.ports_text}"


def edit_data(edit: Edit) -> dict[str, Any]:
    return {
        "changes": [_change_data(change) for change in edit.changes],
        "others": [str(item) for item in edit.others],
        "size": edit.size,
        "more": edit.more,
        "remarks": list(edit.remarks),
    }


def _change_data(change: Change) -> dict[str, Any]:
    return {
        "title": change.title,
        "place": str(change.place) or None,
        "text": change.text,
        "manifest": change.data,
        "command": change.command or None,
    }

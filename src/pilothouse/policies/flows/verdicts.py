"""One flow before two sets of policies: what becomes of it, and which rule says so.

Whatever a flow's ends may be is judged, piece by piece: where they do not all come to the same, the flow is mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pilothouse.policies.engine import Engine, Packet
from pilothouse.policies.engine.connections import ICMP, ICMPV6
from pilothouse.policies.engine.decide import Outcome, both, decide
from pilothouse.policies.engine.fold import Effect
from pilothouse.policies.engine.reach import Reach
from pilothouse.policies.flows.ends import Ends, Found
from pilothouse.policies.flows.model import EndKind, Flow, Observed, PolicyHit
from pilothouse.policies.rules import Direction


class Standing(StrEnum):
    NEWLY_DENIED = "newly-denied"
    NEWLY_ALLOWED = "newly-allowed"
    STILL_ALLOWED = "still-allowed"
    STILL_DENIED = "still-denied"
    CONDITIONAL = "conditional"
    """On either side some requests are allowed and others are not."""
    MIXED = "mixed"
    """The pods or addresses that its ends may be differ."""
    UNKNOWN = "unknown"
    """An end is not known: nothing is said about it."""


STANDINGS = {
    (Outcome.ALLOW, Outcome.DENY): Standing.NEWLY_DENIED,
    (Outcome.DENY, Outcome.ALLOW): Standing.NEWLY_ALLOWED,
    (Outcome.ALLOW, Outcome.ALLOW): Standing.STILL_ALLOWED,
    (Outcome.DENY, Outcome.DENY): Standing.STILL_DENIED,
}

FAMILIES = "its ends have no address family in common"

Pair = tuple[int, int, int, int]
"""(source piece, destination piece, protocol, port); -1 for no port."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`pairs` are what was judged: none where the flow is unknown (`reason`), or where no policy holds for it. `before`
    and `after` are what the policies say of it: None where that is not known, or not the same for all pairs."""

    standing: Standing
    pairs: tuple[Pair, ...] = ()
    reason: str = ""
    before: Outcome | None = None
    after: Outcome | None = None


class Verdicts:
    """Two engines over one universe; each pair of pieces is judged once for each port."""

    def __init__(self, was: Engine, now: Engine, ends: Ends) -> None:
        if was.universe is not now.universe:
            raise ValueError("both engines must share one universe: Engine.together")
        self.was, self.now, self.ends = was, now, ends
        self._verdicts: dict[tuple[int, int, int], Verdict] = {}
        self._outcomes: dict[Pair, tuple[Outcome, Outcome]] = {}

    def of(self, flow: Flow) -> Verdict:
        source, destination = self.ends.source(flow), self.ends.destination(flow)
        if not source.targets or not destination.targets:
            return Verdict(Standing.UNKNOWN, reason=source.reason or destination.reason)
        key = (id(source.targets), id(destination.targets), flow.protocol)
        if source.nodes or (flow.source.kind is EndKind.POD and flow.source.name == flow.destination.name):
            exempt = _unpoliced(flow, source, destination)
            if exempt:
                return Verdict(Standing.STILL_ALLOWED, reason=exempt)
        found = self._verdicts.get(key)
        if found is None:
            found = self._verdicts[key] = self._judge(flow, source, destination)
        return found

    def _judge(self, flow: Flow, source: Found, destination: Found) -> Verdict:
        version = self.now.universe.version
        pairs = tuple(
            (one, other, flow.protocol, -1 if port is None else port)
            for one, _ in source.targets
            for other, port in destination.targets
            if version(one) == version(other)
        )
        if not pairs:
            return Verdict(Standing.UNKNOWN, reason=FAMILIES)
        outcomes = [self._both(pair) for pair in pairs]
        first = outcomes[0]
        if len(pairs) == 1:
            return Verdict(STANDINGS.get(first, Standing.CONDITIONAL), pairs, "", *first)
        standings = {STANDINGS.get(both, Standing.CONDITIONAL) for both in outcomes}
        standing = standings.pop() if len(standings) == 1 else Standing.MIXED
        before, after = zip(*outcomes, strict=True)
        return Verdict(standing, pairs, "", _only(before), _only(after))

    def _both(self, pair: Pair) -> tuple[Outcome, Outcome]:
        """(before, after)."""
        known = self._outcomes.get(pair)
        if known is None:
            asked = packet(pair)
            after = _outcome(self.now.reach, pair, asked)
            before = after if self.was is self.now else _outcome(self.was.reach, pair, asked)
            known = self._outcomes[pair] = (before, after)
        return known

    def outcome(self, pair: Pair, *, before: bool = False) -> Outcome:
        return self._both(pair)[0 if before else 1]

    def rule(self, pair: Pair, *, before: bool = False) -> tuple[Direction, str]:
        """The side that decides, and what decided there: where both deny, the source's comes first."""
        egress, ingress = decide(self.was if before else self.now, pair[0], pair[1], packet(pair))
        outcome = both(egress, ingress)
        decisive = egress if egress.outcome is outcome and (outcome is not Outcome.ALLOW or egress.rule) else ingress
        return decisive.direction, str(decisive)

    def predicted(self, verdict: Verdict, side: Direction | None, *, before: bool) -> Outcome | None:
        """What the policies say of a flow, at one side of it or both; None where its pieces differ."""
        if side is None:
            return verdict.before if before else verdict.after
        reach = (self.was if before else self.now).reach
        return _only([_at(reach, pair, packet(pair), side) for pair in verdict.pairs])


def _at(reach: Reach, pair: Pair, asked: Packet, side: Direction) -> Outcome:
    """What one side of a pair says."""
    if side is Direction.EGRESS:
        return _side(reach.of_egress(pair[0]), pair[1], asked)
    return _side(reach.of_ingress(pair[1]), pair[0], asked)


def _only(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The one that all of them are, None where they differ or there are none."""
    return outcomes[0] if outcomes and (len(outcomes) == 1 or len(set(outcomes)) == 1) else None


def _outcome(reach: Reach, pair: Pair, asked: Packet) -> Outcome:
    out = _at(reach, pair, asked, Direction.EGRESS)
    into = Outcome.DENY if out is Outcome.DENY else _at(reach, pair, asked, Direction.INGRESS)
    return into if out is Outcome.ALLOW or into is Outcome.DENY else out


def _side(effect: Effect, peer: int, asked: Packet) -> Outcome:
    found = Outcome.DENY
    for packets, allowed, conditional in effect.cells:
        if (allowed | conditional) >> peer & 1 and packets.contains(asked):
            if allowed >> peer & 1:
                return Outcome.ALLOW
            found = Outcome.CONDITIONAL
    return found


def packet(pair: Pair) -> Packet:
    """A log does not say what port a connection came from, nor the kind of an ICMP message: an echo request stands for
    them."""
    _, _, protocol, port = pair
    if protocol in (ICMP, ICMPV6):
        return Packet.icmp(protocol, 8 if protocol == ICMP else 128)
    return Packet(protocol, max(port, 0))


def _unpoliced(flow: Flow, source: Found, destination: Found) -> str:
    """Why no policy holds for a flow: a pod cannot shut itself out, nor its own node
    (https://kubernetes.io/docs/concepts/services-networking/network-policies/); "" where they do."""
    if flow.source.kind is EndKind.POD and flow.source == flow.destination:
        return "a pod reaches itself"
    pods = destination.pods
    if len(source.nodes) == 1 and pods and all(pod.node in source.nodes for pod in pods):
        return "a node reaches its own pods"
    return ""


def said(hits: tuple[PolicyHit, ...]) -> Outcome | None:
    """What the rules that an observer names came to; None where it names none that decided."""
    actions = {hit.action for hit in hits}
    return Outcome.DENY if "deny" in actions else Outcome.ALLOW if "allow" in actions else None


SEEN = {Observed.ALLOW: Outcome.ALLOW, Observed.DENY: Outcome.DENY}
"""What an action says; the unknown one says nothing."""

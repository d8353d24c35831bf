"""One flow before two sets of policies: what becomes of it, and which rule says so.

Whatever a flow's ends may be is judged, piece by piece: where they do not all come to the same, the flow is mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pilothouse.policies.engine import Engine, Packet
from pilothouse.policies.engine.connections import ICMP, ICMPV6
from pilothouse.policies.engine.decide import Outcome, both, decide
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
    """`pairs` are what was judged: none where the flow is unknown (`reason`), or where no policy holds for it."""

    standing: Standing
    pairs: tuple[Pair, ...] = ()
    reason: str = ""


class Verdicts:
    """Two engines over one universe; each pair of pieces is judged once for each port."""

    def __init__(self, was: Engine, now: Engine, ends: Ends) -> None:
        if was.universe is not now.universe:
            raise ValueError("both engines must share one universe: Engine.together")
        self.was, self.now, self.ends = was, now, ends
        self._pairs: dict[Pair, Standing] = {}
        self._verdicts: dict[tuple[object, object, int], Verdict] = {}
        self._outcomes: dict[tuple[bool, Pair], Outcome] = {}

    def of(self, flow: Flow) -> Verdict:
        source, destination = self.ends.source(flow), self.ends.destination(flow)
        if not source.targets or not destination.targets:
            return Verdict(Standing.UNKNOWN, reason=source.reason or destination.reason)
        key = (source.targets, destination.targets, flow.protocol)
        if source.nodes or (flow.source.kind is EndKind.POD and flow.source == flow.destination):
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
        standings = {self._pair(pair) for pair in pairs}
        return Verdict(standings.pop() if len(standings) == 1 else Standing.MIXED, pairs)

    def _pair(self, pair: Pair) -> Standing:
        found = self._pairs.get(pair)
        if found is None:
            after = self.outcome(pair)
            before = after if self.was is self.now else self.outcome(pair, before=True)
            found = self._pairs[pair] = STANDINGS.get((before, after), Standing.CONDITIONAL)
        return found

    def outcome(self, pair: Pair, *, before: bool = False) -> Outcome:
        before = before and self.was is not self.now
        known = self._outcomes.get((before, pair))
        if known is None:
            reach = self.was.reach if before else self.now.reach
            source, destination, *_ = pair
            asked = packet(pair)
            if reach.allowed(source, destination).contains(asked):
                known = Outcome.ALLOW
            elif reach.possible(source, destination).contains(asked):
                known = Outcome.CONDITIONAL
            else:
                known = Outcome.DENY
            self._outcomes[before, pair] = known
        return known

    def rule(self, pair: Pair, *, before: bool = False) -> tuple[Direction, str]:
        """The side that decides, and what decided there: where both deny, the source's comes first."""
        egress, ingress = decide(self.was if before else self.now, pair[0], pair[1], packet(pair))
        outcome = both(egress, ingress)
        decisive = egress if egress.outcome is outcome and (outcome is not Outcome.ALLOW or egress.rule) else ingress
        return decisive.direction, str(decisive)

    def predicted(self, verdict: Verdict, side: Direction | None, *, before: bool) -> Outcome | None:
        """What the policies say of a flow, at one side of it or both; None where its pieces differ."""
        found = set()
        for pair in verdict.pairs:
            if side is None:
                found.add(self.outcome(pair, before=before))
            else:
                sides = decide(self.was if before else self.now, pair[0], pair[1], packet(pair))
                found.add(next(item.outcome for item in sides if item.direction is side))
        return found.pop() if len(found) == 1 else None


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


def seen(action: Observed) -> Outcome | None:
    return {Observed.ALLOW: Outcome.ALLOW, Observed.DENY: Outcome.DENY}.get(action)

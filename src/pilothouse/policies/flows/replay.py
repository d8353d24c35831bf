"""Observed flows replayed: what a change of policies would have done to the traffic that was seen.

Flows are judged on both sides and put together by the parties at their ends and the port. What an observer itself says
of a flow (the rules that it met, or whether it went through) is held against the prediction: where the two disagree,
the policies or the snapshot are not those that were observed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pilothouse.policies.compare.map import party_data
from pilothouse.policies.engine import Engine, Vocabulary
from pilothouse.policies.engine.connections import WITH_PORTS, protocol_name
from pilothouse.policies.engine.decide import Outcome
from pilothouse.policies.flows.ends import Ends
from pilothouse.policies.flows.model import EndKind, Flow, FlowEnd, PolicyHit
from pilothouse.policies.flows.verdicts import SEEN, Standing, Verdict, Verdicts, said
from pilothouse.policies.parties import Kind, Parties, Party
from pilothouse.policies.rules import Direction, NetworkSet
from pilothouse.policies.site import Site
from pilothouse.problems import NOWHERE, Problems, warning

Progress = Callable[[int, int], object]
"""Told how many flows of how many are judged."""

_STEP = 20_000
_NAMED = 20
"""So many disagreements are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Distinct flows, their connections, their bytes, and when the last one was seen (Unix seconds)."""

    flows: int = 0
    count: int = 0
    bytes: int = 0
    last_seen: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Flows of one standing between two parties at one port. `rules` are what decides: after the change for what is
    newly denied or allowed, of the denied part where it is mixed. `side` is the end that decides. `example` is one of
    the flows, and `reason` why nothing is known about it."""

    standing: Standing
    source: Party
    destination: Party
    port: str
    amount: Amount
    example: str
    rules: tuple[str, ...] = ()
    side: Direction | None = None
    reason: str = ""

    @property
    def team(self) -> str:
        """Whose declaration would change it: that of the end which decides, else of the other; "" for nobody's."""
        first, second = self.source.team, self.destination.team
        return (second or first) if self.side is Direction.INGRESS else (first or second)

    @property
    def denies(self) -> bool:
        """Whether something that went through is denied, for some of the pods at least."""
        return self.standing is Standing.NEWLY_DENIED or (self.standing is Standing.MIXED and bool(self.rules))


@dataclass(frozen=True, slots=True)
class Disagreement:
    """What the observer says of a flow is not what the policies say: `before` those that were in force, otherwise
    those that would be. `observed` names the rules, where it does."""

    flow: str
    before: bool
    observed: str
    predicted: str
    count: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many distinct flows the observer says anything about, and of how many it says the same."""

    compared: int = 0
    agreed: int = 0
    disagreements: tuple[Disagreement, ...] = ()
    """The first few of them, the most frequent flows first."""

    @property
    def differing(self) -> int:
        return self.compared - self.agreed


@dataclass(frozen=True)
class Replay:
    """`groups` are sorted by standing, team, and how often they were seen. `verdicts` are those of the flows, in their
    order."""

    groups: tuple[Group, ...] = ()
    total: Amount = Amount()
    agreement: Agreement = Agreement()
    verdicts: tuple[Verdict, ...] = field(default=(), repr=False)

    def of(self, standing: Standing) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if group.standing is standing)

    def amount(self, standing: Standing) -> Amount:
        return _sum(group.amount for group in self.of(standing))

    @property
    def denied(self) -> tuple[Group, ...]:
        """What went through before and is denied afterwards, wholly or in part."""
        return tuple(group for group in self.groups if group.denies)


def replay(flows: Sequence[Flow], before: Site, after: Site, progress: Progress | None = None) -> Replay:
    """Flows judged by the policies of two sites, on the pods of `after`."""
    sets = (*before.policies.sets, *after.policies.sets)
    words = before.vocabulary | after.vocabulary
    named = {(flow.source, flow.destination) for flow in flows if _names_set(flow)}
    if named:
        words = words | Vocabulary(ranges=frozenset(net for item in sets for net in item.nets))
    was, now = Engine.together(after.snapshot, [before.effective, after.effective], known=words)
    return judged(flows, was, now, Parties(after.inputs or before.inputs, now.universe), sets, progress)


def _names_set(flow: Flow) -> bool:
    return EndKind.NETWORK_SET in (flow.source.kind, flow.destination.kind)


def judged(
    flows: Sequence[Flow],
    was: Engine,
    now: Engine,
    parties: Parties,
    sets: Sequence[NetworkSet] = (),
    progress: Progress | None = None,
) -> Replay:
    """Flows judged by two engines over one universe. `sets` are the address sets that flows may name; the universe must
    know their ranges."""
    verdicts = Verdicts(was, now, Ends(now.universe, sets))
    groups, compared = _Groups(verdicts, parties), _Compared(verdicts)
    found = []
    for number, flow in enumerate(flows):
        if progress is not None and number % _STEP == 0:
            progress(number, len(flows))
        verdict = verdicts.of(flow)
        found.append(verdict)
        groups.add(flow, verdict)
        compared.add(flow, verdict)
    made = groups.groups()
    return Replay(made, _sum(group.amount for group in made), compared.agreement(), tuple(found))


def findings(found: Replay) -> Problems:
    """A warning where what was observed is not what the policies say: a check of the evaluation itself."""
    agreement = found.agreement
    if not agreement.differing:
        return ()
    first = agreement.disagreements[0]
    which = "that were in force" if first.before else "to come"
    return (
        warning(
            "policies/flow-disagrees",
            f"for {agreement.differing:,} of {agreement.compared:,} flows the policies do not say what was observed, "
            f"such as {first.flow}: observed {first.observed}, by the policies {which} {first.predicted}",
            NOWHERE,
            "take the snapshot when the flows are observed; if it was, this is a defect of the evaluation",
        ),
    )


class _Tally:
    __slots__ = ("address", "bytes", "count", "example", "flows", "last", "pair", "reason")

    def __init__(self, flow: Flow, verdict: Verdict) -> None:
        self.flows = self.count = self.bytes = 0
        self.last: float | None = None
        self.example = flow
        self.reason = verdict.reason
        self.pair = verdict
        self.address = flow.destination.address  # the only one that was met, else ""

    @property
    def amount(self) -> Amount:
        return Amount(self.flows, self.count, self.bytes, self.last)

    def add(self, flow: Flow) -> None:
        self.flows += 1
        self.count += flow.count
        self.bytes += flow.bytes
        if flow.destination.address != self.address:
            self.address = ""
        if flow.last_seen is not None and (self.last is None or flow.last_seen > self.last):
            self.last = flow.last_seen


_Key = tuple[Standing, Party, Party, int, int | None]
_NAMED_ENDS = (EndKind.HOST, EndKind.NETWORK_SET)


class _Groups:
    def __init__(self, verdicts: Verdicts, parties: Parties) -> None:
        self.verdicts = verdicts
        self.parties = parties
        self._tallies: dict[object, _Tally] = {}

    def add(self, flow: Flow, verdict: Verdict) -> None:
        """Flows of one verdict have the same pieces, and so the same rules and, but for names in the log, parties."""
        source, destination = flow.source, flow.destination
        if not verdict.pairs or source.kind in _NAMED_ENDS or destination.kind in _NAMED_ENDS:
            key: object = (
                source,
                destination,
                flow.protocol,
                flow.port,
                flow.service,
                verdict.reason,
                id(verdict.pairs),
            )
        else:
            key = (id(verdict), flow.port)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally(flow, verdict)
        tally.add(flow)

    def _between(self, flow: Flow, verdict: Verdict) -> tuple[Party, Party]:
        if not verdict.pairs:
            return self._named(flow.source, source=True, flow=flow), self._named(
                flow.destination, source=False, flow=flow
            )
        one, other = verdict.pairs[0][:2]
        return self._party(one, flow.source), self._party(other, flow.destination)

    def _named(self, end: FlowEnd, *, source: bool, flow: Flow) -> Party:
        """The party of an end of a flow that was not judged: the other end may well be known."""
        ends = self.verdicts.ends
        found = ends.source(flow) if source else ends.destination(flow)
        return self._party(found.targets[0][0], end) if found.targets else Party(Kind.ADDRESSES, end.shown)

    def _party(self, piece: int, end: FlowEnd) -> Party:
        """A host and a set are called as the log calls them, everything else as in every other answer."""
        if end.kind in _NAMED_ENDS:
            return Party(Kind.HOST if end.kind is EndKind.HOST else Kind.ADDRESSES, end.shown)
        return self.parties.party(piece)

    def groups(self) -> tuple[Group, ...]:
        together: dict[_Key, list[_Tally]] = {}
        for tally in self._tallies.values():
            flow, verdict = tally.example, tally.pair
            key = (verdict.standing, *self._between(flow, verdict), flow.protocol, flow.port)
            together.setdefault(key, []).append(tally)
        made = [self._group(key, tallies) for key, tallies in together.items()]
        order = {standing: number for number, standing in enumerate(Standing)}

        def rank(group: Group) -> tuple[int, str, int, str, str, str, str, str]:
            source, destination = group.source, group.destination
            ends = (source.name, destination.name, group.port, source.kind, destination.kind)
            return (order[group.standing], group.team, -group.amount.count, *ends)

        return tuple(sorted(made, key=rank))

    def _group(self, key: _Key, tallies: Sequence[_Tally]) -> Group:
        standing, source, destination, protocol, port = key
        first = max(tallies, key=lambda item: item.count) if len(tallies) > 1 else tallies[0]
        decisive = list(dict.fromkeys(rule for item in tallies for rule in self._rules(item.pair)))
        reasons = dict.fromkeys(item.reason for item in tallies if item.reason)
        if destination.kind is Kind.ADDRESSES and "/" in destination.name:
            addresses = {item.address for item in tallies}
            if len(addresses) == 1 and "" not in addresses:
                destination = replace(destination, name=addresses.pop())  # rather than all the range it lies in
        return Group(
            standing,
            source,
            destination,
            port_text(protocol, port),
            first.amount if len(tallies) == 1 else _sum(item.amount for item in tallies),
            shown(first.example),
            tuple(dict.fromkeys(text for _, text in decisive)),
            decisive[0][0] if decisive else None,
            "; ".join(reasons),
        )

    def _rules(self, verdict: Verdict) -> Iterator[tuple[Direction, str]]:
        """What decides, once for each pair that matters."""
        if verdict.standing in (Standing.NEWLY_DENIED, Standing.NEWLY_ALLOWED):
            yield from (self.verdicts.rule(pair) for pair in verdict.pairs)
        elif verdict.standing is Standing.MIXED:
            for pair in verdict.pairs:
                before, after = self.verdicts.outcome(pair, before=True), self.verdicts.outcome(pair)
                if after is Outcome.DENY and before is not Outcome.DENY:
                    yield self.verdicts.rule(pair)
        elif verdict.standing is Standing.CONDITIONAL:
            for pair in verdict.pairs:
                earlier = self.verdicts.outcome(pair) is not Outcome.CONDITIONAL
                yield self.verdicts.rule(pair, before=earlier)


_Differing = tuple[Flow, Verdict, Outcome, tuple[PolicyHit, ...], Outcome, bool]
"""(flow, verdict, what was observed, the rules met, what is predicted, whether by the old policies)."""


class _Compared:
    def __init__(self, verdicts: Verdicts) -> None:
        self.verdicts = verdicts
        self.compared = self.agreed = 0
        self._differing: list[_Differing] = []

    def add(self, flow: Flow, verdict: Verdict) -> None:
        """Rules that were met, or without them whether the flow went through, tell of the side that reported."""
        if not verdict.pairs:
            return
        met = said(flow.enforced) if flow.enforced else None
        went = met or SEEN.get(flow.action)
        if went is not None:
            self._hold(flow, verdict, went, flow.enforced if met else (), before=True)
        if flow.pending and flow.pending != flow.enforced and (staged := said(flow.pending)) is not None:
            self._hold(flow, verdict, staged, flow.pending, before=False)

    def _hold(
        self, flow: Flow, verdict: Verdict, observed: Outcome, hits: tuple[PolicyHit, ...], *, before: bool
    ) -> None:
        predicted = self.verdicts.predicted(verdict, flow.reporter, before=before)
        if predicted is None:
            return
        self.compared += 1
        if predicted in (observed, Outcome.CONDITIONAL):
            self.agreed += 1
            return
        self._differing.append((flow, verdict, observed, hits, predicted, before))

    def agreement(self) -> Agreement:
        ranked = sorted(self._differing, key=lambda item: -item[0].count)  # flows come sorted
        return Agreement(self.compared, self.agreed, tuple(self._named(*item) for item in ranked[:_NAMED]))

    def _named(
        self,
        flow: Flow,
        verdict: Verdict,
        observed: Outcome,
        hits: tuple[PolicyHit, ...],
        predicted: Outcome,
        before: bool,
    ) -> Disagreement:
        names = ", ".join(hit_text(hit) for hit in hits)
        said_here = f"{observed.value} by {names}" if names else observed.value
        rule = self.verdicts.rule(verdict.pairs[0], before=before)[1]
        return Disagreement(shown(flow), before, said_here, f"{predicted.value}: {rule}", flow.count)


def hit_text(hit: PolicyHit) -> str:
    """`NetworkPolicy payments/api rule 0`, as far as it is known."""
    name = f"{hit.namespace}/{hit.name}" if hit.namespace else hit.name
    rule = f"rule {hit.rule}" if hit.rule is not None else ""
    return " ".join(part for part in (hit.kind, name, rule) if part)


def port_text(protocol: int, port: int | None) -> str:
    """`8080/TCP`, or the protocol alone."""
    return (
        f"{port}/{protocol_name(protocol)}" if port is not None and protocol in WITH_PORTS else protocol_name(protocol)
    )


def shown(flow: Flow) -> str:
    """`payments/api-1 → ledger/db-0 at 5432/TCP`."""
    return f"{flow.source.shown} → {flow.destination.shown} at {port_text(flow.protocol, flow.port)}"


def added(flows: Iterable[Flow]) -> Amount:
    """What several flows come to."""
    return _sum(Amount(1, flow.count, flow.bytes, flow.last_seen) for flow in flows)


def _sum(amounts: Iterator[Amount]) -> Amount:
    found = list(amounts)
    times = [item.last_seen for item in found if item.last_seen is not None]
    return Amount(
        sum(item.flows for item in found),
        sum(item.count for item in found),
        sum(item.bytes for item in found),
        max(times, default=None),
    )


def as_data(found: Replay) -> dict[str, Any]:
    """A replay as JSON can hold it."""
    return {
        "total": amount_data(found.total),
        "standings": {standing.value: amount_data(found.amount(standing)) for standing in Standing},
        "groups": [group_data(group) for group in found.groups],
        "agreement": {
            "compared": found.agreement.compared,
            "agreed": found.agreement.agreed,
            "disagreements": [
                {
                    "flow": item.flow,
                    "policies": "before" if item.before else "after",
                    "observed": item.observed,
                    "predicted": item.predicted,
                    "count": item.count,
                }
                for item in found.agreement.disagreements
            ],
        },
    }


def amount_data(amount: Amount) -> dict[str, Any]:
    return {
        "flows": amount.flows,
        "count": amount.count,
        "bytes": amount.bytes,
        "last_seen": amount.last_seen,
    }


def group_data(group: Group) -> dict[str, Any]:
    return {
        "standing": group.standing.value,
        "team": group.team,
        "source": party_data(group.source),
        "destination": party_data(group.destination),
        "port": group.port,
        **amount_data(group.amount),
        "example": group.example,
        "rules": list(group.rules),
        "side": group.side.value if group.side else None,
        "reason": group.reason,
    }

"""The smallest edit that flips a verdict: every candidate is evaluated over the whole space, and says what else it
changes. Of those that flip, the one that changes least besides comes first, then the one of least text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pilothouse.artifacts.write import to_yaml
from pilothouse.inventory.model import Manifest, Pod
from pilothouse.policies.ask.judge import Relation
from pilothouse.policies.ask.pairs import locate
from pilothouse.policies.ask.question import Answer, Member
from pilothouse.policies.engine import Connections, Engine, Packet, Universe, vocabulary
from pilothouse.policies.engine.connections import ICMP, ICMPV6, WITH_PORTS
from pilothouse.policies.engine.decide import Decision, Outcome, both, decide
from pilothouse.policies.explain import collateral, whom
from pilothouse.policies.explain.candidates import CALICO_API, Candidate, Candidates, Wish
from pilothouse.policies.explain.collateral import Besides
from pilothouse.policies.explain.declarations import Declarations
from pilothouse.policies.explain.declare import Declaring, Line, Proposal
from pilothouse.policies.explain.near import Side
from pilothouse.policies.explain.reasons import Here, Reasons
from pilothouse.policies.lint.places import Places
from pilothouse.policies.reading import manifest_of, policy_of
from pilothouse.policies.rules import Direction, Family, Policy, PolicySet
from pilothouse.policies.site import Site
from pilothouse.problems import NOWHERE, Place, Severity

MOST = 3
"""So many edits are kept, the best first."""
_MOST_MEMBERS = 256


@dataclass(frozen=True, slots=True)
class Change:
    """What changes in one file. `text` is a difference in YAML; `data` the whole manifest afterwards, or `line` the
    line of a declaration and `command` its command line."""

    title: str
    text: str
    place: Place = NOWHERE
    data: Any = field(default=None, compare=False, repr=False)
    command: str = ""
    line: Line | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Edit:
    """`others` is what changes besides the connection asked for, `size` how much that is: pods times ports. `more` says
    that not all of it was counted."""

    changes: tuple[Change, ...]
    others: tuple[Besides, ...] = ()
    size: int = 0
    more: bool = False
    remarks: tuple[str, ...] = ()
    policies: PolicySet = field(default_factory=PolicySet, compare=False, repr=False)

    @property
    def rank(self) -> tuple[bool, int, int, int]:
        texts = [line for change in self.changes for line in change.text.splitlines() if line[:1] in "+-"]
        return (self.more, self.size, len(texts), sum(map(len, texts)))


@dataclass(frozen=True)
class _State:
    """Policies along the way, and the changes that led there."""

    policies: PolicySet
    changes: tuple[Change, ...] = ()
    remarks: tuple[str, ...] = ()
    manifests: Mapping[int, Manifest] = field(default_factory=dict)
    """Those of policies that an edit made, by their identity."""


_Pending = tuple[Member, Packet, tuple[Decision, Decision]]
"""A pair that is not as wished, and what its two sides say."""


class Flipping:
    """Edits after which every pair that was asked about is allowed (or, with `allow` false, denied)."""

    def __init__(self, site: Site, answer: Answer, pairs: Sequence[tuple[Member, Packet]], *, allow: bool) -> None:
        assert answer.engine is not None
        self.site = site
        self.pairs = pairs[:_MOST_MEMBERS]
        self.allow = allow
        self.base = answer.engine
        self.original = answer.engine.policies
        self.future: tuple[Pod, ...] = (*answer.source.future, *answer.destination.future)
        self.whom = whom.both(site, answer, self.pairs)
        self.places = Places(site.snapshot)

    def edits(self) -> tuple[Edit, ...]:
        start = _State(self.original)
        found: list[Edit] = []
        for state in self._declared(start):
            # A line that alone denies nothing is no part of an edit that does; one that is not enough to allow is.
            if self.allow or self._open(state.policies) is None:
                found += self._completed(state)
        if not found:
            found += self._completed(start)
        unique: dict[tuple[str, ...], Edit] = {}
        for edit in sorted(found, key=lambda item: item.rank):
            unique.setdefault(tuple(change.text for change in edit.changes), edit)
        return tuple(unique.values())[:MOST]

    # -------------------------------------------------------- evaluation

    def engine(self, policies: PolicySet) -> Engine:
        """The evaluator of other policies, on the universe of `base`; that one is cut finer where it has to be."""
        found = self.base.on(policies)
        if found is None:
            words = vocabulary.of_set(policies, self.site.snapshot) | self.base.universe.vocabulary
            self.base = Engine.of(self.site.snapshot, self.original, known=words, future=self.future)
            found = self.base.on(policies)
        if found is not None:
            return found
        known = self.base.universe.vocabulary
        self.base, found = Engine.together(
            self.site.snapshot, [self.original, policies], known=known, future=self.future
        )
        return found

    def _decided(self, engine: Engine) -> Iterator[_Pending]:
        for member, packet in self.pairs:
            one, other = self._located(engine.universe, member)
            egress, ingress = decide(engine, one, other, packet)
            if member.relation is Relation.TO_OWN_NODE:  # of which the pod's own policies decide alone
                ingress = Decision(Outcome.ALLOW, Direction.INGRESS)
            yield member, packet, (egress, ingress)

    @staticmethod
    def _located(universe: Universe, member: Member) -> tuple[int, int]:
        one, other = (locate(universe, point, member.version) for point in member.points)
        return one, other

    def _open(self, policies: PolicySet) -> _Pending | None:
        """The first pair that is not yet as wished; None where all are."""
        wanted = Outcome.ALLOW if self.allow else Outcome.DENY
        engine = self.engine(policies)
        return next((item for item in self._decided(engine) if both(*item[2]) is not wanted), None)

    def _edit(self, state: _State) -> Edit:
        """With what it changes besides."""
        engine = self.engine(state.policies)
        universe = engine.universe
        wished: dict[tuple[int, int], Connections] = {}
        for member, packet in self.pairs:
            pieces = self._located(universe, member)
            known = wished.get(pieces)
            wished[pieces] = _wide(packet) if known is None else known | _wide(packet)
        others, size, more = collateral.of(self.site, self.base, engine, wished)
        return Edit(state.changes, others, size, more, state.remarks, state.policies)

    # -------------------------------------------------------- search

    def _completed(self, state: _State) -> list[Edit]:
        """The state itself where it flips; else with edits of manifests until it does."""
        first = self._open(state.policies)
        if first is None:
            return [self._edit(state)]
        return self._allowed(state, 0) if self.allow else self._denied(state)

    def _allowed(self, state: _State, depth: int) -> list[Edit]:
        """Side after side, the better edits of each: both must allow."""
        pending = self._open(state.policies)
        if pending is None:
            return [self._edit(state)]
        if depth > 2:
            return []
        better: list[tuple[Edit, _State]] = []
        side, candidates = next(
            plan for plan in self._plans(state, pending) if plan[0].decision.outcome is not Outcome.ALLOW
        )
        for candidate in candidates:
            after = self._applied(state, candidate)
            if after is not None and self._allows(after.policies, side.direction):
                better.append((self._edit(after), after))
        better.sort(key=lambda item: item[0].rank)
        if better and self._open(better[0][1].policies) is None:
            return [edit for edit, after in better if self._open(after.policies) is None]
        return [edit for _, after in better[:1] for edit in self._allowed(after, depth + 1)]

    def _allows(self, policies: PolicySet, direction: Direction) -> bool:
        index = 0 if direction is Direction.EGRESS else 1
        return all(item[2][index].outcome is Outcome.ALLOW for item in self._decided(self.engine(policies)))

    def _denied(self, state: _State) -> list[Edit]:
        """One side is enough. A candidate that leaves another rule to allow it takes that away, too."""
        pending = self._open(state.policies)
        assert pending is not None
        found: list[Edit] = []
        for side, candidates in self._plans(state, pending):
            for candidate in candidates:
                after = self._followed(self._applied(state, candidate), side.direction, candidate.before is not None)
                if after is not None:
                    found.append(self._edit(after))
        return found

    def _followed(self, state: _State | None, direction: Direction, edits: bool) -> _State | None:
        """The state in which nothing allows it any longer, after at most three more edits of the same side: each time
        the better one of those that flip, else the first."""
        for _ in range(4):
            pending = self._open(state.policies) if state is not None else None
            if state is None or pending is None:
                return state
            plans = self._plans(state, pending) if edits else []
            more = [c for side, found in plans if side.direction is direction for c in found if c.before is not None]
            afters = [after for candidate in more if (after := self._applied(state, candidate)) is not None]
            flipping = [after for after in afters if self._open(after.policies) is None]
            if flipping:
                return min(flipping, key=lambda after: self._edit(after).rank)
            state = afters[0] if afters else None
        return None

    def _plans(self, state: _State, pending: _Pending) -> list[tuple[Side, tuple[Candidate, ...]]]:
        """The candidates of each side, all made before any is evaluated: that may cut the universe anew."""
        sides = list(self._sides(state.policies, pending))
        return [(side, tuple(self._candidates(state, side, pending[1]))) for side in sides]

    def _sides(self, policies: PolicySet, pending: _Pending) -> Iterator[Side]:
        engine = self.engine(policies)
        member, _, decisions = pending
        pieces = self._located(engine.universe, member)
        ends = tuple(Here(piece, point) for piece, point in zip(pieces, member.points, strict=True))
        for direction, decision in zip((Direction.EGRESS, Direction.INGRESS), decisions, strict=True):
            own, other = ends if direction is Direction.EGRESS else (ends[1], ends[0])
            if engine.universe.is_endpoint(own.piece) and (own is ends[0] or member.relation is Relation.STRANGERS):
                yield Side(direction, own, other, decision)

    def _candidates(self, state: _State, side: Side, packet: Packet) -> Iterable[Candidate]:
        def manifest(policy: Policy) -> Manifest | None:
            return state.manifests.get(id(policy)) or self.places.manifest(policy)

        own, other = self.whom if side.direction is Direction.EGRESS else (self.whom[1], self.whom[0])
        wish = Wish(side, packet, own, other, self.allow, _calico(self.site))
        return Candidates(manifest, Reasons(self.base), wish).all()

    def _applied(self, state: _State, candidate: Candidate) -> _State | None:
        """None where the edited manifest is not one that an API server would take."""
        manifest = manifest_of(candidate.data, candidate.place)
        value, problems = policy_of(manifest)
        if not isinstance(value, Policy) or any(problem.severity is Severity.ERROR for problem in problems):
            return None
        if candidate.policy is not None and not candidate.policy.staged:
            value = replace(value, staged=False)
        kept = [policy for policy in state.policies.policies if policy is not candidate.policy]
        change = Change(candidate.title, _difference(candidate), candidate.place, candidate.data)
        return replace(
            state,
            policies=state.policies.with_policies((*kept, value)),
            changes=(*state.changes, change),
            manifests={**state.manifests, id(value): manifest},
        )

    # -------------------------------------------------------- declarations

    def _declared(self, state: _State) -> Iterator[_State]:
        pending = self._open(state.policies)
        if self.site.inputs is None or pending is None:
            return
        declarations = Declarations(self.site, self.base)
        declaring = Declaring(self.site, state.policies, declarations)
        sides = list(self._sides(state.policies, pending))
        if self.allow:
            others = {Direction.EGRESS: self.whom[1], Direction.INGRESS: self.whom[0]}
            denied = [side for side in sides if side.decision.outcome is not Outcome.ALLOW]
            proposals: Iterable[Proposal] = declaring.allowing(denied, pending[1], others)
        else:
            proposals = declaring.denying(sides, pending[1])
        for proposal in proposals:
            changes = tuple(
                Change(line.title, line.text, line.place, None, line.command, line) for line in proposal.lines
            )
            yield replace(state, policies=proposal.policies, changes=changes, remarks=proposal.remarks)


def _calico(site: Site) -> str:
    """The API of Calico's policies on this cluster, "" where nothing speaks of Calico."""
    if site.inputs is not None:
        return site.inputs.cluster.calico_api
    found = (policy.api_version for policy in site.policies.policies if policy.family is Family.CALICO)
    if site.policies.hosts or site.policies.sets:
        return next(found, CALICO_API)
    return next(found, "")


def _difference(candidate: Candidate) -> str:
    before = to_yaml(candidate.before).splitlines() if candidate.before is not None else []
    after = to_yaml(candidate.data).splitlines()
    lines = list(difflib.unified_diff(before, after, lineterm="", n=2))[2:]
    # The numbers of lines in `@@` would be those of this rendering, not of anybody's file.
    return "\n".join("@@" if line.startswith("@@") else line for line in lines[candidate.before is None :])


def _wide(packet: Packet) -> Connections:
    """A packet whatever its source port: no edit is about that."""
    if packet.protocol in WITH_PORTS:
        return Connections.of(packet.protocol, packet.destination_port, packet.destination_port)
    if packet.protocol in (ICMP, ICMPV6):
        code, kind = packet.destination_port, packet.source_port
        return Connections.of(packet.protocol, code, code, kind, kind)
    return Connections.of(packet.protocol)

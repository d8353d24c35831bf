"""The proof: what the generated policies allow is what was declared, no more and no less.

Both sides stand on the same pods and addresses and are computed apart. One is the evaluator over the generated
manifests, the other the declarations expanded by themselves (`declared`). They are compared over the whole space: every
protocol, port, and address of both families, and pods that do not exist yet as well as those that do. Whatever differs
is an error with a witness: a source, a destination, a port, and the rule that decides.

Proved for enforced and staged namespaces alike, staged policies as if they were enforced.
Where a port's name means different numbers on different pods, each pod's own number counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Protocol

from pilothouse.artifacts.model import Artifacts
from pilothouse.inputs import Inputs
from pilothouse.policies import adoption, edges
from pilothouse.policies.adoption import Mode
from pilothouse.policies.compare.groups import Group, grouped
from pilothouse.policies.content import Baseline, read
from pilothouse.policies.edges import Edges
from pilothouse.policies.engine import Connections, Engine, Reach
from pilothouse.policies.engine.bitsets import bits
from pilothouse.policies.engine.decide import decide
from pilothouse.policies.engine.reach import changed
from pilothouse.policies.naming import declared as declared_words
from pilothouse.policies.parties import Parties
from pilothouse.policies.prove import future
from pilothouse.policies.prove.declared import Declared
from pilothouse.policies.prove.future import Future
from pilothouse.policies.prove.invariants import broken, unknown
from pilothouse.policies.reading import from_data
from pilothouse.policies.rules import Direction, PolicySet
from pilothouse.policies.site import foreign
from pilothouse.problems import NOWHERE, Place, Problem, Problems, error, ordered

MAX_WITNESSES = 50
"""More mismatches than this have one cause; the rest is counted."""


class Rendered(Protocol):
    """Whatever holds the rendered documents: this component's own result, or the whole bundle's."""

    @property
    def artifacts(self) -> Artifacts: ...


def prove(inputs: Inputs, derived: Rendered) -> Problems:
    """A problem `policies/unproved` for each group of connections that the policies allow and nobody declared, or
    the other way round; then `policies/invariant-broken` for each invariant of the baseline that does not hold. Empty
    means proved. Nothing is said where the baseline could not be read.

    Withheld namespaces have no policies, so that there is nothing to prove about their own pods.
    """
    content = read(inputs.content)
    if content.baseline is None:
        return ()
    found = from_data(*derived.artifacts.under("policies/").manifests())
    problems = [_unproved(inputs, f"{item.message}", "report this as a defect") for item in found.problems]
    prover = Prover(inputs, content.baseline, edges.of(inputs), found.policies)
    return ordered([*problems, *prover.check(), *broken(prover), *unknown(prover)])


Undeclared = tuple[int, int, Connections]
"""(sources, destinations, connections), all of one family."""


def _undeclared(declared: Reach, allowed: Reach) -> Iterable[Undeclared]:
    for item in changed(declared, allowed):
        more = (item.after[0] | item.after[1]) - (item.before[0] | item.before[1])
        if more:
            yield item.sources, item.destinations, more


class Prover:
    """The declarations of one cluster over one universe, to hold sets of policies against.

    `policies` are those that were derived, staged ones included. `engine` evaluates them as if all were enforced;
    `wanted` is the other side.
    """

    def __init__(self, inputs: Inputs, baseline: Baseline, declarations: Edges, policies: PolicySet) -> None:
        self.inputs = inputs
        self.baseline = baseline
        self.declarations = declarations
        modes = adoption.modes(inputs, baseline)
        governed = frozenset(name for name, item in modes.items() if item.mode in (Mode.ENFORCED, Mode.STAGED))
        ours, others = policies.preview(), foreign(inputs).policies.enforced()
        sets = [ours, others | ours] if others.policies else [ours]
        self.future = future.of(inputs, baseline, governed, sets[-1])
        words = declared_words(inputs)
        engines = Engine.together(self.future.snapshot, sets, known=words, future=self.future.pods)
        self.engine = engines[0]
        self._beside = engines[1] if others.policies else None
        self.wanted = Declared(inputs, baseline, declarations, self.engine.universe, governed)
        self.parties = Parties(inputs, self.engine.universe)
        self._undeclared: dict[int, tuple[Undeclared, ...]] = {}

    @cached_property
    def declared(self) -> Reach:
        return self.wanted.reach()

    @cached_property
    def beside(self) -> Engine | None:
        """Our policies, as if all were enforced, beside those of others that are; None where there are no others."""
        if self._beside is None:
            return None
        self.engine.reach  # noqa: B018  # what ours come to is taken over where theirs do not apply
        return self.engine.on(self._beside.policies) or self._beside

    def future_of(self, policies: PolicySet) -> Future:
        """What may exist later, as far as these policies or ours can tell it apart."""
        both = policies.with_policies((*self.engine.policies.policies, *policies.policies))
        return future.of(self.inputs, self.baseline, self.wanted.governed, both)

    def undeclared(self, engine: Engine) -> tuple[Undeclared, ...]:
        """All that policies over this universe allow, and nobody declares."""
        if engine is self.engine and not self.mismatches:
            return ()
        if id(engine) not in self._undeclared:
            self._undeclared[id(engine)] = tuple(_undeclared(self.declared, engine.reach))
        return self._undeclared[id(engine)]

    @cached_property
    def bound(self) -> int:
        """The pods that must be isolated in both directions."""
        return self.wanted.governed_pieces

    @cached_property
    def mismatches(self) -> Problems:
        """What the derived policies allow against the declarations."""
        return tuple(self._mismatches(self.engine))

    def check(self) -> Problems:
        return self.mismatches

    def check_other(self, policies: PolicySet) -> Problems:
        """The same of another set, all of whose policies count as enforced."""
        engine = self.engine.on(policies) if self.future.covers(policies) else None
        if engine is None:
            return Prover(self.inputs, self.baseline, self.declarations, policies).check()
        return tuple(self._mismatches(engine))

    def _mismatches(self, engine: Engine) -> Iterable[Problem]:
        universe, parties = engine.universe, self.parties
        flipped = {}
        for direction in Direction:
            flipped[direction] = self.bound ^ engine.isolated(direction)
            for number in bits(flipped[direction]):
                what = (
                    "is not isolated by any policy" if self.bound >> number & 1 else "is isolated, though it is exempt"
                )
                message = f"the {direction} of {universe.name(number)} {what}"
                yield _unproved(self.inputs, message, _REPORT, parties.place(number), parties.teams(number))
        sources, destinations = ~flipped[Direction.EGRESS], ~flipped[Direction.INGRESS]
        groups = grouped(self.declared, engine.reach, parties, parties, sources, destinations)
        for group in groups[:MAX_WITNESSES]:
            yield _witness(self.inputs, parties, engine, group)
        if len(groups) > MAX_WITNESSES:
            yield _unproved(self.inputs, f"{len(groups) - MAX_WITNESSES} more groups of connections differ", _REPORT)


def _witness(inputs: Inputs, parties: Parties, engine: Engine, group: Group) -> Problem:
    packet = group.connections.first()
    egress, ingress = decide(engine, *group.example, packet)
    one, other = (engine.universe.name(piece) for piece in group.example)
    wrong = "allow, and nobody declares," if group.gained else "do not allow, though it is declared,"
    message = (
        f"the policies {wrong} {group.source} to {group.destination} at {group.connections}: for example {one} to "
        f"{other} at {packet} (egress: {egress}; ingress: {ingress})"
    )
    places = [place for piece in group.example if (place := parties.place(piece)).path]
    teams = [team for piece in group.example for team in parties.teams(piece)]
    return _unproved(inputs, message, _hint(group.gained), places[0] if places else NOWHERE, teams)


_REPORT = "do not apply these policies; if the Cluster document's ranges are right, this is a defect to report"


def _hint(extra: bool) -> str:
    if extra:
        return "do not apply these policies; check the Cluster document's pod, service and node ranges first"
    return _REPORT


def _unproved(inputs: Inputs, message: str, hint: str, place: Place = NOWHERE, teams: Iterable[str] = ()) -> Problem:
    where = place if place.path else inputs.cluster.place
    name = inputs.cluster.name
    return error("policies/unproved", message, where, hint, teams=tuple(sorted(set(teams))), cluster=name)

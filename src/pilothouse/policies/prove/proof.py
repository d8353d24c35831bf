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
from typing import Protocol

from pilothouse.artifacts.model import Artifacts
from pilothouse.inputs import Inputs
from pilothouse.policies import adoption, edges
from pilothouse.policies.adoption import Mode
from pilothouse.policies.compare.groups import Group, grouped
from pilothouse.policies.content import Baseline, read
from pilothouse.policies.edges import Edges
from pilothouse.policies.engine import Engine
from pilothouse.policies.engine.bitsets import bits
from pilothouse.policies.engine.decide import decide
from pilothouse.policies.naming import declared as declared_words
from pilothouse.policies.parties import Parties
from pilothouse.policies.prove.declared import Declared, future_pods
from pilothouse.policies.reading import from_data
from pilothouse.policies.rules import Direction, PolicySet
from pilothouse.problems import NOWHERE, Place, Problem, Problems, error, ordered

MAX_WITNESSES = 50
"""More mismatches than this have one cause; the rest is counted."""


class Rendered(Protocol):
    """Whatever holds the rendered documents: this component's own result, or the whole bundle's."""

    @property
    def artifacts(self) -> Artifacts: ...


def prove(inputs: Inputs, derived: Rendered) -> Problems:
    """A problem `policies/unproved` for each group of connections that the policies allow and nobody declared, or
    the other way round. Empty means proved. Nothing is said where the baseline could not be read.

    Withheld namespaces have no policies, so that there is nothing to prove about their own pods.
    """
    content = read(inputs.content)
    if content.baseline is None:
        return ()
    found = from_data(*derived.artifacts.under("policies/").manifests())
    problems = [_unproved(inputs, f"{item.message}", "report this as a defect") for item in found.problems]
    return ordered([*problems, *compare(inputs, content.baseline, edges.of(inputs), found.policies)])


def compare(inputs: Inputs, baseline: Baseline, declarations: Edges, policies: PolicySet) -> Problems:
    """What these policies allow, staged ones included, against the declarations."""
    modes = adoption.modes(inputs, baseline)
    governed = frozenset(name for name, item in modes.items() if item.mode in (Mode.ENFORCED, Mode.STAGED))
    engine = Engine.of(
        inputs.snapshot,
        policies.preview(),
        known=declared_words(inputs),
        future=future_pods(inputs, baseline, sorted(governed)),
    )
    wanted = Declared(inputs, baseline, declarations, engine.universe, governed)
    return tuple(_mismatches(inputs, wanted, engine))


# ---------------------------------------------------------------- what differs


def _mismatches(inputs: Inputs, wanted: Declared, engine: Engine) -> Iterable[Problem]:
    universe = engine.universe
    parties = Parties(inputs, universe)
    bound = wanted.governed_pieces()
    flipped = {}
    for direction in Direction:
        isolated = engine.isolated(direction)
        flipped[direction] = bound ^ isolated
        for number in bits(bound ^ isolated):
            what = "is not isolated by any policy" if bound >> number & 1 else "is isolated, though it is exempt"
            message = f"the {direction} of {universe.name(number)} {what}"
            yield _unproved(inputs, message, _REPORT, parties.place(number), parties.teams(number))
    declared, allowed = wanted.reach(), engine.reach
    groups = grouped(declared, allowed, parties, parties, ~flipped[Direction.EGRESS], ~flipped[Direction.INGRESS])
    for group in groups[:MAX_WITNESSES]:
        yield _witness(inputs, parties, engine, group)
    if len(groups) > MAX_WITNESSES:
        yield _unproved(inputs, f"{len(groups) - MAX_WITNESSES} more groups of connections differ", _REPORT)


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

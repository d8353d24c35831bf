"""What a change of declarations does to traffic: the connections that appear and vanish, on the snapshot.

Both platforms are derived and evaluated on the same pods, as if every governed namespace were enforced,
so that the effect of a declaration shows before its namespace is. `in_force` says whether it is felt at once.
Policies that the cluster has from others count on both sides.
Pairs of pods are grouped by the service, the workload or the addresses that they stand for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pilothouse.inputs import Inputs
from pilothouse.policies import evaluate
from pilothouse.policies.adoption import Mode, NamespaceMode, shown
from pilothouse.policies.derive import PoliciesDerived, derive
from pilothouse.policies.edges import ServiceEdge
from pilothouse.policies.groups import grouped
from pilothouse.policies.parties import Kind, Parties, Party
from pilothouse.policies.reach import Reach, differences, flips
from pilothouse.policies.universe import Universe, bits
from pilothouse.problems import Problem, Problems
from pilothouse.reports import plural


class What(StrEnum):
    APPEARS = "appears"
    VANISHES = "vanishes"


@dataclass(frozen=True, slots=True)
class Change:
    """One connection between two parties that appears or vanishes, at `ports` of the destination."""

    what: What
    source: Party
    destination: Party
    ports: str
    in_force: bool
    """Whether the namespaces of both ends are enforced after the change (those that are governed at all)."""
    example: str
    """One pair of pods or addresses, `payments/api-1 → ledger/db-0`."""

    def __str__(self) -> str:
        sign = "+" if self.what is What.APPEARS else "-"
        return f"{sign} {self.source} → {self.destination} at {self.ports}"


@dataclass(frozen=True, slots=True)
class Isolation:
    """Pods of a namespace whose `direction` (ingress or egress) is governed from now on, or no longer."""

    namespace: str
    direction: str
    begins: bool
    pods: tuple[str, ...]

    def __str__(self) -> str:
        state = "comes under policy" if self.begins else "is left without any policy"
        return f"{self.direction} of {plural(len(self.pods), 'pod')} in {self.namespace} {state}: {shown(self.pods)}"


@dataclass(frozen=True, slots=True)
class Cut:
    """Running pods that nobody declares: they lose every connection but DNS where the namespace is enforced."""

    namespace: str
    mode: Mode
    pods: tuple[str, ...]
    is_new: bool
    """Whether the change itself brings this about."""


@dataclass(frozen=True, slots=True)
class Effect:
    """`changes` are sorted: what appears first, then by source and destination."""

    changes: tuple[Change, ...] = ()
    isolation: tuple[Isolation, ...] = ()
    cut: tuple[Cut, ...] = ()
    unsupported: tuple[str, ...] = ()
    """Policies that the evaluator does not understand and left out, `namespace/name: why`."""
    problems: Problems = ()
    """What the derivation finds after the change and did not find before: why an edge opens nothing, for example."""
    edges_before: tuple[ServiceEdge, ...] = field(default=(), repr=False)
    """Every edge of the one service that `compare` was asked about, as it was."""
    edges_after: tuple[ServiceEdge, ...] = field(default=(), repr=False)

    @property
    def appears(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.what is What.APPEARS)

    @property
    def vanishes(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.what is What.VANISHES)

    @property
    def summary(self) -> str:
        """ "adds 2, removes 1 connection", for a headline."""
        adds, removes = len(self.appears), len(self.vanishes)
        if not adds and not removes:
            return "changes isolation only" if self.isolation else "changes no connection"
        plural = "" if (removes or adds) == 1 else "s"
        parts = [f"adds {adds}"] * bool(adds) + [f"removes {removes}"] * bool(removes)
        return ", ".join(parts) + f" connection{plural}"


def compare(before: Inputs, after: Inputs, service: str = "") -> Effect:
    """The effect of going from one platform to another; the pods are those of `after`'s snapshot.

    With `service` (`namespace/name`) the effect carries that service's edges as well, before and after.
    """
    before = replace(before, snapshot=after.snapshot)
    one, two = derive(before), derive(after)
    others = evaluate.foreign(after.snapshot)
    old, new = (*one.as_if_enforced(), *others), (*two.as_if_enforced(), *others)
    universe = Universe(after.snapshot, (*evaluate.ranges(old), *evaluate.ranges(new)))
    was, now = evaluate.evaluate(old, universe), evaluate.evaluate(new, universe)
    return Effect(
        tuple(_changes(before, after, was.reach, now.reach, two.modes)),
        tuple(_isolation(universe, was.reach, now.reach)),
        tuple(_cut(one, two)),
        tuple(sorted({f"{item.policy}: {item.reason}" for item in (*was.unsupported, *now.unsupported)})),
        new_problems(one.problems, two.problems),
        one.edges.of(service),
        two.edges.of(service),
    )


def new_problems(before: Problems, after: Problems) -> Problems:
    """The problems that were not there before, wherever their line has moved to."""

    def key(problem: Problem) -> tuple[str, str, str, str]:
        return (problem.code, problem.message, problem.place.path, problem.cluster)

    known = {key(problem) for problem in before}
    return tuple(problem for problem in after if key(problem) not in known)


def _changes(
    before: Inputs, after: Inputs, was: Reach, now: Reach, modes: Mapping[str, NamespaceMode]
) -> Iterable[Change]:
    universe = now.universe
    for group in grouped(universe, differences(was, now), Parties(before, universe), Parties(after, universe)):
        yield Change(
            What.APPEARS if group.gained else What.VANISHES,
            group.source,
            group.destination,
            str(group.ports),
            _in_force(universe, group.example, modes),
            " → ".join(universe.name(piece) for piece in group.example),
        )


def _in_force(universe: Universe, pair: tuple[int, int], modes: Mapping[str, NamespaceMode]) -> bool:
    governed = [
        modes[universe.classes[piece].namespace].mode
        for piece in pair
        if universe.is_pod(piece) and modes[universe.classes[piece].namespace].mode.governs
    ]
    return all(mode is Mode.ENFORCED for mode in governed)


def _isolation(universe: Universe, was: Reach, now: Reach) -> Iterable[Isolation]:
    for direction, flipped in zip(("egress", "ingress"), flips(was, now), strict=True):
        sides = now.egress if direction == "egress" else now.ingress
        groups: dict[tuple[str, bool], list[str]] = {}
        for number in bits(flipped):
            item = universe.classes[number]
            groups.setdefault((item.namespace, sides[number] is not None), []).extend(pod.name for pod in item.pods)
        for (namespace, begins), pods in sorted(groups.items()):
            yield Isolation(namespace, direction, begins, tuple(sorted(pods)))


def _cut(before: PoliciesDerived, after: PoliciesDerived) -> Iterable[Cut]:
    for name, item in after.modes.items():
        if item.mode.governs and item.undeclared:
            earlier = before.modes.get(name)
            known = set(earlier.undeclared) if earlier and earlier.mode.governs else set()
            old = tuple(pod for pod in item.undeclared if pod in known)
            new = tuple(pod for pod in item.undeclared if pod not in known)
            yield from (Cut(name, item.mode, pods, is_new) for pods, is_new in ((new, True), (old, False)) if pods)


def as_data(effect: Effect) -> dict[str, Any]:
    """The effect as JSON can hold it, for `--output json` and the API."""

    def party(item: Party) -> dict[str, str]:
        return {"kind": item.kind, "name": item.name} | ({"team": item.team} if item.kind is Kind.SERVICE else {})

    return {
        "summary": effect.summary,
        "changes": [
            {
                "what": change.what,
                "source": party(change.source),
                "destination": party(change.destination),
                "ports": change.ports,
                "inForce": change.in_force,
                "example": change.example,
            }
            for change in effect.changes
        ],
        "isolation": [
            {
                "namespace": item.namespace,
                "direction": item.direction,
                "begins": item.begins,
                "pods": list(item.pods),
            }
            for item in effect.isolation
        ],
        "cut": [
            {"namespace": item.namespace, "mode": item.mode, "pods": list(item.pods), "new": item.is_new}
            for item in effect.cut
        ],
        "unsupported": list(effect.unsupported),
    }

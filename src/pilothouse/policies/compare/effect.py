"""What a change of declarations does to traffic: the connections that appear and vanish, on the snapshot.

Both platforms are derived and evaluated on the same pods, as if every governed namespace were enforced,
so that the effect of a declaration shows before its namespace is. `in_force` says whether it is felt at once.
Policies that the cluster has from others count on both sides.
Pairs of pods are grouped by the service, the workload or the addresses that they stand for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pilothouse.inputs import Inputs
from pilothouse.policies.adoption import Mode, NamespaceMode
from pilothouse.policies.compare.groups import (
    Change,
    Isolation,
    What,
    change_data,
    changes,
    isolation,
    isolation_data,
    summary,
)
from pilothouse.policies.derive import PoliciesDerived, derive
from pilothouse.policies.edges import ServiceEdge
from pilothouse.policies.engine import Engine, Vocabulary
from pilothouse.policies.naming import declared
from pilothouse.policies.parties import Parties
from pilothouse.policies.reading import from_data
from pilothouse.policies.site import foreign
from pilothouse.problems import Problem, Problems, Severity


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
    """Policies in the cluster that are not valid and were left out, with the reason."""
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
        return summary(self.changes, self.isolation)


def compare(before: Inputs, after: Inputs, service: str = "") -> Effect:
    """The effect of going from one platform to another; the pods are those of `after`'s snapshot.

    With `service` (`namespace/name`) the effect carries that service's edges as well, before and after.
    """
    before = replace(before, snapshot=after.snapshot)
    one, two = derive(before), derive(after)
    others = foreign(after)
    words = declared(before) | declared(after) | Vocabulary(workloads=True)
    was, now = Engine.together(
        after.snapshot,
        [(others.policies | from_data(*item.as_if_enforced()).policies).enforced() for item in (one, two)],
        known=words,
    )
    return Effect(
        tuple(_judged(before, after, was, now, two.modes)),
        tuple(isolation(was, now)),
        tuple(_cut(one, two)),
        tuple(sorted({problem.message for problem in others.problems if problem.severity is Severity.ERROR})),
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


def _judged(
    before: Inputs, after: Inputs, was: Engine, now: Engine, modes: Mapping[str, NamespaceMode]
) -> Iterable[Change]:
    universe = now.universe
    for change in changes(was, now, Parties(before, universe), Parties(after, universe)):
        yield replace(change, in_force=_in_force(change.spaces, modes))


def _in_force(spaces: Iterable[str], modes: Mapping[str, NamespaceMode]) -> bool:
    governed = [modes[name].mode for name in spaces if name in modes]
    return all(mode is Mode.ENFORCED for mode in governed if mode.governs)


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

    return {
        "summary": effect.summary,
        "changes": [change_data(change) for change in effect.changes],
        "isolation": [isolation_data(item) for item in effect.isolation],
        "cut": [
            {"namespace": item.namespace, "mode": item.mode, "pods": list(item.pods), "new": item.is_new}
            for item in effect.cut
        ],
        "unsupported": list(effect.unsupported),
    }

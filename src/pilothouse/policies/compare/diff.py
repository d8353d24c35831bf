"""Two sites held against each other by what they allow: connections that appear, vanish or change their verdict.

Never by text: a policy that is renamed, reordered, split in two or that changes nothing makes no difference. Both sets
of policies are evaluated on the same pods, those of the second site where it has any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pilothouse.inventory.model import Snapshot
from pilothouse.policies.adoption import shown
from pilothouse.policies.compare.groups import (
    Change,
    Isolation,
    What,
    by_team,
    change_data,
    changes,
    isolation,
    isolation_data,
    summary,
)
from pilothouse.policies.engine import Engine
from pilothouse.policies.parties import Parties, pod_workload
from pilothouse.policies.site import Site
from pilothouse.problems import Problems, ordered
from pilothouse.reports import plural


@dataclass(frozen=True, slots=True)
class Diff:
    """`changes` are sorted: what appears first, then by source and destination. `only_before` and `only_after` are
    workloads (`namespace/name`) that one of the two sites has alone; only the second one's pods were asked about.
    `problems` name what of either was left out."""

    changes: tuple[Change, ...] = ()
    isolation: tuple[Isolation, ...] = ()
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()
    problems: Problems = ()

    @property
    def is_empty(self) -> bool:
        """Whether both allow the same."""
        return not self.changes and not self.isolation

    @property
    def summary(self) -> str:
        """ "adds 2, removes 1 connection", for a headline."""
        return summary(self.changes, self.isolation)

    def of(self, what: What) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.what is what)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know about the workloads of the two, in sentences."""
        found = []
        for names, which, how in (
            (self.only_before, "first", "not compared"),
            (self.only_after, "second", "both sets of policies were tried on it"),
        ):
            if names:
                said = how if len(names) == 1 else how.replace(" it", " them")
                found.append(f"{plural(len(names), 'workload')} only in the {which}, {said}: {shown(names)}")
        return tuple(found)


def diff(before: Site, after: Site) -> Diff:
    """From the first site to the second."""
    snapshot = after.snapshot if after.snapshot.pods else before.snapshot
    one, two = (replace(site, snapshot=snapshot) for site in (before, after))
    was, now = Engine.together(snapshot, (one.effective, two.effective), known=one.vocabulary | two.vocabulary)
    names = [Parties(site.inputs or other.inputs, now.universe) for site, other in ((one, two), (two, one))]
    return Diff(
        changes(was, now, *names, together=True),
        tuple(isolation(was, now)),
        *workloads(before.snapshot, after.snapshot),
        ordered([*before.problems, *after.problems]),
    )


def workloads(before: Snapshot, after: Snapshot) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What runs only before, and only after, as `namespace/workload`; nothing where one of them shows no pods."""
    gone, come = ({f"{p.namespace}/{pod_workload(p)}" for p in s.pods if p.is_endpoint} for s in (before, after))
    if not gone or not come:
        return (), ()
    return tuple(sorted(gone - come)), tuple(sorted(come - gone))


def as_data(found: Diff) -> dict[str, Any]:
    """The difference as JSON can hold it."""
    return {
        "same": found.is_empty,
        "summary": found.summary,
        "changes": [change_data(change) for change in found.changes],
        "isolation": [isolation_data(item) for item in found.isolation],
        "teams": {team: len(items) for team, items in by_team(found.changes).items() if team},
        "onlyBefore": list(found.only_before),
        "onlyAfter": list(found.only_after),
        "problems": [problem.message for problem in found.problems],
    }

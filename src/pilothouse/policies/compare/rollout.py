"""What a plan does to traffic, phase by phase: the values, and how they are shown. `judge` finds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pilothouse.artifacts.objects import Object, ObjectKey
from pilothouse.artifacts.ordering import Phase, Step
from pilothouse.policies.adoption import shown
from pilothouse.policies.compare.groups import Change, Isolation, What, change_data, isolation_data
from pilothouse.policies.rules import Direction
from pilothouse.problems import Problems
from pilothouse.reports import plural

CALICO = ("projectcalico.org", "crd.projectcalico.org")
_GROUPS = ("networking.k8s.io", "policy.networking.k8s.io", *CALICO)
_KINDS = ("Tier", "NetworkSet", "GlobalNetworkSet")

WORDS: Mapping[Phase, str] = {
    Phase.ROLES: "tiers",
    Phase.STAGE: "stage",
    Phase.REFUSE: "refuse",
    Phase.SETS: "sets that gain",
    Phase.SHELTER: "shelter",
    Phase.COPY: "copies",
    Phase.ALLOW: "allow",
    Phase.RESET: "sets that lose",
    Phase.DENY: "deny",
    Phase.PRUNE_POLICIES: "remove",
    Phase.UNSHELTER: "end of shelter",
    Phase.RELEASE: "refuse less",
    Phase.UNSTAGE: "unstage",
    Phase.PRUNE: "remove sets and tiers",
}
"""What a phase is called, of those in which network policies change."""


_HAPPENS = (
    (What.APPEARS, "appears", "appear"),
    (What.VANISHES, "vanishes", "vanish"),
    (What.CHANGES, "changes", "change"),
)
_GOVERNED = (
    (True, "comes under policy", "come under policy"),
    (False, "is opened as a whole", "are opened as a whole"),
)


def decides(key: ObjectKey) -> bool:
    """Whether an object of that kind says anything about packets."""
    return key.group in _GROUPS and (key.kind.endswith("NetworkPolicy") or key.kind in _KINDS)


@dataclass(frozen=True)
class Standing:
    """The policies, tiers and sets that an API server has. `whole` are the kinds, as (group, kind), of which it holds
    every object, whoever wrote it; of the others it holds ours."""

    objects: Mapping[ObjectKey, Object] = field(default_factory=dict)
    whole: frozenset[tuple[str, str]] = frozenset()

    def after(self, steps: Iterable[Step]) -> Standing:
        """The same once these steps are done."""
        found = dict(self.objects)
        for step in steps:
            if decides(step.key):
                if step.action == "delete":
                    found.pop(step.key, None)
                else:
                    found[step.key] = step.manifest
        return replace(self, objects=found)


@dataclass(frozen=True, slots=True)
class Difference:
    """What is otherwise in one set of policies than in another."""

    changes: tuple[Change, ...] = ()
    isolation: tuple[Isolation, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.changes and not self.isolation

    @property
    def summary(self) -> str:
        """`2 connections appear, 1 vanishes`, counted as the groups that are listed; "" where there is nothing."""
        parts: list[str] = []
        for what, one, many in _HAPPENS:
            count = sum(change.what is what for change in self.changes)
            if count:
                noun = "" if parts else " connection" if count == 1 else " connections"
                parts.append(f"{count}{noun} {one if count == 1 else many}")
        for begins, one, many in _GOVERNED:
            pods = {(item.namespace, pod) for item in self.isolation if item.begins is begins for pod in item.pods}
            if pods:
                parts.append(f"{plural(len(pods), 'pod')} {one if len(pods) == 1 else many}")
        return ", ".join(parts)

    def named(self, limit: int = 5) -> str:
        """The first few on one line."""
        found = [*map(str, self.isolation), *map(str, self.changes)]
        more = f" and {len(found) - limit} more" if len(found) > limit else ""
        return "; ".join(found[:limit]) + more


@dataclass(frozen=True, slots=True)
class Stage:
    """One phase: its steps (those about network policies), and what is otherwise after it than before it."""

    phase: Phase
    steps: tuple[Step, ...]
    difference: Difference = Difference()

    @property
    def name(self) -> str:
        return WORDS.get(self.phase, self.phase.name.lower())


@dataclass(frozen=True, slots=True)
class Breach:
    """A step after which the pods of a namespace may do more than before and after the apply (`opened`), or less than
    both. `excuse` says why that cannot be helped; "" where the plan must not be carried out."""

    step: Step
    namespace: str
    direction: Direction
    opened: bool
    pods: tuple[str, ...]
    witness: str
    """One connection: `a/b to c/d at TCP 80`."""
    excuse: str = ""

    def __str__(self) -> str:
        if self.excuse:
            who = f"{self.direction} of {shown(self.pods)} may pause"
            return f"{who} ({self.witness}): {self.excuse}"
        does = "opens" if self.opened else "cuts"
        neither = "neither the old nor the new policies allow" if self.opened else "both the old and the new ones allow"
        return f"{self.step.action} {self.step.key} {does} for a moment what {neither}: {self.witness}"


@dataclass(frozen=True)
class Rollout:
    """`pods` counts those that were looked at, `states` what was passed through. `promised` is what the staged policies
    would change once they are enforced. `unread` are policies of others that are not valid and were left out."""

    stages: tuple[Stage, ...] = ()
    breaches: tuple[Breach, ...] = ()
    pauses: tuple[Breach, ...] = ()
    promised: Difference | None = None
    pods: int = 0
    states: int = 0
    unread: Problems = ()


# ---------------------------------------------------------------- as data


def as_data(found: Rollout) -> dict[str, Any]:
    """As JSON can hold it."""
    return {
        "pods": found.pods,
        "states": found.states,
        "phases": [
            {
                "phase": stage.name,
                "objects": [f"{step.action} {step.key}" for step in stage.steps],
                **difference_data(stage.difference),
            }
            for stage in found.stages
        ],
        "pauses": [breach_data(item) for item in found.pauses],
        "breaches": [breach_data(item) for item in found.breaches],
        "onceEnforced": difference_data(found.promised) if found.promised else None,
        "unread": [problem.message for problem in found.unread],
    }


def difference_data(found: Difference) -> dict[str, Any]:
    return {
        "summary": found.summary,
        "changes": [change_data(change) for change in found.changes],
        "isolation": [isolation_data(item) for item in found.isolation],
    }


def breach_data(item: Breach) -> dict[str, Any]:
    return {
        "step": f"{item.step.action} {item.step.key}",
        "phase": WORDS.get(item.step.phase, item.step.phase.name.lower()),
        "namespace": item.namespace,
        "direction": str(item.direction),
        "opened": item.opened,
        "pods": list(item.pods),
        "witness": item.witness,
        "excuse": item.excuse,
    }

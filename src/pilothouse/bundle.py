"""The composition: which component derives what from what.

Components do not know each other. What one hands on to another (rules and queries,
from which the federation's `match[]` follows) passes through here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pilothouse import access, alerts, collectors, dashboards, delivery, policies
from pilothouse.artifacts.model import Artifacts, Derived
from pilothouse.inputs import Inputs
from pilothouse.problems import Problem, ordered


def derive(inputs: Inputs) -> Derived:
    """Every artifact of one cluster, and every problem found on the way, each marked with the cluster."""
    alerting = alerts.derive(inputs)
    boards = dashboards.derive(inputs)
    parts = (
        collectors.derive(inputs, alerting.rules, boards.queries),
        policies.derive(inputs),
        access.derive(inputs),
        delivery.derive(inputs),
    )
    artifacts = Artifacts.of(document for part in (alerting, boards, *parts) for document in part.artifacts)
    problems = (problem for part in (alerting, boards, *parts) for problem in part.problems)
    return Derived(artifacts, _of_cluster(problems, inputs.cluster.name))


def prove(inputs: Inputs, derived: Derived) -> tuple[Problem, ...]:
    """What an independent look at the derived artifacts finds; empty when they say what was declared."""
    return _of_cluster(policies.prove(inputs, derived), inputs.cluster.name)


def _of_cluster(problems: Iterable[Problem], cluster: str) -> tuple[Problem, ...]:
    return ordered(replace(problem, cluster=cluster) for problem in problems)

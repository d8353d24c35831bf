"""Rules that the shards themselves call for: are all leaves there, and how near is a service to its limit?

A dead leaf's last sums stay in the totals of the global for up to five minutes, and then the totals drop. So the global
always knows how many leaves there should be and how many answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pilothouse.collectors.metrics.model import FEDERATE
from pilothouse.collectors.metrics.scrape import literal
from pilothouse.promql.model import Rule
from pilothouse.promql.parse import check
from pilothouse.promql.tree import quote, selectors

GROUP = "shards"
EXPECTED = "cluster:prometheus_leaves_expected:count"
UP = "cluster:prometheus_leaves_up:count"
NEAR_LIMIT = "pod:scrape_samples:ratio_of_limit"


def completeness(shards: int) -> tuple[Rule, ...]:
    """How many leaves there should be, and how many answered the last federation (0 where none did)."""
    jobs = f"{FEDERATE}|{FEDERATE}-[0-9]+"
    answered = f"min by (instance) (up{{job=~{quote(jobs)}}}) == 1"
    return (
        Rule(GROUP, f"vector({shards})", record=EXPECTED, side="global"),
        Rule(GROUP, f"count({answered}) or vector(0)", record=UP, side="global"),
    )


def watchdogs(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """For each alert that reads no series and so always fires, the same on every leaf.

    It shows that the leaf itself can reach the Alertmanagers; there it carries a label `leaf`, else one living leaf
    would speak for the dead ones.
    """
    found = []
    for rule in rules:
        tree, _ = check(rule.expr)
        if rule.alert and rule.side != "leaf" and tree is not None and not any(selectors(tree)):
            found.append(replace(rule, group=GROUP, side="leaf"))
    return tuple(found)


def near_limit(limits: Mapping[str, int]) -> tuple[Rule, ...]:
    """Per pod, the share of its job's sample limit that the last scrape used: above 1 the whole scrape fails.

    `limits` are sample limits by job. Jobs of one limit share a part of the expression.
    """
    jobs: dict[int, list[str]] = {}
    for job in sorted(limits):
        jobs.setdefault(limits[job], []).append(job)
    parts = [
        "max by (namespace, service, team, pod)"
        f' (scrape_samples_post_metric_relabeling{{job=~{quote(_any_of(jobs[limit]))}, service!=""}}) / {limit}'
        for limit in sorted(jobs)
    ]
    return (Rule(GROUP, "\n  or ".join(parts), record=NEAR_LIMIT),) if parts else ()


def _any_of(names: Iterable[str]) -> str:
    return "|".join(literal(name) for name in names)

"""The bundle's own rules, made for one cluster.

A rule about what runs in a namespace is made once per team, with the namespaces that
the team owns, and once for the platform team with all the others. A rule about declared services is made once
per team that has some with metrics. So every such alert names its owner before it leaves Prometheus, and no
namespace is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from pilothouse.alerts.content import OWNED, Defaults, StandardRule
from pilothouse.alerts.labels import identity, needs, words
from pilothouse.platform.model import Cluster, Platform
from pilothouse.promql.model import Rule
from pilothouse.promql.tree import quote


def namespace_owners(platform: Platform, cluster: str) -> Mapping[str, str]:
    """Namespace → the team that owns most of its services there (the first by name where teams are even)."""
    counts: dict[str, Counter[str]] = {}
    for service in platform.services_on(cluster):
        counts.setdefault(service.namespace, Counter())[service.team] += 1
    return {
        namespace: min(teams, key=lambda team, found=teams: (-found[team], team))  # type: ignore[misc]  # mypy cannot type a default of a lambda
        for namespace, teams in sorted(counts.items())
    }


def derive(
    rules: Iterable[StandardRule], platform: Platform, cluster: Cluster, platform_team: str, defaults: Defaults
) -> list[Rule]:
    """The rules by group; those of one group keep the order of their file."""
    owners = namespace_owners(platform, cluster.name)
    owned: dict[str, list[str]] = {}
    for namespace, team in owners.items():
        if team != platform_team:
            owned.setdefault(team, []).append(namespace)
    foreign = sorted(namespace for spaces in owned.values() for namespace in spaces)
    scraped = sorted({item.team for item in platform.services_on(cluster.name) if item.metrics is not None})
    made: list[Rule] = []
    per_team: list[StandardRule] = []
    for rule in rules:
        if rule.per_namespace:
            per_team.append(rule)
        elif rule.per_service:
            made += [_scoped(rule, f"team={quote(team)}", team, cluster, defaults) for team in scraped]
        else:
            made.append(_rule(rule, rule.group, rule.expr, platform_team, cluster, defaults))
    for team, namespaces in sorted(owned.items()):
        matcher = f"namespace=~{quote(_either(namespaces))}"
        made += [_scoped(rule, matcher, team, cluster, defaults) for rule in per_team]
    # `namespace!=""` keeps series that belong to no namespace at all out of the platform team's copy.
    rest = f'namespace!="",namespace!~{quote(_either(foreign))}' if foreign else 'namespace!=""'
    made += [_scoped(rule, rest, platform_team, cluster, defaults) for rule in per_team]
    return made


def _either(names: Iterable[str]) -> str:
    return "|".join(re.escape(name).replace("\\-", "-") for name in names)


def _scoped(rule: StandardRule, matcher: str, team: str, cluster: Cluster, defaults: Defaults) -> Rule:
    return _rule(rule, f"{rule.group}-{team}", rule.expr.replace(OWNED, matcher), team, cluster, defaults)


def _rule(rule: StandardRule, group: str, expr: str, team: str, cluster: Cluster, defaults: Defaults) -> Rule:
    labels = identity(team, rule.severity, cluster) | needs(expr)
    return Rule(
        group=group,
        expr=expr,
        alert=rule.alert,
        for_seconds=rule.for_seconds,
        keep_firing_seconds=rule.keep_firing_seconds,
        labels=labels,
        annotations=words(defaults, rule.alert, labels, rule.summary, rule.description, rule.runbook),
        side=rule.side,
        place=rule.place,
    )

"""Rule groups as Prometheus reads them, and what the declared version of it does not understand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pilothouse.artifacts.model import Document
from pilothouse.platform.model import Versions
from pilothouse.problems import Problem, Problems, error, warning
from pilothouse.promql import analyse, format_duration
from pilothouse.promql.model import Rule

OLDEST = (2, 42)
KEEP_FIRING = (2, 42)
_NAME = re.compile(r"[^a-z0-9.-]+")


def files(side: str, groups: Mapping[str, list[Rule]], interval: float) -> Iterator[Document]:
    """`prometheus/rules/<side>/<group>.yaml` for each group."""
    for name in sorted(groups):
        yield Document(
            f"prometheus/rules/{side}/{file_name(name)}.yaml",
            {
                "groups": [
                    {
                        "name": name,
                        "interval": format_duration(interval),
                        "rules": [_rule(rule) for rule in groups[name]],
                    }
                ]
            },
        )


def file_name(group: str) -> str:
    return _NAME.sub("-", group.lower()).strip("-.") or "rules"


def _rule(rule: Rule) -> dict[str, Any]:
    made: dict[str, Any] = {"alert": rule.alert} if rule.alert else {"record": rule.record}
    made["expr"] = rule.expr
    if rule.for_seconds:
        made["for"] = format_duration(rule.for_seconds)
    if rule.keep_firing_seconds:
        made["keep_firing_for"] = format_duration(rule.keep_firing_seconds)
    if rule.labels:
        made["labels"] = dict(rule.labels)
    if rule.annotations:
        made["annotations"] = dict(rule.annotations)
    return made


def unsupported(rules: Iterable[Rule], version: str) -> Problems:
    """What that version of Prometheus would refuse, each naming the first version that takes it."""
    number = Versions.number(version)
    problems: list[Problem] = []
    if number < OLDEST:
        problems.append(
            error(
                "collectors/prometheus-too-old",
                f"Prometheus {version} is older than {_text(OLDEST)}, the oldest that is rendered for",
                hint="upgrade it, and say so in `versions.prometheus` of the Cluster",
            )
        )
    for rule in rules:
        teams = (rule.owner,) if rule.owner else ()
        if rule.keep_firing_seconds and number < KEEP_FIRING:
            problems.append(_refused(rule, "keep_firing_for", KEEP_FIRING, version, teams))
        analysis = analyse(rule.expr)
        first, word = analysis.needs_version()
        if number < first:
            problems.append(_refused(rule, word, first, version, teams))
        for word in sorted(analysis.experimental):
            problems.append(
                warning(
                    "collectors/experimental-function",
                    f"`{rule.name}` uses {word}, which Prometheus refuses without a feature flag",
                    rule.place,
                    "start Prometheus with --enable-feature=promql-experimental-functions, or do without it",
                    teams=teams,
                )
            )
    return tuple(problems)


def _refused(rule: Rule, what: str, first: tuple[int, int], version: str, teams: tuple[str, ...]) -> Problem:
    return error(
        "collectors/unsupported-by-version",
        f"`{rule.name}` uses {what}, which needs Prometheus {_text(first)}; the cluster runs {version}",
        rule.place,
        "do without it, or upgrade and say so in `versions.prometheus` of the Cluster",
        teams=teams,
    )


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))

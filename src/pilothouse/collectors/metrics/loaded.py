"""The rules and jobs that a running Prometheus has loaded, held against the rendered ones by meaning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pilothouse.artifacts.subset import deviations
from pilothouse.collectors.metrics.live import LoadedGroup
from pilothouse.promql.duration import parse_duration
from pilothouse.promql.parse import SyntaxFault, parse
from pilothouse.promql.tree import Node, Selector, render, transform


@dataclass(frozen=True, slots=True)
class RuleDifference:
    """`what` is missing, extra or changed; `rule` is `group/name{labels}`; texts are "" where there is nothing."""

    what: str
    rule: str
    rendered: str
    loaded: str
    teams: tuple[str, ...] = ()

    def __str__(self) -> str:
        match self.what:
            case "missing":
                return f"{self.rule} is rendered and not loaded"
            case "extra":
                return f"{self.rule} is loaded and not rendered"
        return f"{self.rule}: loaded {self.loaded}, rendered {self.rendered}"


@dataclass(frozen=True, slots=True)
class _Rule:
    expr: str
    for_seconds: float
    keep_seconds: float
    annotations: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        waits = f" for {self.for_seconds:g}s" if self.for_seconds else ""
        return f"{self.expr}{waits}" + (f" keep {self.keep_seconds:g}s" if self.keep_seconds else "")


Key = tuple[str, str, str, tuple[tuple[str, str], ...]]


def rule_differences(
    documents: Iterable[Mapping[str, Any]], loaded: Iterable[LoadedGroup]
) -> tuple[RuleDifference, ...]:
    """`documents` are the rendered rule files of that server; nothing where it evaluates exactly these."""
    ours: dict[Key, list[_Rule]] = {}
    for document in documents:
        for group in document.get("groups") or ():
            for item in group["rules"]:
                kind = "alert" if "alert" in item else "record"
                key = (str(group["name"]), kind, str(item[kind]), _sorted(item.get("labels")))
                ours.setdefault(key, []).append(
                    _Rule(
                        normal(str(item["expr"])),
                        parse_duration(item.get("for", "0s")),
                        parse_duration(item.get("keep_firing_for", "0s")),
                        _sorted(item.get("annotations")),
                    )
                )
    theirs: dict[Key, list[_Rule]] = {}
    for found in loaded:
        for rule in found.rules:
            key = (found.name, "alert" if rule.alerting else "record", rule.name, _sorted(rule.labels))
            theirs.setdefault(key, []).append(
                _Rule(normal(rule.expr), rule.for_seconds, rule.keep_firing_seconds, _sorted(rule.annotations))
            )
    return tuple(_compare(ours, theirs))


def _compare(ours: Mapping[Key, list[_Rule]], theirs: Mapping[Key, list[_Rule]]) -> Iterator[RuleDifference]:
    for key in sorted({*ours, *theirs}):
        said, held = list(ours.get(key, ())), list(theirs.get(key, ()))
        for rule in list(said):
            if rule in held:
                held.remove(rule)
                said.remove(rule)
        team = dict(key[3]).get("team", "")
        name, teams = _name(key), (team,) if team else ()
        for index in range(max(len(said), len(held))):
            if index >= len(held):
                yield RuleDifference("missing", name, str(said[index]), "", teams)
            elif index >= len(said):
                yield RuleDifference("extra", name, "", str(held[index]), teams)
            else:
                texts = str(said[index]), str(held[index])
                if texts[0] == texts[1]:
                    texts = "these annotations", "other annotations"
                yield RuleDifference("changed", name, *texts, teams)


def _name(key: Key) -> str:
    group, _, name, labels = key
    shown = ", ".join(f'{label}="{value}"' for label, value in labels)
    return f"{group}/{name}" + (f"{{{shown}}}" if shown else "")


def _sorted(labels: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((str(name), str(value)) for name, value in (labels or {}).items()))


def normal(expr: str) -> str:
    """An expression in one form, however it was laid out; one that we cannot parse with its blanks made one."""
    try:
        return render(transform(parse(expr), _in_order))
    except SyntaxFault:
        return " ".join(expr.split())


def _in_order(node: Node) -> Node | None:
    """A selector with its matchers sorted, as Prometheus prints them in an order of its own."""
    if not isinstance(node, Selector):
        return None
    return replace(node, matchers=tuple(sorted(node.matchers)))


def config_differences(rendered: Mapping[str, Any], loaded: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a loaded configuration is not what the rendered one says, a line each: settings, then job by job."""
    found = []
    for part in ("global", "alerting"):
        found += [_line(part, item) for item in deviations(rendered.get(part) or {}, loaded.get(part) or {})]
    ours, theirs = (_jobs(data) for data in (rendered, loaded))
    for name, job in ours.items():
        if name not in theirs:
            found.append(f"the job {name} is not loaded")
        else:
            found += [_line(f"job {name}", item) for item in deviations(job, theirs[name])]
    found += [f"the job {name} is loaded and not rendered" for name in theirs if name not in ours]
    return tuple(found)


def _line(part: str, item: Any) -> str:
    return f"{part} {item.path}: loaded {item.held or 'nothing'}, rendered {item.said or 'nothing'}"


def _jobs(data: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(job["job_name"]): job for job in data.get("scrape_configs") or ()}

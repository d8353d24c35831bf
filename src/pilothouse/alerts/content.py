"""The folder `alerts/`, read: rules, routing defaults, inhibitions and texts. Its README describes the files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pilothouse import links
from pilothouse.alerts import runbooks
from pilothouse.alerts.routing import matchers as matcher_text
from pilothouse.alerts.routing.model import InhibitRule, MatchOp, TimeInterval
from pilothouse.alerts.routing.parse_intervals import BadInterval, parse_interval
from pilothouse.inputs import Content
from pilothouse.platform.model import AlertSeverity
from pilothouse.problems import NOWHERE, Place, Problem, Problems, error, nearest, one_of, warning
from pilothouse.promql.duration import parse_duration
from pilothouse.promql.parse import check
from pilothouse.source import Node, load, validate

OWNED = "$owned"
"""In an expression of a rule that is not the platform's: replaced by a matcher on what one team owns."""
_OWNED_SAMPLE = 'namespace=~"a|b"'
SERVICE_RUNBOOKS = ("replicas-below", "sql-latency-above", "declared-expression")
"""What the alerts of services lead to where the team names no runbook of its own."""


# ---------------------------------------------------------------- values


@dataclass(frozen=True, slots=True)
class StandardRule:
    """A rule of the bundle.

    `per_namespace`: alerted to the team that owns the namespace, else to the platform team. `per_service`: to
    the team of the declared service that the series are about.
    """

    group: str
    alert: str
    expr: str
    severity: AlertSeverity
    summary: str
    description: str
    runbook: str
    for_seconds: int = 0
    keep_firing_seconds: int = 0
    per_namespace: bool = False
    per_service: bool = False
    side: str = ""
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Timers:
    """Seconds; `active` names time intervals, empty means always."""

    group_wait: float
    group_interval: float
    repeat_interval: float
    active: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Watchdog:
    """The alert that always fires and the address that must keep hearing from it.

    In `webhook`, `{cluster}` stands for the cluster's name and `{leaf}` for the leaf's number, or `global`.
    """

    alert: str
    webhook: str
    group_interval: float
    repeat_interval: float


@dataclass(frozen=True, slots=True)
class Defaults:
    """`alerts/routing.yaml` and `alerts/links.yaml`. `settings` is Alertmanager's `global:` as it is written out."""

    links: links.Links
    settings: Mapping[str, Any]
    group_by: tuple[str, ...]
    timers: Mapping[AlertSeverity, Timers]
    intervals: Mapping[str, tuple[TimeInterval, ...]]
    interval_data: Mapping[str, list[dict[str, Any]]]
    watchdog: Watchdog
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class AlertsContent:
    """Everything of the folder. `defaults` is None when `routing.yaml` or `links.yaml` is missing or wrong."""

    rules: tuple[StandardRule, ...] = ()
    defaults: Defaults | None = None
    inhibitions: tuple[InhibitRule, ...] = ()
    templates: Mapping[str, str] = field(default_factory=dict)
    problems: Problems = ()


# ---------------------------------------------------------------- models of the files


def _seconds(value: object) -> float:
    try:
        return parse_duration(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is not a duration | write it as 30s, 5m or 1h30m") from None


Seconds = Annotated[float, BeforeValidator(_seconds)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True, strict=True)


class _Rule(_Strict):
    alert: str = Field(pattern=r"^[A-Z][A-Za-z0-9]{2,79}$")
    expr: str = Field(min_length=1)
    for_: Seconds = Field(0, alias="for")
    keep_firing: Seconds = Field(0, alias="keepFiring")
    severity: Literal["page", "ticket", "info"]
    summary: str = Field(min_length=1)
    description: str = Field(min_length=1)
    runbook: str = Field(pattern=r"^[a-z0-9-]+$")
    side: Literal["leaf", "global"] | None = None


class _RuleFile(_Strict):
    group: str = Field(pattern=r"^[a-z0-9-]+$")
    owner: Literal["platform", "namespace", "service"]
    rules: list[_Rule]


class _Global(_Strict):
    resolve_timeout: str = Field("5m", alias="resolveTimeout")
    smtp_smarthost: str = Field("", alias="smtpSmarthost")
    smtp_from: str = Field("", alias="smtpFrom")
    smtp_auth_username: str = Field("", alias="smtpAuthUsername")
    smtp_auth_password_file: str = Field("", alias="smtpAuthPasswordFile")
    slack_api_url_file: str = Field("", alias="slackApiUrlFile")


class _Timers(_Strict):
    group_wait: Seconds = Field(alias="groupWait", ge=0)
    group_interval: Seconds = Field(alias="groupInterval", gt=0)
    repeat_interval: Seconds = Field(alias="repeatInterval", gt=0)
    active: list[str] = []


class _Severities(_Strict):
    page: _Timers
    ticket: _Timers
    info: _Timers


class _Watchdog(_Strict):
    alert: str
    webhook: str = Field(pattern=r"^https?://")
    group_interval: Seconds = Field(60, alias="groupInterval", gt=0)
    repeat_interval: Seconds = Field(60, alias="repeatInterval", gt=0)


class _Routing(_Strict):
    global_: _Global = Field(default_factory=lambda: _Global.model_validate({}), alias="global")
    group_by: list[str] = Field(alias="groupBy", min_length=1)
    severities: _Severities
    intervals: dict[str, list[dict[str, Any]]] = {}
    watchdog: _Watchdog


class _Inhibition(_Strict):
    name: str = Field(pattern=r"^[a-z0-9-]+$")
    source: list[str] = Field(min_length=1)
    target: list[str] = Field(min_length=1)
    equal: list[str]


class _Inhibitions(_Strict):
    inhibitions: list[_Inhibition]


class _Notifications(_Strict):
    templates: dict[str, str]


# ---------------------------------------------------------------- reading

TITLE, TEXT, HTML = "pilothouse.title", "pilothouse.text", "pilothouse.html"


def read(content: Content) -> AlertsContent:
    """The folder, with every problem in it."""
    problems: list[Problem] = []
    rules: list[StandardRule] = []
    for _, source in content.under("alerts/rules"):
        nodes, found = load(source)
        problems.extend(found)
        for node in nodes:
            rules.extend(_rules(node, problems))
    _unique(rules, problems)
    found_links, faults = links.read(content)
    problems.extend(faults)
    if found_links is not None:
        named = [(rule.alert, rule.runbook, rule.place) for rule in rules]
        named += [("an alert of a service", name, Place(runbooks.PATH)) for name in SERVICE_RUNBOOKS]
        problems.extend(runbooks.check(content, found_links, named))
    defaults = _defaults(content, found_links, problems)
    return AlertsContent(
        tuple(rules),
        defaults,
        tuple(_inhibitions(content, rules, problems)),
        _templates(content, problems),
        tuple(problems),
    )


def _document(content: Content, path: str, problems: list[Problem]) -> Node | None:
    source = content.get(path)
    if source is None:
        problems.append(
            error(
                "alerts/missing-content",
                f"there is no {path}",
                Place(path),
                "restore the bundle's own file, or write one",
            )
        )
        return None
    nodes, found = load(source)
    problems.extend(found)
    if not nodes and not found:
        problems.append(error("alerts/missing-content", f"{path} is empty", source.place(), "see alerts/README.md"))
    return nodes[0] if nodes else None


def _rules(node: Node, problems: list[Problem]) -> list[StandardRule]:
    parsed, found = validate(node, _RuleFile, "alerts")
    problems.extend(found)
    if parsed is None:
        return []
    rules = []
    scoped = parsed.owner != "platform"
    for index, item in enumerate(parsed.rules):
        place = node.at("rules", index, "expr")
        if scoped != (OWNED in item.expr):
            problems.append(
                error(
                    "alerts/unscoped-rule",
                    f"{item.alert} has `owner: {parsed.owner}`,"
                    f" but its expression {'lacks' if scoped else 'uses'} `{OWNED}`",
                    place,
                    f"put `{OWNED}` among the matchers of every selector, unless it is `owner: platform`",
                )
            )
            continue
        _, faults = check(item.expr.replace(OWNED, _OWNED_SAMPLE), place)
        problems.extend(faults)
        if faults:
            continue
        rules.append(
            StandardRule(
                group=parsed.group,
                alert=item.alert,
                expr=item.expr,
                severity=AlertSeverity(item.severity),
                summary=item.summary,
                description=item.description,
                runbook=item.runbook,
                for_seconds=int(item.for_),
                keep_firing_seconds=int(item.keep_firing),
                per_namespace=parsed.owner == "namespace",
                per_service=parsed.owner == "service",
                side=item.side or "",
                place=node.at("rules", index),
            )
        )
    return rules


def _unique(rules: list[StandardRule], problems: list[Problem]) -> None:
    first: dict[str, StandardRule] = {}
    for rule in rules:
        if rule.alert in first:
            problems.append(
                error(
                    "alerts/duplicate-name",
                    f"two standard rules are called {rule.alert}",
                    rule.place,
                    "give each alert a name of its own: routing, silences and runbooks go by it",
                    related=(first[rule.alert].place,),
                )
            )
        first.setdefault(rule.alert, rule)


def _defaults(content: Content, found_links: links.Links | None, problems: list[Problem]) -> Defaults | None:
    node = _document(content, "alerts/routing.yaml", problems)
    if node is None:
        return None
    parsed, found = validate(node, _Routing, "alerts")
    problems.extend(found)
    if parsed is None:
        return None
    intervals: dict[str, tuple[TimeInterval, ...]] = {}
    for name, items in parsed.intervals.items():
        spans = []
        for index, item in enumerate(items):
            try:
                spans.append(parse_interval(item))
            except BadInterval as failure:
                message, _, hint = str(failure).partition(" | ")
                place = node.at("intervals", name, index, *failure.path)
                problems.append(error("alerts/bad-interval", f"the interval {name}: {message}", place, hint))
        intervals[name] = tuple(spans)
    timers = {}
    for severity in AlertSeverity:
        item_timers: _Timers = getattr(parsed.severities, severity.value)
        for index, name in enumerate(item_timers.active):
            if name not in intervals:
                problems.append(
                    error(
                        "alerts/unknown-interval",
                        f"the time interval `{name}` is not defined",
                        node.at("severities", severity.value, "active", index),
                        nearest(name, intervals) or one_of(intervals),
                    )
                )
        active = tuple(name for name in item_timers.active if name in intervals)
        timers[severity] = Timers(
            item_timers.group_wait, item_timers.group_interval, item_timers.repeat_interval, active
        )
    if found_links is None:
        return None
    dog = parsed.watchdog
    return Defaults(
        links=found_links,
        settings={name: value for name, value in parsed.global_.model_dump().items() if value},
        group_by=tuple(parsed.group_by),
        timers=timers,
        intervals=intervals,
        interval_data=parsed.intervals,
        watchdog=Watchdog(dog.alert, dog.webhook, dog.group_interval, dog.repeat_interval),
        place=node.at(),
    )


def _inhibitions(content: Content, rules: list[StandardRule], problems: list[Problem]) -> list[InhibitRule]:
    node = _document(content, "alerts/inhibitions.yaml", problems)
    parsed = None
    if node is not None:
        parsed, found = validate(node, _Inhibitions, "alerts")
        problems.extend(found)
    if node is None or parsed is None:
        return []
    names = {rule.alert for rule in rules}
    made = []
    for index, item in enumerate(parsed.inhibitions):
        sides: dict[str, list[Any]] = {"source": [], "target": []}
        for side, matchers in sides.items():
            for number, text in enumerate(getattr(item, side)):
                try:
                    matchers.extend(matcher_text.parse(text))
                except matcher_text.BadMatcher as failure:
                    place = node.at("inhibitions", index, side, number)
                    problems.append(error("alerts/bad-matcher", str(failure), place, "write it as 'name=\"value\"'"))
        rule = InhibitRule(
            tuple(sides["source"]), tuple(sides["target"]), tuple(item.equal), item.name, node.at("inhibitions", index)
        )
        by_name = [m for m in rule.source if m.name == "alertname" and m.op in (MatchOp.EQUAL, MatchOp.REGEX)]
        if not by_name and "team" not in item.equal:
            problems.append(
                warning(
                    "alerts/inhibition-across-teams",
                    f"the inhibition {item.name} lets an alert of one team hold back those of another",
                    rule.place,
                    "add `team` to `equal`, or name standard alerts in `source`: teams cannot use those names",
                )
            )
        for matcher in by_name:
            if not any(matcher.accepts(name) for name in names):
                problems.append(
                    warning(
                        "alerts/inhibition-without-source",
                        f"no standard rule is called {matcher.value}, so the inhibition {item.name} never acts",
                        rule.place,
                        nearest(matcher.value, names),
                    )
                )
        made.append(rule)
    return made


def _templates(content: Content, problems: list[Problem]) -> Mapping[str, str]:
    path = "alerts/notifications.yaml"
    node = _document(content, path, problems)
    parsed = None
    if node is not None:
        parsed, found = validate(node, _Notifications, "alerts")
        problems.extend(found)
    if node is None or parsed is None:
        return {}
    for name in (TITLE, TEXT, HTML):
        if name not in parsed.templates:
            problems.append(
                error("alerts/bad-template", f"{path} has no template {name}", node.key_at("templates"), "add it")
            )
    for name, text in parsed.templates.items():
        fault = template_fault(text)
        if fault:
            place = node.at("templates", name)
            problems.append(
                error("alerts/bad-template", f"the template {name}: {fault}", place, "see alerts/README.md")
            )
    return parsed.templates


_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_OPENS = frozenset(("if", "range", "with", "block", "define"))


def template_fault(text: str) -> str:
    """What is plainly wrong with a Go template: braces and blocks that do not pair. "" when nothing is."""
    rest = _ACTION.sub("", text)
    if "{{" in rest or "}}" in rest:
        return "`{{` and `}}` do not pair"
    depth = 0
    for action in _ACTION.findall(text):
        word = action.split()[0] if action else ""
        if word in _OPENS:
            depth += 1
        elif word == "end":
            depth -= 1
            if depth < 0:
                return "an `end` too many"
        elif word == "":
            return "an empty action"
    return "an `end` is missing" if depth else ""

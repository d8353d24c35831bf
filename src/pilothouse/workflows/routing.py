"""Who gets an alert, when and why: the one answer that `pilothouse alerts route` prints and the portal draws."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pilothouse import alerts
from pilothouse.alerts.rotation import OnCall, who
from pilothouse.alerts.routing import matchers as matcher_text
from pilothouse.alerts.routing.inhibition import inhibits
from pilothouse.alerts.routing.model import InhibitRule, MatchOp, Routing, matchers_text
from pilothouse.alerts.routing.ownership import Endings, known_labels, unreachable
from pilothouse.alerts.routing.parse import parse
from pilothouse.alerts.routing.walk import Delivery, Explanation, explain
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Platform, Versions
from pilothouse.problems import Invalid, Problems, has_errors, nearest, one_of, ordered
from pilothouse.promql.duration import format_duration
from pilothouse.promql.model import Rule
from pilothouse.source import Source

EXAMPLE = "team=payments severity=page alertname=ReplicasBelow"
MAX_LABELS = 100
_FILLED_IN = re.compile(r"\{\{\s*\$(?:labels\.)?(\w+)[^}]*\}\}")


@dataclass(frozen=True)
class Tree:
    """A routing tree to ask. `owners` is the team of each receiver, empty for a configuration of somebody else's.

    `routing` is None where there is no usable tree; `problems` say why.
    """

    routing: Routing | None
    owners: Mapping[str, str] = field(default_factory=dict)
    problems: Problems = ()
    name: str = ""


@dataclass(frozen=True)
class Recipient:
    """One receiver that the alert ends at: its team ("" where it is not known) and who of it is on call then."""

    delivery: Delivery
    team: str
    oncall: OnCall | None


@dataclass(frozen=True)
class Answer:
    """The explanation, down to the person. `amtool` asks Alertmanager's own tool the same question."""

    explanation: Explanation
    recipients: tuple[Recipient, ...]
    inhibitors: Mapping[str, tuple[str, ...]]
    """Text of an inhibition that could apply → the declared alerts that could be its source."""
    amtool: str
    problems: Problems = ()


@dataclass(frozen=True)
class DeclaredAlert:
    """An alert that somebody declared, with the receivers it can end at."""

    rule: Rule
    team: str
    severity: str
    receivers: tuple[str, ...]

    @property
    def labels(self) -> Mapping[str, str]:
        return known_labels(self.rule)

    @property
    def summary(self) -> str:
        """The summary with `‹pod›` where Prometheus will fill in a label or the value."""
        return _FILLED_IN.sub(r"‹\1›", self.rule.annotations.get("summary", ""))


def parse_labels(text: str) -> dict[str, str]:
    """`team=payments severity=page`, or `{team="payments", severity="page"}` as Prometheus prints it.

    Raises `Invalid`.
    """
    stripped = text.strip()
    hint = f"write labels as {EXAMPLE}"
    if not stripped.startswith("{"):
        try:
            return labels_of(word.rstrip(",") for word in shlex.split(stripped))
        except ValueError:
            raise Invalid("a quote is not closed", hint) from None
    try:
        found = matcher_text.parse(stripped)
    except matcher_text.BadMatcher as failure:
        raise Invalid(str(failure), hint) from None
    if any(matcher.op is not MatchOp.EQUAL for matcher in found):
        raise Invalid("an alert has labels, not expressions", "write `=` between name and value")
    return labels_of(f"{matcher.name}={matcher.value}" for matcher in found)


def labels_of(words: Iterable[str]) -> dict[str, str]:
    """Labels from `name=value` words; an empty value is the same as no label, and is left out. Raises `Invalid`."""
    labels: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name or name[-1] in "!~" or value.startswith("~"):
            raise Invalid(f"{word!r} is not a label", f"write labels as {EXAMPLE}")
        if labels.get(name, value) != value:
            raise Invalid(f"the label {name} is given twice", "an alert has one value for each label")
        labels[name] = value
    if len(labels) > MAX_LABELS:
        raise Invalid(f"{len(labels)} labels are more than an alert has", f"give at most {MAX_LABELS}")
    return {name: value for name, value in labels.items() if value}


def labels_text(labels: Mapping[str, str]) -> str:
    """What `parse_labels` reads back."""
    return " ".join(shlex.quote(f"{name}={value}") for name, value in labels.items())


def tree_of(inputs: Inputs) -> Tree:
    """The tree that is derived for a cluster."""
    routing, rendered = alerts.rendered_routing(inputs.platform, inputs.cluster, inputs.content)
    return Tree(routing, rendered.owners, rendered.problems, f"cluster {inputs.cluster.name}")


def tree_of_config(source: Source, version: str = "") -> Tree:
    """The tree of any alertmanager.yml, with everything that is wrong with it. `version` such as "0.27"."""
    number = Versions.number(version)
    routing, problems = parse(source, number) if number else parse(source)
    if routing is not None:
        problems = ordered((*problems, *unreachable(routing)))
        if has_errors(problems) and routing.route.receiver is None:
            routing = None
    return Tree(routing, {}, problems, source.path)


def explain_route(
    tree: Tree,
    labels: Mapping[str, str],
    at: datetime,
    platform: Platform | None = None,
    rules: Iterable[Rule] = (),
    config: str = "alertmanager.yaml",
) -> Answer:
    """The answer for an alert with these labels at that moment (aware). Raises `Invalid` where there is no tree.

    `platform` tells who is on call; `rules` which declared alerts could hold this one back; `config` is the file
    that the amtool line names.
    """
    if tree.routing is None:
        raise Invalid(f"there is no routing tree of {tree.name or 'that configuration'}", problems=tree.problems)
    explanation = explain(tree.routing, labels, at)
    recipients = []
    for delivery in explanation.deliveries:
        team = tree.owners.get(delivery.receiver.name, "")
        recipients.append(Recipient(delivery, team, who(platform, team, at) if platform and team else None))
    known = tuple(rules)
    inhibitors = {str(item): _sources(item.rule, labels, known) for item in explanation.inhibitions}
    words = ["amtool", "config", "routes", "test", f"--config.file={config}", "--tree"]
    line = shlex.join([*words, *(f"{name}={value}" for name, value in sorted(labels.items()))])
    return Answer(explanation, tuple(recipients), inhibitors, line, tree.problems)


def _sources(rule: InhibitRule, labels: Mapping[str, str], rules: tuple[Rule, ...]) -> tuple[str, ...]:
    """Names of declared alerts that could be the source: labels that only a series knows are taken to agree."""
    names = set()
    for other in rules:
        source = known_labels(other)
        filled = {**{name: labels.get(name, "") for name in rule.equal}, **source}
        if inhibits(rule, filled, labels):
            names.add(other.alert)
    return tuple(sorted(names))


def declared_alerts(tree: Tree, rules: Iterable[Rule]) -> tuple[DeclaredAlert, ...]:
    """Every alerting rule with its team, severity and receivers, by team and name."""
    if tree.routing is None:
        return ()
    ends = Endings(tree.routing)
    found = []
    for rule in rules:
        labels = known_labels(rule)
        receivers = tuple(dict.fromkeys(ending.receiver for ending in ends.of(labels)))
        found.append(DeclaredAlert(rule, labels.get("team", ""), labels.get("severity", ""), receivers))
    return tuple(sorted(found, key=lambda item: (item.team, item.rule.service, item.rule.alert, item.severity)))


def oncall(platform: Platform, team: str, at: datetime, upcoming: int = 4) -> OnCall:
    """Who of a team is on call. Raises `Invalid` for a team that is not declared."""
    if team not in platform.teams:
        raise Invalid(f"no team {team!r} is declared", nearest(team, platform.teams) or one_of(platform.teams))
    return who(platform, team, at, upcoming)


# ---------------------------------------------------------------- as data


def timers_text(delivery: Delivery) -> str:
    """`waits 30s, then every 5m, repeats after 1h` in words for a person."""
    settings = delivery.settings
    text = (
        f"first after {format_duration(settings.group_wait)}, changes every {format_duration(settings.group_interval)},"
        f" repeats every {format_duration(settings.effective_repeat)}"
    )
    if settings.effective_repeat != settings.repeat_interval:
        text += f" ({format_duration(settings.repeat_interval)}, rounded up to a multiple of the interval)"
    return text


def state_text(delivery: Delivery) -> str:
    """`sent` or `held back: …`, and until when."""
    text = f"held back: {delivery.why}" if delivery.muted else "sent" + (f": {delivery.why}" if delivery.why else "")
    if delivery.next_change is not None:
        turn = "sent from" if delivery.muted else "held back from"
        text += f"; {turn} {delivery.next_change:%a %Y-%m-%d %H:%M} UTC"
    return text


def person_text(recipient: Recipient) -> str:
    """Who is called, or why nobody is known."""
    call = recipient.oncall
    if call is None:
        return "whose receiver this is, is not declared here" if not recipient.team else f"team {recipient.team}"
    if call.shift is None:
        return call.reason
    text = f"{call.person} ({call.shift.user}) until {call.shift.end:%a %Y-%m-%d %H:%M} UTC"
    return f"{text}; {call.reason}" if call.reason else text


def as_data(answer: Answer) -> dict[str, Any]:
    """The answer as JSON holds it."""
    explanation = answer.explanation
    return {
        "labels": dict(explanation.labels),
        "at": explanation.at.isoformat(),
        "receivers": [_recipient_data(recipient) for recipient in answer.recipients],
        "routes": [
            {
                "route": step.route.key,
                "depth": step.depth,
                "matchers": matchers_text(step.route.matchers),
                "receiver": step.settings.receiver,
                "verdict": step.verdict.value,
                "final": step.final,
                "continue": step.route.continue_,
                "reason": step.reason,
                "line": step.route.place.line,
            }
            for step in explanation.steps
        ],
        "inhibitions": [
            {"name": item.rule.name, "reason": str(item), "sources": list(answer.inhibitors[str(item)])}
            for item in explanation.inhibitions
        ],
        "amtool": answer.amtool,
    }


def _recipient_data(recipient: Recipient) -> dict[str, Any]:
    delivery, call = recipient.delivery, recipient.oncall
    settings = delivery.settings
    return {
        "receiver": delivery.receiver.name,
        "channels": [f"{kind}: {target}" if target else kind for kind, target in delivery.receiver.channels],
        "team": recipient.team,
        "groupBy": list(settings.group_by),
        "groupKey": delivery.group_key,
        "groupWait": settings.group_wait,
        "groupInterval": settings.group_interval,
        "repeatInterval": settings.repeat_interval,
        "effectiveRepeat": settings.effective_repeat,
        "muted": delivery.muted,
        "why": delivery.why,
        "nextChange": delivery.next_change.isoformat() if delivery.next_change else None,
        "onCall": call.shift.user if call and call.shift else None,
        "person": call.person if call else None,
        "until": call.shift.end.isoformat() if call and call.shift else None,
        "reason": call.reason if call else "",
    }

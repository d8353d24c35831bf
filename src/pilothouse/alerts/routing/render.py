"""The routing tree of a platform, written as Alertmanager's configuration.

The tree is made so that an alert cannot end with nobody: the root's receiver is the platform team's, each team has a
branch that takes every severity, and an alert that names no team branches by severity within the platform team.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pilothouse.alerts.content import HTML, TEXT, TITLE, AlertsContent, Defaults, Timers
from pilothouse.alerts.routing.model import InhibitRule
from pilothouse.artifacts.model import Artifacts, Document, Format
from pilothouse.platform.model import AlertSeverity, Cluster, Platform, Receiver, Team, Versions
from pilothouse.problems import Problem, Problems, error
from pilothouse.promql.duration import format_duration

CONFIG = "alertmanager/alertmanager.yaml"
TEMPLATES = "alertmanager/templates/pilothouse.tmpl"
WATCHDOG = "watchdog"
LEAF = "{leaf}"
"""In the watchdog's address: the number of the leaf that the alert comes from, or `global`."""
OLDEST = (0, 25)
"""The oldest release that is written for: it has locations in time intervals."""
NAMED_INHIBITIONS = (0, 30)
"""Since then an inhibition may have a name."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The files, and the team that each receiver belongs to."""

    artifacts: Artifacts
    owners: Mapping[str, str] = field(default_factory=dict)
    problems: Problems = ()


def receiver_name(team: str, severity: AlertSeverity) -> str:
    """`payments-page`: where an alert of that team and severity ends."""
    return f"{team}-{severity.value}"


def render(platform: Platform, cluster: Cluster, content: AlertsContent) -> Rendered:
    """Routing of one cluster. Without a platform team or defaults there is none, and problems say why."""
    defaults, last_resort = content.defaults, platform.platform_team
    problems = list(_version_problems(cluster))
    if last_resort is None:
        problems.append(
            error(
                "alerts/no-platform-team",
                "no team has `platform: true`, so nobody takes the alerts that no team owns",
                cluster.place,
                "set `platform: true` on the infrastructure team",
            )
        )
    if defaults is None or last_resort is None:
        return Rendered(Artifacts(), problems=tuple(problems))
    writer = _Writer(cluster, defaults, last_resort, problems)
    teams = list(platform.teams.values())
    routes = [writer.watchdog_route(), *(writer.team_route(team) for team in teams), *writer.unowned_routes()]
    config = {
        "global": dict(defaults.settings),
        "templates": ["templates/*.tmpl"],
        "route": {
            "receiver": writer.target(last_resort, AlertSeverity.TICKET),
            "group_by": list(defaults.group_by),
            **_timers(defaults.timers[AlertSeverity.TICKET]),
            "routes": routes,
        },
        "inhibit_rules": [_inhibition(rule, cluster) for rule in content.inhibitions],
        "receivers": writer.receivers(),
        "time_intervals": [
            {"name": name, "time_intervals": items} for name, items in sorted(defaults.interval_data.items())
        ],
    }
    if not defaults.interval_data:
        del config["time_intervals"]
    documents = (
        Document(CONFIG, config, Format.YAML, f"Alertmanager of cluster {cluster.name}, derived by pilothouse."),
        Document(TEMPLATES, _templates(content.templates), Format.TEXT),
    )
    return Rendered(Artifacts.of(documents), writer.owners, tuple(problems))


def _version_problems(cluster: Cluster) -> Iterable[Problem]:
    version = Versions.number(cluster.versions.alertmanager)
    if version < OLDEST:
        yield error(
            "alerts/alertmanager-too-old",
            f"Alertmanager {cluster.versions.alertmanager} of cluster {cluster.name} knows no time zones",
            cluster.place,
            f"run {'.'.join(map(str, OLDEST))} or newer, and set `versions.alertmanager`",
        )


def _timers(timers: Timers) -> dict[str, str]:
    return {
        "group_wait": format_duration(timers.group_wait),
        "group_interval": format_duration(timers.group_interval),
        "repeat_interval": format_duration(timers.repeat_interval),
    }


def _with_leaf(group_by: tuple[str, ...]) -> list[str]:
    """The labels and `leaf`; "..." groups by every label already and stands alone."""
    return list(group_by) if "..." in group_by else list(dict.fromkeys((*group_by, "leaf")))


def _equals(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'


class _Writer:
    """Collects the receivers that the routes name, so that each is defined once."""

    def __init__(self, cluster: Cluster, defaults: Defaults, last_resort: Team, problems: list[Problem]) -> None:
        self.cluster = cluster
        self.defaults = defaults
        self.last_resort = last_resort
        self.problems = problems
        self.owners: dict[str, str] = {}
        self.configs: dict[str, dict[str, Any]] = {}

    def watchdog_route(self) -> dict[str, Any]:
        """The alert that always fires, told apart by `leaf`: a Prometheus that lives does not speak for a dead one."""
        dog = self.defaults.watchdog
        route: dict[str, Any] = {
            "matchers": [_equals("alertname", dog.alert)],
            "receiver": self.watchdog(WATCHDOG, "global"),
            "group_by": _with_leaf(self.defaults.group_by),
            "group_wait": "0s",
            "group_interval": format_duration(dog.group_interval),
            "repeat_interval": format_duration(dog.repeat_interval),
        }
        if LEAF in dog.webhook:
            route["routes"] = [
                {"matchers": [_equals("leaf", number)], "receiver": self.watchdog(f"{WATCHDOG}-leaf-{number}", number)}
                for number in map(str, range(self.cluster.shards))
            ]
        return route

    def watchdog(self, name: str, leaf: str) -> str:
        """The name of the receiver that hears from that leaf, or from the global."""
        address = self.defaults.watchdog.webhook.replace("{cluster}", self.cluster.name).replace(LEAF, leaf)
        self.define(name, self.last_resort.name, {"webhook_configs": [{"url": address, "send_resolved": False}]})
        return name

    def team_route(self, team: Team) -> dict[str, Any]:
        return {
            "matchers": [_equals("team", team.name)],
            "receiver": self.target(team, AlertSeverity.TICKET),
            "routes": [self.severity_route(team, severity) for severity in AlertSeverity],
        }

    def unowned_routes(self) -> list[dict[str, Any]]:
        """For alerts that carry no team of ours: the platform team, as loud as they say."""
        severities = (AlertSeverity.PAGE, AlertSeverity.INFO)  # the root itself takes the tickets and the unknown
        return [self.severity_route(self.last_resort, severity) for severity in severities]

    def severity_route(self, team: Team, severity: AlertSeverity) -> dict[str, Any]:
        timers = self.defaults.timers[severity]
        route: dict[str, Any] = {
            "matchers": [_equals("severity", severity.value)],
            "receiver": self.target(team, severity),
            **_timers(timers),
        }
        if timers.active:
            route["active_time_intervals"] = list(timers.active)
        return route

    def target(self, team: Team, severity: AlertSeverity) -> str:
        """The name of the receiver, which is defined on first use."""
        name = receiver_name(team.name, severity)
        if name in self.configs:
            return name
        declared = team.receiver(severity)
        if severity is AlertSeverity.INFO and (declared is None or declared.severity is not severity):
            # What is only to be shown never becomes a mail or a page because nothing else was declared.
            self.define(name, team.name, {})
            return name
        if declared is None:
            self.problems.append(
                error(
                    "alerts/no-receiver",
                    f"team {team.name} has no receiver for {severity}",
                    team.place,
                    f"add one with `severity: {severity}` to `receivers`; until then {self.last_resort.name} gets them",
                    teams=(team.name,),
                )
            )
            declared = self.last_resort.receiver(severity)
        self.define(name, team.name, _channel(declared) if declared else {})
        return name

    def define(self, name: str, team: str, config: dict[str, Any]) -> None:
        """A receiver; without a channel it tells nobody: the alert is only seen in Alertmanager and the portal."""
        for channel, (setting, name_in_file) in _NEEDS.items():
            if channel in config and setting not in self.defaults.settings:
                self.problems.append(
                    error(
                        "alerts/no-channel-setting",
                        f"the receiver {name} needs `global.{name_in_file}`, which is not set",
                        self.defaults.place,
                        f"set `{name_in_file}` below `global` in alerts/routing.yaml",
                        teams=(team,),
                    )
                )
        self.configs[name] = config
        self.owners[name] = team

    def receivers(self) -> list[dict[str, Any]]:
        return [{"name": name, **config} for name, config in sorted(self.configs.items())]


_NEEDS = {
    "email_configs": ("smtp_smarthost", "smtpSmarthost"),
    "slack_configs": ("slack_api_url_file", "slackApiUrlFile"),
}


def _channel(receiver: Receiver) -> dict[str, Any]:
    title, text, html = (f'{{{{ template "{name}" . }}}}' for name in (TITLE, TEXT, HTML))
    if receiver.email:
        return {
            "email_configs": [
                {
                    "to": receiver.email,
                    "send_resolved": True,
                    "headers": {"Subject": title},
                    "html": html,
                    "text": text,
                }
            ]
        }
    if receiver.webhook:
        return {"webhook_configs": [{"url": receiver.webhook, "send_resolved": True}]}
    if receiver.slack_channel:
        return {
            "slack_configs": [{"channel": receiver.slack_channel, "send_resolved": True, "title": title, "text": text}]
        }
    return {
        "pagerduty_configs": [
            {
                "routing_key_file": receiver.pagerduty_key_file,
                "send_resolved": True,
                "description": title,
                "severity": '{{ if eq .CommonLabels.severity "page" }}critical{{ else }}warning{{ end }}',
                "details": {
                    "firing": text,
                    "runbook": "{{ .CommonAnnotations.runbook_url }}",
                    "explanation": "{{ .CommonAnnotations.explain_url }}",
                },
            }
        ]
    }


def _inhibition(rule: InhibitRule, cluster: Cluster) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if rule.name and Versions.number(cluster.versions.alertmanager) >= NAMED_INHIBITIONS:
        written["name"] = rule.name
    written["source_matchers"] = [str(matcher) for matcher in rule.source]
    written["target_matchers"] = [str(matcher) for matcher in rule.target]
    written["equal"] = list(rule.equal)
    return written


def _templates(templates: Mapping[str, str]) -> str:
    """One Go template file; a title is folded to one line, because a subject has no more."""
    parts = []
    for name, text in sorted(templates.items()):
        body = " ".join(text.split()) if name == TITLE else text.rstrip("\n")
        parts.append(f'{{{{ define "{name}" }}}}{body}{{{{ end }}}}\n')
    return "\n".join(parts)

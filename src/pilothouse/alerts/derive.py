"""Alerts of one cluster: rules for Prometheus, routing for Alertmanager, and the proof that they fit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pilothouse.alerts import content as alerts_content
from pilothouse.alerts import service_rules, standard_rules
from pilothouse.alerts.content import AlertsContent
from pilothouse.alerts.routing import ownership, parse
from pilothouse.alerts.routing.model import Routing
from pilothouse.alerts.routing.render import CONFIG, Rendered, render
from pilothouse.artifacts.model import EMPTY, Artifacts
from pilothouse.artifacts.write import serialise
from pilothouse.inputs import Content, Inputs
from pilothouse.platform.model import Cluster, Platform, Versions
from pilothouse.problems import Problem, Problems, error, has_errors, ordered
from pilothouse.promql.model import Rule
from pilothouse.source import Source


@dataclass(frozen=True)
class AlertsDerived:
    """What the component hands on. `rules` go to `collectors`, which places and writes them."""

    artifacts: Artifacts = EMPTY
    problems: Problems = ()
    rules: tuple[Rule, ...] = ()


def derive(inputs: Inputs) -> AlertsDerived:
    """Rules, Alertmanager's files, and every problem of content, declarations and routing."""
    content = alerts_content.read(inputs.content)
    rules, problems = _rules(inputs, content)
    rendered = render(inputs.platform, inputs.cluster, content)
    found: list[Problem] = [*content.problems, *problems, *rendered.problems]
    if CONFIG in rendered.artifacts and not has_errors(content.problems):
        routing, faults = routing_of(rendered, inputs.cluster)
        found += faults
        if routing is not None and not has_errors(faults):
            found += ownership.prove(routing, rules, rendered.owners, inputs.cluster.name)
    return AlertsDerived(rendered.artifacts, ordered(found), tuple(rules))


def rules(inputs: Inputs) -> tuple[Rule, ...]:
    """Only the alerting rules."""
    return tuple(_rules(inputs, alerts_content.read(inputs.content))[0])


def _rules(inputs: Inputs, content: AlertsContent) -> tuple[list[Rule], list[Problem]]:
    platform, cluster, defaults = inputs.platform, inputs.cluster, content.defaults
    owner = platform.platform_team
    if defaults is None or owner is None:  # both are problems already
        return [], []
    made = standard_rules.derive(content.rules, platform, cluster, owner.name, defaults)
    problems: list[Problem] = []
    if not any(rule.alert == defaults.watchdog.alert for rule in content.rules):
        problems.append(
            error(
                "alerts/no-watchdog",
                f"no standard rule is called {defaults.watchdog.alert}, so nobody notices when alerting stops",
                defaults.place,
                "restore the rule, or correct `watchdog.alert` in alerts/routing.yaml",
            )
        )
    reserved = frozenset((*(rule.alert for rule in content.rules), service_rules.REPLICAS, service_rules.SQL_LATENCY))
    for service in platform.services_on(cluster.name):
        found, faults = service_rules.derive(service, cluster, inputs.snapshot, defaults, reserved)
        made += found
        problems += faults
    return made, problems


def rendered_routing(platform: Platform, cluster: Cluster, content: Content) -> tuple[Routing | None, Rendered]:
    """The cluster's routing tree as Alertmanager will read it: quick, because no rules are made.

    The problems are those of the content folder as well.
    """
    read = alerts_content.read(content)
    rendered = render(platform, cluster, read)
    rendered = replace(rendered, problems=(*read.problems, *rendered.problems))
    if CONFIG not in rendered.artifacts:
        return None, rendered
    return routing_of(rendered, cluster)[0], rendered


def routing_of(rendered: Rendered, cluster: Cluster) -> tuple[Routing | None, Problems]:
    """What was rendered, read back as any configuration is read."""
    text = serialise(rendered.artifacts[CONFIG]).decode()
    return parse.parse(Source(CONFIG, text), Versions.number(cluster.versions.alertmanager))

"""What servers have loaded, held against what is rendered: Alertmanagers' routing, Prometheus' rules and jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from pilothouse import alerts, bundle
from pilothouse.alerts.loaded import Configuration, Difference, differences
from pilothouse.alerts.routing.parse import parse
from pilothouse.alerts.routing.render import CONFIG
from pilothouse.artifacts.model import Artifacts
from pilothouse.artifacts.write import serialise
from pilothouse.clients.alertmanager import Alertmanagers
from pilothouse.clients.prometheus import Prometheus
from pilothouse.clients.together import together
from pilothouse.collectors.metrics.loaded import RuleDifference, config_differences, rule_differences
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Endpoint, Versions
from pilothouse.problems import Invalid, PilothouseError, Unavailable
from pilothouse.promql.model import Rule
from pilothouse.source import Source, plain

SECONDS = 12.0
"""For all Prometheus servers of a cluster together; their rules are long."""


MOST_COMPARED = 8


@dataclass(frozen=True, slots=True)
class LoadedRouting:
    """One Alertmanager. `reason` says why nothing is known of it; else `differences` are all there are."""

    server: str
    version: str = ""
    differences: tuple[Difference, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LoadedRules:
    """One Prometheus: `side` is `leaf-0` or `global`."""

    server: str
    side: str
    version: str = ""
    rules: tuple[RuleDifference, ...] = ()
    config: tuple[str, ...] = ()
    reload_failed: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a cluster's Alertmanagers should have loaded, made once for many looks."""

    configuration: Configuration
    rules: tuple[Rule, ...]
    owners: Mapping[str, str] = field(default_factory=dict)
    version: tuple[int, ...] = ()
    compared: dict[str, tuple[Difference, ...]] = field(default_factory=dict, compare=False, repr=False)
    """The configurations that were looked at last, by their text: servers show the same one for weeks."""


def expected_routing(inputs: Inputs, rules: tuple[Rule, ...] | None = None) -> Expected:
    """From the declarations. `rules` where the caller has them. `Invalid` where there is no routing."""
    routing, rendered = alerts.rendered_routing(inputs.platform, inputs.cluster, inputs.content)
    if routing is None:
        raise Invalid(f"no routing is rendered for {inputs.cluster.name}", problems=rendered.problems)
    version = Versions.number(inputs.cluster.versions.alertmanager)
    data = plain(serialise(rendered.artifacts[CONFIG]).decode())
    return Expected(
        Configuration(routing, data), alerts.rules(inputs) if rules is None else rules, rendered.owners, version
    )


def routing_differences(expected: Expected, config: str, name: str = "loaded") -> tuple[Difference, ...]:
    """A loaded configuration's text against what is expected. `Invalid` for a text without a routing tree."""
    if config in expected.compared:
        return expected.compared[config]
    routing, problems = parse(Source(name, config), expected.version)
    if routing is None:
        raise Invalid(f"{name} has loaded what is no configuration of Alertmanager", problems=problems)
    loaded = Configuration(routing, _yaml(config, name))
    found = differences(expected.configuration, loaded, expected.rules, expected.owners)
    if len(expected.compared) >= MOST_COMPARED:
        expected.compared.clear()
    expected.compared[config] = found
    return found


def loaded_routing(expected: Expected, servers: Alertmanagers) -> tuple[LoadedRouting, ...]:
    """Each Alertmanager's configuration against the expected one; one that does not answer says why."""
    found = []
    for url, status in servers.statuses().items():
        if isinstance(status, PilothouseError):
            found.append(LoadedRouting(url, reason=status.message))
            continue
        try:
            found.append(LoadedRouting(url, status.version, routing_differences(expected, status.config, url)))
        except Invalid as failure:
            found.append(LoadedRouting(url, status.version, reason=failure.message))
    return tuple(found)


def loaded_rules(inputs: Inputs, artifacts: Artifacts | None = None) -> tuple[LoadedRules, ...]:
    """Each declared Prometheus against its rendered files: the global, and the leaves that are declared."""
    documents = bundle.derive(inputs).artifacts if artifacts is None else artifacts
    servers = inputs.cluster.servers
    asked: dict[str, Endpoint] = {f"leaf-{number}": item for number, item in enumerate(servers.leaves)}
    if servers.prometheus is not None:
        asked["global"] = servers.prometheus

    def ask(side: str, endpoint: Endpoint) -> Callable[[], LoadedRules]:
        return lambda: _look(side, endpoint, documents)

    answers = together({side: ask(side, endpoint) for side, endpoint in asked.items()}, SECONDS)
    return tuple(
        LoadedRules(asked[side].url, side, reason=answer.message) if isinstance(answer, PilothouseError) else answer
        for side, answer in answers.items()
    )


def _look(side: str, endpoint: Endpoint, documents: Artifacts) -> LoadedRules:
    server = Prometheus(endpoint)
    folder = "global" if side == "global" else "leaf"
    rules = [document.data for document in documents.under(f"prometheus/rules/{folder}/")]
    rendered: Any = documents[f"prometheus/{side}.yaml"].data
    runtime = server.runtime()
    return LoadedRules(
        server.url,
        side,
        runtime.version,
        rule_differences(rules, server.rules()),
        config_differences(rendered, _yaml(server.config(), server.url)),
        not runtime.reload_successful,
    )


def _yaml(text: str, server: str) -> Any:
    try:
        return plain(text)
    except yaml.YAMLError as failure:
        raise Unavailable(f"{server} shows a configuration that is no YAML: {failure}") from failure

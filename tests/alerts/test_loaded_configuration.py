"""A loaded configuration against the rendered one: what differs in meaning, and for whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from pilothouse.alerts.loaded import Configuration, Difference, differences
from pilothouse.alerts.routing.parse import parse
from pilothouse.promql.model import Rule
from pilothouse.source import Source, plain

RENDERED = """
global: {resolve_timeout: 5m, smtp_from: a@bank.example}
templates: ['templates/*.tmpl']
route:
  receiver: infra-ticket
  group_by: [alertname, cluster]
  routes:
    - matchers: ['team="pay"']
      receiver: pay-ticket
      routes:
        - {matchers: ['severity="page"'], receiver: pay-page, repeat_interval: 1h}
        - {matchers: ['severity="info"'], receiver: pay-ticket, active_time_intervals: [office]}
    - {matchers: ['team="risk"'], receiver: risk-page}
inhibit_rules:
  - name: page-over-ticket
    source_matchers: ['severity="page"']
    target_matchers: ['severity="ticket"']
    equal: [team]
receivers:
  - {name: infra-ticket, email_configs: [{to: i@bank.example}]}
  - {name: pay-ticket, email_configs: [{to: p@bank.example}]}
  - {name: pay-page, webhook_configs: [{url: 'https://hook.example/p', send_resolved: false}]}
  - {name: risk-page}
time_intervals:
  - {name: office, time_intervals: [{times: [{start_time: '08:00', end_time: '18:00'}], weekdays: ['monday:friday']}]}
"""
OWNERS = {"infra-ticket": "infra", "pay-ticket": "pay", "pay-page": "pay", "risk-page": "risk"}
RULES = (
    Rule("g", "up == 0", alert="Slow", labels={"team": "pay", "severity": "page"}),
    Rule("g", "up == 0", alert="Full", labels={"team": "pay", "severity": "ticket"}),
    Rule("g", "up == 0", alert="Fraud", labels={"team": "risk", "severity": "page"}),
)


def configuration(text: str) -> Configuration:
    routing, problems = parse(Source("alertmanager.yml", text))
    assert routing is not None, problems
    return Configuration(routing, plain(text))


def with_change(change: Callable[[dict[str, Any]], object]) -> tuple[Difference, ...]:
    data = yaml.safe_load(RENDERED)
    change(data)
    return differences(configuration(RENDERED), configuration(yaml.safe_dump(data)), RULES, OWNERS)


def test_the_same_with_defaults_and_hidden_secrets_is_no_difference() -> None:
    def shown(data: dict[str, Any]) -> None:
        data["global"] |= {"smtp_hello": "localhost", "slack_api_url": "<secret>"}
        data["templates"] = ["/etc/alertmanager/templates/*.tmpl"]
        data["route"]["group_wait"] = "30s"
        data["route"]["continue"] = False
        data["route"]["routes"][0]["group_by"] = ["cluster", "alertname"]
        data["route"]["routes"][1]["matchers"] = ['team="risk"']
        data["receivers"][2]["webhook_configs"][0] |= {"url": "<secret>", "max_alerts": 0, "timeout": "0s"}
        del data["inhibit_rules"][0]["name"]

    assert with_change(shown) == ()


def test_who_gets_an_alert_now() -> None:
    def moved(data: dict[str, Any]) -> None:
        data["route"]["routes"][0]["routes"][0]["receiver"] = "infra-ticket"

    alert, route = with_change(moved)
    assert alert == Difference("alert", "Slow of pay", "pay-page", "infra-ticket", ("pay",))
    assert route.subject == '{team="pay"} / {severity="page"} receiver'
    assert (route.rendered, route.loaded, route.teams) == ("pay-page", "infra-ticket", ("infra", "pay"))
    assert "loaded infra-ticket, rendered pay-page" in str(route)


def test_what_is_inherited_is_said_once() -> None:
    found = with_change(lambda data: data["route"].update(group_interval="1m"))
    assert [(item.subject, item.rendered, item.loaded) for item in found] == [("root group_interval", "5m", "1m")]


def test_a_route_that_is_missing_and_one_too_many() -> None:
    def changed(data: dict[str, Any]) -> None:
        data["route"]["routes"][0]["routes"].pop(1)
        data["route"]["routes"].append({"matchers": ['team="new"'], "receiver": "risk-page"})

    missing, extra = with_change(changed)
    assert (missing.subject, missing.loaded) == ('{team="pay"} / {severity="info"}', "")
    assert missing.rendered == "→ pay-ticket"
    assert (extra.subject, extra.rendered, extra.loaded) == ('{team="new"}', "", "→ risk-page")


def test_another_order_and_continue() -> None:
    def changed(data: dict[str, Any]) -> None:
        data["route"]["routes"].reverse()
        data["route"]["routes"][0]["continue"] = True

    found = {(item.part, item.subject): (item.rendered, item.loaded) for item in with_change(changed)}
    assert found["route", '{team="risk"} continue'] == ("none", "true")
    assert found["order", "below root"] == ('{team="pay"}, {team="risk"}', '{team="risk"}, {team="pay"}')


@pytest.mark.parametrize(
    ("change", "part", "subject", "rendered", "loaded"),
    [
        (
            lambda d: d["receivers"][1]["email_configs"][0].update(to="x@bank.example"),
            "receiver",
            "pay-ticket email_configs[0].to",
            "p@bank.example",
            "x@bank.example",
        ),
        (
            lambda d: d["receivers"][3].update(email_configs=[{"to": "x@bank.example"}]),
            "receiver",
            "risk-page email_configs",
            "",
            "1 loaded",
        ),
        (
            lambda d: d["receivers"][1]["email_configs"].append({"to": "y@bank.example"}),
            "receiver",
            "pay-ticket email_configs[1]",
            "none",
            "{'to': 'y@bank.example'}",
        ),
        (lambda d: d["receivers"].append({"name": "more"}), "receiver", "more", "", "tells nobody"),
        (
            lambda d: d["inhibit_rules"][0].update(equal=[]),
            "inhibition",
            "page-over-ticket",
            '{severity="page"} holds back {severity="ticket"} where team agree',
            "",
        ),
        (
            lambda d: d["time_intervals"][0].update(time_intervals=[{"weekdays": ["sunday"]}]),
            "interval",
            "office",
            "08:00-18:00 weekdays 1-5 UTC",
            "weekdays 0-0 UTC",
        ),
        (lambda d: d["global"].update(resolve_timeout="9m"), "setting", "resolve_timeout", "5m", "9m"),
        (lambda d: d.update(templates=[]), "setting", "templates", "templates/*.tmpl", ""),
    ],
)
def test_every_other_part(
    change: Callable[[dict[str, Any]], object], part: str, subject: str, rendered: str, loaded: str
) -> None:
    found = with_change(change)[0]
    assert (found.part, found.subject, found.rendered, found.loaded) == (part, subject, rendered, loaded)


def test_many_alerts_that_move_alike_are_one_difference() -> None:
    rules = [Rule("g", "up", alert=f"A{number}", labels={"team": "risk"}) for number in range(9)]
    data = yaml.safe_load(RENDERED)
    data["route"]["routes"].pop(1)
    found = differences(configuration(RENDERED), configuration(yaml.safe_dump(data)), rules, OWNERS)
    (alert,) = [item for item in found if item.part == "alert"]
    assert alert.subject == "A0, A1, A2, A3, A4, A5 and 3 more of risk"
    assert (alert.rendered, alert.loaded) == ("risk-page", "infra-ticket")

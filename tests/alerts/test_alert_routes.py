"""Any alertmanager.yml: read with places, walked, explained."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pilothouse.alerts.routing.inhibition import inhibits
from pilothouse.alerts.routing.model import Routing
from pilothouse.alerts.routing.parse import parse
from pilothouse.alerts.routing.walk import Verdict, explain, matching
from pilothouse.problems import Problems, Severity
from pilothouse.source import Source

FRIDAY = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
SUNDAY = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)

CONFIG = """\
global: {resolve_timeout: 5m}
route:
  receiver: root
  group_by: [alertname]
  group_wait: 10s
  routes:
    - matchers: ['team="pay"']
      receiver: pay
      group_by: [alertname, service]
      active_time_intervals: [office]
      routes:
        - matchers: ['severity=~"page|critical"']
          group_interval: 2m
          repeat_interval: 5m
        - match: {severity: ticket}
          mute_time_intervals: [weekend]
          group_by: ['...']
    - match_re: {team: 'risk|fraud'}
      continue: true
      receiver: risk
    - matchers: ['env="prod"']
      receiver: prod
receivers:
  - name: root
    webhook_configs: [{url: http://hook.example/x}]
  - name: pay
    email_configs: [{to: pay@bank.example}, {to: boss@bank.example}]
  - name: risk
  - name: prod
    opsgenie_configs: [{}]
time_intervals:
  - name: office
    time_intervals: [{times: [{start_time: '09:00', end_time: '17:00'}], weekdays: ['monday:friday']}]
mute_time_intervals:
  - name: weekend
    time_intervals: [{weekdays: ['saturday', 'sunday']}]
inhibit_rules:
  - name: page
    source_matchers: ['severity="page"']
    target_matchers: ['severity=~"ticket|page"']
    equal: [team]
  - source_match: {alertname: Down}
    target_match_re: {alertname: 'Slow.*'}
"""


def read(text: str, version: tuple[int, ...] = (0, 34)) -> tuple[Routing | None, Problems]:
    return parse(Source("alertmanager.yml", text), version)


@pytest.fixture(scope="module")
def routing() -> Routing:
    found, problems = read(CONFIG)
    assert found is not None
    assert [p for p in problems if p.severity is Severity.ERROR] == []
    assert {p.code for p in problems} == {"alerts/deprecated-match"}
    return found


def test_a_configuration_is_read_with_its_places(routing: Routing) -> None:
    assert [(route.key, route.place.line) for route in routing.route.walk()] == [
        ("", 3), ("0", 7), ("0.0", 12), ("0.1", 15), ("1", 18), ("2", 21),
    ]  # fmt: skip
    assert routing.receivers["pay"].channels == (("email", "pay@bank.example"), ("email", "boss@bank.example"))
    assert routing.receivers["risk"].channels == ()
    assert routing.receivers["prod"].channels == (("opsgenie", ""),)
    assert set(routing.intervals) == {"office", "weekend"}
    assert routing.find("0.1") is not None
    assert routing.find("9") is None


def test_the_first_child_that_matches_ends_the_search(routing: Routing) -> None:
    found = explain(routing, {"team": "pay", "severity": "page", "env": "prod"}, FRIDAY)
    verdicts = {step.route.key: step.verdict for step in found.steps}
    assert verdicts == {
        "": Verdict.MATCHED,
        "0": Verdict.MATCHED,
        "0.0": Verdict.MATCHED,
        "0.1": Verdict.SKIPPED,
        "1": Verdict.SKIPPED,
        "2": Verdict.SKIPPED,
    }
    assert found.receivers == ("pay",)
    assert [step.blocker for step in found.steps if step.blocker] == ["0.0", "0", "0"]


def test_continue_tries_the_siblings_too_and_a_parent_takes_what_no_child_does(routing: Routing) -> None:
    assert explain(routing, {"team": "fraud", "env": "prod"}, FRIDAY).receivers == ("risk", "prod")
    assert explain(routing, {"team": "fraud"}, FRIDAY).receivers == ("risk",)
    assert explain(routing, {"team": "pay", "severity": "info"}, FRIDAY).receivers == ("pay",)
    assert explain(routing, {}, FRIDAY).receivers == ("root",)
    unreached = explain(routing, {}, FRIDAY).steps[2]
    assert (unreached.verdict, unreached.reason) == (
        Verdict.UNREACHED,
        "not tried: its parent does not take the alert",
    )


def test_every_step_has_its_reason(routing: Routing) -> None:
    reasons = {step.route.key: step.reason for step in explain(routing, {"team": "fraud", "env": "dev"}, FRIDAY).steps}
    assert reasons[""] == "the root takes every alert"
    assert reasons["0"] == 'team="pay": team is "fraud"'
    assert reasons["1"] == 'matches team=~"risk|fraud"; continue: the siblings after it are tried as well'
    assert reasons["2"] == 'env="prod": env is "dev"'
    assert (
        explain(routing, {"team": "pay"}, FRIDAY).steps[2].reason
        == 'severity=~"page|critical": severity is missing (empty)'
    )
    assert explain(routing, {"team": "pay", "severity": "page"}, FRIDAY).steps[3].reason.startswith("not tried")


def test_receiver_grouping_and_timers_come_down_but_intervals_do_not(routing: Routing) -> None:
    (page,) = explain(routing, {"team": "pay", "severity": "page", "alertname": "X", "service": "s"}, SUNDAY).deliveries
    assert page.settings.receiver == "pay"
    assert (page.settings.group_wait, page.settings.group_interval) == (10, 120)
    assert (page.settings.repeat_interval, page.settings.effective_repeat) == (300, 360)
    assert page.group_labels == {"alertname": "X", "service": "s"}
    assert page.group_key == '{}/{team="pay"}/{severity=~"page|critical"}:{alertname="X", service="s"}'
    assert not page.muted, "the parent's active interval holds for the parent alone"
    assert page.next_change is None
    (other,) = explain(routing, {"team": "pay"}, SUNDAY).deliveries
    assert other.muted
    assert "outside office" in other.why
    assert other.next_change == datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
    (now,) = explain(routing, {"team": "pay"}, FRIDAY).deliveries
    assert (now.muted, now.why) == (False, "within office")


def test_a_muted_route_still_ends_the_search_and_three_dots_group_by_everything(routing: Routing) -> None:
    (ticket,) = explain(routing, {"team": "pay", "severity": "ticket", "x": "y"}, SUNDAY).deliveries
    assert (ticket.muted, ticket.why) == (True, "muted during weekend")
    assert ticket.next_change == datetime(2026, 11, 23, tzinfo=UTC)
    assert set(ticket.group_labels) == {"team", "severity", "x"}


def test_inhibitions_that_could_apply(routing: Routing) -> None:
    (one,) = explain(routing, {"team": "pay", "severity": "ticket"}, FRIDAY).inhibitions
    assert str(one) == 'held back while an alert that matches {severity="page"} fires with team="pay"'
    assert one.indexed
    (both,) = explain(routing, {"team": "pay", "severity": "page"}, FRIDAY).inhibitions
    assert both.two_sided
    assert "both sides" in str(both)
    rule = routing.inhibit_rules[0]
    assert inhibits(rule, {"team": "a", "severity": "page"}, {"team": "a", "severity": "ticket"})
    assert not inhibits(rule, {"team": "a", "severity": "page"}, {"team": "b", "severity": "ticket"})
    assert not inhibits(rule, {"team": "a", "severity": "page"}, {"team": "a", "severity": "page"})
    assert inhibits(routing.inhibit_rules[1], {"alertname": "Down"}, {"alertname": "SlowSql"})
    old, _ = read(CONFIG, (0, 29))
    assert old is not None
    assert not explain(old, {"team": "pay", "severity": "ticket"}, FRIDAY).inhibitions[0].indexed


def test_the_bare_search_agrees_with_the_explanation(routing: Routing) -> None:
    for labels in ({}, {"team": "pay"}, {"team": "risk", "env": "prod"}, {"env": "prod"}):
        ends = [step.route for step in explain(routing, labels, FRIDAY).steps if step.final]
        assert matching(routing.route, labels) == ends


def test_an_empty_group_by_says_nothing_before_031() -> None:
    text = "route: {receiver: a, group_by: [x], routes: [{group_by: [], receiver: a}]}\nreceivers: [{name: a}]\n"
    for version, expected in (((0, 30), ("x",)), ((0, 31), ())):
        found, _ = read(text, version)
        assert found is not None
        assert explain(found, {}, FRIDAY).deliveries[0].settings.group_by == expected


BROKEN = """\
route:
  receiver: nobody
  matchers: ['a="b"']
  group_by: ['...', x, x]
  group_wait: soon
  group_interval: 0s
  colour: red
  routes:
    - just text
    - receiver: 7
      continue: "yes"
      matchers: ['a=~"("', 'b']
      match: {c: true}
      active_time_intervals: [never]
    - routes: nothing
receivers:
  - name: known
  - name: known
  - {email_configs: []}
  - text
time_intervals:
  - name: odd
    time_intervals: [{weekdays: ['funday']}]
  - name: odd
  - {}
  - x
inhibit_rules: [x]
colours: []
"""


def test_everything_that_is_wrong_is_said_at_once_with_its_place() -> None:
    routing, problems = read(BROKEN)
    assert routing is not None
    found = {(problem.place.line, problem.code.removeprefix("alerts/")) for problem in problems}
    assert found == {
        (2, "unknown-receiver"),
        (3, "config-root"),
        (4, "config-value"),
        (5, "config-value"),
        (6, "config-value"),
        (7, "config-field"),
        (9, "config-value"),
        (10, "config-value"),
        (11, "config-value"),
        (12, "bad-matcher"),
        (13, "deprecated-match"),
        (14, "unknown-interval"),
        (15, "config-value"),
        (18, "config-value"),
        (19, "config-value"),
        (20, "config-value"),
        (23, "bad-interval"),
        (24, "bad-interval"),
        (25, "bad-interval"),
        (26, "config-value"),
        (27, "config-value"),
        (28, "config-field"),
    }
    assert all(problem.hint or problem.code.endswith(("config-value", "bad-interval")) for problem in problems)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "alerts/config-value"),
        ("- a", "alerts/config-value"),
        ("receivers: []", "alerts/config-value"),
        ("route: [x]", "alerts/config-value"),
        ("route: {", "source/yaml-syntax"),
    ],
)
def test_no_tree_at_all(text: str, code: str) -> None:
    routing, problems = read(text)
    assert routing is None
    assert [problem.code for problem in problems] == [code]


def test_a_root_without_a_receiver_and_an_old_label_name() -> None:
    routing, problems = read("route: {group_by: ['a b']}\nreceivers: []\n", (0, 26))
    assert routing is not None
    assert [problem.message for problem in problems] == ["the root route has no receiver", "'a b' is not a label name"]


def test_a_route_without_matchers_takes_everything() -> None:
    routing, _ = read("route: {receiver: a, routes: [{continue: true}]}\nreceivers: [{name: a}]\n")
    assert routing is not None
    found = explain(routing, {"x": "y"}, FRIDAY)
    assert found.steps[1].reason.startswith("matches: it has no matchers; continue")
    assert found.deliveries[0].group_key == "{}/{}:{}"

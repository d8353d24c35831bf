"""One answer for the command line and the portal."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import inputs, service, team

from pilothouse import alerts
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Alert, AlertSeverity, Member, Receiver, ReplicasBelow, Rotation
from pilothouse.problems import Invalid
from pilothouse.source import Source
from pilothouse.workflows import routing

SUNDAY = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
PAGE, TICKET = AlertSeverity.PAGE, AlertSeverity.TICKET


@pytest.fixture(scope="module")
def given_inputs() -> Inputs:
    pay = team(
        "pay",
        members=(Member("ann", "Ann Alder"), Member("ben")),
        receivers=(Receiver(PAGE, webhook="https://hook.example/pay"), Receiver(TICKET, email="pay@bank.example")),
        rotation=Rotation(("ann", "ben"), date(2026, 11, 16), (9, 0), "Europe/Berlin"),
    )
    infra = team("infra", platform=True, receivers=(Receiver(PAGE, webhook="https://hook.example/infra"),))
    return inputs(
        [service("pay/api", alerts=(Alert(ReplicasBelow(2), PAGE), Alert(ReplicasBelow(3), TICKET)))],
        teams=[pay, infra],
    )


@pytest.fixture(scope="module")
def tree(given_inputs: Inputs) -> routing.Tree:
    return routing.tree_of(given_inputs)


def test_the_answer_ends_at_a_person(given_inputs: Inputs, tree: routing.Tree) -> None:
    labels = {"team": "pay", "severity": "ticket", "service": "api", "cluster": "dev", "namespace": "pay"}
    answer = routing.explain_route(tree, labels, SUNDAY, given_inputs.platform, alerts.rules(given_inputs))
    (recipient,) = answer.recipients
    assert (recipient.team, recipient.delivery.receiver.name) == ("pay", "pay-ticket")
    assert routing.person_text(recipient) == "Ann Alder (ann) until Mon 2026-11-23 08:00 UTC"
    assert routing.state_text(recipient.delivery) == (
        "held back: outside office-hours, the only time at which this route is active;"
        " sent from Mon 2026-11-23 07:00 UTC"
    )
    assert routing.timers_text(recipient.delivery) == "first after 5m, changes every 30m, repeats every 1d"
    (sources,) = answer.inhibitors.values()
    assert sources == ("ReplicasBelow", "VolumeAlmostFull"), "the page of the same service"
    assert answer.amtool == (
        "amtool config routes test --config.file=alertmanager.yaml --tree"
        " cluster=dev namespace=pay service=api severity=ticket team=pay"
    )


def test_as_data_it_is_json(given_inputs: Inputs, tree: routing.Tree) -> None:
    answer = routing.explain_route(tree, {"team": "pay", "severity": "page"}, SUNDAY, given_inputs.platform)
    data = json.loads(json.dumps(routing.as_data(answer)))
    assert data["receivers"][0] | {"groupKey": "", "why": ""} == {
        "receiver": "pay-page",
        "channels": ["webhook: https://hook.example/pay"],
        "team": "pay",
        "groupBy": ["alertname", "cluster", "namespace", "service"],
        "groupKey": "",
        "groupWait": 30.0,
        "groupInterval": 300.0,
        "repeatInterval": 3600.0,
        "effectiveRepeat": 3600.0,
        "muted": False,
        "why": "",
        "nextChange": None,
        "onCall": "ann",
        "person": "Ann Alder",
        "until": "2026-11-23T08:00:00+00:00",
        "reason": "",
    }
    verdicts = {route["route"]: route["verdict"] for route in data["routes"]}
    assert verdicts[""] == "matched"
    assert "failed" in verdicts.values()
    assert "skipped" in verdicts.values()
    assert data["inhibitions"] == []


def test_a_team_without_a_rotation_says_so(given_inputs: Inputs, tree: routing.Tree) -> None:
    (recipient,) = routing.explain_route(tree, {}, SUNDAY, given_inputs.platform).recipients
    assert routing.person_text(recipient) == "team infra has no on-call rotation"
    (nameless,) = routing.explain_route(tree, {}, SUNDAY).recipients
    assert routing.person_text(nameless) == "team infra"


CONFIG = """\
route:
  receiver: root
  group_interval: 2m
  repeat_interval: 3m
  routes: [{matchers: ['a="b"'], receiver: root, mute_time_intervals: [always]}, {matchers: ['a="b"', 'c="d"']}]
receivers: [{name: root, webhook_configs: [{url: http://hook.example}]}]
time_intervals: [{name: always, time_intervals: [{months: ['1:12']}]}]
"""


def test_any_configuration() -> None:
    tree = routing.tree_of_config(Source("am.yml", CONFIG), "0.27")
    assert [problem.code for problem in tree.problems] == ["alerts/unreachable-route"]
    answer = routing.explain_route(tree, {"a": "b"}, SUNDAY, config="am.yml")
    (recipient,) = answer.recipients
    assert routing.person_text(recipient) == "whose receiver this is, is not declared here"
    assert routing.state_text(recipient.delivery) == "held back: muted during always"
    assert routing.timers_text(recipient.delivery).endswith(
        "repeats every 4m (3m, rounded up to a multiple of the interval)"
    )
    assert "--config.file=am.yml" in answer.amtool


def test_where_there_is_no_tree() -> None:
    for text in ("", "route: {}\nreceivers: []\n"):
        tree = routing.tree_of_config(Source("am.yml", text))
        assert tree.problems
        with pytest.raises(Invalid, match="no routing tree of am"):
            routing.explain_route(tree, {}, SUNDAY)
        assert routing.declared_alerts(tree, ()) == ()


def test_declared_alerts_with_their_receivers(given_inputs: Inputs, tree: routing.Tree) -> None:
    found = routing.declared_alerts(tree, alerts.rules(given_inputs))
    mine = [item for item in found if item.rule.service]
    assert [(item.rule.alert, item.severity, item.receivers) for item in mine] == [
        ("ReplicasBelow", "page", ("pay-page",)),
        ("ReplicasBelow", "ticket", ("pay-ticket",)),
    ]
    assert mine[0].labels["alertname"] == "ReplicasBelow"
    stuck = next(item for item in found if item.rule.alert == "PodStuck")
    assert stuck.summary == "‹pod› does not start"
    several = {item.rule.alert: set(item.receivers) for item in found if len(item.receivers) != 1}
    assert several == {"Watchdog": {"watchdog", "watchdog-leaf-0"}}, "the watchdog's depends on who sends it"


def test_oncall_of_a_team_that_is_not_declared(given_inputs: Inputs) -> None:
    assert routing.oncall(given_inputs.platform, "pay", SUNDAY).person == "Ann Alder"
    with pytest.raises(Invalid) as refused:
        routing.oncall(given_inputs.platform, "payy", SUNDAY)
    assert refused.value.hint == "did you mean `pay`?"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", {}),
        ("team=pay severity=page", {"team": "pay", "severity": "page"}),
        ("team=pay, severity=page\nx='a b'", {"team": "pay", "severity": "page", "x": "a b"}),
        ('summary="a b" empty=', {"summary": "a b"}),
        ('{team="pay", severity="page"}', {"team": "pay", "severity": "page"}),
        ("a=b=c a=b=c", {"a": "b=c"}),
    ],
)
def test_labels_as_people_write_them(text: str, labels: dict[str, str]) -> None:
    assert routing.parse_labels(text) == labels


@pytest.mark.parametrize("text", ["team", "=x", 'a="b', "a=~b", "a!=b", '{a=~"b"}', "a=1 a=2", "{a", "x=1 x=1 y"])
def test_what_are_no_labels(text: str) -> None:
    with pytest.raises(Invalid):
        routing.parse_labels(text)


def test_too_many_labels() -> None:
    with pytest.raises(Invalid, match="more than an alert has"):
        routing.parse_labels(" ".join(f"l{number}=x" for number in range(200)))


NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)


@given(st.dictionaries(NAMES, st.text(min_size=1, max_size=12).filter(lambda v: v[0] not in "~," and v[-1] != ",")))
def test_labels_are_read_back(labels: dict[str, str]) -> None:
    assert routing.parse_labels(routing.labels_text(labels)) == labels

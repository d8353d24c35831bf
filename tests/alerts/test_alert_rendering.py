"""Alertmanager's files: a tree in which no alert can end with nobody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from support.builders import bundle_content, cluster, inputs, service, team

from pilothouse import alerts
from pilothouse.alerts.routing.render import CONFIG, TEMPLATES
from pilothouse.alerts.routing.walk import explain
from pilothouse.artifacts.write import serialise
from pilothouse.inputs import Inputs
from pilothouse.platform.model import AlertSeverity, Cluster, Receiver, Rotation, Team, Versions

PAGE, TICKET, INFO = AlertSeverity.PAGE, AlertSeverity.TICKET, AlertSeverity.INFO
SUNDAY = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
TEAMS = [
    team(
        "pay",
        receivers=(
            Receiver(PAGE, pagerduty_key_file="/keys/pay"),
            Receiver(TICKET, email="pay@bank.example"),
            Receiver(INFO, slack_channel="#pay"),
        ),
        rotation=Rotation(("pay-1",), date(2026, 1, 5)),
    ),
    team("platform", platform=True, receivers=(Receiver(PAGE, webhook="https://hook.example/p"),)),
]


def given(teams: list[Team] | None = None, on: Cluster | None = None, content: dict[str, str] | None = None) -> Inputs:
    return inputs([service("pay/api")], teams=teams or TEAMS, on=on, content=bundle_content(content))


def ends(inputs_: Inputs, **labels: str) -> tuple[str, ...]:
    routing, _ = alerts.rendered_routing(inputs_.platform, inputs_.cluster, inputs_.content)
    assert routing is not None
    return explain(routing, labels, SUNDAY).receivers


def config(inputs_: Inputs) -> Any:
    return alerts.derive(inputs_).artifacts[CONFIG].data


def test_the_files(golden: Callable[[str, str], None]) -> None:
    derived = alerts.derive(given())
    assert [problem.code for problem in derived.problems] == []
    golden("alerts/alertmanager.yaml", serialise(derived.artifacts[CONFIG]).decode())
    golden("alerts/pilothouse.tmpl", serialise(derived.artifacts[TEMPLATES]).decode())
    again = alerts.derive(given())
    assert [serialise(d) for d in again.artifacts] == [serialise(d) for d in derived.artifacts]


def test_each_team_by_severity() -> None:
    for severity in AlertSeverity:
        assert ends(given(), team="pay", severity=severity.value) == (f"pay-{severity.value}",)
    assert ends(given(), team="pay", severity="strange") == ("pay-ticket",)
    assert ends(given(), alertname="Watchdog", team="platform", severity="info") == ("watchdog",)
    assert ends(given(), alertname="Watchdog", team="platform", severity="info", leaf="0") == ("watchdog-leaf-0",)


def test_what_no_team_owns_goes_to_the_platform_team_as_loud_as_it_says() -> None:
    assert ends(given()) == ("platform-ticket",)
    assert ends(given(), severity="page") == ("platform-page",)
    assert ends(given(), team="gone", severity="page") == ("platform-page",)
    assert ends(given(), team="gone", severity="info") == ("platform-info",)


def test_tickets_wait_for_office_hours_and_pages_do_not() -> None:
    routing, rendered = alerts.rendered_routing(given().platform, given().cluster, given().content)
    assert routing is not None
    (ticket,) = explain(routing, {"team": "pay", "severity": "ticket"}, SUNDAY).deliveries
    assert (ticket.muted, ticket.next_change) == (True, datetime(2026, 11, 23, 7, 0, tzinfo=UTC))
    (page,) = explain(routing, {"team": "pay", "severity": "page"}, SUNDAY).deliveries
    assert not page.muted
    assert page.settings.group_wait == 30
    assert rendered.owners["pay-page"] == "pay"
    assert rendered.owners["watchdog"] == "platform"


def test_a_louder_receiver_takes_tickets_but_never_what_is_only_to_be_shown() -> None:
    receivers = {item["name"]: item for item in config(given())["receivers"]}
    assert receivers["platform-ticket"]["webhook_configs"][0]["url"] == "https://hook.example/p"
    assert receivers["platform-info"] == {"name": "platform-info"}
    assert receivers["watchdog"]["webhook_configs"][0]["url"] == "https://deadman.example/ping/dev-global"
    pay = receivers["pay-page"]["pagerduty_configs"][0]
    assert pay["routing_key_file"] == "/keys/pay"
    assert "explain_url" in pay["details"]["explanation"]
    assert receivers["pay-info"]["slack_configs"][0]["channel"] == "#pay"


def test_a_living_leaf_does_not_hide_a_dead_one(root: Path) -> None:
    """Each Prometheus has a notification of its own, and where the address tells leaves apart, one to itself."""
    many = given(on=cluster(shards=3))
    (dog,) = [route for route in config(many)["route"]["routes"] if route["receiver"] == "watchdog"]
    assert dog["group_by"] == ["alertname", "cluster", "namespace", "service", "leaf"]
    assert [(route["matchers"], route["receiver"]) for route in dog["routes"]] == [
        ([f'leaf="{number}"'], f"watchdog-leaf-{number}") for number in range(3)
    ]
    urls = {
        item["name"]: item["webhook_configs"][0]["url"] for item in config(many)["receivers"] if "watch" in item["name"]
    }
    assert urls == {
        "watchdog": "https://deadman.example/ping/dev-global",
        **{f"watchdog-leaf-{number}": f"https://deadman.example/ping/dev-{number}" for number in range(3)},
    }
    routing, _ = alerts.rendered_routing(many.platform, many.cluster, many.content)
    assert routing is not None
    (heard,) = explain(routing, {"alertname": "Watchdog", "leaf": "2", "cluster": "dev"}, SUNDAY).deliveries
    assert heard.group_labels["leaf"] == "2"
    text = (root / "alerts/routing.yaml").read_text(encoding="utf-8")
    whole = given(on=cluster(shards=3), content={"alerts/routing.yaml": text.replace("-{leaf}", "")})
    (one,) = [route for route in config(whole)["route"]["routes"] if route["receiver"] == "watchdog"]
    assert "routes" not in one
    assert "leaf" in one["group_by"]
    every = text.replace("groupBy: [alertname, cluster, namespace, service]", "groupBy: ['...']")
    assert config(given(content={"alerts/routing.yaml": every}))["route"]["routes"][0]["group_by"] == ["..."]


def test_a_team_without_a_receiver_is_a_problem_and_the_platform_team_hears_it() -> None:
    derived = alerts.derive(given([TEAMS[1], team("pay")]))
    assert [(p.code, p.teams) for p in derived.problems] == [
        ("alerts/no-receiver", ("pay",)),
        ("alerts/no-receiver", ("pay",)),
    ]
    receivers = {item["name"]: item for item in derived.artifacts[CONFIG].data["receivers"]}
    assert receivers["pay-page"]["webhook_configs"]
    nobody = alerts.derive(given([team("pay"), team("platform", platform=True)]))
    assert {"name": "pay-page"} in nobody.artifacts[CONFIG].data["receivers"]


def test_without_a_platform_team_there_is_no_routing() -> None:
    derived = alerts.derive(given([TEAMS[0]]))
    assert [problem.code for problem in derived.problems] == ["alerts/no-platform-team"]
    assert len(derived.artifacts) == 0


def test_the_version_decides_what_is_written() -> None:
    def on(version: str) -> Inputs:
        return given(on=cluster(versions=Versions(alertmanager=version)))

    assert "name" in config(on("0.31"))["inhibit_rules"][0]
    assert "name" not in config(on("0.29"))["inhibit_rules"][0]
    assert [p.code for p in alerts.derive(on("0.24")).problems] == ["alerts/alertmanager-too-old"]


def test_a_channel_that_needs_a_setting(root: Path) -> None:
    text = (root / "alerts/routing.yaml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "smtpSmarthost" not in line and "slackApiUrlFile" not in line]
    derived = alerts.derive(given(content={"alerts/routing.yaml": "\n".join(lines)}))
    assert [(p.code, p.message.split("`")[1]) for p in derived.problems] == [
        ("alerts/no-channel-setting", "global.slackApiUrlFile"),
        ("alerts/no-channel-setting", "global.smtpSmarthost"),
    ]


def test_changed_defaults_change_the_files(root: Path) -> None:
    text = (root / "alerts/routing.yaml").read_text(encoding="utf-8")
    changed = text.replace("page: {groupWait: 30s", "page: {groupWait: 15s")
    routes = config(given(content={"alerts/routing.yaml": changed}))["route"]["routes"]
    assert {route["routes"][0]["group_wait"] for route in routes if "team=" in route["matchers"][0]} == {"15s"}
    bare = text[: text.index("intervals:")].replace(", active: [office-hours]", "") + text[text.index("watchdog:") :]
    assert "time_intervals" not in config(given(content={"alerts/routing.yaml": bare}))
    notes = (root / "alerts/notifications.yaml").read_text(encoding="utf-8")
    shouted = alerts.derive(given(content={"alerts/notifications.yaml": notes.replace("RESOLVED", "GOOD AGAIN")}))
    assert "GOOD AGAIN" in shouted.artifacts[TEMPLATES].data
    rules = (root / "alerts/inhibitions.yaml").read_text(encoding="utf-8")
    fewer = rules[: rules.index("  # A volume")]
    assert len(config(given(content={"alerts/inhibitions.yaml": fewer}))["inhibit_rules"]) == 1


def test_a_team_whose_alerts_could_end_elsewhere_is_caught() -> None:
    """The proof reads the written file: a watchdog route on a team's own alert would take it away from that team."""
    text = Path(__file__).parents[2].joinpath("alerts/routing.yaml").read_text(encoding="utf-8")
    stolen = text.replace("alert: Watchdog", "alert: PodStuck")
    found = {problem.code for problem in alerts.derive(given(content={"alerts/routing.yaml": stolen})).problems}
    assert found == {"alerts/wrong-receiver"}

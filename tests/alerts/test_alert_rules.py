"""From content and declarations to rules: whose each alert is, how loud, and what it says."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from support.builders import bundle_content, cluster, inputs, pod, service, team

from pilothouse import alerts
from pilothouse.alerts.content import read, template_fault
from pilothouse.alerts.standard_rules import namespace_owners
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Owner, Snapshot, Workload
from pilothouse.labels import LabelSelector, Requirement
from pilothouse.platform.model import (
    Alert,
    AlertSeverity,
    Expression,
    Metrics,
    Receiver,
    ReplicasBelow,
    Rotation,
    SqlLatencyAbove,
    Team,
)
from pilothouse.promql.model import Rule
from pilothouse.promql.parse import parse as parse_promql

PAGE, TICKET, INFO = AlertSeverity.PAGE, AlertSeverity.TICKET, AlertSeverity.INFO


def a_team(name: str, **fields: object) -> Team:
    return team(
        name,
        receivers=(Receiver(PAGE, pagerduty_key_file=f"/keys/{name}"), Receiver(TICKET, email=f"{name}@bank.example")),
        rotation=Rotation((f"{name}-1", f"{name}-2"), date(2026, 1, 5)),
        **fields,
    )


def some(
    *found: Alert, max_severity: AlertSeverity = PAGE, content: dict[str, str] | None = None, **more: object
) -> Inputs:
    """The service pay/api of team pay, with these alerts, beside a platform team."""
    pods = more.pop("pods", ())
    return inputs(
        [service("pay/api", alerts=found, **more), service("monitoring/prometheus", team="platform")],
        teams=[a_team("pay"), a_team("platform", platform=True)],
        on=cluster(max_severity=max_severity),
        pods=pods,
        content=bundle_content(content),
    )


def declared(given: Inputs) -> list[Rule]:
    return [rule for rule in alerts.derive(given).rules if rule.service == "pay/api"]


def codes(given: Inputs) -> list[str]:
    return [problem.code for problem in alerts.derive(given).problems]


REPLICAS = Alert(ReplicasBelow(3), PAGE, 300)
DEPLOYED = [
    pod("pay/api.1", {"app": "api"}, owner=Owner("Deployment", "api")),
    pod("pay/api.2", {"app": "api"}, owner=Owner("Deployment", "api")),
]


def test_replicas_of_the_workloads_that_own_the_pods() -> None:
    (rule,) = declared(some(REPLICAS, pods=DEPLOYED))
    assert rule.expr == (
        '((sum(kube_deployment_status_replicas_available{namespace="pay",deployment="api"}) or vector(0))) < 3'
        " and on () (count(kube_deployment_status_replicas_available) > 0)"
    )
    assert (rule.alert, rule.for_seconds, rule.side, rule.owner, rule.service) == (
        "ReplicasBelow",
        300,
        "global",
        "pay",
        "pay/api",
    )


def test_several_workloads_are_added_up_and_one_without_pods_counts() -> None:
    given = some(REPLICAS, pods=[*DEPLOYED, pod("pay/api.3", {"app": "api"}, owner=Owner("StatefulSet", "api-db"))])
    workloads = (
        Workload("DaemonSet", "pay", "api-agent", 0, LabelSelector.of(app="api"), {"app": "api"}),
        Workload("ReplicaSet", "pay", "api-5d9", 2, LabelSelector.of(app="api"), {"app": "api"}),
        Workload("Deployment", "elsewhere", "api", 2, LabelSelector.of(app="api"), {"app": "api"}),
        Workload("Deployment", "pay", "other", 2, LabelSelector.of(app="other"), {"app": "other"}),
    )
    snapshot = Snapshot("test", given.snapshot.namespaces, pods=given.snapshot.pods, workloads=workloads)
    (rule,) = declared(Inputs(given.platform, given.cluster, snapshot, given.content, given.today))
    assert re.findall(r"kube_\w+\{[^}]*\}", rule.expr) == [
        'kube_daemonset_status_number_available{namespace="pay",daemonset="api-agent"}',
        'kube_deployment_status_replicas_available{namespace="pay",deployment="api"}',
        'kube_statefulset_status_replicas_available{namespace="pay",statefulset="api-db"}',
    ]


def test_without_a_workload_pods_are_counted() -> None:
    (scraped,) = declared(some(REPLICAS, metrics=Metrics("http")))
    assert scraped.expr == '(sum(up{namespace="pay",service="api"}) or vector(0)) < 3'
    selector = LabelSelector(
        (("app.kubernetes.io/name", "api"),),
        (
            Requirement("tier", "In", ("a", "b.c")),
            Requirement("env", "NotIn", ("dev",)),
            Requirement("x", "Exists"),
            Requirement("y", "DoesNotExist"),
        ),
    )
    (labelled,) = declared(some(REPLICAS, pod_selector=selector))
    assert labelled.expr == (
        '(sum(kube_pod_status_ready{namespace="pay",condition="true"} * on (namespace, pod) group_left ()'
        ' kube_pod_labels{namespace="pay",label_app_kubernetes_io_name="api",label_tier=~"a|b\\\\.c",label_env!~"dev",'
        'label_x!="",label_y=""}) or vector(0)) < 3'
    )
    parse_promql(labelled.expr)


def test_a_service_without_a_workload_in_a_known_cluster_is_said() -> None:
    bare = [pod("pay/api.1", {"app": "api"}), pod("pay/api.2", {"app": "api"}, owner=Owner("Job", "x"))]
    assert codes(some(REPLICAS, pods=bare)) == ["alerts/no-workload"]
    assert codes(some(REPLICAS)) == []


def test_latency_of_a_query() -> None:
    (rule,) = declared(some(Alert(SqlLatencyAbove("insert_payment", 0.25, 0.99), TICKET, 600)))
    assert rule.expr == (
        "histogram_quantile(0.99, sum by (le, namespace, service, query)"
        ' (rate(sql_query_duration_seconds_bucket{namespace="pay",service="api",query="insert_payment"}[5m]))) > 0.25'
    )
    assert rule.labels == {
        "team": "pay", "severity": "ticket", "cluster": "dev", "namespace": "pay", "service": "api",
        "query": "insert_payment", "threshold": "0.25",
    }  # fmt: skip


def test_an_expression_of_the_teams_own() -> None:
    own = Alert(
        Expression("QueueStuck", 'max(queue_age{severity="page",team="other"}) > 6'),
        PAGE,
        60,
        "Refunds wait",
        "https://wiki.example/q",
    )
    (rule,) = declared(some(own))
    assert rule.expr == own.condition.expr  # type: ignore[union-attr]
    assert (rule.labels["team"], rule.labels["severity"]) == ("pay", "page"), "labels of the rule win over the series'"
    assert rule.annotations == {
        "summary": "Refunds wait",
        "description": "The expression of QueueStuck, declared by pay/api, holds; its value is {{ $value }}.",
        "runbook_url": "https://wiki.example/q",
        "explain_url": "https://pilothouse.example/alerts?cluster=dev&labels="
        "alertname%3DQueueStuck%20team%3Dpay%20severity%3Dpage%20cluster%3Ddev%20namespace%3Dpay%20service%3Dapi",
    }


def test_an_expression_that_is_none_has_a_caret() -> None:
    assert codes(some(Alert(Expression("Bad", "sum(rate(x[5m])"), PAGE))) == ["promql/syntax"]
    assert declared(some(Alert(Expression("Bad", "sum("), PAGE))) == []


def test_no_alert_is_louder_than_the_cluster() -> None:
    for ceiling, loudest in ((PAGE, "page"), (TICKET, "ticket"), (INFO, "info")):
        given = some(REPLICAS, max_severity=ceiling)
        derived = alerts.derive(given)
        assert {r.labels["severity"] for r in derived.rules if r.service} == {loudest}
        order = ["info", "ticket", "page"]
        assert all(order.index(r.labels["severity"]) <= order.index(loudest) for r in derived.rules)


def test_clusters_narrow_an_alert() -> None:
    assert declared(some(Alert(ReplicasBelow(1), PAGE, clusters=frozenset(["prod"])))) == []
    assert len(declared(some(Alert(ReplicasBelow(1), PAGE, clusters=frozenset(["dev"]))))) == 1


def test_a_team_cannot_take_the_name_of_a_standard_alert() -> None:
    for name in ("Watchdog", "NodeNotReady", "ReplicasBelow"):
        assert codes(some(Alert(Expression(name, "up == 0"), PAGE))) == ["alerts/reserved-name"]


def test_two_alerts_of_a_service_are_told_apart() -> None:
    twice = Alert(Expression("Mine", "up == 0"), PAGE)
    assert codes(some(twice, Alert(Expression("Mine", "up == 1"), PAGE))) == ["alerts/duplicate-name"]
    assert codes(some(REPLICAS, Alert(ReplicasBelow(3), PAGE))) == ["alerts/duplicate-name"]
    louder = some(REPLICAS, Alert(ReplicasBelow(2), PAGE), Alert(ReplicasBelow(3), TICKET), max_severity=TICKET)
    assert codes(louder) == []
    labels = [tuple(sorted(rule.labels.items())) for rule in declared(louder)]
    assert len(set(labels)) == 2, "the ticket and the lowered page of one threshold are one alert"


def test_a_broken_template_in_a_summary_is_a_problem_and_left_out() -> None:
    given = some(Alert(ReplicasBelow(1), PAGE, summary="{{ $value pods"))
    assert codes(given) == ["alerts/bad-template"]
    assert declared(given)[0].annotations["summary"] == "api has fewer than 1 pods"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("plain {x}", ""),
        ("{{ if .A }}{{ end }}{{- range .B -}}{{ else }}{{ end }}", ""),
        ("{{ .A", "`{{` and `}}` do not pair"),
        ("{{ if .A }}", "an `end` is missing"),
        ("{{ end }}", "an `end` too many"),
        ("{{ }}", "an empty action"),
    ],
)
def test_templates(text: str, fault: str) -> None:
    assert template_fault(text) == fault


# ---------------------------------------------------------------- standard rules


def test_every_rule_names_its_owner_and_what_to_do(root: Path) -> None:
    given = some(REPLICAS)
    derived = alerts.derive(given)
    assert derived.problems == ()
    anchors = set(re.findall(r"^## (.+)$", (root / "alerts" / "runbooks.md").read_text(encoding="utf-8"), re.M))
    known = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in anchors}
    portal = "https://pilothouse.example/runbooks/"
    for rule in derived.rules:
        assert rule.labels["team"] in ("pay", "platform")
        assert set(rule.annotations) == {"summary", "description", "runbook_url", "explain_url"}
        assert all(rule.annotations.values())
        assert rule.annotations["runbook_url"].removeprefix(portal) in known, rule.alert
        assert all(template_fault(text) == "" for text in rule.annotations.values()), rule.alert
        parse_promql(rule.expr)


def test_no_two_rules_are_the_same_alert() -> None:
    rules = alerts.derive(some(REPLICAS)).rules
    identities = [(rule.alert, rule.expr, *sorted(rule.labels.items())) for rule in rules]
    assert len(set(identities)) == len(identities)
    watchdogs = [rule for rule in rules if rule.alert == "Watchdog"]
    assert [(w.expr, w.side, w.labels["team"]) for w in watchdogs] == [("vector(1)", "global", "platform")]


def test_rules_on_namespaces_partition_the_namespaces_among_the_teams() -> None:
    given = inputs(
        [
            service("pay/api"),
            service("shared/a", team="pay"),
            service("shared/b", team="risk"),
            service("shared/c", team="risk"),
            service("even/a", team="risk"),
            service("even/b", team="pay"),
            service("tools/x", team="platform"),
        ],
        teams=[a_team("pay"), a_team("risk"), a_team("platform", platform=True)],
    )
    assert namespace_owners(given.platform, "dev") == {
        "even": "pay",
        "pay": "pay",
        "shared": "risk",
        "tools": "platform",
    }
    rules = [rule for rule in alerts.rules(given) if rule.alert == "PodStuck"]
    assert {rule.labels["team"]: re.findall(r"namespace[^,}]*", rule.expr)[1:] for rule in rules} == {
        "pay": ['namespace=~"even|pay"'],
        "risk": ['namespace=~"shared"'],
        "platform": ['namespace!=""', 'namespace!~"even|pay|shared"'],
    }


def test_a_platform_of_one_team_leaves_no_namespace_out() -> None:
    given = inputs([service("tools/x", team="platform")], teams=[a_team("platform", platform=True)])
    (rule,) = [rule for rule in alerts.rules(given) if rule.alert == "PodStuck"]
    assert 'phase=~"Pending|Unknown", namespace!=""}' in rule.expr


# ---------------------------------------------------------------- the content folder


def test_one_changed_value_changes_the_output(root: Path) -> None:
    text = (root / "alerts/rules/node.yaml").read_text(encoding="utf-8")
    before = {rule.alert: rule for rule in alerts.rules(some())}
    after = {
        rule.alert: rule
        for rule in alerts.rules(some(content={"alerts/rules/node.yaml": text.replace("< 0.05", "< 0.07")}))
    }
    assert [name for name in before if before[name] != after[name]] == ["NodeMemoryLow"]


def test_the_bundles_own_folder_is_clean() -> None:
    found = read(bundle_content())
    assert found.problems == ()
    assert len(found.rules) > 45
    assert {rule.group for rule in found.rules} == {
        "workload", "scrape", "node", "monitoring", "shards", "log-pipeline", "certificates", "pilothouse",
    }  # fmt: skip


def a_rule(owner: str, expr: str, **changes: str) -> str:
    fields = {"alert": "Mine", "expr": f'"{expr}"', "severity": "page", "summary": "s", "description": "d"} | changes
    written = ", ".join(f"{name}: {value}" for name, value in fields.items())
    return f"group: x\nowner: {owner}\nrules: [{{{written}, runbook: watchdog}}]"


def an_inhibition(source: str, equal: str = "") -> str:
    return f"inhibitions: [{{name: x, source: ['{source}'], target: ['a=b'], equal: [{equal}]}}]"


@pytest.mark.parametrize(
    ("path", "text", "code"),
    [
        ("rules/x.yaml", "group: x\nowner: nobody\nrules: []", "alerts/bad-value"),
        ("rules/x.yaml", "group: x\nowner: platform\nrules: [{alert: Mine}]", "alerts/missing-field"),
        ("rules/x.yaml", "group: x\nowner: platform\nrules: []\ncolour: red", "alerts/unknown-field"),
        ("rules/x.yaml", "group: [", "source/yaml-syntax"),
        ("rules/x.yaml", a_rule("platform", "up{$owned}"), "alerts/unscoped-rule"),
        ("rules/x.yaml", a_rule("namespace", "up"), "alerts/unscoped-rule"),
        ("rules/x.yaml", a_rule("platform", "sum("), "promql/syntax"),
        ("rules/x.yaml", a_rule("platform", "up", alert="Watchdog"), "alerts/duplicate-name"),
        ("rules/x.yaml", a_rule("platform", "up", **{"for": "soon"}), "alerts/bad-value"),
        ("rules/x.yaml", a_rule("service", "up"), "alerts/unscoped-rule"),
        ("rules/x.yaml", a_rule("platform", "up").replace("runbook: watchdog", "runbook: nope"), "alerts/no-runbook"),
        ("links.yaml", "portalUrl: nowhere", "alerts/bad-value"),
        ("links.yaml", "portalUrl: https://p.example\nrunbookUrl: https://wiki.example/x", "alerts/bad-value"),
        ("links.yaml", "runbookUrl: 'https://wiki.example/{runbook}'", "alerts/missing-field"),
        ("links.yaml", "", "alerts/missing-content"),
        ("links.yaml", "portalUrl: [", "source/yaml-syntax"),
        ("runbooks.md", "# Runbooks\n## Watchdog\nLook.", "alerts/no-runbook"),
        ("routing.yaml", "portalUrl: https://p.example", "alerts/unknown-field"),
        ("routing.yaml", "", "alerts/missing-content"),
        ("inhibitions.yaml", an_inhibition('a=b"', "team"), "alerts/bad-matcher"),
        ("inhibitions.yaml", an_inhibition("a=b"), "alerts/inhibition-across-teams"),
        ("inhibitions.yaml", an_inhibition("alertname=Nope"), "alerts/inhibition-without-source"),
        ("inhibitions.yaml", "inhibitions: 1", "alerts/bad-value"),
        ("notifications.yaml", "templates: {}", "alerts/bad-template"),
        ("notifications.yaml", "templates: 1", "alerts/bad-value"),
        ("notifications.yaml", "templates: {pilothouse.title: '{{'}", "alerts/bad-template"),
    ],
)
def test_mistakes_in_the_folder(path: str, text: str, code: str) -> None:
    assert code in {problem.code for problem in read(bundle_content({f"alerts/{path}": text})).problems}


def test_mistakes_in_intervals(root: Path) -> None:
    text = (root / "alerts/routing.yaml").read_text(encoding="utf-8")
    for before, after, code in (
        ("monday:friday", "funday", "alerts/bad-interval"),
        ("24h, active: [office-hours]", "24h, active: [ofice-hours]", "alerts/unknown-interval"),
        ("alert: Watchdog", "alert: Barking", "alerts/no-watchdog"),
    ):
        assert before in text
        found = alerts.derive(some(content={"alerts/routing.yaml": text.replace(before, after)})).problems
        assert [problem.code for problem in found] == [code]
        assert found[0].hint


@pytest.mark.parametrize("gone", ["routing.yaml", "links.yaml"])
def test_a_missing_file_leaves_the_rest(gone: str) -> None:
    content = bundle_content()
    left = {path: source for path, source in content.files.items() if path != f"alerts/{gone}"}
    given = some()
    derived = alerts.derive(Inputs(given.platform, given.cluster, given.snapshot, type(content)(left), given.today))
    assert [problem.code for problem in derived.problems] == ["alerts/missing-content"]
    assert derived.rules == ()
    assert len(derived.artifacts) == 0

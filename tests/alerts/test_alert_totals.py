"""Alerts that a missing leaf alone could make fire, and what holds them back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given as holds
from hypothesis import strategies as st
from support.builders import bundle_content, cluster, inputs, service, team

from pilothouse import alerts
from pilothouse.alerts.content import read
from pilothouse.alerts.routing.inhibition import inhibits
from pilothouse.alerts.routing.ownership import known_labels
from pilothouse.alerts.totals import needs_all_leaves
from pilothouse.collectors.metrics import derive
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Alert, AlertSeverity, Expression, Metrics, Receiver, ReplicasBelow
from pilothouse.promql.model import Rule

PAGE = AlertSeverity.PAGE
GUARD = "PrometheusLeavesMissing"


@pytest.mark.parametrize(
    "expr",
    [
        'sum(up{service="api"}) < 3',
        '(sum(up{service="api"}) or vector(0)) < 3',
        "3 >= count(up == 1)",
        "sum by (service) (rate(orders_total[5m])) <= 1",
        "sum without (path) (sum by (service, path) (rate(orders_total[5m]))) < 1",
        "sum(rate(orders_total[5m])) == 0",
        "0 == sum(rate(orders_total[5m]))",
        "-sum(up) > -3",
        "10 - sum(up) > 3",
        "10 / sum(up) > 5",
        "sum(up) * 2 < 3",
        "round(sum(up)) < 3",
        "min_over_time(sum(up)[10m:1m]) < 3",
        "delta(sum(orders)[10m:]) < -100",
        "max by (service) (sum by (service, zone) (up)) < 3",
        "namespace_service:up:sum < 3",
        "namespace_service_code:http_requests:sum_rate5m < 1",
        "namespace_service:container_cpu_usage_seconds:rate5m < 1",
        "max(alertmanager_cluster_members) > count(up == 1)",
        "sum(wanted{}) > 0 and sum(up) < 3",
        "sum(up) < 3 unless on () maintenance == 1",
        "(sum(up) < 3) > bool 1",
        "sum(sum(up) < 3) > 0",
        'absent(up{job="pilothouse"} == 1)',
        "label_replace(absent_over_time(heartbeat[10m]), 'a', 'b', 'c', 'd')",
        "absent(kube_node_info or up)",
        "sum(kube_pod_info) - sum(up) > 0",
    ],
)
def test_what_fires_when_a_total_falls(expr: str) -> None:
    assert needs_all_leaves(expr)


@pytest.mark.parametrize(
    "expr",
    [
        "vector(1)",
        "up == 0",
        "node_load1 < 3",
        "sum(errors) > 3",
        "sum(rate(errors_total[5m])) / sum(rate(requests_total[5m])) > 0.05",
        "1 - sum(up) / count(up) > 0.5",
        "sum(up) < count(up)",
        "sum by (namespace, pod) (rate(orders_total[5m])) < 1",
        "sum without (path) (rate(orders_total[5m])) < 1",
        "avg(rate(orders_total[5m])) < 1",
        "max(queue_age_seconds) < 1",
        "quantile(0.9, sum by (service) (x)) < 1",
        "histogram_quantile(0.99, sum by (le) (rate(x_bucket[5m]))) < 0.1",
        "changes(sum(up)[10m:]) < 1",
        "sum(up) % 2 < 1",
        "sum(up) == 3",
        "sum(up) < bool 3",
        "sum(kube_deployment_status_replicas_available) < 3",
        "sum(kube_pod_status_ready) or vector(0) < 3",
        "namespace_workload:kube_replicas_ready:sum < 3",
        "namespace_pod:container_cpu_usage_seconds:rate5m < 1",
        "node:node_memory_available:ratio < 0.1",
        "some:container_cpu_throttled:ratio_rate5m < 1",
        "not:recorded < 1",
        'absent(up{job="kube-state-metrics"} == 1)',
        "absent(kube_node_info)",
    ],
)
def test_what_says_something_true_even_so(expr: str) -> None:
    assert not needs_all_leaves(expr)


TOTALS = st.recursive(
    st.sampled_from(["sum(a)", "count(b)", "max(c)", "d", "sum(kube_x)", "vector(1)"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/", "or", "and"]), inner)
        | st.builds("round({})".format, inner)
        | st.builds("({} - {} * 5)".format, st.sampled_from(["5", "time()"]), inner)
    ),
    max_leaves=6,
)


@holds(TOTALS)
def test_a_comparison_turned_round_is_the_same(total: str) -> None:
    assert needs_all_leaves(f"{total} < 3") == needs_all_leaves(f"3 > {total}")
    assert not (needs_all_leaves(f"{total} < 3") and needs_all_leaves(f"{total} > 3"))


def platform_with(*found: Alert) -> Inputs:
    return inputs(
        [
            service("pay/api", metrics=Metrics("http"), alerts=found),
            service("shared/web", team="web", metrics=Metrics("http")),
        ],
        teams=[
            team(name, platform=name == "platform", receivers=(Receiver(PAGE, email=f"{name}@bank.example"),))
            for name in ("pay", "web", "platform")
        ],
        on=cluster(shards=2),
    )


def by_name(given: Inputs) -> dict[str, Rule]:
    return {rule.alert: rule for rule in alerts.rules(given)}


def held_back(source: Rule, target: Rule) -> bool:
    rules = read(bundle_content()).inhibitions
    return any(inhibits(rule, known_labels(source), known_labels(target)) for rule in rules)


def test_the_guard_holds_back_what_needs_all_leaves_and_nothing_else() -> None:
    found = by_name(
        platform_with(
            Alert(ReplicasBelow(3), PAGE),  # no workload is known, so the pods that answer are counted
            Alert(Expression("Quiet", "sum(rate(orders_total[5m])) < 1"), PAGE),
            Alert(Expression("Failing", "sum(rate(errors_total[5m])) > 1"), PAGE),
        )
    )
    guard = found[GUARD]
    assert guard.expr == "cluster:prometheus_leaves_up:count < cluster:prometheus_leaves_expected:count"
    assert guard.for_seconds == 0, "it must hold back before anything else fires"
    assert guard.labels["team"] == "platform"
    assert {name for name in found if held_back(guard, found[name])} == {
        "Quiet", "ReplicasBelow", "PilothouseDown", "AlertmanagerPeersMissing", "KubeStateMetricsDown",
    }  # fmt: skip
    assert found["Quiet"].labels["needs"] == "all-leaves"
    assert "needs" not in found["Failing"].labels
    elsewhere = replace(guard, labels={**guard.labels, "cluster": "other"})
    assert not held_back(elsewhere, found["Quiet"])


def test_a_missing_leaf_does_not_hold_back_what_kube_state_metrics_says() -> None:
    found = by_name(platform_with())
    for name in (GUARD, "PrometheusLeafDown"):
        assert not held_back(found[name], found["DeploymentIncomplete"])
    assert held_back(found["KubeStateMetricsDown"], found["DeploymentIncomplete"])
    assert not held_back(found["KubeStateMetricsDown"], found["MetricsUnreachable"])


def test_a_leaf_that_is_away_pages_once() -> None:
    """It took kube-state-metrics along; what pages about a leaf itself, or about anything else, is never held back."""
    found = by_name(platform_with())
    for name in (GUARD, "PrometheusLeafDown"):
        source = found[name]
        assert held_back(source, found["KubeStateMetricsDown"])
        elsewhere = replace(source, labels={**source.labels, "cluster": "other"})
        assert not held_back(elsewhere, found["KubeStateMetricsDown"])
    leaf = found["PrometheusLeafDown"]
    pages = {name for name, rule in found.items() if rule.labels["severity"] == "page" and held_back(leaf, rule)}
    assert pages == {"KubeStateMetricsDown"}
    assert not any(held_back(rule, leaf) for rule in found.values())
    assert leaf.for_seconds < found["KubeStateMetricsDown"].for_seconds, "it must hold back before the other one fires"


def test_the_guard_is_evaluated_right_after_what_it_reads() -> None:
    given = platform_with()
    (group,) = derive(given, alerts.rules(given), ()).artifacts["prometheus/rules/global/shards.yaml"].data["groups"]
    names = [rule.get("record") or rule["alert"] for rule in group["rules"]]
    assert names == ["cluster:prometheus_leaves_expected:count", "cluster:prometheus_leaves_up:count", GUARD]


def test_rules_about_services_go_to_the_team_of_the_service() -> None:
    near = [rule for rule in alerts.rules(platform_with()) if rule.alert == "SampleLimitNear"]
    assert [(rule.labels["team"], rule.expr) for rule in near] == [
        ("pay", 'pod:scrape_samples:ratio_of_limit{team="pay"} > 0.8'),
        ("web", 'pod:scrape_samples:ratio_of_limit{team="web"} > 0.8'),
    ]
    given = platform_with()
    (group,) = derive(given, alerts.rules(given), ()).artifacts["prometheus/rules/leaf/scrape-pay.yaml"].data["groups"]
    assert [rule["alert"] for rule in group["rules"] if "alert" in rule] == ["SampleLimitNear"], "where its series lie"

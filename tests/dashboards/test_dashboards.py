"""Dashboards made of definitions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.builders import bundle_content, cluster, inputs, pod, service

from pilothouse.artifacts.write import serialise
from pilothouse.collectors import metrics
from pilothouse.dashboards import derive
from pilothouse.dashboards.content import read
from pilothouse.dashboards.derive import pods, uid
from pilothouse.dashboards.placeholders import fill, of_any
from pilothouse.inputs import Content, Inputs
from pilothouse.inventory.model import Owner
from pilothouse.platform.model import Alert, AlertSeverity, Endpoint, Exposure, Metrics, Servers, SqlLatencyAbove
from pilothouse.promql import analyse

SQL = Alert(SqlLatencyAbove("insert", 0.25, 0.99), AlertSeverity.TICKET)


def small(content: Content | None = None) -> Inputs:
    return inputs(
        [
            service("payments/api", metrics=Metrics("http"), alerts=(SQL,), exposure=Exposure.EDGE),
            service("payments/quiet"),
            service("a-b/c", team="payments"),
            service("a/b-c", team="risk", clusters=frozenset({"prod"})),
        ],
        pods=[
            pod("payments/api-5f-1", {"app": "api"}, owner=Owner("Deployment", "api")),
            pod("payments/api-5f-2", {"app": "api"}, owner=Owner("Deployment", "api")),
            pod("payments/api.single", {"app": "api"}),
        ],
        on=cluster("dev", servers=Servers(alertmanagers=(Endpoint("http://am.example"),))),
        content=content,
    )


def board(path: str, given: Inputs | None = None) -> Any:
    return json.loads(serialise(derive(given or small()).artifacts[f"dashboards/{path}.json"]))


def titles(data: Any) -> list[str]:
    return [panel["title"] for panel in data["panels"]]


def test_one_per_service_team_and_cluster(golden: Callable[[str, str], None]) -> None:
    derived = derive(small())
    assert derived.problems == ()
    assert sorted(derived.artifacts.documents) == [
        "dashboards/cluster-dev.json",
        "dashboards/service-a-b.c.json",
        "dashboards/service-payments.api.json",
        "dashboards/service-payments.quiet.json",
        "dashboards/team-payments.json",
    ]
    assert {b.path for b in derived.boards} == set(derived.artifacts.documents)
    for name in ("service-payments.api", "team-payments"):
        golden(f"dashboards/{name}.json", serialise(derived.artifacts[f"dashboards/{name}.json"]).decode())


def test_identities_are_stable_short_and_unlike() -> None:
    boards = derive(small()).boards
    assert len({b.uid for b in boards}) == len(boards)
    assert board("service-payments.api")["uid"] == "service_dev_payments_api"
    long = uid("service", "cluster", "a" * 40, "b")
    assert len(long) == 40
    assert long != uid("service", "cluster", "a" * 40, "c")


def test_panels_ask_for_the_subject() -> None:
    data = board("service-payments.api")
    exprs = [target["expr"] for panel in data["panels"] for target in panel.get("targets", [])]
    assert 'sum(namespace_service:up:sum{namespace="payments", service="api"})' in exprs
    assert not any("$" in expr for expr in exprs)
    for expr in exprs:
        assert analyse(expr).metrics
    assert data["title"] == "payments/api"
    assert data["templating"]["list"][0]["type"] == "datasource"
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in data["panels"] if panel["type"] != "row")
    assert len({panel["id"] for panel in data["panels"]}) == len(data["panels"])
    assert data["tags"] == ["pilothouse", "service"]


def test_rows_are_shown_where_the_service_has_what_they_need() -> None:
    assert {"Traffic", "SQL", "Latency by query, 99 %"} <= set(titles(board("service-payments.api")))
    assert not {"Traffic", "SQL", "Targets up"} & set(titles(board("service-payments.quiet")))
    other = small()
    prod_only = replace(SQL, clusters=frozenset({"prod"}))
    given = replace(
        other,
        platform=replace(
            other.platform, services={"a/b": service("a/b", metrics=Metrics("http"), alerts=(prod_only,))}
        ),
    )
    shown = titles(board("service-a.b", given))
    assert "Traffic" in shown
    assert "SQL" not in shown


def test_links_lead_to_cluster_team_and_portal() -> None:
    found = {link["title"]: link["url"] for link in board("service-payments.api")["links"]}
    assert found == {
        "Cluster": "/d/cluster_dev",
        "Team payments": "/d/team_dev_payments",
        "Portal": "https://pilothouse.example/catalogue/payments/api",
    }
    assert board("cluster-dev")["uid"] == "cluster_dev"
    assert board("team-payments")["uid"] == "team_dev_payments"


def test_pods_are_found_by_their_workloads() -> None:
    given = small()
    services = given.platform.services
    assert pods(given, services["payments/api"]) == "api-.+|api[.]single"
    assert pods(given, services["payments/quiet"]) == "quiet-.+"


def test_queries_ask_for_all_subjects() -> None:
    queries = derive(small()).queries
    assert not any("$" in query.expr for query in queries)
    assert "sum(namespace_service:up:sum)" in [query.expr for query in queries]
    assert all(query.used_by and query.place.line for query in queries)
    assert of_any('a{b="$c", d="e"} / on (x) f{g=~"${h}|i"}') == 'a{d="e"} / on (x) f'


def test_everything_that_dashboards_read_is_on_the_global() -> None:
    given = small()
    plan = metrics.plan(given, (), derive(given).queries)
    assert [p.code for p in plan.problems] == ["collectors/metrics-port-by-number"]
    needed = {user for match in plan.matches for user in match.needed_by}
    assert "service dashboard: CPU by pod" in needed


def test_placeholders_leave_words_of_grafana_alone() -> None:
    values = {"namespace": "a"}
    assert fill("$namespace ${namespace} $__rate_interval $1 $other", values) == "a a $__rate_interval $1 $other"


def test_the_same_inputs_give_the_same_bytes() -> None:
    first, second = derive(small()), derive(small())
    assert [serialise(d) for d in first.artifacts] == [serialise(d) for d in second.artifacts]


def test_one_value_of_each_file_reaches_the_output() -> None:
    base = bundle_content()

    def changed(path: str, old: str, new: str) -> Inputs:
        assert old in base.files[path].text
        return small(bundle_content({path: base.files[path].text.replace(old, new, 1)}))

    assert board("cluster-dev", changed("dashboards/defaults.yaml", "refresh: 1m", "refresh: 7m"))["refresh"] == "7m"
    assert "Herd" in titles(board("service-payments.api", changed("dashboards/service.yaml", "Pods ready", "Herd")))
    given = changed("alerts/links.yaml", "https://pilothouse.example", "https://p.example/")
    assert board("team-payments", given)["links"][1]["url"] == "https://p.example/catalogue/?team=payments"


def test_a_platform_adds_definitions_of_its_own() -> None:
    text = """
kind: service
name: ingress
title: "Edge of $namespace/$service"
rows:
  - title: Edge
    needs: [edge]
    panels:
      - title: Requests
        type: table
        min: 0
        max: 10
        thresholds: [{value: 1.5, color: red}]
        targets: [{expr: 'x{service="$service"}', legend: a}, {expr: 'y', legend: b}]
  - title: Always
    panels: [{title: Down, targets: [{expr: '-x'}]}]
"""
    given = small(bundle_content({"dashboards/edge.yaml": text}))
    data = board("service-payments.api.ingress", given)
    assert data["title"] == "Edge of payments/api"
    assert data["uid"] == "service_dev_payments_api_ingress"
    assert titles(data) == ["Edge", "Requests", "Always", "Down"]
    requests = data["panels"][1]
    assert requests["fieldConfig"]["defaults"]["max"] == 10
    assert [step["value"] for step in requests["fieldConfig"]["defaults"]["thresholds"]["steps"]] == [None, 1.5]
    assert [target["refId"] for target in requests["targets"]] == ["A", "B"]
    assert "min" not in data["panels"][3]["fieldConfig"]["defaults"]
    assert titles(board("service-payments.quiet.ingress", given)) == ["Always", "Down"]


HEAD = "kind: team\ntitle: T\nrows:\n  - title: R\n    panels:\n"


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        (HEAD + "      - {title: P, targets: [{expr: up}], units: s}\n", "dashboards/unknown-field", 6),
        (HEAD + "      - {title: P}\n", "dashboards/missing-field", 6),
        (HEAD + "      - {title: P, type: tabel, targets: [{expr: up}]}\n", "dashboards/bad-value", 6),
        (HEAD + "      - {title: P, targets: [{expr: 'up +'}]}\n", "promql/syntax", 6),
        (HEAD + "      - {title: P, targets: [{expr: 'x{a=\"$service\"}'}]}\n", "dashboards/unknown-placeholder", 6),
        (HEAD + "      - {title: P, needs: [sql], targets: [{expr: up}]}\n", "dashboards/bad-value", 1),
        (HEAD + "      - {title: P, targets: [{expr: up}]}\n", "dashboards/duplicate-definition", 1),
        ("kind: team\ntitle: [\n", "source/yaml-syntax", 2),
    ],
)
def test_mistakes_have_a_place(text: str, code: str, line: int) -> None:
    if code != "dashboards/duplicate-definition":
        text = text.replace("title: T", "title: T\nname: own", 1)
        line += 1 if line > 1 else 0
    derived = derive(small(bundle_content({"dashboards/zz.yaml": text})))
    assert [p.code for p in derived.problems] == [code]
    (problem,) = derived.problems
    assert problem.place.path == "dashboards/zz.yaml"
    assert problem.place.line == line
    assert problem.hint


def test_the_portal_needs_an_address() -> None:
    _, _, problems = read(bundle_content({"alerts/links.yaml": "portalUrl: pilothouse\n"}))
    assert [problem.code for problem in problems] == ["alerts/bad-value"]


def test_without_content_there_are_no_dashboards() -> None:
    derived = derive(small(Content()))
    assert len(derived.artifacts) == 0
    assert derived.problems == ()

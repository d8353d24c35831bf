"""The files of a cluster: configuration of leaves and global, rules, federation, and what is found on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.builders import bundle_content, cluster, inputs, pod, service
from support.relabel import relabel

from pilothouse import collectors
from pilothouse.artifacts.write import serialise
from pilothouse.collectors.metrics import derive, plan
from pilothouse.collectors.metrics.content import read
from pilothouse.collectors.metrics.explain import targets
from pilothouse.collectors.metrics.federation import MOST_PER_NAME, matches
from pilothouse.collectors.metrics.model import Job
from pilothouse.collectors.metrics.placement import place
from pilothouse.collectors.metrics.rules import file_name, unsupported
from pilothouse.inputs import Content, Inputs
from pilothouse.inventory.model import ContainerPort
from pilothouse.platform.model import Endpoint, Metrics, Servers, Versions
from pilothouse.problems import Severity
from pilothouse.promql import Query, Rule

ALERTMANAGERS = Servers(
    alertmanagers=(Endpoint("http://am-0.monitoring.svc:9093"), Endpoint("https://am.example/x/", "/token", "/ca"))
)
RULES = (
    Rule("payments", "max(queue_age_seconds) > 600", alert="QueueStuck", for_seconds=600, keep_firing_seconds=60,
         labels={"team": "payments"}, annotations={"summary": "s"}, owner="payments", service="payments/api"),
    Rule("payments", "up{service=\"api\"} == 0", alert="Down", labels={"team": "payments"}),
    Rule("base", "vector(1)", alert="Watchdog", labels={"team": "platform"}, side="global"),
)  # fmt: skip


def small(**fields: Any) -> Inputs:
    fields.setdefault("shards", 2)
    fields.setdefault("servers", ALERTMANAGERS)
    return inputs(
        [service("payments/api", metrics=Metrics("http", series_per_pod=2000)), service("payments/quiet")],
        pods=[pod("payments/api.1", ports=(ContainerPort("http", 8080),))],
        on=cluster("dev", **fields),
    )


def document(given: Inputs, path: str, rules: tuple[Rule, ...] = RULES, queries: tuple[Query, ...] = ()) -> Any:
    return derive(given, rules, queries).artifacts[path].data


def codes(given: Inputs, rules: tuple[Rule, ...] = (), queries: tuple[Query, ...] = ()) -> list[str]:
    return [problem.code for problem in plan(given, rules, queries).problems]


def test_a_file_per_leaf_the_global_and_their_rules(golden: Callable[[str, str], None]) -> None:
    derived = derive(small(), RULES, (Query("sum by (code) (namespace_service_code:http_requests:sum_rate5m)", "d"),))
    assert derived.problems == ()
    for path in ("leaf-1.yaml", "global.yaml", "rules/leaf/payments.yaml", "rules/global/payments.yaml",
                 "rules/leaf/shards.yaml", "rules/global/shards.yaml"):  # fmt: skip
        text = serialise(derived.artifacts[f"prometheus/{path}"]).decode()
        golden(f"collectors/prometheus/{path}", text)
    assert {p for p in derived.artifacts.documents if "leaf-" in p} == {
        "prometheus/leaf-0.yaml",
        "prometheus/leaf-1.yaml",
    }


def test_the_same_inputs_give_the_same_bytes() -> None:
    first, second = (derive(small(), RULES, ()) for _ in range(2))
    assert [serialise(d) for d in first.artifacts] == [serialise(d) for d in second.artifacts]


def test_metrics_and_logs_are_derived_together() -> None:
    derived = collectors.derive(small(), RULES, ())
    parts = {path.split("/")[0] for path in derived.artifacts.documents}
    assert {"prometheus", "fluentd", "elasticsearch"} <= parts


def test_leaves_differ_by_shard_and_kube_state_metrics_runs_once() -> None:
    leaves = [document(small(), f"prometheus/leaf-{n}.yaml") for n in range(2)]
    assert [leaf["global"]["external_labels"] for leaf in leaves] == [
        {"cluster": "dev", "prometheus_shard": "0"},
        {"cluster": "dev", "prometheus_shard": "1"},
    ]
    names = [[job["job_name"] for job in leaf["scrape_configs"]] for leaf in leaves]
    assert set(names[0]) - set(names[1]) == {"kube-state-metrics", "certificates"}
    assert "payments/api" in names[1]
    assert "payments/quiet" not in names[0]


def test_alerts_lose_shard_and_replica_and_watchdogs_keep_their_leaf() -> None:
    rules = document(small(), "prometheus/leaf-1.yaml")["alerting"]["alert_relabel_configs"]
    sent = {"prometheus_shard": "1", "prometheus_replica": "a", "cluster": "dev"}
    assert relabel({"alertname": "Down", **sent}, rules) == {"alertname": "Down", "cluster": "dev"}
    assert relabel({"alertname": "Watchdog", **sent}, rules) == {
        "alertname": "Watchdog",
        "cluster": "dev",
        "leaf": "1",
    }
    leaf_rules = document(small(), "prometheus/rules/leaf/shards.yaml")["groups"][0]["rules"]
    assert "Watchdog" in [rule.get("alert") for rule in leaf_rules]
    without = document(small(), "prometheus/leaf-1.yaml", rules=())["alerting"]["alert_relabel_configs"]
    assert [rule.get("action") for rule in without] == ["labeldrop"]


def test_alertmanagers_are_named_each() -> None:
    plain, tls = document(small(), "prometheus/global.yaml")["alerting"]["alertmanagers"]
    assert plain == {"static_configs": [{"targets": ["am-0.monitoring.svc:9093"]}]}
    assert tls == {
        "scheme": "https",
        "path_prefix": "/x",
        "authorization": {"credentials_file": "/token"},
        "tls_config": {"ca_file": "/ca"},
        "static_configs": [{"targets": ["am.example:443"]}],
    }
    bare = small(servers=Servers(alertmanagers=(Endpoint("http://am.example"),)))
    assert document(bare, "prometheus/global.yaml")["alerting"]["alertmanagers"] == [
        {"static_configs": [{"targets": ["am.example:80"]}]}
    ]


def test_no_alertmanager_is_a_warning() -> None:
    given = small(servers=Servers())
    assert codes(given) == ["collectors/no-alertmanager"]
    assert "alerting" not in document(given, "prometheus/global.yaml")


def federated(series: dict[str, str]) -> dict[str, str] | None:
    (job,) = document(small(), "prometheus/global.yaml")["scrape_configs"]
    # honor_labels: the target's labels only where the series has none.
    return relabel({"job": "federate", **series}, job["metric_relabel_configs"])


def test_federated_series_look_as_on_the_leaf() -> None:
    outer = {"cluster": "dev", "prometheus_shard": "1"}
    assert federated({"__name__": "a:b:c", "x": "y", **outer}) == {"__name__": "a:b:c", "x": "y"}
    assert federated({"__name__": "up", "job": "a/b", **outer}) == {"__name__": "up", "job": "a/b"}
    assert federated({"__name__": "es", "cluster": "es-1", "prometheus_shard": "1"}) == {
        "__name__": "es",
        "cluster": "es-1",
    }
    assert federated({"__name__": "leaf:partial:sum", "partial": "p", **outer}) == {
        "__name__": "leaf:partial:sum",
        "partial": "p",
        "prometheus_shard": "1",
    }


def test_the_global_asks_every_leaf_in_parts() -> None:
    content = bundle_content()
    text = content.files["collectors/federation.yaml"].text
    changed = bundle_content(
        {"collectors/federation.yaml": text.replace("matchesPerRequest: 200", "matchesPerRequest: 9")}
    )
    jobs = document(replace(small(), content=changed), "prometheus/global.yaml")["scrape_configs"]
    assert [job["job_name"] for job in jobs][:2] == ["federate", "federate-1"]
    assert len(jobs) > 2
    assert all(len(job["params"]["match[]"]) <= 9 for job in jobs)
    assert jobs[0]["static_configs"] == [
        {"targets": ["prometheus-leaf-0.monitoring.svc:9090", "prometheus-leaf-1.monitoring.svc:9090"]}
    ]


def test_an_older_prometheus_gets_no_field_that_it_refuses() -> None:
    old = small(versions=Versions(prometheus="2.45"))
    assert "keep_dropped_targets" not in document(old, "prometheus/leaf-0.yaml")["global"]
    assert "track_timestamps_staleness" not in document(old, "prometheus/global.yaml")["scrape_configs"][0]
    assert "keep_dropped_targets" in document(small(), "prometheus/leaf-0.yaml")["global"]


# ---------------------------------------------------------------- match[]

JOBS = (Job("kube-state-metrics", "pod", metrics=("kube_",)),)


def asked(*exprs: str, rules: tuple[Rule, ...] = ()) -> list[str]:
    placement = place([*rules, *(Rule("g", e, alert=f"A{n}", side="global") for n, e in enumerate(exprs))], JOBS)
    found, problems = matches(placement, ())
    assert problems == ()
    return [match.selector for match in found]


def test_match_is_exactly_what_is_read() -> None:
    assert asked("topk(3, foo) > on (a) absent(bar)") == ['{__name__="bar"}', '{__name__="foo"}']
    assert asked('topk(3, foo{a="b"})') == ['{__name__="foo",a="b"}']
    assert asked('topk(3, foo{a="b"})', 'topk(3, foo{a="c"})') == ['{__name__="foo",a="b"}', '{__name__="foo",a="c"}']
    assert asked('topk(3, foo{a="b"})', "topk(3, foo)") == ['{__name__="foo"}']
    assert asked('up{job=~"federate.*"} == 0') == []
    assert asked("{'a.b'} > topk(1, x)") == ['{__name__="a.b"}', '{__name__="x"}']


def test_what_the_global_records_is_not_asked_for() -> None:
    rules = (Rule("r", "sum by (job) (foo)", record="job:foo:sum"), Rule("r", "foo", record="x:foo"))
    assert asked("job:foo:sum > 3 and on () x:foo", rules=rules) == [
        '{__name__="leaf:job:foo:sum"}',
        '{__name__="x:foo"}',
    ]


def test_many_matchers_become_what_they_have_in_common() -> None:
    few = [f'topk(3, foo{{a="{n}", b="c"}})' for n in range(MOST_PER_NAME)]
    assert len(asked(*few)) == MOST_PER_NAME
    assert asked(*few, 'topk(3, foo{a="z", b="c"})') == ['{__name__="foo",b="c"}']
    many = [f'topk(3, foo{{a="{n}"}})' for n in range(MOST_PER_NAME**2 + 1)]
    assert asked(*many) == ['{__name__="foo"}']


def test_everybody_who_needs_a_name_is_named() -> None:
    placement = place([Rule("g", "topk(3, foo)", alert="A"), Rule("g", "sum(foo)", record="x:foo:sum")], JOBS)
    found, _ = matches(placement, (Query("foo", "cluster dashboard: X"), Query("sum(", "broken")))
    assert [(m.selector, m.needed_by) for m in found] == [
        ('{__name__="foo"}', ("alert A", "cluster dashboard: X")),
        ('{__name__="leaf:x:foo:sum"}', ("rule x:foo:sum",)),
    ]


def test_a_selector_without_a_name_is_reported() -> None:
    rule = Rule("g", 'topk(3, {a="b"})', alert="A", owner="payments")
    found, problems = matches(place([rule], JOBS), (Query('{__name__=~"x.+"}', "d"),))
    assert found == ()
    assert [(p.code, p.severity, p.teams) for p in problems] == [
        ("collectors/unnamed-metric", Severity.ERROR, ("payments",)),
        ("collectors/unnamed-metric", Severity.WARNING, ()),
    ]


# ---------------------------------------------------------------- findings


@pytest.mark.parametrize(
    ("rule", "version", "code"),
    [
        (Rule("g", "up == 0", alert="A", keep_firing_seconds=60), "2.41", "collectors/prometheus-too-old"),
        (Rule("g", "up == 0", alert="A", keep_firing_seconds=60), "2.42", ""),
        (Rule("g", '{"a.b"} == 0', alert="A"), "2.53", "collectors/unsupported-by-version"),
        (Rule("g", '{"a.b"} == 0', alert="A"), "3.0", ""),
        (Rule("g", "sort_by_label(up, 'job')", alert="A"), "3.0", "collectors/experimental-function"),
    ],
)
def test_what_a_version_refuses(rule: Rule, version: str, code: str) -> None:
    found = [problem.code for problem in unsupported([rule], version)]
    assert found[:1] == ([code] if code else [])


def test_a_refusal_names_the_first_version() -> None:
    (_, keep) = unsupported([Rule("g", "up == 0", alert="A", keep_firing_seconds=60, owner="t")], "2.41")
    assert "needs Prometheus 2.42; the cluster runs 2.41" in keep.message
    assert keep.teams == ("t",)


def test_too_many_shards_are_reported_and_rendered_as_many_as_possible() -> None:
    given = small(shards=65)
    assert codes(given) == ["collectors/bad-shards"]
    assert "prometheus/leaf-63.yaml" in derive(given, (), ()).artifacts
    assert codes(small(shards=0)) == ["collectors/bad-shards"]


def test_a_rule_held_on_leaves_that_see_a_part() -> None:
    held = Rule("g", "absent(node_foo)", alert="A", side="leaf", owner="t")
    assert codes(small(), (held,)) == ["collectors/not-shard-safe"]
    assert codes(small(shards=1), (held,)) == []
    assert codes(small(), (replace(held, expr="node_foo > 3"),)) == []


def test_names_that_nothing_yields() -> None:
    wrong = (Rule("g", "sum(a:b:c) > 3", alert="A"), Rule("g", 'up{job="nodes"} == 0', alert="B"))
    assert codes(small(), wrong) == ["collectors/unknown-recorded-name", "collectors/unknown-job"]
    unscraped = Rule("g", "sum(nodes_cpu) > 3", alert="C")
    assert codes(small(), (unscraped,)) == ["collectors/unknown-metric"]
    assert codes(small(), (replace(unscraped, expr='sum(anything{service!=""}) > 3'),)) == []
    own = tuple(replace(rule, service="payments/api") for rule in (*wrong, unscraped))
    assert codes(small(), own) == []
    assert codes(small(), (Rule("g", 'up{job="payments/api"} == 0', alert="B"),)) == []


def test_an_overloaded_leaf_and_a_port_by_number() -> None:
    given = inputs(
        [service("a/api", metrics=Metrics("http", series_per_pod=2_000_000))],
        pods=[pod("a/api.1")],
        on=cluster(servers=ALERTMANAGERS),
    )
    assert codes(given) == ["collectors/leaf-overloaded", "collectors/metrics-port-by-number"]
    by_number = inputs([service("a/api", metrics=Metrics("8080"))], pods=[pod("a/api.1")], on=small().cluster)
    assert codes(by_number) == []


def test_group_names_become_file_names() -> None:
    assert file_name("Team A / api") == "team-a-api"
    assert file_name("…") == "rules"


# ---------------------------------------------------------------- content


def test_one_value_of_each_file_reaches_the_output() -> None:
    base = bundle_content()

    def changed(path: str, old: str, new: str) -> Inputs:
        text = base.files[path].text
        assert old in text
        return replace(small(), content=bundle_content({path: text.replace(old, new, 1)}))

    given = changed("collectors/services.yaml", "interval: 30s", "interval: 17s")
    assert "17s" in serialise(derive(given, (), ()).artifacts["prometheus/leaf-0.yaml"]).decode()
    given = changed("collectors/scrape/coredns.yaml", "sampleLimit: 10000", "sampleLimit: 12321")
    assert "12321" in serialise(derive(given, (), ()).artifacts["prometheus/leaf-0.yaml"]).decode()
    given = changed("collectors/federation.yaml", "prometheus-leaf-", "shard-")
    assert "shard-0.monitoring" in serialise(derive(given, (), ()).artifacts["prometheus/global.yaml"]).decode()
    given = changed("collectors/recording/nodes.yaml", 'mode="idle"', 'mode="iowait"')
    assert "iowait" in serialise(derive(given, (), ()).artifacts["prometheus/rules/leaf/nodes.yaml"]).decode()


@pytest.mark.parametrize(
    ("path", "text", "code", "line"),
    [
        ("collectors/scrape/x.yaml", "job: x\ndiscover: {role: pod}\nsampelLimit: 3\n", "collectors/unknown-field", 3),
        ("collectors/scrape/x.yaml", "job: x\n", "collectors/missing-field", 1),
        ("collectors/scrape/x.yaml", "job: x\ndiscover: {role: pot}\n", "collectors/bad-value", 2),
        ("collectors/scrape/x.yaml", "job: kubelet\ndiscover: {role: node}\n", "collectors/duplicate-job", 1),
        ("collectors/scrape/x.yaml", "job: x\ninterval: 5s\ndiscover: {role: pod}\n", "collectors/bad-value", 1),
        ("collectors/services.yaml", "interval: 0s\n", "collectors/bad-value", 1),
        ("collectors/services.yaml", "interval: soon\n", "collectors/bad-value", 1),
        ("collectors/federation.yaml", "leafAddress: leaf:9090\n", "collectors/bad-value", 1),
        ("collectors/recording/x.yaml", "group: x\nrules:\n  - {record: a b, expr: up}\n", "collectors/bad-value", 3),
        ("collectors/recording/x.yaml", "group: x\nrules:\n  - {record: a, expr: up +}\n", "promql/syntax", 3),
        ("collectors/recording/x.yaml", "group: A B\nrules: []\n", "collectors/bad-value", 1),
        (
            "collectors/scrape/x.yaml",
            "job: x\ndiscover: {role: pod}\nrelabel: [{regex: (a, action: labeldrop}]\n",
            "collectors/bad-value",
            3,
        ),
        (
            "collectors/services.yaml",
            "metricRelabel:\n  - {source_labels: [a], regex: (?!b).+, action: drop}\n",
            "collectors/bad-value",
            2,
        ),
        ("collectors/recording/x.yaml", "group: [\n", "source/yaml-syntax", 2),
    ],
)
def test_mistakes_in_content_have_a_place(path: str, text: str, code: str, line: int) -> None:
    _, problems = read(bundle_content({path: text}))
    assert [(p.code, p.place.path, p.place.line) for p in problems] == [(code, path, line)]
    assert problems[0].hint


def test_without_content_there_are_defaults() -> None:
    settings, problems = read(Content())
    assert problems == ()
    assert settings.jobs == ()
    assert settings.federation.interval == 30


# ---------------------------------------------------------------- explanations


def test_how_a_service_is_scraped() -> None:
    given = inputs(
        [service("a/api", metrics=Metrics("http")), service("a/quiet")],
        pods=[
            pod("a/api.1", ports=(ContainerPort("http", 8080),)),
            pod("a/api.2"),
            pod("a/api.3", node=""),
        ],
        on=cluster(shards=3),
    )
    services = given.platform.services
    found = targets(given, services["a/api"])
    assert found is not None
    assert (found.job, found.port, found.sample_limit, found.interval) == ("a/api", "named http", 1200, 30)
    assert [(t.pod, t.leaf is not None, t.why) for t in found.targets] == [
        ("api.1", True, ""),
        ("api.2", False, "it names no port `http`"),
        ("api.3", False, "it has no node yet"),
    ]
    assert targets(given, services["a/quiet"]) is None
    numbered = targets(replace(given, snapshot=inputs([], pods=[pod("a/api.2")]).snapshot), services["a/api"])
    assert numbered is not None
    assert numbered.port == "number 8080"


# ---------------------------------------------------------------- where the leaves lie

LEAVES = (
    Endpoint("https://leaf-0.example/prom/", "/token", "/ca"),
    Endpoint("http://leaf-1.example:9090"),
    Endpoint("https://leaf-2.example:8443/prom", "/token", "/ca"),
    Endpoint("https://leaf-3.example", "/password", user="reader"),
)


def federation_jobs(given: Inputs) -> list[Any]:
    return list(document(given, "prometheus/global.yaml")["scrape_configs"])


def test_the_global_reads_the_leaves_where_the_cluster_says_that_they_lie() -> None:
    servers = replace(ALERTMANAGERS, leaves=LEAVES)
    first, second, third = federation_jobs(small(shards=4, servers=servers))
    assert [job["job_name"] for job in (first, second, third)] == ["federate", "federate-1", "federate-2"]
    assert first["static_configs"] == [{"targets": ["leaf-0.example:443", "leaf-2.example:8443"]}]
    assert (first["scheme"], first["metrics_path"]) == ("https", "/prom/federate")
    assert first["authorization"] == {"credentials_file": "/token"}
    assert first["tls_config"] == {"ca_file": "/ca"}
    assert second["static_configs"] == [{"targets": ["leaf-1.example:9090"]}]
    assert "scheme" not in second
    assert second["metrics_path"] == "/federate"
    assert third["basic_auth"] == {"username": "reader", "password_file": "/password"}
    assert first["params"] == second["params"] == third["params"]
    names = [rule["regex"] for job in (first, second, third) for rule in job["metric_relabel_configs"][:1]]
    assert names == ["federate", "federate-1", "federate-2"], "a job's name is taken off what has none of its own"


@pytest.mark.parametrize("leaves", [(), LEAVES[:1]])
def test_without_all_of_them_the_content_says_it(leaves: tuple[Endpoint, ...]) -> None:
    given = small(shards=2, servers=replace(ALERTMANAGERS, leaves=leaves))
    (job,) = federation_jobs(given)
    assert job["static_configs"][0]["targets"] == [f"prometheus-leaf-{n}.monitoring.svc:9090" for n in range(2)]
    assert ("collectors/leaves-differ" in codes(given)) == bool(leaves)

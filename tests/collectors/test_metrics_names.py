"""Every metric that a standard rule reads is one that a scrape job yields and keeps, or that a rule records."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.builders import bundle_content, cluster, inputs, service, team
from support.relabel import relabel, target

from pilothouse import alerts, dashboards
from pilothouse.collectors.metrics import plan
from pilothouse.collectors.metrics.content import read
from pilothouse.collectors.metrics.model import Job, Settings
from pilothouse.collectors.metrics.scrape import cluster_job, tls_servers
from pilothouse.collectors.metrics.spread import PER_TARGET, Locator
from pilothouse.inputs import Inputs
from pilothouse.platform.model import AlertSeverity, Endpoint, Metrics, Receiver, Servers
from pilothouse.promql import analyse

SERVERS = Servers(
    kubernetes=Endpoint("https://api.dev.example:6443", "/token", "/ca"),
    vault=Endpoint("https://vault.dev.example:8200"),
    prometheus=Endpoint("http://prometheus.dev.example"),
    alertmanagers=(Endpoint("https://am.dev.example"), Endpoint("http://am.dev.example")),
    grafana=Endpoint("https://am.dev.example/grafana"),
)


def everything(**content: str) -> Inputs:
    receivers = (Receiver(AlertSeverity.PAGE, email="a@bank.example"),)
    return inputs(
        [service("pay/api", metrics=Metrics("http"))],
        teams=[team("pay", receivers=receivers), team("platform", platform=True, receivers=receivers)],
        on=cluster(shards=2, servers=SERVERS),
        content=bundle_content(content),
    )


def asked() -> Iterator[tuple[str, str]]:
    """(metric, who reads it) of every standard rule, recording rule and dashboard."""
    given = everything()
    queries = dashboards.derive(given).queries
    placed = plan(given, alerts.rules(given), queries).placed
    readers = [(item.rule.name, item.rule.expr) for item in placed] + [(query.used_by, query.expr) for query in queries]
    for name, expr in readers:
        for selector in analyse(expr).selectors:
            of_service = any(matcher.name == "service" and matcher.wants_value for matcher in selector.matchers)
            recorded = ":" in selector.metric or selector.metric.startswith("ALERTS")
            if not of_service and not recorded and selector.metric not in PER_TARGET:
                yield selector.metric, name


def keeps(job: Job, metric: str) -> bool:
    return relabel({"__name__": metric, "id": "/x", "pod": "p"}, job.metric_relabel) is not None


def test_every_metric_that_is_read_is_scraped_and_kept() -> None:
    locator = Locator(settings().jobs, lambda name: None)
    names = dict(asked())
    assert len(names) > 60
    jobs = {metric: locator.job_of(metric) for metric in names}
    assert [f"{metric}, read by {names[metric]}" for metric, job in jobs.items() if job is None] == []
    dropped = [f"{metric} of {job.name}" for metric, job in jobs.items() if job is not None and not keeps(job, metric)]
    assert dropped == []
    assert plan(everything(), alerts.rules(everything()), ()).problems == ()


def settings() -> Settings:
    found, problems = read(bundle_content())
    assert problems == ()
    return found


def test_a_job_that_is_taken_away_is_missed() -> None:
    given = everything(**{"collectors/scrape/certificates.yaml": ""})
    found = [p for p in plan(given, alerts.rules(given), ()).problems if p.code == "collectors/unknown-metric"]
    assert {re.findall("`(.*?)`", problem.message)[0] for problem in found} == {
        "CertificateExpiresSoon",
        "CertificateExpiresNow",
    }


# ---------------------------------------------------------------- certificates of servers


def test_the_certificates_of_the_clusters_servers_are_looked_at() -> None:
    assert tls_servers(everything().cluster) == ("am.dev.example:443", "api.dev.example:6443", "vault.dev.example:8200")
    (job,) = [job for job in settings().jobs if job.prober]
    made = cluster_job(everything().cluster, job)
    assert made["metrics_path"] == "/probe"
    assert made["params"] == {"module": ["tls_connect"]}
    assert "authorization" not in made
    assert made["static_configs"] == [{"targets": list(tls_servers(everything().cluster))}]
    labels = relabel({"__address__": "vault.dev.example:8200"}, made["relabel_configs"])
    assert labels is not None
    assert labels["__param_target"] == "vault.dev.example:8200"
    assert target(labels) == {
        "__address__": "blackbox-exporter.monitoring.svc:9115",
        "instance": "vault.dev.example:8200",
    }


def test_without_https_servers_there_is_no_such_job() -> None:
    def names(servers: Servers) -> list[str]:
        from pilothouse.collectors.metrics import derive

        given = everything()
        bare = Inputs(given.platform, cluster(servers=servers), given.snapshot, given.content, given.today)
        leaf = derive(bare, (), ()).artifacts["prometheus/leaf-0.yaml"].data
        return [job["job_name"] for job in leaf["scrape_configs"]]

    assert "certificates" in names(SERVERS)
    assert "certificates" not in names(Servers(vault=Endpoint("http://vault.dev.example")))


@pytest.mark.parametrize(
    "text",
    [
        "job: a\ndiscover: {role: servers}\nshardBy: once",
        "job: a\ndiscover: {role: node}\nprober: b:9115",
        "job: a\ndiscover: {role: servers}\nprober: b:9115",
    ],
)
def test_a_prober_belongs_to_servers_and_to_one_leaf(text: str) -> None:
    _, problems = read(bundle_content({"collectors/scrape/zz.yaml": text}))
    assert [problem.code for problem in problems] == ["collectors/bad-value"]
    assert problems[0].hint

"""Scrape jobs, run through Prometheus' relabelling."""

from __future__ import annotations

from typing import Any

import pytest
from support.builders import bundle_content, cluster, inputs, pod, service
from support.relabel import relabel, target

from pilothouse.collectors.metrics.content import read
from pilothouse.collectors.metrics.model import Job, ServiceScrape, ShardBy
from pilothouse.collectors.metrics.scrape import (
    cluster_job,
    credentials,
    discovery,
    literal,
    replacement,
    service_job,
    sharded,
)
from pilothouse.collectors.metrics.shards import keep_bucket, leaf_of
from pilothouse.inventory.model import ContainerPort
from pilothouse.labels import LabelSelector, Requirement
from pilothouse.platform.model import Cluster, Endpoint, Metrics, Servers, Service, Versions


def found(labels: dict[str, str] | None = None, **more: str) -> dict[str, str]:
    """A pod as the discovery finds it: one target per container port."""
    meta = {
        "namespace": "a",
        "pod_name": "api-1",
        "pod_ip": "10.0.0.7",
        "pod_phase": "Running",
        "pod_node_name": "node-1",
        "pod_container_init": "false",
        "pod_container_port_name": "metrics",
        "pod_container_port_number": "9102",
        **more,
    }
    target_labels = {f"__meta_kubernetes_{name}": value for name, value in meta.items()}
    for key, value in ({"app": "api"} if labels is None else labels).items():
        name = "".join(c if c.isalnum() else "_" for c in key)
        target_labels[f"__meta_kubernetes_pod_label_{name}"] = value
        target_labels[f"__meta_kubernetes_pod_labelpresent_{name}"] = "true"
    return {"__address__": f"10.0.0.7:{meta['pod_container_port_number']}", **target_labels}


def job(
    declared: Service | None = None, pods: Any = (), on: Cluster | None = None, defaults: ServiceScrape | None = None
) -> dict[str, Any]:
    declared = declared or service("a/api", metrics=Metrics("metrics"), team="t")
    assert declared.metrics is not None
    given = inputs([declared], pods=pods, on=on)
    return service_job(given, declared, declared.metrics, defaults or ServiceScrape())


def scraped(made: dict[str, Any], labels: dict[str, str]) -> dict[str, str] | None:
    return target(relabel(labels, made["relabel_configs"]))


def test_a_pod_gets_its_identity() -> None:
    assert scraped(job(), found()) == {
        "__address__": "10.0.0.7:9102",
        "namespace": "a",
        "pod": "api-1",
        "node": "node-1",
        "service": "api",
        "team": "t",
    }


@pytest.mark.parametrize(
    "labels",
    [
        found({"app": "other"}),
        found({"app": "api2"}),
        found({}),
        found(pod_phase="Succeeded"),
        found(pod_phase="Failed"),
        found(pod_container_init="true"),
        found(pod_container_port_name="http"),
    ],
)
def test_other_pods_finished_ones_and_other_ports_are_dropped(labels: dict[str, str]) -> None:
    assert scraped(job(), labels) is None


SELECTOR = LabelSelector(
    (("app.kubernetes.io/name", "a.b"),),
    (
        Requirement("tier", "In", ("x", "y.z")),
        Requirement("track", "NotIn", ("canary", "old")),
        Requirement("live", "Exists"),
        Requirement("gone", "DoesNotExist"),
    ),
)
GOOD = {"app.kubernetes.io/name": "a.b", "tier": "y.z", "live": ""}


@pytest.mark.parametrize(
    "labels",
    [
        GOOD,
        {**GOOD, "tier": "x"},
        {**GOOD, "track": "stable"},
        {**GOOD, "track": ""},
        {**GOOD, "track": "canary"},
        {**GOOD, "tier": "yxz"},
        {**GOOD, "gone": ""},
        {**GOOD, "app.kubernetes.io/name": "axb"},
        {key: value for key, value in GOOD.items() if key != "live"},
        {key: value for key, value in GOOD.items() if key != "tier"},
    ],
)
def test_the_relabelling_selects_what_the_selector_selects(labels: dict[str, str]) -> None:
    made = job(service("a/api", metrics=Metrics("metrics"), pod_selector=SELECTOR))
    assert (scraped(made, found(labels)) is not None) == SELECTOR.matches(labels)


@pytest.mark.parametrize("labels", [{"a": ""}, {"a": "x"}, {}])
def test_an_empty_value_is_not_an_absent_label(labels: dict[str, str]) -> None:
    selector = LabelSelector.of({"a": ""})
    made = job(service("a/api", metrics=Metrics("metrics"), pod_selector=selector))
    assert (scraped(made, found(labels)) is not None) == selector.matches(labels)


@pytest.mark.parametrize(("ip", "address"), [("10.0.0.7", "10.0.0.7:9102"), ("fd00::7", "[fd00::7]:9102")])
def test_a_port_by_number_makes_one_target_of_all_ports(ip: str, address: str) -> None:
    made = job(service("a/api", metrics=Metrics("9102")))
    targets = [
        scraped(made, found(pod_ip=ip, pod_container_port_name=name, pod_container_port_number=number))
        for name, number in (("http", "8080"), ("", "9000"), ("metrics", "9102"))
    ]
    assert targets[0] is not None
    assert targets[0]["__address__"] == address
    assert all(found == targets[0] for found in targets)


def test_the_name_holds_as_long_as_some_pod_has_it() -> None:
    declared = service("a/api", metrics=Metrics("http"))  # declared as http 8080
    named = pod("a/api.1", ports=(ContainerPort("http", 9999),))
    nameless = pod("a/api.2", ports=(ContainerPort("web", 8080),))
    names = [rule.get("source_labels", []) for rule in job(declared, [named, nameless])["relabel_configs"]]
    assert "__meta_kubernetes_pod_container_port_name" in names[0]
    made = job(declared, [nameless])
    kept = scraped(made, found(pod_container_port_name="web", pod_container_port_number="8080"))
    assert kept is not None
    assert kept["__address__"] == "10.0.0.7:8080"


def test_a_pod_is_kept_by_the_leaf_of_its_node_only() -> None:
    made = job(on=cluster(shards=4))
    for node in ("node-1", "node-2", "node-3"):
        kept = [
            leaf
            for leaf in range(4)
            if relabel(found(pod_node_name=node), sharded(made, keep_bucket(leaf, 4))["relabel_configs"])
        ]
        assert kept == [leaf_of(node, 4)]


def test_limits_times_and_path_follow_the_declaration() -> None:
    made = job(
        service("a/api", metrics=Metrics("metrics", "/m", series_per_pod=1001, interval=5)),
        defaults=ServiceScrape(label_limit=30, label_value_length_limit=200, fallback_scrape_protocol="P"),
    )
    assert made["job_name"] == "a/api"
    assert made["sample_limit"] == 1202  # 1001 × 1.2, rounded up
    assert (made["scrape_interval"], made["scrape_timeout"]) == ("5s", "5s")
    assert made["metrics_path"] == "/m"
    assert (made["label_limit"], made["label_value_length_limit"]) == (30, 200)
    assert made["fallback_scrape_protocol"] == "P"
    assert "metrics_path" not in job()
    assert "label_limit" not in job()


def test_an_older_prometheus_gets_no_field_that_it_refuses() -> None:
    old = cluster(versions=Versions(prometheus="2.53"))
    assert "fallback_scrape_protocol" not in job(on=old, defaults=ServiceScrape(fallback_scrape_protocol="P"))


def test_jobs_of_a_namespace_share_their_discovery() -> None:
    a, b = service("a/api", metrics=Metrics("metrics")), service("a/web", metrics=Metrics("http"))
    assert job(a)["kubernetes_sd_configs"] == job(b)["kubernetes_sd_configs"]
    assert job(a)["kubernetes_sd_configs"] == [{"role": "pod", "namespaces": {"names": ["a"]}}]


KUBERNETES = Endpoint("https://k8s.example:6443", token_file="/t", ca_file="/ca")


def test_tokens_and_authorities_come_from_the_cluster() -> None:
    on = cluster(servers=Servers(kubernetes=KUBERNETES))
    assert discovery(on, "node") == {
        "role": "node",
        "api_server": "https://k8s.example:6443",
        "authorization": {"credentials_file": "/t"},
        "tls_config": {"ca_file": "/ca"},
    }
    assert credentials(Endpoint("https://x.example")) == {}
    assert credentials(Endpoint("https://x.example"), True) == {"tls_config": {"insecure_skip_verify": True}}
    kubelet = Job("kubelet", "node", scheme="https", authorized=True)
    assert cluster_job(on, kubelet)["authorization"] == {"credentials_file": "/t"}
    within = cluster_job(cluster(), kubelet)
    assert within["authorization"]["credentials_file"].startswith("/var/run/secrets/kubernetes.io/")
    assert "authorization" not in within["kubernetes_sd_configs"][0]


def test_jobs_of_the_cluster() -> None:
    node = cluster_job(cluster(), Job("kubelet", "node", sample_limit=5, path="/p", params={"a": ("b",)}))
    assert node["sample_limit"] == 5
    assert node["metrics_path"] == "/p"
    assert node["params"] == {"a": ["b"]}
    labels = {"__address__": "10.0.0.1:10250", "__meta_kubernetes_node_name": "node-1"}
    assert target(relabel(labels, node["relabel_configs"])) == {"__address__": "10.0.0.1:10250", "node": "node-1"}
    exporter = Job("dns", "pod", selector={"app": "api"}, port="metrics", pod_labels=True)
    made = target(relabel(found(), cluster_job(cluster(), exporter)["relabel_configs"]))
    assert made == {"__address__": "10.0.0.7:9102", "namespace": "a", "pod": "api-1", "node": "node-1"}
    by_number = Job(
        "dns", "pod", selector={"app": "api"}, port="9102", relabel=({"regex": "x", "action": "labeldrop"},)
    )
    assert target(relabel(found(pod_container_port_name=""), cluster_job(cluster(), by_number)["relabel_configs"]))


def test_portal_and_worker_of_one_pod_are_scraped_each_at_its_port() -> None:
    settings, problems = read(bundle_content())
    assert problems == ()
    jobs = {item.name: item for item in settings.jobs}
    ports = {"http": "8420", "metrics": "8421"}
    reached = {}
    for name in ("pilothouse", "pilothouse-worker"):
        rules = cluster_job(cluster(), jobs[name])["relabel_configs"]
        for port, number in ports.items():
            labels = found(
                {"app.kubernetes.io/name": "pilothouse"}, pod_container_port_name=port, pod_container_port_number=number
            )
            if kept := relabel(labels, rules):
                reached[name, port] = target(kept)["__address__"]
    assert reached == {("pilothouse", "http"): "10.0.0.7:8420", ("pilothouse-worker", "metrics"): "10.0.0.7:8421"}


def test_a_job_that_runs_once_is_not_hashed() -> None:
    once = cluster_job(cluster(), Job("ksm", "pod", shard_by=ShardBy.ONCE, honor_labels=True))
    assert once["honor_labels"] is True
    assert sharded(once, keep_bucket(1, 4)) == once
    assert target(relabel(found(), once["relabel_configs"])) == {"__address__": "10.0.0.7:9102"}


def test_an_address_is_hashed_as_it_is() -> None:
    made = cluster_job(cluster(), Job("api", "endpointslice", shard_by=ShardBy.ADDRESS))
    kept = [
        leaf
        for leaf in range(3)
        if relabel({"__address__": "10.0.0.1:6443"}, sharded(made, keep_bucket(leaf, 3))["relabel_configs"])
    ]
    assert kept == [leaf_of("10.0.0.1:6443", 3)]


def test_texts_are_taken_literally() -> None:
    assert literal("a.b+c$") == r"a\.b\+c\$"
    assert replacement("a$1") == "a$$1"

"""The stack's documents: the bank for one cluster on loopback, in a hurry, with nothing left that names another one."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support import policy_kinds

from pilothouse.files.content import example
from pilothouse.files.git import Repository
from pilothouse.platform.model import Platform, SqlLatencyAbove
from pilothouse.problems import has_errors
from pilothouse.promql import parse_duration
from pilothouse.workflows import rendering

PODS = "127.99.0.0/16"


@pytest.fixture
def stack(root: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The modules of tools/stack."""
    monkeypatch.syspath_prepend(str(root / "tools"))
    from stack import bank, load, workloads

    return SimpleNamespace(bank=bank, load=load, workloads=workloads)


def addresses(stack: SimpleNamespace, folder: Path, leaves: tuple[str, ...] = ()) -> Any:
    return stack.bank.Addresses(
        api="https://127.0.0.1:6443",
        api_token=folder / "token",
        api_ca=folder / "ca.crt",
        vault="http://127.0.0.1:8200",
        elasticsearch="http://127.0.0.1:9200",
        elasticsearch_user="elastic",
        elasticsearch_password=folder / "password",
        leaves=leaves or ("http://127.0.0.1:19090", "http://127.0.0.1:19091"),
        prometheus="http://127.0.0.1:19100",
        alertmanager="http://127.0.0.1:9093",
        hook="http://127.0.0.1:9999",
        portal="http://127.0.0.1:8420",
        pods=PODS,
    )


@pytest.fixture
def written(stack: SimpleNamespace, tmp_path: Path) -> rendering.Opened:
    return rendering.open_platform(stack.bank.write(tmp_path / "platform", addresses(stack, tmp_path)))


def bank() -> Platform:
    return rendering.open_platform(example()).loaded.platform


def test_the_platform_derives_without_an_error(written: rendering.Opened, stack: SimpleNamespace) -> None:
    assert written.clusters() == (stack.bank.CLUSTER,)
    result = rendering.check(written, (), datetime.now(UTC).date())
    assert not has_errors(result.all_problems), [str(item) for item in result.all_problems]
    assert Repository(written.root).is_repository()
    assert Repository(written.root).head()


def test_everything_lies_on_this_machine(written: rendering.Opened, stack: SimpleNamespace, tmp_path: Path) -> None:
    _, derived = rendering.derive_cluster(written, stack.bank.CLUSTER, datetime.now(UTC).date())
    documents = {document.path: document.data for document in derived.artifacts if "prometheus/" in document.path}
    federated = documents["prometheus/global.yaml"]["scrape_configs"][0]["static_configs"]
    assert federated == [{"targets": ["127.0.0.1:19090", "127.0.0.1:19091"]}]
    discovered = documents["prometheus/leaf-1.yaml"]["scrape_configs"][-1]["kubernetes_sd_configs"]
    assert discovered[0]["authorization"] == {"credentials_file": str(tmp_path / "token")}
    routing = next(item.data for item in derived.artifacts if item.path == "alertmanager/alertmanager.yaml")
    hooks = {item["url"] for receiver in routing["receivers"] for item in receiver.get("webhook_configs", ())}
    assert "http://127.0.0.1:9999/payments-page" in hooks
    assert {url.rsplit("/", 1)[0] for url in hooks} == {"http://127.0.0.1:9999"}
    for receiver in routing["receivers"]:
        assert set(receiver) == {"name", "webhook_configs"}, f"{receiver['name']} is told elsewhere"


def test_what_holds_is_what_prod_declares(written: rendering.Opened, stack: SimpleNamespace) -> None:
    like = bank()
    assert written.loaded.platform.services.keys() == like.services.keys()
    for key, service in written.loaded.platform.services.items():
        declared = like.services[key]
        assert len(service.egress) == len([item for item in declared.egress if item.holds_on(stack.bank.LIKE)]), key
        kept = [item for item in declared.alerts if item.holds_on(stack.bank.LIKE)]
        assert [item.condition for item in service.alerts] == [item.condition for item in kept]
        for alert, before in zip(service.alerts, kept, strict=True):
            assert alert.for_seconds <= max(before.for_seconds / stack.bank.HASTE, stack.bank.INTERVAL)


def test_calicos_kinds_are_those_that_the_api_server_is_given(
    written: rendering.Opened, stack: SimpleNamespace
) -> None:
    group, _, version = stack.bank.CALICO.partition("/")
    kinds = policy_kinds.of(group)
    assert {kind.version for kind in kinds} == {version}
    given = {kind.name for kind in kinds}
    _, derived = rendering.derive_cluster(written, stack.bank.CLUSTER, datetime.now(UTC).date())
    found = {
        item["kind"] for document in derived.artifacts for item in _manifests(document.data)
        if item.get("apiVersion") == stack.bank.CALICO
    }  # fmt: skip
    assert {"GlobalNetworkSet", "StagedKubernetesNetworkPolicy"} <= found <= given


def _manifests(data: Any) -> list[dict[str, Any]]:
    """The objects of a document, which holds one or several."""
    return [item for item in (data if isinstance(data, list | tuple) else (data,)) if isinstance(item, dict)]


def test_alerts_of_the_bundle_hurry_too(stack: SimpleNamespace, tmp_path: Path, root: Path) -> None:
    laid = stack.bank.content(addresses(stack, tmp_path))
    waits = [parse_duration(rule["for"]) for name, file in laid.items() if "alerts/rules" in name
             for rule in file["rules"] if "for" in rule]  # fmt: skip
    slow = [parse_duration(rule["for"]) for path in (root / "alerts" / "rules").glob("*.yaml")
            for rule in yaml.safe_load(path.read_text(encoding="utf-8"))["rules"] if "for" in rule]  # fmt: skip
    assert len(waits) == len(slow) > 30
    assert max(waits) == max(slow) / stack.bank.HASTE


def test_leaves_must_count_from_0(stack: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not count from 0"):
        stack.bank.content(addresses(stack, tmp_path, ("http://127.0.0.1:19091", "http://127.0.0.1:19095")))


# ---------------------------------------------------------------- what runs


def test_every_pod_has_an_address_of_its_own(stack: SimpleNamespace) -> None:
    platform = bank()
    built = stack.workloads.build(platform, (), PODS)
    pods = [item for item in built.objects if item["kind"] == "Pod"]
    found = [item["metadata"]["annotations"][stack.workloads.IP_ANNOTATION] for item in pods]
    assert len(found) == len(set(found)) > 50
    assert all(ipaddress.ip_address(item) in ipaddress.ip_network(PODS) for item in found)
    # Nothing runs of a service that lives by its Jobs, and those of no metrics are not asked.
    assert set(built.scraped) == {key for key, item in platform.services.items() if item.metrics}
    assert len(built.scraped["payments/payments"]) == 3


def test_workloads_hold_as_many_as_they_say(stack: SimpleNamespace) -> None:
    objects = stack.workloads.build(bank(), (), PODS).objects
    pods = [item for item in objects if item["kind"] == "Pod"]
    for item in objects:
        if item["kind"] in ("Deployment", "StatefulSet"):
            wanted = item["spec"]["selector"]["matchLabels"].items()
            own = [pod for pod in pods if pod["metadata"]["namespace"] == item["metadata"]["namespace"]
                   and wanted <= pod["metadata"]["labels"].items()]  # fmt: skip
            assert len(own) == item["spec"]["replicas"], item["metadata"]


def test_a_real_server_is_a_pod_on_loopback(stack: SimpleNamespace) -> None:
    real = stack.workloads.Real("monitoring", "p-0", {"app": "p"}, "web", 9090)
    pod = stack.workloads.build(bank(), [real], PODS).objects[-1]
    assert pod["metadata"]["annotations"] == {stack.workloads.IP_ANNOTATION: "127.0.0.1"}
    assert pod["spec"]["containers"][0]["ports"] == [{"name": "web", "containerPort": 9090}]


class Api:
    """Answers as an API server with one Deployment of two pods, and remembers what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.pods = [self._pod("a", "True"), self._pod("b", "False")]

    @staticmethod
    def _pod(name: str, ready: str) -> dict[str, Any]:
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}
        return {"metadata": {"namespace": "n", "name": name, "labels": {"app": "x"}}, "status": status}

    def get(self, path: str) -> Any:
        workload = {
            "metadata": {"namespace": "n", "name": "x"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "x"}}},
        }
        return {"items": {"/api/v1/pods": self.pods, "/apis/apps/v1/deployments": [workload]}.get(path, [])}

    def send(self, method: str, path: str, body: Any, content_type: str) -> None:
        assert (method, content_type) == ("PATCH", "application/merge-patch+json")
        self.sent.append((path, body))


def test_the_controller_says_what_the_pods_are(stack: SimpleNamespace) -> None:
    api, exporter = Api(), SimpleNamespace(gauges={})
    controller = stack.workloads.Controller(api, exporter)
    controller.look()
    labels = (("namespace", "n"), ("deployment", "x"))
    assert exporter.gauges["kube_deployment_spec_replicas", labels] == 3
    assert exporter.gauges["kube_deployment_status_replicas_available", labels] == 1
    not_ready = (("namespace", "n"), ("pod", "b"), ("condition", "true"))
    assert exporter.gauges["kube_pod_status_ready", not_ready] == 0
    ((path, body),) = api.sent
    assert path == "/apis/apps/v1/namespaces/n/deployments/x/status"
    assert (body["status"]["replicas"], body["status"]["readyReplicas"]) == (2, 1)
    controller.look()
    assert len(api.sent) == 1, "what has not changed is not sent again"


# ---------------------------------------------------------------- what it does


@pytest.fixture
def pager(stack: SimpleNamespace) -> Iterator[Any]:
    made = stack.load.Pager()
    yield made
    made.close()


def test_the_pager_keeps_what_came(pager: Any) -> None:
    from support.bed.web import request
    from support.demo import until

    alert = {"labels": {"alertname": "ReplicasBelow", "namespace": "payments", "service": "payments"}}
    request(f"{pager.url}/payments-page", "POST", {"status": "firing", "alerts": [alert]})
    request(f"{pager.url}/watchdog-stack-0", "POST", {"status": "firing", "alerts": [{"labels": {}}]})
    until(lambda: pager.watchdogs, 10)
    (told,) = pager.read()
    assert (told.receiver, told.status, told.alerts) == (
        "payments-page", "firing", (("ReplicasBelow", "payments/payments"),)
    )  # fmt: skip
    assert "payments-page" in str(told)
    assert list(pager.watchdogs) == ["watchdog-stack-0"]


def test_a_healthy_service_is_within_its_limits(stack: SimpleNamespace) -> None:
    checked = 0
    for service in bank().services.values():
        exporter = Counted()
        stack.load.healthy(exporter, service, 2)
        for alert in service.alerts:
            if isinstance(limit := alert.condition, SqlLatencyAbove):
                buckets = exporter.buckets(limit.query)
                quick = max(rate for le, rate in buckets.items() if le <= limit.seconds)
                assert quick / buckets[math.inf] >= limit.quantile, f"{service.key} {limit.query}"
                checked += 1
    assert checked >= 5


class Counted:
    """Remembers what an exporter is told to count."""

    def __init__(self) -> None:
        self.rates: dict[tuple[str, str, str], float] = {}

    def count(self, name: str, rate: float, **labels: str) -> None:
        self.rates[name, labels.get("query", ""), labels.get("le", "")] = rate

    def set(self, name: str, value: float) -> None:
        assert value >= 0, name

    def buckets(self, query: str) -> dict[float, float]:
        """By upper bound."""
        wanted = ("sql_query_duration_seconds_bucket", query)
        return {float(le): rate for (name, of, le), rate in self.rates.items() if (name, of) == wanted}

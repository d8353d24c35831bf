"""The bank: its committed snapshots are what the script writes, and it is consistent with itself."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

from pilothouse.files import platform as platform_files
from pilothouse.files import snapshot as snapshot_files
from pilothouse.inventory.model import Owner, Pod, Snapshot
from pilothouse.platform import checks
from pilothouse.platform.model import (
    ApiServerPeer,
    CidrPeer,
    DomainPeer,
    Exposure,
    Expression,
    InternetPeer,
    Platform,
    PodsPeer,
    ReplicasBelow,
    Sensitivity,
    ServicePeer,
    SqlLatencyAbove,
)
from pilothouse.problems import Severity

TODAY = date(2026, 11, 21)
CLUSTERS = ("dev", "test", "uat", "prod")


@pytest.fixture
def written(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "bench"))
    return importlib.import_module("snapshots")


@pytest.fixture(scope="module")
def bank() -> platform_files.LoadedPlatform:
    return platform_files.load(Path(__file__).parents[2] / "examples" / "bank")


@pytest.fixture(scope="module")
def clusters(bank: platform_files.LoadedPlatform) -> dict[str, Snapshot]:
    found = {}
    for name in CLUSTERS:
        path = snapshot_files.find(bank.root, name)
        assert path is not None
        found[name], problems = snapshot_files.read(path)
        assert problems == ()
    return found


def test_the_committed_snapshots_are_what_the_script_writes(root: Path, written: ModuleType) -> None:
    folder = root / "examples" / "bank" / "snapshots"
    committed = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.json")}
    fresh = written.files()
    assert sorted(committed) == sorted(fresh)
    stale = [path for path, text in fresh.items() if committed[path] != text]
    assert stale == [], "run python bench/snapshots.py"
    assert [path for path, text in fresh.items() if len(text) > 600_000] == []


def test_the_committed_flows_are_what_the_script_writes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "bench"))
    fresh = importlib.import_module("bank_flows").lines()
    committed = (root / "examples" / "bank" / "flows" / "prod.csv").read_text().splitlines()
    assert committed == fresh, "run python bench/bank_flows.py"


def test_the_declarations_have_no_errors(bank: platform_files.LoadedPlatform) -> None:
    assert bank.problems == ()
    assert checks.check(bank.platform) == ()


def test_the_clusters_differ_from_the_declarations_where_the_readme_says_so(
    bank: platform_files.LoadedPlatform, clusters: dict[str, Snapshot]
) -> None:
    found = {
        (name, problem.code, problem.severity)
        for name, snapshot in clusters.items()
        for problem in checks.check_against(bank.platform, bank.platform.clusters[name], snapshot, TODAY)
    }
    assert found == {
        ("dev", "platform/no-pods", Severity.WARNING),
        ("test", "platform/undeclared-pods", Severity.INFO),
        ("uat", "platform/undeclared-pods", Severity.INFO),
        ("prod", "platform/undeclared-pods", Severity.INFO),
    }


def test_it_uses_every_word_of_a_declaration(bank: platform_files.LoadedPlatform) -> None:
    platform: Platform = bank.platform
    services = platform.services.values()
    assert len(services) >= 14
    assert len({service.namespace for service in services}) >= 6
    assert len(platform.teams) == 5
    assert all(team.rotation and team.approvers and team.groups for team in platform.teams.values())
    assert sorted(platform.clusters) == sorted(CLUSTERS)
    assert {"developer", "on-call", "release-manager", "cluster-admin"} <= set(platform.profiles)
    peers = {type(edge.peer) for service in services for edge in (*service.egress, *(service.ingress or ()))}
    assert peers == {ServicePeer, PodsPeer, CidrPeer, ApiServerPeer, InternetPeer, DomainPeer}
    conditions = {type(alert.condition) for service in services for alert in service.alerts}
    assert conditions == {ReplicasBelow, SqlLatencyAbove, Expression}
    assert {service.exposure for service in services} == set(Exposure)
    assert {service.sensitivity for service in services} == set(Sensitivity)
    assert {service.logs.format for service in services if service.logs} == {"json", "text", "logfmt"}
    assert any(service.secrets for service in services)
    assert {cluster.calico_api for cluster in platform.clusters.values()} == {
        "",
        "crd.projectcalico.org/v1",
        "projectcalico.org/v3",
    }
    for cluster in platform.clusters.values():
        for networks in (cluster.pod_cidrs, cluster.service_cidrs, cluster.node_cidrs):
            assert {network.version for network in networks} == {4, 6}
    assert len({cluster.authority.mount for cluster in platform.clusters.values()}) == 4


def test_its_content_is_laid_over_the_bundles(bank: platform_files.LoadedPlatform) -> None:
    own = [path for path, source in bank.content.files.items() if source.origin == "platform"]
    assert own == ["alerts/links.yaml", "alerts/routing.yaml", "policies/guardrails.yaml"]


# ---------------------------------------------------------------- the awkward cases


def pods(clusters: dict[str, Snapshot]) -> Iterator[Pod]:
    return (pod for snapshot in clusters.values() for pod in snapshot.pods)


def test_the_pods_are_those_of_real_clusters(clusters: dict[str, Snapshot]) -> None:
    every = list(pods(clusters))
    assert {pod.phase for pod in every} == {"Running", "Pending", "Succeeded", "Failed"}
    assert any(pod.host_network and pod.labels.get("k8s-app") == "node-local-dns" for pod in every)
    assert any(not pod.node for pod in every), "pending, nowhere to run"
    assert any(pod.phase == "Pending" and pod.node and not pod.ips for pod in every), "being created"
    assert any(not pod.ready and pod.phase == "Running" for pod in every)
    assert all(len(pod.ips) == 2 for pod in every if pod.ips), "both families"
    kinds = {pod.owner.kind for pod in every if pod.owner}
    assert kinds == {"Deployment", "StatefulSet", "DaemonSet", "CronJob", "Node"}
    assert any(pod.owner is None for pod in every)
    assert not any(pod.from_template for pod in every)
    payments = next(pod for pod in every if pod.owner == Owner("Deployment", "payments"))
    assert payments.containers == ("vault-agent", "payments"), "a native sidecar, and no init container"
    fraud = {port.number for pod in every if pod.labels.get("app") == "fraud" for port in pod.ports}
    assert {8080, 8081} <= fraud


def test_addresses_lie_in_the_declared_ranges(
    bank: platform_files.LoadedPlatform, clusters: dict[str, Snapshot]
) -> None:
    from ipaddress import ip_address

    for name, snapshot in clusters.items():
        cluster = bank.platform.clusters[name]
        taken = [ip for pod in snapshot.pods if not pod.host_network for ip in pod.ips]
        assert len(taken) == len(set(taken))
        for ranges, addresses in (
            (cluster.pod_cidrs, taken),
            (cluster.node_cidrs, [ip for pod in snapshot.pods if pod.host_network for ip in pod.ips]),
            (cluster.node_cidrs, [ip for node in snapshot.nodes for ip in node.addresses]),
            (cluster.service_cidrs, [ip for s in snapshot.services if not s.is_headless for ip in s.cluster_ips]),
        ):
            assert addresses
            assert [ip for ip in addresses if not any(ip_address(ip) in network for network in ranges)] == []


def test_services_are_those_of_real_clusters(clusters: dict[str, Snapshot]) -> None:
    for snapshot in clusters.values():
        services = {f"{service.namespace}/{service.name}": service for service in snapshot.services}
        assert services["kube-system/kube-dns"].selector == {"k8s-app": "kube-dns"}
        assert services["data/redis-headless"].is_headless
        assert [(p.port, p.target) for p in services["accounts/statements"].ports] == [(80, 8443)]
        assert services["ingress/ingress-controller"].type == "LoadBalancer"
        assert not services["notifications/mail-relay"].selector
        names = {pod.name for pod in snapshot.pods}
        assert {target for item in snapshot.endpoint_slices for target in item.targets} - {""} <= names


def test_others_have_policies_and_roles_there_too(clusters: dict[str, Snapshot]) -> None:
    kinds = {name: {p.kind for p in snapshot.policies} for name, snapshot in clusters.items()}
    assert kinds["dev"] == {"NetworkPolicy"}
    for name in ("test", "uat", "prod"):
        assert {"GlobalNetworkPolicy", "StagedNetworkPolicy", "Tier", "NetworkSet"} < kinds[name]
        roles = {(item.kind, item.name) for item in clusters[name].rbac}
        assert {("ClusterRole", "view"), ("ClusterRole", "cluster-admin"), ("RoleBinding", "release-pipeline")} <= roles
    assert {p.api_version for p in clusters["test"].policies if "calico" in p.api_version} == {
        "crd.projectcalico.org/v1"
    }


def test_every_service_account_that_pods_use_exists(clusters: dict[str, Snapshot]) -> None:
    for snapshot in clusters.values():
        used = {(pod.namespace, pod.service_account) for pod in snapshot.pods}
        assert used - set(snapshot.accounts) == set()

"""The chart helm/pilothouse under real Helm: it lints, renders to valid manifests, and refuses what would not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.testbed import CLUSTERS, ROOT, accepted, derived, kubeconform, run, written

CHART = ROOT / "helm" / "pilothouse"
SCALED = (
    "database.existingSecret=db,authority.backend=vault,portal.replicas=3,rbac.apply=true,ingress.enabled=true,"
    "ingress.host=portal.example,ingress.className=nginx,ingress.tlsSecret=t,tls.existingSecret=tls,"
    "platform.existingClaim=documents,scheduling.priorityClassName=high,image.pullSecrets={pull}"
)


def rendered(helm: Path, *arguments: object) -> list[dict[str, Any]]:
    said = run(helm, "template", "pilothouse", CHART, "--namespace", "pilothouse", *arguments)
    accepted(said)
    accepted(kubeconform(said.stdout))
    return [item for item in yaml.safe_load_all(said.stdout) if item]


def one(manifests: list[dict[str, Any]], kind: str, name: str = "pilothouse") -> dict[str, Any]:
    return next(item for item in manifests if item["kind"] == kind and item["metadata"]["name"] == name)


def containers(deployment: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in deployment["spec"]["template"]["spec"]["containers"]}


def test_lint(helm: Path) -> None:
    accepted(run(helm, "lint", "--strict", CHART))


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_with_the_rendered_values(cluster: str, helm: Path, tmp_path: Path) -> None:
    values = written(derived(cluster), "helm", tmp_path) / "values.yaml"
    accepted(run(helm, "lint", "--strict", CHART, "--values", values))
    manifests = rendered(helm, "--values", values)
    assert one(manifests, "Deployment")["metadata"]["labels"]["pilothouse.dev/cluster"] == cluster


def test_one_pod_with_sqlite_and_the_embedded_authority(helm: Path) -> None:
    manifests = rendered(helm)
    deployment = one(manifests, "Deployment")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert set(containers(deployment)) == {"portal", "worker", "signer"}
    mounted = {name: {mount["name"] for mount in item["volumeMounts"]} for name, item in containers(deployment).items()}
    # The keys are the signer's alone, the API token the worker's.
    assert [name for name, mounts in mounted.items() if "keys" in mounts] == ["signer"]
    assert [name for name, mounts in mounted.items() if "api-token" in mounts] == ["worker"]
    assert "data" not in mounted["signer"]
    assert {item["metadata"]["name"] for item in manifests if item["kind"] == "PersistentVolumeClaim"} == {
        "pilothouse-data",
        "pilothouse-keys",
    }


def test_replicas_with_postgresql_and_vault(helm: Path) -> None:
    manifests = rendered(helm, "--set", SCALED)
    portal, worker = one(manifests, "Deployment"), one(manifests, "Deployment", "pilothouse-worker")
    assert (portal["spec"]["replicas"], worker["spec"]["replicas"]) == (3, 1)
    assert set(containers(portal)) == {"portal"}
    assert set(containers(worker)) == {"worker"}
    assert portal["spec"]["template"]["spec"]["serviceAccountName"] == "pilothouse-portal"
    assert containers(portal)["portal"]["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    assert one(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert one(manifests, "Ingress")["spec"]["rules"][0]["host"] == "portal.example"


@pytest.mark.parametrize("sets", [(), ("--set", SCALED)], ids=["together", "scaled"])
def test_pods_are_confined(helm: Path, sets: tuple[str, ...]) -> None:
    manifests = rendered(helm, *sets)
    pods = [item["spec"]["template"]["spec"] for item in manifests if item["kind"] == "Deployment"]
    pods += [item["spec"] for item in manifests if item["kind"] == "Pod"]
    assert len(pods) >= 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
    # Nobody may read a Secret.
    rules = one(manifests, "ClusterRole", "pilothouse-pilothouse")["rules"]
    assert not any("secrets" in rule["resources"] or "*" in rule["resources"] for rule in rules)


def test_the_portal_alone_is_reached(helm: Path) -> None:
    policy = one(rendered(helm), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == [8420]


def test_applying_is_granted_only_where_it_is_said(helm: Path) -> None:
    def verbs(*arguments: str) -> set[str]:
        rules = one(rendered(helm, *arguments), "ClusterRole", "pilothouse-pilothouse")["rules"]
        return {verb for rule in rules for verb in rule["verbs"]}

    assert verbs() == {"get", "list", "watch"}
    assert "delete" in verbs("--set", "rbac.apply=true")


def test_a_digest_wins(helm: Path) -> None:
    digest = "sha256:" + "0" * 64
    deployment = one(rendered(helm, "--set", f"image.tag=1.2,image.digest={digest}"), "Deployment")
    assert containers(deployment)["portal"]["image"] == f"pilothouse@{digest}"


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ("image.tag=latest", "must not be `latest`"),
        ("portal.replicas=2", "needs database.existingSecret"),
        ("portal.replicas=2,database.existingSecret=db", "authority.backend vault"),
        ("portal.replica=2", "additional properties 'replica' not allowed"),
        ("image.digest=sha256:abc", "does not match pattern"),
        ("ingress.enabled=true", "ingress.host is needed"),
        ("authority.backend=file", "value must be one of"),
        ("persistence.size=much", "does not match pattern"),
        ("networkPolicy.egressPorts={0}", "minimum"),
        ("database.url=postgresql://secret", "additional properties 'url' not allowed"),
    ],
)
def test_what_would_not_run_is_refused(helm: Path, sets: str, says: str) -> None:
    done = run(helm, "template", "pilothouse", CHART, "--set", sets)
    assert done.returncode != 0
    assert says in done.stderr

"""The chart helm/pilothouse under real Helm: it lints, renders to valid manifests, and refuses what would not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.testbed import CLUSTERS, ROOT, accepted, derived, kubeconform, run, written

CHART = ROOT / "helm" / "pilothouse"
EVERYTHING = (
    "rbac.apply=true,ingress.enabled=true,ingress.host=portal.example,ingress.className=nginx,ingress.tlsSecret=t,"
    "tls.existingSecret=tls,platform.existingClaim=documents,platform.gitHomeSecret=git,persistence.existingClaim=data,"
    "scheduling.priorityClassName=high,image.pullSecrets={pull},trustedProxies={10.0.0.0/8},"
    "credentials[0].secret=prod,credentials[0].mountPath=/etc/pilothouse/prod,extraArgs.worker={--x},"
    "database.existingSecret=database,portal.replicas=3"
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


def test_one_pod_shares_the_data_folder(helm: Path) -> None:
    manifests = rendered(helm)
    deployment = one(manifests, "Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert set(containers(deployment)) == {"portal", "worker"}
    mounted = {name: {mount["name"] for mount in item["volumeMounts"]} for name, item in containers(deployment).items()}
    # The API token is the worker's alone.
    assert [name for name, mounts in mounted.items() if "api-token" in mounts] == ["worker"]
    assert all("data" in mounts for mounts in mounted.values())
    claim = one(manifests, "PersistentVolumeClaim", "pilothouse-data")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_everything_at_once(helm: Path) -> None:
    manifests = rendered(helm, "--set", EVERYTHING)
    assert not any(item["kind"] == "PersistentVolumeClaim" for item in manifests)
    portal, worker = containers(one(manifests, "Deployment")).values()
    assert portal["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http", "scheme": "HTTPS"}
    assert {"--platform=/platform", "--trusted-proxy=10.0.0.0/8", "--tls-key=/tls/tls.key"} <= set(portal["args"])
    assert worker["args"] == [
        "worker",
        "--data=/data",
        "--database-file=/database/url",
        "--metrics-host=0.0.0.0",
        "--metrics-port=8421",
        "--platform=/platform",
        "--x",
    ]
    assert one(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    (rule,) = one(manifests, "Ingress")["spec"]["rules"]
    assert rule["host"] == "portal.example"
    assert {path["path"]: path["backend"]["service"]["name"] for path in rule["http"]["paths"]} == {
        "/access": "pilothouse-signer",
        "/api/v1/access": "pilothouse-signer",
        "/": "pilothouse",
    }
    for container in (portal, worker):
        assert {"name": "HOME", "value": "/git"} in container["env"]
        assert {"name": "credentials-0", "mountPath": "/etc/pilothouse/prod", "readOnly": True} in container[
            "volumeMounts"
        ]


def test_more_pods_share_a_database_and_leave_the_signer_to_the_first(helm: Path) -> None:
    manifests = rendered(helm, "--set", EVERYTHING)
    first, more = one(manifests, "Deployment"), one(manifests, "Deployment", "pilothouse-more")
    assert (first["spec"]["replicas"], more["spec"]["replicas"]) == (1, 2)
    assert "strategy" not in more["spec"]
    assert "--no-signer" not in containers(first)["portal"]["args"]
    assert "--no-signer" in containers(more)["portal"]["args"]
    for deployment in (first, more):
        for container in containers(deployment).values():
            assert "--database-file=/database/url" in container["args"]
            assert {"name": "database", "mountPath": "/database", "readOnly": True} in container["volumeMounts"]
    volumes = {item["name"]: item for item in more["spec"]["template"]["spec"]["volumes"]}
    assert "emptyDir" in volumes["data"], "each has a folder of its own"
    assert volumes["database"]["secret"]["secretName"] == "database"

    def selected(service: str) -> list[str]:
        wanted = one(manifests, "Service", service)["spec"]["selector"].items()
        pods = {item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"] for item in (first, more)}
        return [name for name, labels in pods.items() if wanted <= labels.items()]

    assert selected("pilothouse") == ["pilothouse", "pilothouse-more"]
    assert selected("pilothouse-signer") == ["pilothouse"]
    assert (
        not first["spec"]["selector"]["matchLabels"].items() <= more["spec"]["template"]["metadata"]["labels"].items()
    )
    egress = one(manifests, "NetworkPolicy")["spec"]["egress"]
    assert {"ports": [{"port": 5432, "protocol": "TCP"}]} in egress


def test_one_pod_has_no_more(helm: Path) -> None:
    names = {(item["kind"], item["metadata"]["name"]) for item in rendered(helm)}
    assert ("Deployment", "pilothouse-more") not in names
    assert ("Service", "pilothouse-signer") not in names


def test_the_processes_know_their_arguments(helm: Path) -> None:
    """Every option that the chart gives is one of the command's own."""
    from pilothouse.cli import serve

    commands = {"portal": serve.serve, "worker": serve.worker}
    for name, container in containers(one(rendered(helm, "--set", EVERYTHING), "Deployment")).items():
        known = {
            option for parameter in commands[name].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        given = {argument.split("=")[0] for argument in container["args"][1:]} - {"--x"}
        assert given <= known
        assert container["args"][0] == commands[name].name


def test_a_repository_is_named(helm: Path) -> None:
    address = "https://git.example/platform.git"
    portal = containers(one(rendered(helm, "--set", f"platform.repository={address}"), "Deployment"))["portal"]
    assert f"--platform={address}" in portal["args"]


@pytest.mark.parametrize("sets", [(), ("--set", EVERYTHING)], ids=["default", "everything"])
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


def test_the_portal_and_the_numbers_of_its_worker_are_reached(helm: Path) -> None:
    policy = one(rendered(helm), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == [8420, 8421]
    off = one(rendered(helm, "--set", "worker.metricsPort=0"), "NetworkPolicy")["spec"]
    assert [port["port"] for rule in off["ingress"] for port in rule["ports"]] == [8420]


def test_the_scrape_jobs_of_the_bundle_find_the_ports_of_the_chart(helm: Path) -> None:
    jobs = {
        name: yaml.safe_load((ROOT / "collectors" / "scrape" / f"{name}.yaml").read_text(encoding="utf-8"))["discover"]
        for name in ("pilothouse", "pilothouse-worker")
    }

    def found(*arguments: str) -> set[str]:
        pod = one(rendered(helm, *arguments), "Deployment")["spec"]["template"]
        ports = {port["name"] for item in pod["spec"]["containers"] for port in item.get("ports", ())}
        assert all(job["selector"].items() <= pod["metadata"]["labels"].items() for job in jobs.values())
        return {name for name, job in jobs.items() if job["port"] in ports}

    assert found() == {"pilothouse", "pilothouse-worker"}
    assert found("--set", "worker.metricsPort=0") == {"pilothouse"}


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
        ("portal.replicas=2", "set database.existingSecret"),
        ("portal.replicas=2,database.existingSecret=x", "set platform.repository"),
        ("portal.replicas=0", "minimum"),
        ("worker.replicas=2", "additional properties 'replicas' not allowed"),
        ("platform.repository=x,platform.existingClaim=y", "the documents come from one of them"),
        ("image.digest=sha256:abc", "does not match pattern"),
        ("ingress.enabled=true", "ingress.host is needed"),
        ("image.pullPolicy=Sometimes", "value must be one of"),
        ("persistence.size=much", "does not match pattern"),
        ("networkPolicy.egressPorts={0}", "minimum"),
        ("credentials[0].secret=x", "missing property 'mountPath'"),
    ],
)
def test_what_would_not_run_is_refused(helm: Path, sets: str, says: str) -> None:
    done = run(helm, "template", "pilothouse", CHART, "--set", sets)
    assert done.returncode != 0
    assert says in done.stderr

"""The chart helm/pilothouse on a real API server: accepted, installed, upgraded without a change, rolled back."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import applied
from support.bed import kubernetes
from support.bed.kubernetes import KubeApi
from support.testbed import CLUSTERS, ROOT, accepted, derived, program, run, written

from pilothouse.clients.kubernetes import Api, to_endpoint
from pilothouse.platform.model import Endpoint
from pilothouse.workflows import apply_plan, applying
from pilothouse.workflows.applying import Options

CHART = ROOT / "helm" / "pilothouse"


@pytest.fixture(scope="module")
def server() -> Iterator[KubeApi]:
    found = kubernetes.start()
    applied.namespaces(found, ["pilothouse", *applied.namespaces_of(applied.manifests("dev"))])
    yield found
    found.stop()


@pytest.fixture(params=["helm", "helm4"])
def helm(request: pytest.FixtureRequest, server: KubeApi, tmp_path: Path) -> Any:
    """Runs that helm against the server, with folders of its own."""
    path = program(request.param)

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "KUBECONFIG": str(server.admin_kubeconfig),
            **{f"HELM_{name}_HOME": str(tmp_path / name) for name in ("CACHE", "CONFIG", "DATA")},
        }
        return subprocess.run(
            [str(path), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False, env=env
        )

    return call


def values(cluster: str, folder: Path) -> Path:
    return written(derived(cluster), "helm", folder) / "values.yaml"


def revisions(server: KubeApi) -> dict[int, str]:
    """What each revision of the release holds: the manifest that helm keeps in its Secrets."""
    found = {}
    for secret in server.get("/api/v1/namespaces/pilothouse/secrets?labelSelector=owner%3Dhelm")["items"]:
        release = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        data = json.loads(gzip.decompress(release))
        found[int(data["version"])] = str(data["manifest"])
    return found


def objects(server: KubeApi) -> dict[str, str]:
    """kind/name → resourceVersion of what the release owns."""
    kinds = "serviceaccount,deployment,service,configmap,role,rolebinding,networkpolicy,poddisruptionbudget,pvc"
    selector = "app.kubernetes.io/managed-by=Helm"
    found = {}
    for scope, what in (("-n=pilothouse", kinds), ("-A", "clusterrole,clusterrolebinding")):
        said = accepted(server.kubectl("get", what, scope, "-l", selector, "-o", "json"))
        for item in json.loads(said)["items"]:
            found[f"{item['kind']}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
    return found


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_both_versions_render_the_same(cluster: str, tmp_path: Path) -> None:
    said = [
        accepted_yaml(
            run(program(name), "template", "pilothouse", CHART, "-n", "pilothouse", "-f", values(cluster, tmp_path))
        )
        for name in ("helm", "helm4")
    ]
    assert said[0] == said[1]
    assert len(said[0]) > 8


def accepted_yaml(done: subprocess.CompletedProcess[str]) -> list[Any]:
    assert done.returncode == 0, done.stderr
    found = [item for item in yaml.safe_load_all(done.stdout) if item]
    return sorted(found, key=lambda item: (item["kind"], item["metadata"]["name"]))


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_the_server_takes_what_is_rendered(cluster: str, helm: Any, server: KubeApi, tmp_path: Path) -> None:
    file = values(cluster, tmp_path)
    accepted(helm("lint", "--strict", CHART, "-f", file))
    said = helm("template", "pilothouse", CHART, "-n", "pilothouse", "-f", file, "--no-hooks")
    done = server.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-n", "pilothouse", "-f", "-", stdin=said.stdout
    )
    count = sum(item is not None for item in yaml.safe_load_all(said.stdout))
    assert done.stdout.count("(server dry run)") == count >= 8, done.stderr
    accepted(done)


WEBHOOK = (
    "database.existingSecret=d,webhook.enabled=true,webhook.tlsSecret=t,webhook.clientCaSecret=c,"
    "webhook.allowedNetworks={10.15.0.0/24},audit.hostPath=/var/log/kubernetes,audit.config.learningDays=14"
)


def test_the_server_takes_the_webhook_and_what_reads_audit_logs(helm: Any, server: KubeApi, tmp_path: Path) -> None:
    """Installed beside the portal, and taken away again by an upgrade that does not ask for it."""
    file = values("dev", tmp_path)
    named = ("pilothouse", CHART, "-n", "pilothouse", "-f", file)
    try:
        accepted(helm("install", *named, "--set", WEBHOOK))
        names = set(objects(server))
        ours = {name for name in names if name.endswith("/pilothouse-webhook")}
        assert {name.partition("/")[0] for name in ours} == {
            "Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget",
        }  # fmt: skip
        assert "ConfigMap/pilothouse-audit" in names
        accepted(helm("upgrade", *named, "--reset-values"))
        assert not {name for name in objects(server) if "webhook" in name or "audit" in name}
    finally:
        helm("uninstall", "pilothouse", "-n", "pilothouse")


def test_install_upgrade_and_rollback(helm: Any, server: KubeApi, tmp_path: Path) -> None:
    file = values("dev", tmp_path)
    named = ("pilothouse", CHART, "-n", "pilothouse", "-f", file)
    try:
        accepted(helm("install", *named))
        installed = objects(server)
        assert any(name.startswith("Deployment/") for name in installed)
        accepted(helm("upgrade", *named))
        kept = revisions(server)
        assert sorted(kept) == [1, 2]
        assert kept[1] == kept[2]
        assert objects(server) == installed
        accepted(helm("upgrade", *named, "--set", "image.tag=9.9"))
        changed = objects(server)
        assert {name for name in changed if changed[name] != installed[name]} == {"Deployment/pilothouse"}
        accepted(helm("rollback", "pilothouse", "2", "-n", "pilothouse"))
        kept = revisions(server)
        assert sorted(kept) == [1, 2, 3, 4]
        assert kept[4] == kept[2] != kept[3]
        images = server.get("/apis/apps/v1/namespaces/pilothouse/deployments/pilothouse")["spec"]["template"]["spec"]
        assert not any(container["image"].endswith(":9.9") for container in images["containers"])
    finally:
        helm("uninstall", "pilothouse", "-n", "pilothouse")


def test_what_the_chart_grants_is_enough_for_the_worker(helm: Any, server: KubeApi, tmp_path: Path) -> None:
    """With the worker's own token: it applies every policy, and what it may not apply is left and named."""
    accepted(helm("install", "pilothouse", CHART, "-n", "pilothouse", "--set", "rbac.apply=true"))
    client = Api(to_endpoint(server.endpoint))
    try:
        with applied.cleaned(server):
            token = tmp_path / "token"
            token.write_text(client.token("pilothouse", "pilothouse")[0], encoding="ascii")
            worker = Api(to_endpoint(Endpoint(server.url, str(token), str(server.ca_file))))
            manifests = deepcopy(applied.manifests("dev"))
            outcome = applying.apply_now(
                worker, applied.cluster("dev"), applied.result("dev", manifests), Options(hold=True)
            )
            worker.close()
            ours = {key.kind for key in applied.ours(server)}
            assert ours == {"NetworkPolicy"}
            held = {item.key.kind for item in outcome.planned.held}
            assert held == {m["kind"] for m in manifests} - {"NetworkPolicy"}
            assert {item.code for item in outcome.planned.held} == {"apply/forbidden"}
            planned = apply_plan.plan(client, applied.cluster("dev"), manifests)
            assert not any(step.key.kind == "NetworkPolicy" for step in planned.steps)
    finally:
        client.close()
        helm("uninstall", "pilothouse", "-n", "pilothouse")

"""The rendered parts of a pod, laid over a workload by kustomize and by a chart: a real API server takes both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import applied
from support.bed import kubernetes
from support.bed.kubernetes import KubeApi
from support.testbed import CLUSTERS, accepted, derived, run, written

from pilothouse.access import pod

TEMPLATE = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
      {{- with .Values.secrets.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ .Values.secrets.serviceAccountName | default "default" }}
      {{- with .Values.secrets.initContainers }}
      initContainers: {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .Release.Name }}
          image: registry.bank.example/service:1
          {{- with .Values.secrets.volumeMounts }}
          volumeMounts: {{- toYaml . | nindent 12 }}
          {{- end }}
        {{- with .Values.secrets.containers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.secrets.volumes }}
      volumes: {{- toYaml . | nindent 8 }}
      {{- end }}
"""
"""What docs/workload-secrets.md tells the author of a chart to write."""


@pytest.fixture(scope="module")
def server() -> Iterator[KubeApi]:
    found = kubernetes.start()
    applied.namespaces(found, applied.namespaces_of(applied.manifests("prod")))
    yield found
    found.stop()


def base(kind: str, name: str, namespace: str, container: str) -> dict[str, Any]:
    """A workload as a team has it, without a word of secrets."""
    labels = {"app": name}
    spec = {"containers": [{"name": container, "image": "registry.bank.example/service:1"}]}
    template: dict[str, Any] = {"metadata": {"labels": labels}, "spec": spec}
    body: dict[str, Any] = {"selector": {"matchLabels": labels}, "template": template}
    if kind in ("Job", "CronJob"):
        template["spec"]["restartPolicy"] = "OnFailure"
        body = {"template": template}
    if kind == "CronJob":
        body = {"schedule": "0 3 * * *", "jobTemplate": {"spec": body}}
    if kind == "StatefulSet":
        body["serviceName"] = name
    return {
        "apiVersion": pod.WRAPPERS[kind],
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": body,
    }


def template_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    found: dict[str, Any] = (spec["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else spec)["template"]
    return found


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_component_lays_the_secrets_over_every_workload(cluster: str, server: KubeApi, tmp_path: Path) -> None:
    tree = written(derived(cluster), "workloads", tmp_path / "tree")
    folders = sorted(path.parent for path in tree.glob("*/*/kustomization.yaml"))
    assert len(folders) > 10
    checked = 0
    for folder in folders:
        component = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
        bases = []
        for patch in component["patches"]:
            wanted = yaml.safe_load((folder / patch["path"]).read_text(encoding="utf-8"))
            (reader, *_) = template_of(wanted)["spec"]["containers"]
            bases.append(base(wanted["kind"], wanted["metadata"]["name"], folder.parent.name, reader["name"]))
        team = tmp_path / f"{folder.parent.name}-{folder.name}"
        team.mkdir()
        (team / "workloads.yaml").write_text(yaml.safe_dump_all(bases), encoding="utf-8")
        (team / "kustomization.yaml").write_text(
            yaml.safe_dump({"resources": ["workloads.yaml"], "components": [relative(folder, team)]}), encoding="utf-8"
        )
        said = accepted(server.kubectl("kustomize", team))
        made = [item for item in yaml.safe_load_all(said) if item]
        assert len(made) == len(bases)
        for item in made:
            spec = template_of(item)["spec"]
            assert [c["name"] for c in spec["initContainers"]][:1] == [pod.INIT]
            assert all("image" in container for container in spec["containers"]), "the name of the reader is right"
            assert spec["containers"][0]["volumeMounts"] or spec["containers"][-1]["volumeMounts"]
        done = server.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=said)
        assert done.stdout.count("(server dry run)") == len(bases), done.stderr
        checked += len(bases)
    assert checked >= len(folders)


def relative(folder: Path, start: Path) -> str:
    """kustomize takes folders relative to its own."""
    import os

    return os.path.relpath(folder, start)


def test_a_chart_takes_the_values(server: KubeApi, helm: Path, tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: service\nversion: 0.0.1\n", encoding="utf-8")
    (chart / "values.yaml").write_text("secrets: {}\n", encoding="utf-8")
    (chart / "templates" / "deployment.yaml").write_text(TEMPLATE, encoding="utf-8")
    folder = written(derived("prod"), "workloads", tmp_path / "tree") / "payments" / "payments"
    said = accepted(run(helm, "template", "payments", chart, "-n", "payments", "-f", folder / "values.yaml"))
    (made,) = [item for item in yaml.safe_load_all(said) if item]
    patch = yaml.safe_load((folder / "deployment-payments.yaml").read_text(encoding="utf-8"))
    wanted = template_of(patch)
    found = template_of(made)
    assert found["metadata"]["annotations"] == wanted["metadata"]["annotations"]
    for name in ("volumes", "initContainers", "serviceAccountName"):
        assert found["spec"][name] == wanted["spec"][name]
    assert found["spec"]["containers"][0]["volumeMounts"] == wanted["spec"]["containers"][0]["volumeMounts"]
    done = server.kubectl("apply", "--dry-run=server", "--validate=strict", "-n", "payments", "-f", "-", stdin=said)
    assert "(server dry run)" in done.stdout, done.stderr
    plain = accepted(run(helm, "template", "payments", chart, "-n", "payments"))
    assert "pilothouse" not in plain, "without them the chart is as it was"


def test_the_chart_is_the_one_of_the_documentation() -> None:
    from support.testbed import ROOT

    text = (ROOT / "docs" / "workload-secrets.md").read_text(encoding="utf-8")
    told = [line.strip() for line in text.splitlines() if ".Values.secrets" in line or "toYaml" in line]
    written_ = {line.strip() for line in TEMPLATE.splitlines()}
    assert told
    assert set(told) <= written_

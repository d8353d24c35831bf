"""`pilothouse diff --live` against a server that holds what was applied, with one object edited and one gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from support.kube_stub import Stub, kubeconfig, serving

from pilothouse.cli.main import main
from pilothouse.workflows import rendering

PATHS = {
    "NetworkPolicy": "/apis/networking.k8s.io/v1/networkpolicies",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/rolebindings",
    "ServiceAccount": "/api/v1/serviceaccounts",
}


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as found:
        yield found


def diff(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["diff", *arguments, "--today", "2026-11-21", "--output", "json"])
    return int(ended.value.code or 0)


def test_an_edit_by_hand_and_a_removed_object_are_seen(
    root: Path, tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = root / "examples" / "bank"
    opened = rendering.open_platform(bank)
    _, result = rendering.derive_cluster(opened, "dev", date(2026, 11, 21))
    # The live cluster: the snapshot's namespaces and pods, and of ours what was applied.
    data = json.loads((bank / "snapshots" / "dev.json").read_text())
    for item in data["items"]:
        path = {"Namespace": "/api/v1/namespaces", "Pod": "/api/v1/pods", "Node": "/api/v1/nodes"}.get(item["kind"])
        if path:
            stub.objects.setdefault(path, []).append(item)
    ours: dict[str, list[dict[str, Any]]] = {}
    for manifest in result.artifacts.manifests():
        ours.setdefault(manifest["kind"], []).append(json.loads(json.dumps(manifest)))
    for kind, path in PATHS.items():
        stub.objects.setdefault(path, []).extend(ours.get(kind, []))
    assert len(ours["NetworkPolicy"]) > 3
    foreign = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": {}}}
    stub.objects[PATHS["NetworkPolicy"]].append(foreign | {"metadata": {"name": "foreign", "namespace": "default"}})
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, stub.url))

    assert diff(str(bank), "--cluster", "dev", "--live") == 0
    (same,) = json.loads(capsys.readouterr().out)["clusters"]
    assert (same["added"], same["changed"], same["removed"]) == ([], [], [])

    edited = stub.objects[PATHS["ClusterRole"]][0]
    edited["rules"] = []
    gone = stub.objects[PATHS["NetworkPolicy"]].pop(0)
    left = json.loads(json.dumps(gone))
    left["metadata"]["name"] = "left-over"
    stub.objects[PATHS["NetworkPolicy"]].append(left)
    assert diff(str(bank), "--cluster", "dev", "--live") == 0
    (found,) = json.loads(capsys.readouterr().out)["clusters"]
    where = gone["metadata"]["namespace"]
    assert found["added"] == [f"NetworkPolicy {where}/{gone['metadata']['name']}"]
    assert found["changed"] == [f"ClusterRole {edited['metadata']['name']}"]
    assert found["removed"] == [f"NetworkPolicy {where}/left-over"]

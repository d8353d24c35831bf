"""The live snapshot against a server that speaks the list protocol: real wire, real client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.kube_stub import TOKEN, Stub, kubeconfig, serving, status

from pilothouse.clients import kubernetes as live
from pilothouse.clients.kubernetes import kinds, transport
from pilothouse.problems import Denied, Invalid, Severity, Unavailable


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as found:
        yield found


def pod(number: int) -> dict[str, Any]:
    return {
        "metadata": {"name": f"web-{number}", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "main"}]},
        "status": {"phase": "Running"},
    }


PODS = "/api/v1/pods"


def test_pages_are_put_together(stub: Stub, tmp_path: Path) -> None:
    stub.objects[PODS] = [pod(number) for number in range(7)]
    seen: list[tuple[str, int]] = []
    snapshot, problems = live.snapshot(
        kubeconfig(tmp_path, stub.url), "there", page=3, progress=lambda kind, count: seen.append((kind, count))
    )
    assert problems == ()
    assert [p.name for p in snapshot.pods] == [f"web-{number}" for number in range(7)]
    assert snapshot.source == stub.url
    assert [query for path, query in stub.asked if path == PODS] == [
        {"limit": "3"},
        {"limit": "3", "continue": "3"},
        {"limit": "3", "continue": "6"},
    ]
    assert [count for kind, count in seen if kind == "pods"] == [3, 6, 7]
    assert {h["authorization"] for h in stub.headers} == {f"Bearer {TOKEN}"}


def test_an_expired_token_begins_the_list_again(stub: Stub, tmp_path: Path) -> None:
    stub.objects[PODS] = [pod(number) for number in range(4)]
    stub.gone[PODS] = 2
    snapshot, problems = live.snapshot(kubeconfig(tmp_path, stub.url), page=3)
    assert problems == ()
    assert len(snapshot.pods) == 4


def test_a_token_that_always_expires_ends_in_one_piece(stub: Stub, tmp_path: Path) -> None:
    stub.objects[PODS] = [pod(number) for number in range(4)]
    stub.gone[PODS] = 100
    snapshot, _ = live.snapshot(kubeconfig(tmp_path, stub.url), page=3)
    assert len(snapshot.pods) == 4
    assert [query for path, query in stub.asked if path == PODS][-1] == {}


def test_a_forbidden_kind_is_a_problem_and_the_rest_is_read(stub: Stub, tmp_path: Path) -> None:
    stub.objects[PODS] = [pod(1)]
    stub.answers["/api/v1/nodes"] = status(403, 'nodes is forbidden: User "eve" cannot list resource "nodes"')
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    stub.answers[path] = (403, b"no JSON")
    snapshot, problems = live.snapshot(kubeconfig(tmp_path, stub.url))
    assert len(snapshot.pods) == 1
    assert [(p.code, p.severity) for p in problems] == [("inventory/forbidden-kind", Severity.WARNING)] * 2
    messages = " / ".join(p.message for p in problems)
    assert 'User "eve" cannot list' in messages
    assert "clusterroles.rbac.authorization.k8s.io may not be listed: Forbidden" in messages
    assert "`list` on `nodes`" in " ".join(p.hint for p in problems)


def test_absent_kinds_are_counted_as_none_and_not_asked_for(stub: Stub, tmp_path: Path) -> None:
    snapshot, problems = live.snapshot(kubeconfig(tmp_path, stub.url))
    assert problems == ()
    assert snapshot.others["Tier.projectcalico.org"] == 0
    assert snapshot.others["AdminNetworkPolicy.policy.networking.k8s.io"] == 0
    assert not [path for path, _ in stub.asked if "calico" in path]


def test_calico_is_read_through_its_api_server_alone(stub: Stub, tmp_path: Path) -> None:
    stub.groups += ["projectcalico.org/v3", "crd.projectcalico.org/v1", "policy.networking.k8s.io/v1alpha1"]
    stub.objects["/apis/projectcalico.org/v3/globalnetworkpolicies"] = [{"metadata": {"name": "deny"}}]
    stub.answers["/apis/projectcalico.org/v3/stagednetworkpolicies"] = status(404, "not in this version")
    snapshot, problems = live.snapshot(kubeconfig(tmp_path, stub.url))
    assert problems == ()
    assert [(p.kind, p.name, p.api_version) for p in snapshot.policies] == [
        ("GlobalNetworkPolicy", "deny", "projectcalico.org/v3")
    ]
    assert snapshot.others["StagedNetworkPolicy.projectcalico.org"] == 0
    assert not [path for path, _ in stub.asked if "crd.projectcalico" in path]
    assert "AdminNetworkPolicy.policy.networking.k8s.io" not in snapshot.others


def test_calico_as_crds_where_it_has_no_api_server(stub: Stub, tmp_path: Path) -> None:
    stub.groups += ["crd.projectcalico.org/v1"]
    stub.objects["/apis/crd.projectcalico.org/v1/tiers"] = [{"metadata": {"name": "default"}}]
    snapshot, _ = live.snapshot(kubeconfig(tmp_path, stub.url))
    assert [(p.kind, p.api_version) for p in snapshot.policies] == [("Tier", "crd.projectcalico.org/v1")]


def test_without_discovery_every_group_is_tried(stub: Stub, tmp_path: Path) -> None:
    stub.answers["/apis"] = status(403, "forbidden")
    snapshot, problems = live.snapshot(kubeconfig(tmp_path, stub.url))
    assert problems == ()
    assert snapshot.others["Tier.crd.projectcalico.org"] == 0
    assert [path for path, _ in stub.asked if "calico" in path]


def test_an_item_that_is_no_object_is_a_problem(stub: Stub, tmp_path: Path) -> None:
    stub.answers[PODS] = (200, json.dumps({"items": ["text"]}).encode())
    _, problems = live.snapshot(kubeconfig(tmp_path, stub.url))
    assert [p.code for p in problems] == ["inventory/malformed-object"]


def test_refused_credentials(stub: Stub, tmp_path: Path) -> None:
    stub.answers["/api/v1/namespaces"] = status(401, "Unauthorized")
    with pytest.raises(Denied, match="refused the credentials"):
        live.snapshot(kubeconfig(tmp_path, stub.url))


@pytest.mark.parametrize(
    ("code", "body", "says"),
    [
        (500, status(500, "etcdserver: no leader")[1], "etcdserver: no leader"),
        (200, b"<html>a login page</html>", "is it a Kubernetes API server"),
        (200, b"[]", "this is no list"),
        (200, b'{"items": {}}', "this is no list"),
        (429, b"", "429"),
    ],
)
def test_a_server_that_cannot_answer(stub: Stub, tmp_path: Path, code: int, body: bytes, says: str) -> None:
    stub.answers["/api/v1/namespaces"] = (code, body)
    with pytest.raises(Unavailable, match=says) as caught:
        live.snapshot(kubeconfig(tmp_path, stub.url))
    assert "\n" not in caught.value.message


def test_a_page_that_is_too_large(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_BYTES", 10)
    with pytest.raises(Unavailable, match="too large"):
        live.snapshot(kubeconfig(tmp_path, stub.url))


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer") as caught:
        live.snapshot(kubeconfig(tmp_path, "http://127.0.0.1:9"))
    assert "context" in caught.value.hint


def test_tls_that_is_none(stub: Stub, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        live.snapshot(kubeconfig(tmp_path, stub.url.replace("http://", "https://")))


@pytest.mark.parametrize("text", ["", "clusters: [", "- a list", "apiVersion: v1\nclusters: 7\n"])
def test_a_kubeconfig_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Invalid, match="no usable kubeconfig"):
        live.snapshot(str(path))


def test_a_missing_kubeconfig_and_an_unknown_context(stub: Stub, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no usable kubeconfig at"):
        live.snapshot(str(tmp_path / "none"))
    with pytest.raises(Invalid, match="nowhere"):
        live.snapshot(kubeconfig(tmp_path, stub.url), "nowhere")


def test_inside_a_pod_its_own_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text(TOKEN)
    authority.write_text("not read before the first request")
    from kubernetes.config import incluster_config

    def load(client_configuration: Any = None) -> None:
        incluster_config.InClusterConfigLoader(str(token), str(authority)).load_and_set(client_configuration)

    monkeypatch.setattr("kubernetes.config.load_incluster_config", load)
    monkeypatch.setattr("kubernetes.client.ApiClient", lambda configuration: configuration)
    assert live.connect().host == "https://127.0.0.1:6443"


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kubernetes.client", None)
    with pytest.raises(Unavailable) as caught:
        live.snapshot()
    assert caught.value.hint == "pip install 'pilothouse[live]'"


def test_plurals_are_those_of_the_api() -> None:
    plurals = {kind.name: kind.plural for kind in kinds.CORE}
    assert plurals["Ingress"] == "ingresses"
    assert plurals["NetworkPolicy"] == "networkpolicies"
    assert plurals["EndpointSlice"] == "endpointslices"
    assert kinds.CORE[0].path == "/api/v1/namespaces"
    assert kinds.CORE[0].group_version == "v1"
    assert kinds.CALICO[0][0].group_version == "projectcalico.org/v3"

"""Every rendered manifest on a real API server: accepted, applied once, changed by nothing but a declaration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support import applied, policy_kinds, testbed
from support.bed import kubernetes
from support.bed.kubernetes import KubeApi
from support.testbed import CLUSTERS

from pilothouse.artifacts.objects import ObjectKey
from pilothouse.clients.kubernetes import Api, to_endpoint
from pilothouse.problems import Conflict
from pilothouse.workflows import apply_plan, applying
from pilothouse.workflows.applying import Applied, Options

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def server() -> Iterator[KubeApi]:
    """An API server with Calico's kinds, for this file."""
    found = kubernetes.start()
    policy_kinds.install(found, policy_kinds.of(*policy_kinds.CALICO))
    yield found
    found.stop()


@pytest.fixture
def api(server: KubeApi) -> Iterator[Api]:
    client = Api(to_endpoint(server.endpoint))
    with applied.cleaned(server):
        yield client
    client.close()


WHOLE = Options(hold=True)


def bring(api: Api, cluster: str, manifests: list[Manifest], options: Options = WHOLE) -> Applied:
    return applying.apply_now(api, applied.cluster(cluster), applied.result(cluster, manifests), options)


def wanted(server: KubeApi, cluster: str) -> list[Manifest]:
    """What is rendered for a cluster of the bank, and its namespaces made."""
    manifests = applied.manifests(cluster)
    applied.namespaces(server, applied.namespaces_of(manifests))
    return deepcopy(manifests)


def versions(server: KubeApi) -> dict[ObjectKey, str]:
    return {key: item["metadata"]["resourceVersion"] for key, item in applied.ours(server).items()}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_manifest_is_accepted_and_a_second_apply_changes_nothing(cluster: str, server: KubeApi, api: Api) -> None:
    manifests = wanted(server, cluster)
    first = bring(api, cluster, manifests)
    assert [f"{item.key}: {item.message}" for item in first.planned.held] == []
    assert len(first.planned.changes) == len(manifests) > 20
    before = versions(server)
    assert set(before) == {ObjectKey.of(item) for item in manifests}
    assert bring(api, cluster, manifests).planned.changes == ()
    assert bring(api, cluster, manifests, Options(full=False)).planned.steps == ()
    # Sent all the same, one by one, nothing changes on the server.
    for manifest in apply_plan.desired_of(manifests):
        api.apply(manifest)
    assert versions(server) == before


def test_staged_first_and_enforced_after_its_time(server: KubeApi, api: Api) -> None:
    """Production's namespaces are staged, then enforced, each time read back; the staged ones go when those stand."""
    manifests = wanted(server, "prod")
    given = testbed.bank("prod")
    given = replace(given, cluster=replace(given.cluster, staged_for=3600))

    def bring_at(now: datetime) -> Applied:
        result = applied.result("prod", manifests)
        return applying.apply_now(api, given.cluster, result, WHOLE, inputs=given, now=now)

    def policies(namespace: str) -> set[str]:
        found = (key for key in applied.ours(server) if key.namespace == namespace)
        return {key.kind for key in found if key.kind.endswith("NetworkPolicy")}

    now = datetime.now(UTC)
    first = bring_at(now)
    assert [f"{item.key}: {item.message}" for item in first.planned.held] == []
    assert "payments" in {item.namespace for item in first.planned.staging.waiting}
    assert policies("payments") <= {"StagedKubernetesNetworkPolicy", "StagedNetworkPolicy"} != set()
    assert first.verified
    assert all(stage.difference.is_empty for stage in first.planned.rollout.stages)

    again = bring_at(now + timedelta(minutes=5))
    assert (again.planned.steps, again.verified) == ((), False)

    later = bring_at(now + timedelta(hours=2))
    assert later.planned.held == ()
    assert later.planned.staging.waiting == ()
    assert "payments" in later.planned.staging.begins
    assert policies("payments") <= {"NetworkPolicy"} != set()
    assert later.verified
    names = [stage.name for stage in later.planned.rollout.stages]
    assert names.index("end of shelter") < names.index("unstage") == len(names) - 1
    felt = {stage.name: stage.difference.isolation for stage in later.planned.rollout.stages}
    promised, left = first.planned.rollout.promised, later.planned.rollout.promised
    assert promised is not None
    assert left is not None  # what is declared staged stays so
    assert set(promised.isolation) == {*felt["end of shelter"], *left.isolation}
    assert {item.namespace for item in left.isolation} == {"risk"}
    assert later.planned.rollout.breaches == ()


def test_a_removed_declaration_removes_exactly_our_objects(server: KubeApi, api: Api) -> None:
    manifests = wanted(server, "prod")
    bring(api, "prod", manifests)
    before = versions(server)
    gone = [m for m in manifests if m["metadata"]["labels"].get("pilothouse.dev/service") == "webhooks"]
    assert {m["kind"] for m in gone} == {"NetworkPolicy"}
    kept = [m for m in manifests if m not in gone]
    outcome = bring(api, "prod", kept)
    assert {c.key for c in outcome.planned.changes} == {ObjectKey.of(m) for m in gone}
    after = versions(server)
    assert after == {key: version for key, version in before.items() if key not in {ObjectKey.of(m) for m in gone}}


def test_foreign_objects_and_fields_stay(server: KubeApi, api: Api) -> None:
    manifests = wanted(server, "dev")
    foreign = [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "theirs", "namespace": "cards", "labels": labels},
            "spec": {"podSelector": {}},
        }
        for labels in (
            {},
            {"app.kubernetes.io/managed-by": "pilothouse"},
            {"app.kubernetes.io/managed-by": "pilothouse", "pilothouse.dev/cluster": "elsewhere"},
        )
    ]
    for number, item in enumerate(foreign):
        item["metadata"]["name"] = f"theirs-{number}"  # type: ignore[index]
        server.send("POST", "/apis/networking.k8s.io/v1/namespaces/cards/networkpolicies", item)
    bring(api, "dev", manifests)
    account = next(m for m in manifests if m["kind"] == "ServiceAccount")
    where = account["metadata"]
    path = f"/api/v1/namespaces/{where['namespace']}/serviceaccounts/{where['name']}"
    server.kubectl("annotate", "-n", where["namespace"], "serviceaccount", where["name"], "team.example/note=kept")
    server.kubectl("label", "-n", where["namespace"], "serviceaccount", where["name"], "team=theirs")
    versions_before = versions(server)
    account["metadata"]["labels"]["pilothouse.dev/new"] = "ours"
    outcome = bring(api, "dev", manifests)
    assert [str(c.key) for c in outcome.planned.changes] == [str(ObjectKey.of(account))]
    found = server.get(path)["metadata"]
    assert (found["annotations"]["team.example/note"], found["labels"]["team"]) == ("kept", "theirs")
    assert found["labels"]["pilothouse.dev/new"] == "ours"
    # A field of ours that is no longer declared disappears; theirs stay.
    del account["metadata"]["labels"]["pilothouse.dev/new"]
    assert len(bring(api, "dev", manifests, Options(full=False)).planned.changes) == 1
    found = server.get(path)["metadata"]
    assert "pilothouse.dev/new" not in found["labels"]
    assert (found["annotations"]["team.example/note"], found["labels"]["team"]) == ("kept", "theirs")
    changed = {key for key, version in versions(server).items() if versions_before.get(key) != version}
    assert changed == {ObjectKey.of(account)}
    for number in range(len(foreign)):
        assert api.get({**foreign[0], "metadata": {"name": f"theirs-{number}", "namespace": "cards"}}) is not None
        server.kubectl("delete", "-n", "cards", "networkpolicy", f"theirs-{number}")


def test_an_object_of_that_name_that_is_not_ours_is_left(server: KubeApi, api: Api) -> None:
    manifests = wanted(server, "dev")
    account = next(m for m in manifests if m["kind"] == "ServiceAccount")
    theirs = {"metadata": {"name": account["metadata"]["name"]}}
    path = f"/api/v1/namespaces/{account['metadata']['namespace']}/serviceaccounts"
    made = server.send("POST", path, theirs)
    outcome = bring(api, "dev", manifests)
    assert [(item.code, item.key) for item in outcome.planned.held] == [("apply/foreign-object", ObjectKey.of(account))]
    assert api.get(account) == made
    assert len(applied.ours(server)) == len(manifests) - 1
    server.send("DELETE", f"{path}/{account['metadata']['name']}")


def edit(server: KubeApi, manifest: Manifest, patch: object, kind: str = "merge") -> None:
    """What `kubectl edit` does: an update under its own manager."""
    where = manifest["metadata"]
    done = server.kubectl(
        "patch",
        "--field-manager=kubectl-edit",
        f"--type={kind}",
        "-n",
        where["namespace"],
        manifest["kind"].lower(),
        where["name"],
        "-p",
        json.dumps(patch),
    )
    assert done.returncode == 0, done.stderr


def policy(manifests: list[Manifest], part: str, namespace: str = "cards") -> Manifest:
    return next(
        m
        for m in manifests
        if m["metadata"].get("namespace") == namespace and m["metadata"]["labels"].get("pilothouse.dev/part") == part
    )


def test_a_field_set_by_hand_is_shown_and_taken_back_only_when_that_is_said(server: KubeApi, api: Api) -> None:
    manifests = wanted(server, "dev")
    bring(api, "dev", manifests)
    dns = policy(manifests, "dns")
    opened = [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]
    edit(server, dns, {"spec": {"egress": opened}})
    outcome = bring(api, "dev", manifests, Options(full=False, hold=True))
    (held,) = (item for item in outcome.planned.held if item.code == "apply/conflict")
    assert held.key == ObjectKey.of(dns)
    assert ".spec.egress" in held.message
    assert "kubectl-edit" in held.message
    found = api.get(dns)
    assert found is not None
    assert found["spec"]["egress"] == opened
    forced = bring(api, "dev", manifests, Options(force=True))
    assert [c.key for c in forced.planned.changes] == [ObjectKey.of(dns)]
    found = api.get(dns)
    assert found is not None
    assert found["spec"] == dns["spec"]
    assert bring(api, "dev", manifests).planned.changes == ()


def test_a_rule_added_beside_ours_is_seen(server: KubeApi, api: Api) -> None:
    """Nobody else's field of a policy is nobody else's business: it would open what was proved closed."""
    manifests = wanted(server, "dev")
    bring(api, "dev", manifests)
    deny = policy(manifests, "default-deny")
    edit(server, deny, {"spec": {"ingress": [{}]}})
    for full in (True, False):
        outcome = bring(api, "dev", manifests, Options(full=full, hold=True))
        (held,) = (item for item in outcome.planned.held if item.code == "apply/conflict")
        assert (held.key, held.message) == (ObjectKey.of(deny), "somebody else added .spec.ingress (kubectl-edit)")
    bring(api, "dev", manifests, Options(force=True))
    found = api.get(deny)
    assert found is not None
    assert found["spec"] == deny["spec"]


def test_a_binding_to_another_role_is_made_anew(server: KubeApi, api: Api) -> None:
    manifests = wanted(server, "dev")
    bring(api, "dev", manifests)
    binding = next(m for m in manifests if m["kind"] == "RoleBinding")
    before = api.get(binding)
    binding["roleRef"]["name"] = "view"
    outcome = bring(api, "dev", manifests)
    assert [c.action for c in outcome.planned.changes] == ["change"]
    found = api.get(binding)
    assert found is not None
    assert before is not None
    assert found["roleRef"]["name"] == "view"
    assert found["metadata"]["uid"] != before["metadata"]["uid"]


def test_a_namespace_that_is_not_there_yet_holds_up_nobody(server: KubeApi, api: Api) -> None:
    manifests = wanted(server, "dev")
    account = deepcopy(next(m for m in manifests if m["kind"] == "ServiceAccount"))
    account["metadata"]["namespace"] = "not-there-yet"
    outcome = bring(api, "dev", [*manifests, account])
    assert [(item.code, item.key.namespace) for item in outcome.planned.held] == [
        ("apply/no-namespace", "not-there-yet")
    ]
    assert len(applied.ours(server)) == len(manifests)


def test_what_removes_too_much_is_refused(server: KubeApi, api: Api) -> None:
    manifests = wanted(server, "dev")
    bring(api, "dev", manifests)
    before = versions(server)
    with pytest.raises(Conflict, match="more than half"):
        bring(api, "dev", manifests[: len(manifests) // 3])
    with pytest.raises(Conflict, match="nothing is desired on dev"):
        bring(api, "dev", [])
    assert versions(server) == before
    bring(api, "dev", [], Options(prune_all=True))
    assert versions(server) == {}


def test_a_token_of_an_account(server: KubeApi, api: Api) -> None:
    with server.namespace("token") as namespace:
        server.send("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "reader"}})
        token, expires = api.token(namespace, "reader", ("https://kubernetes.default.svc",), 600)
        said = server.kubectl("auth", "whoami", "-o", "json", kubeconfig=server.token_kubeconfig("reader", token))
        assert json.loads(said.stdout)["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:reader"
        assert expires.tzinfo is not None

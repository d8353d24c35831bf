"""What goes wrong in the middle of an apply, on a real API server: undone, and said."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import applied, testbed
from support.bed import kubernetes
from support.bed.faults import Proxy
from support.bed.kubernetes import KubeApi

from pilothouse.artifacts.objects import Object, ObjectKey
from pilothouse.clients.calls import Retry
from pilothouse.clients.kubernetes import Api, Lease, to_endpoint
from pilothouse.clients.kubernetes.lease import NAME
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Conflict, Denied, Invalid
from pilothouse.workflows import apply_plan, applying
from pilothouse.workflows.applying import ApplyFailed, Cancelled

Manifest = dict[str, Any]
REFUSING = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: refuse-one}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - {apiGroups: [networking.k8s.io], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [networkpolicies]}
  validations:
    - expression: "request.dryRun || object.metadata.name != 'pilothouse-default-deny'"
      message: no denials on a Friday
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: refuse-one}
spec: {policyName: refuse-one, validationActions: [Deny]}
"""


class Always:
    """A turn that nobody takes away."""

    def keep(self) -> None:
        return


@pytest.fixture(scope="module")
def server() -> Iterator[KubeApi]:
    found = kubernetes.start()
    applied.namespaces(found, applied.namespaces_of(applied.manifests("dev")))
    yield found
    found.stop()


@pytest.fixture
def api(server: KubeApi) -> Iterator[Api]:
    client = Api(to_endpoint(server.endpoint))
    with applied.cleaned(server):
        yield client
    client.close()


def wanted() -> list[Manifest]:
    return deepcopy(applied.manifests("dev"))


def bring(api: Api, manifests: list[Manifest]) -> None:
    cluster = applied.cluster("dev")
    applying.run(api, apply_plan.plan(api, cluster, manifests), Always())


def contents(server: KubeApi) -> dict[ObjectKey, Any]:
    """What each of our objects says, without what the server counts."""
    noise = ("resourceVersion", "managedFields", "generation", "uid", "creationTimestamp")
    return {
        key: {**item, "metadata": {k: v for k, v in item["metadata"].items() if k not in noise}}
        for key, item in applied.ours(server).items()
    }


def with_a_change(manifests: list[Manifest]) -> list[Manifest]:
    """Something is added, something changed both ways, something narrowed, something removed, a binding made anew."""
    found = deepcopy(manifests)
    policies = [m for m in found if m["kind"] == "NetworkPolicy" and m["spec"].get("egress")]
    policies[0]["spec"]["egress"] = [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]
    policies[1]["spec"]["egress"] = policies[1]["spec"]["egress"][:-1] or policies[1]["spec"]["egress"]
    binding = next(m for m in found if m["kind"] == "RoleBinding")
    binding["roleRef"]["name"] = "view"
    found.remove(next(m for m in found if m["kind"] == "ServiceAccount"))
    added = deepcopy(policies[0])
    added["metadata"]["name"] = "pilothouse-added-egress"
    deny = next(m for m in found if m["metadata"]["name"] == "pilothouse-default-deny")
    deny["metadata"]["labels"]["pilothouse.dev/changed"] = "yes"
    return [*found, added]


def test_what_admission_refuses_in_the_middle_is_undone(server: KubeApi, api: Api) -> None:
    bring(api, wanted())
    before = contents(server)
    assert server.kubectl("apply", "-f", "-", stdin=REFUSING).returncode == 0
    try:
        _until(server, refused=True)
        with pytest.raises(ApplyFailed) as failed:
            bring(api, with_a_change(wanted()))
    finally:
        server.kubectl("delete", "-f", "-", stdin=REFUSING)
        _until(server, refused=False)
    assert failed.value.at.key.name == "pilothouse-default-deny"
    assert "no denials on a Friday" in failed.value.message
    assert failed.value.left == ()
    assert len(failed.value.undone) >= 4
    assert contents(server) == before


def _until(server: KubeApi, refused: bool) -> None:
    """An admission policy begins to hold, and ceases to, some moments after it was made or deleted."""
    name = "pilothouse-default-deny"
    probe = yaml.safe_dump(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"podSelector": {}},
        }
    )
    deadline = time.monotonic() + 30
    while True:
        accepted = server.kubectl("apply", "-f", "-", stdin=probe).returncode == 0
        if accepted:
            server.kubectl("delete", "-n", "default", "networkpolicy", name)
        if accepted is not refused:
            return
        assert time.monotonic() < deadline, "the admission policy never changed its mind"
        time.sleep(0.1)


class Failing:
    """The API server, which fails at the call of that number: with an exception, before or after it was carried out."""

    def __init__(self, api: Api, at: int, failure: BaseException, after: bool) -> None:
        self._api = api
        self._at = at
        self._failure = failure
        self._after = after
        self.calls = 0
        self.host = api.host

    def _counted(self, call: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls != self._at:
            return call()
        if self._after:
            call()
        raise self._failure

    def apply(self, manifest: Object, dry_run: bool = False, force: bool = False) -> dict[str, Any]:
        return self._counted(lambda: self._api.apply(manifest, dry_run, force))  # type: ignore[no-any-return]

    def delete(self, manifest: Object, dry_run: bool = False) -> bool:
        return self._counted(lambda: self._api.delete(manifest, dry_run))  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


def test_every_single_step_can_fail_and_is_undone(server: KubeApi, api: Api) -> None:
    """Whether the request arrived before its answer was lost, or not."""
    bring(api, wanted())
    before = contents(server)
    planned = apply_plan.plan(api, applied.cluster("dev"), with_a_change(wanted()))
    assert len(planned.steps) >= 8
    for number in range(1, len(planned.steps) + 1):
        for after in (False, True):
            again = apply_plan.plan(api, applied.cluster("dev"), with_a_change(wanted()))
            with pytest.raises(ApplyFailed) as failed:
                applying.run(Failing(api, number, Invalid("not today"), after), again, Always())
            assert failed.value.left == ()
            assert contents(server) == before, f"step {number} ({again.steps[number - 1]}), after={after}"


def test_a_cancelled_apply_is_undone(server: KubeApi, api: Api) -> None:
    bring(api, wanted())
    before = contents(server)
    planned = apply_plan.plan(api, applied.cluster("dev"), with_a_change(wanted()))
    with pytest.raises(Cancelled, match="changes were undone"):
        applying.run(Failing(api, 5, KeyboardInterrupt(), True), planned, Always())
    assert contents(server) == before


def test_an_undo_that_fails_names_each_object(server: KubeApi, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server goes away in the middle and does not come back."""
    monkeypatch.setattr(applying, "UNDO_PAUSE", 0.01)
    proxy = Proxy(server.url)
    try:
        through = to_endpoint(
            Endpoint(proxy.url.replace("http://", "https://"), str(server.token_file), str(server.ca_file))
        )
        through.retry = Retry(attempts=1)
        far = Api(through)
        planned = apply_plan.plan(far, applied.cluster("dev"), wanted())
        count = 0

        def progress(_: str) -> None:
            nonlocal count
            count += 1
            if count == 4:
                stack.__enter__()

        stack = proxy.refuse()
        with pytest.raises(ApplyFailed) as failed:
            applying.run(far, planned, Always(), progress)
        stack.__exit__(None, None, None)
    finally:
        proxy.close()
    assert len(failed.value.left) == 4
    assert "4 COULD NOT BE" in failed.value.message
    assert all(str(item.key) in failed.value.message for item in failed.value.left)


def test_two_applies_at_once(server: KubeApi, api: Api) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{NAME}"
    with Lease(api, "the first") as first:
        first.keep()
        second = Lease(Api(to_endpoint(server.endpoint)), "the second")
        with pytest.raises(Conflict, match=r"another apply runs .*the first"):
            second.__enter__()
        assert server.get(path)["spec"]["holderIdentity"] == "the first"
    with Lease(api, "the second"):
        assert server.get(path)["spec"]["holderIdentity"] == "the second"


def test_only_one_of_many_gets_the_lease(server: KubeApi) -> None:
    inside, most, got = [0], [0], [0]
    guard = threading.Lock()

    def try_it(number: int) -> None:
        client = Api(to_endpoint(server.endpoint))
        for _ in range(5):
            try:
                with Lease(client, f"worker {number}"):
                    with guard:
                        inside[0] += 1
                        got[0] += 1
                        most[0] = max(most[0], inside[0])
                    time.sleep(0.01)
                    with guard:
                        inside[0] -= 1
            except Conflict:
                time.sleep(0.01)
        client.close()

    threads = [threading.Thread(target=try_it, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert got[0] >= 1


def test_a_lease_that_ran_out_is_taken(server: KubeApi, api: Api) -> None:
    killed = Lease(api, "killed", seconds=1)
    killed.__enter__()
    time.sleep(2.1)
    with Lease(api, "next") as held:
        held.keep()
        # The one that came back finds out before it changes anything.
        killed._renewed = -1000.0
        with pytest.raises(Conflict, match="taken by somebody else"):
            killed.keep()


def test_a_verb_that_is_forbidden_is_named(server: KubeApi, api: Api) -> None:
    """Credentials that may read everything and change nothing."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "reads-all"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "reads-all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reads-all"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
    }
    server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([role, binding]))
    server.kubectl("create", "serviceaccount", "reader", "-n", "default")
    file = server.folder / "reader-token"
    file.write_text(server.token_for("default", "reader"), encoding="ascii")
    reader = Api(to_endpoint(Endpoint(server.url, str(file), str(server.ca_file))))
    planned = apply_plan.plan(reader, applied.cluster("dev"), wanted())
    assert planned.steps == ()
    assert {item.code for item in planned.held} == {"apply/forbidden"}
    assert any('cannot patch resource "networkpolicies"' in item.message for item in planned.held)
    assert "can-i" in planned.held[0].hint
    with pytest.raises(Denied, match="leases"):
        Lease(reader, "reader").__enter__()
    server.kubectl("delete", "clusterrole,clusterrolebinding", "reads-all")


def test_ctrl_c_in_the_middle_of_the_command(server: KubeApi, api: Api, tmp_path: Path) -> None:
    """The real process on the real server: everything is as before, and it says so."""
    platform = tmp_path / "bank"
    subprocess.run(["cp", "-r", str(testbed.BANK), str(platform)], check=True)
    proxy = Proxy(server.url)
    kubeconfig = tmp_path / "kubeconfig"
    data = yaml.safe_load(server.admin_kubeconfig.read_text(encoding="utf-8"))
    data["clusters"][0]["cluster"]["server"] = proxy.url.replace("http://", "https://")
    kubeconfig.write_text(yaml.safe_dump(data), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pilothouse",
        "apply",
        "dev",
        str(platform),
        "--yes",
        "--kubeconfig",
        str(kubeconfig),
    ]
    command += ["--snapshot", str(platform / "snapshots" / "dev.json"), "--today", "2026-11-21"]
    with proxy.delay(0.05):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        deadline = time.monotonic() + 60
        while len(applied.ours(server)) < 3:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    proxy.close()
    assert process.returncode == 130, said
    assert re.search(r"apply of dev was cancelled; \d+ changes were undone", said)
    assert applied.ours(server) == {}

"""Elevation on a real API server: kubectl before, during and after; the fence; a worker that is killed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support import testbed
from support.access_values import key
from support.bed import kubernetes
from support.bed.kubernetes import KubeApi, kubeconfig
from support.elevation_world import ACCOUNT, Site, rendered, site

from pilothouse.access import certificates
from pilothouse.access.certificates import Issued
from pilothouse.access.elevation import EXPIRES_ANNOTATION, binding, written
from pilothouse.artifacts.objects import ObjectKey
from pilothouse.clients.kubernetes import Api, Forbidden, to_endpoint
from pilothouse.platform.model import Endpoint
from pilothouse.worker.scheduler import Worker
from pilothouse.workflows import apply_plan
from pilothouse.workflows.upkeep import JOBS


@pytest.fixture(scope="module")
def server() -> Iterator[KubeApi]:
    found = kubernetes.start()
    yield found
    found.stop()


@pytest.fixture
def place(server: KubeApi, tmp_path: Path) -> Iterator[Site]:
    """The site with the time of day, and nobody who takes the worker's turn."""
    found: Site = site(tmp_path, server)
    found.world.clock = lambda: datetime.now(UTC)  # type: ignore[method-assign]
    found.upkeep.clock = found.world.clock
    found.issuance = dataclasses.replace(found.issuance, clock=found.world.clock, pause=time.sleep)
    found.away = True
    yield found
    for item in found.bindings():
        found.server.delete(item)
    found.server.close()


def config(server: KubeApi, issued: Issued, folder: Path) -> Path:
    """A kubeconfig with what was issued to olga, and her key."""
    private = key("olga").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "olga.key").touch(mode=0o600)
    (folder / "olga.key").write_bytes(private)
    (folder / "olga.crt").write_text(issued.pem, encoding="ascii")
    user = {"client-certificate": str(folder / "olga.crt"), "client-key": str(folder / "olga.key")}
    path = folder / "olga.kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig(server.url, server.ca_file, "olga", user)), encoding="utf-8")
    return path


def until(what: Callable[[], bool], seconds: float) -> float:
    """How long it took to become true; fails where it did not."""
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < seconds, "not within the time"
        time.sleep(0.02)
    return time.monotonic() - begun


def give_back(place: Site, id: str) -> str:
    place.world.now = datetime.now(UTC)
    return place.give_back(id).meaning


# ---------------------------------------------------------------- kubectl


def test_elevated_allowed_given_back_refused(place: Site, server: KubeApi, tmp_path: Path) -> None:
    server.trust(certificates.pem(place.issuance.authorities.certificate("dev")))
    worker = Worker(place.upkeep, tuple(job for job in JOBS if job.name.startswith("elevat")))
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        id = place.approved()
        issued = place.claim(id)
        file = config(server, issued, tmp_path)
        seen = server.kubectl("auth", "whoami", "-o", "json", kubeconfig=file)
        assert f"ph:elev:{id}" in testbed.accepted(seen)
        until(lambda: server.kubectl("get", "secrets", "-A", kubeconfig=file).returncode == 0, 3)
        place.pauses = 0
        place.turn = time.sleep  # type: ignore[method-assign,assignment]  # the real worker has the turn
        assert "no rights on dev" in give_back(place, id)
        took = until(lambda: server.kubectl("get", "secrets", "-A", kubeconfig=file).returncode != 0, 2)
        refused = server.kubectl("get", "secrets", "-A", kubeconfig=file)
        assert "Forbidden" in refused.stderr
        assert took < 1.5
    finally:
        worker.stop()
        thread.join()


# ---------------------------------------------------------------- the fence


@pytest.fixture
def strong(place: Site, server: KubeApi) -> Iterator[Api]:
    """The worker's account, and an administrator besides: what refuses it something is the fence alone."""
    name = "worker-is-admin"
    body = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "pilothouse", "name": "pilothouse"}],
    }
    server.send("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", body)
    token = place.upkeep.opened().loaded.platform.clusters["dev"].servers.kubernetes
    assert token is not None
    client = Api(to_endpoint(Endpoint(server.url, token.token_file, token.ca_file)))

    def fenced() -> bool:  # the API server takes a new policy up within a moment
        try:
            made = client.make(wanted(place, request="g-probe", name="not-ours"))
        except Forbidden as failure:
            return "denied request" in failure.said
        place.server.delete(made)
        return False

    until(fenced, 20)
    yield client
    client.close()
    server.send("DELETE", f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{name}")


def wanted(place: Site, request: str = "g-fence", name: str = "", minutes: float = 30, **fields: Any) -> dict[str, Any]:
    """A binding of the right form but for what is given."""
    profile = place.world.declared().profiles["cluster-admin"]
    made = binding(request, "olga", written(datetime.now(UTC) + timedelta(minutes=minutes)), profile, "dev")
    if name:
        made["metadata"]["name"] = name
    return {**made, **fields}


def group(name: str) -> dict[str, str]:
    return {"kind": "Group", "name": name, "apiGroup": "rbac.authorization.k8s.io"}


def role(name: str, kind: str = "ClusterRole") -> dict[str, str]:
    return {"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"}


def without(manifest: dict[str, Any], field: str, name: str) -> dict[str, Any]:
    found = deepcopy(manifest)
    del found["metadata"][field][name]
    return found


def test_the_fence_admits_the_form_of_a_request_and_nothing_else(place: Site, strong: Api) -> None:
    ours = wanted(place)
    namespaced = binding(
        "g-fence",
        "alice",
        written(datetime.now(UTC) + timedelta(minutes=30)),
        place.world.declared().profiles["repair"],
        "dev",
        "payments",
    )
    elsewhere = deepcopy(namespaced)
    elsewhere["metadata"]["namespace"] = "kube-system"
    admin_in_namespace = {**deepcopy(ours), "kind": "RoleBinding"}
    admin_in_namespace["metadata"]["namespace"] = "payments"
    refused = {
        "a name of another form": wanted(place, name="admins"),
        "a name of another request": wanted(place, name="ph:elev:g-other"),
        "the group of everybody": wanted(place, subjects=[group("system:authenticated")]),
        "system:masters": wanted(place, subjects=[group("system:masters")]),
        "two subjects": wanted(place, subjects=[group("ph:elev:g-fence"), group("engineers")]),
        "no subject": wanted(place, subjects=[]),
        "a user": wanted(place, subjects=[{**group("ph:elev:g-fence"), "kind": "User"}]),
        "the group of another request": wanted(place, subjects=[group("ph:elev:g-other")]),
        "a role of no profile": wanted(place, roleRef=role("system:node")),
        "the role of another profile": wanted(place, roleRef=role("ph:elevated:repair")),
        "no expiry": without(ours, "annotations", EXPIRES_ANNOTATION),
        "an expiry that is none": {
            **ours,
            "metadata": {**ours["metadata"], "annotations": {EXPIRES_ANNOTATION: "never"}},
        },
        "an expiry that has passed": wanted(place, minutes=-1),
        "an expiry too far ahead": wanted(place, minutes=62),
        "no label of ours": without(ours, "labels", "app.kubernetes.io/managed-by"),
        "no request": without(ours, "labels", "pilothouse.dev/request"),
        "no profile": without(ours, "labels", "pilothouse.dev/profile"),
        "a namespace without the profile": elsewhere,
        "the cluster's role in a namespace": admin_in_namespace,
    }
    said = {}
    for word, manifest in refused.items():
        try:
            place.server.delete(strong.make(manifest))
            said[word] = "admitted"
        except Forbidden as failure:
            said[word] = failure.said
    by_the_fence = "ValidatingAdmissionPolicy 'pilothouse-elevation'"
    assert {word: text for word, text in said.items() if by_the_fence not in text} == {}
    assert len(said) == len(refused)
    for manifest in (ours, namespaced):
        made = strong.make(manifest)
        with pytest.raises(Forbidden, match="changes none"):
            strong.remove_fields(made, (("metadata", "annotations", "pilothouse.dev/user"),))
        assert strong.delete(made)
    others = place.server.read("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/cluster-admin")
    assert others is not None
    with pytest.raises(Forbidden, match="touches no binding but those of requests"):
        strong.delete({**others, "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"})


def test_the_command_says_whether_the_fence_stands(place: Site, server: KubeApi) -> None:
    from click.testing import CliRunner

    from pilothouse.cli.access import group

    def look() -> tuple[int, dict[str, Any]]:
        arguments = ["fence", str(place.world.platform), "--cluster", "dev", "--output", "json"]
        found = CliRunner().invoke(group, [*arguments, "--kubeconfig", str(server.admin_kubeconfig)])
        by_the_worker = CliRunner().invoke(group, arguments)  # with the declared token: it sees the same
        assert json.loads(found.stdout) == json.loads(by_the_worker.stdout)
        return found.exit_code, json.loads(found.stdout)

    code, found = look()
    assert (code, found["stands"], found["problems"]) == (0, True, [])
    assert found["objects"] == sum(1 for item in rendered(place.world) if "elevation" in item["metadata"]["name"])
    server.send(
        "DELETE", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/pilothouse-elevation"
    )
    try:
        code, found = look()
        assert (code, found["stands"]) == (1, False)
        assert [item["code"] for item in found["problems"]] == ["access/fence-missing"]
    finally:
        for manifest in rendered(place.world):
            place.server.apply(manifest, force=True)


def test_rbac_alone_gives_the_worker_those_roles_and_no_other(place: Site, server: KubeApi) -> None:
    """Without the fence, as on an old cluster."""
    for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
        server.send("DELETE", f"/apis/admissionregistration.k8s.io/v1/{kind}/pilothouse-elevation")
    endpoint = place.world.declared().clusters["dev"].servers.kubernetes
    assert endpoint is not None
    worker = Api(to_endpoint(endpoint))
    try:
        made = worker.make(wanted(place))
        with pytest.raises(Forbidden, match="attempting to grant"):
            worker.make(wanted(place, "g-node", roleRef=role("system:node")))
        with pytest.raises(
            Forbidden, match="attempting to grant"
        ):  # the role of a profile of namespaces, for the whole cluster
            worker.make(wanted(place, "g-wide", roleRef=role("ph:elevated:repair")))
        with pytest.raises(Forbidden, match="cannot patch"):
            worker.apply({**wanted(place), "subjects": [group("engineers")]}, force=True)
        assert worker.delete(made)
        allowed = server.kubectl("auth", "can-i", "escalate", "clusterroles", "--as", ACCOUNT)
        assert allowed.stdout.strip() == "no"
    finally:
        worker.close()
        for manifest in rendered(place.world):
            place.server.apply(manifest, force=True)


def test_what_is_rendered_is_applied_once_and_an_apply_leaves_requests_alone(place: Site) -> None:
    manifests = rendered(place.world)
    cluster = place.world.declared().clusters["dev"]
    assert {item["kind"] for item in manifests} >= {
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    made = place.server.make(wanted(place))
    planned = apply_plan.plan(place.server, cluster, manifests, full=True)
    assert (planned.steps, planned.held) == ((), ())
    less = [item for item in manifests if item["kind"] != "ClusterRoleBinding"]
    gone = {change.key for change in apply_plan.plan(place.server, cluster, less, full=True).changes}
    assert ObjectKey.of(made) not in gone
    assert gone == {ObjectKey.of(item) for item in manifests if item["kind"] == "ClusterRoleBinding"}


# ---------------------------------------------------------------- a worker that is killed


@contextmanager
def worker_process(place: Site) -> Iterator[subprocess.Popen[bytes]]:
    """The worker as it is started, with every job of it."""
    command = [
        sys.executable,
        "-m",
        "pilothouse.worker",
        "--data",
        place.world.data,
        "--platform",
        place.world.platform,
    ]
    log = place.world.data / "worker.log"
    with log.open("ab") as out, subprocess.Popen([str(part) for part in command], stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=60)


def test_a_worker_that_is_killed_leaves_no_binding_past_its_end(place: Site) -> None:
    id = place.approved()
    with worker_process(place) as process:
        time.sleep(2)  # its start: imports and the first reading of the platform
        for _ in range(3):  # a claim during the start may have to be made again, and can be
            try:
                place.claim(id)
                break
            except Exception as failure:
                print(failure)
        assert len(place.bindings(id)) == 1
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    said = give_back(place, id)
    assert "still stands" in said
    assert len(place.bindings(id)) == 1
    with worker_process(place):
        until(lambda: place.bindings(id) == [], 30)


def test_a_worker_that_was_killed_with_its_database_lost_leaves_none_either(place: Site) -> None:
    """Nothing is written down about what it made: the sweep goes by what it finds."""
    place.server.make(wanted(place, request="g-lost"))
    with worker_process(place):
        until(lambda: place.bindings("g-lost") == [], 30)

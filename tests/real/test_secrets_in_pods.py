"""What is rendered for pods is taken by a real API server, and the agent as a real process serves a real Vault."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import testbed
from support.secret_site import DATABASE, SecretSite, real_secret_site

from pilothouse.access import pod
from pilothouse.clients.vault import VaultClient
from pilothouse.clients.vault_workload import WorkloadVault
from pilothouse.inputs import Content
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Denied
from pilothouse.source import Source
from pilothouse.workflows import vault_setup

RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
SETTINGS = "secrets/vault/settings.yaml"


@pytest.fixture
def made(vault: Any, slapd: Any, kube_api: Any) -> Iterator[SecretSite]:
    with real_secret_site(vault, slapd, kube_api) as site:
        yield site


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_restricted_namespace_takes_the_pod_with_its_sidecar(made: SecretSite, kube_api: Any) -> None:
    testbed.accepted(kube_api.kubectl("label", "namespace", made.namespace, RESTRICTED, "--overwrite"))
    template = pod.fragment(made.service(), made.inputs.cluster, made.settings)
    # A team's own Deployment, and the patch as `render --kind Deployment` prints it, joined as kubectl joins them.
    own = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "api", "namespace": made.namespace},
        "spec": {
            "selector": {"matchLabels": {"app": "api"}},
            "template": {
                "metadata": {"labels": {"app": "api"}},
                "spec": {
                    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [
                        {
                            "name": "api",
                            "image": "registry.bank.example/api:1",
                            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                        }
                    ],
                },
            },
        },
    }
    testbed.accepted(kube_api.kubectl("apply", "-f", "-", stdin=json.dumps(own)))
    patch = json.dumps({"spec": {"template": template}})
    testbed.accepted(
        kube_api.kubectl("patch", "deployment", "api", "-n", made.namespace, "--type=strategic", "-p", patch)
    )
    kept = json.loads(
        testbed.accepted(kube_api.kubectl("get", "deployment", "api", "-n", made.namespace, "-o", "json"))
    )
    spec = kept["spec"]["template"]
    # No controller runs here: the pod is made from the template as one would make it.
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**spec["metadata"], "name": "api", "namespace": made.namespace},
        "spec": spec["spec"],
    }
    testbed.accepted(kube_api.kubectl("create", "-f", "-", stdin=json.dumps(body)))
    running = json.loads(testbed.accepted(kube_api.kubectl("get", "pod", "api", "-n", made.namespace, "-o", "json")))
    init, sidecar = running["spec"]["initContainers"]
    assert (init["name"], sidecar["name"]) == ("pilothouse-secrets-init", "pilothouse-secrets")
    assert sidecar["restartPolicy"] == "Always"
    assert running["spec"]["containers"][0]["image"] == "registry.bank.example/api:1"
    mounts = {item["mountPath"]: item for item in running["spec"]["containers"][0]["volumeMounts"]}
    assert mounts["/secrets/database"]["readOnly"] is True
    assert running["metadata"]["annotations"][pod.ANNOTATION] == template["metadata"]["annotations"][pod.ANNOTATION]
    # The same pod with root for its agent is refused: the standard is really held against it.
    worse = copy.deepcopy(body)
    worse["metadata"]["name"] = "worse"
    worse["spec"]["initContainers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    done = kube_api.kubectl("create", "-f", "-", stdin=json.dumps(worse))
    assert done.returncode != 0
    assert "violates PodSecurity" in done.stderr


def test_the_agents_of_a_pod_from_its_start_to_its_end(made: SecretSite, tmp_path: Path, vault: Any) -> None:
    config = tmp_path / "config.json"
    told = made.config(tmp_path, interval=1)
    config.write_text(told.to_json())
    command = [sys.executable, "-m", "pilothouse", "access", "secrets", "agent", "--config", str(config)]
    once = subprocess.run(
        [*command, "--once"], capture_output=True, text=True, timeout=60, check=False, env={"PATH": os.environ["PATH"]}
    )
    assert once.returncode == 0, once.stderr
    password = Path(told.secrets[0].folder) / "password"
    assert password.read_text() == DATABASE["password"]
    sidecar = subprocess.Popen(
        [*command, "--watch"], stderr=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]}
    )
    try:
        made.put("payments/database", DATABASE | {"password": "the second password"})
        until(lambda: password.read_text() == "the second password")
        resident = next(
            int(line.split()[1])
            for line in Path(f"/proc/{sidecar.pid}/status").read_text().splitlines()
            if line.startswith("VmRSS")
        )
        assert resident < 48 * 1024, "the memory limit of the rendered container is 64Mi"
        sidecar.send_signal(signal.SIGTERM)
        _, err = sidecar.communicate(timeout=15)
    finally:
        sidecar.kill()
    assert sidecar.returncode == 0, err
    assert not any(text in once.stderr + err for text in (*DATABASE.values(), "the second password") if len(text) > 5)
    # Vault's own log says that every token was ended, and who read what.
    audit = (vault.folder / "audit.log").read_text()
    assert audit.count('"path":"auth/token/revoke-self"') >= 4
    from pilothouse.access.secret_readers import last_reads

    path = f"{made.key_value}/data/payments/database"
    found = last_reads((json.loads(line) for line in audit.splitlines()), [path])
    assert found[path][1] == f"{made.namespace}/api"


def test_a_sealed_vault_is_said_and_the_agent_ends_within_its_budget(
    made: SecretSite, tmp_path: Path, vault: Any
) -> None:
    own = vault.fresh(persistent=True)
    own.seal()
    config = tmp_path / "config.json"
    config.write_text(made.config(tmp_path, url=own.url, budget=3).to_json())
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", "access", "secrets", "agent", "--once", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert time.monotonic() - started < 15
    last = json.loads(done.stderr.splitlines()[-1])
    assert f"Vault at {own.url} is sealed (given up after" in last["reason"]


def test_a_token_that_is_bound_to_networks_works_nowhere_else(made: SecretSite, tmp_path: Path, kube_api: Any) -> None:
    name = made.site.name
    text = made.inputs.content.files[SETTINGS].text

    def bound(network: str) -> None:
        changed = text.replace("tokenNetworks: {}", f"tokenNetworks: {{{name}: [{network}]}}")
        files = {**made.inputs.content.files, SETTINGS: Source(SETTINGS, changed)}
        from dataclasses import replace

        inputs = replace(made.inputs, content=Content(files))
        vault_setup.apply(made.site.root, inputs, kube_api.ca_file.read_text())
        assert vault_setup.plan(made.site.root, inputs, kube_api.ca_file.read_text()).is_empty

    client = WorkloadVault(made.site.url)
    mount, role = f"kubernetes-{name}", f"{made.namespace}.api"
    bound("127.0.0.0/8")
    session = client.login(mount, role, made.jwt("api", "vault"))
    assert client.version(session, made.key_value, "payments/database")
    bound("10.40.0.7/32")
    with pytest.raises(Denied):
        client.login(mount, role, made.jwt("api", "vault"))


def test_a_workload_may_look_and_end_itself_and_nothing_more(made: SecretSite) -> None:
    client = WorkloadVault(made.site.url)
    session = client.login(f"kubernetes-{made.site.name}", f"{made.namespace}.api", made.jwt("api", "vault"))
    workload = VaultClient(Endpoint(made.site.url), session.token)
    for call in (
        lambda: workload.write(f"{made.key_value}/data/payments/database", {"data": {}}),
        lambda: workload.patch(f"{made.key_value}/metadata/payments/database", {"custom_metadata": {"x": "y"}}),
        lambda: workload.list(f"{made.key_value}/metadata"),
        lambda: workload.read("auth/token/lookup-self"),
        lambda: workload.write("auth/token/create", {}),
    ):
        with pytest.raises(Denied):
            call()
    client.revoke(session)
    with pytest.raises(Denied):
        client.version(session, made.key_value, "payments/database")

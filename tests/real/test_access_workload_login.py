"""A workload's own projected token opens its own secrets in Vault and no others, under the rendered role and policy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import testbed
from support.builders import service
from support.vault_site import real_site

from pilothouse.clients.vault import VaultClient
from pilothouse.platform.model import Endpoint, Secret, Servers
from pilothouse.problems import Denied
from pilothouse.workflows import vault_setup


def _apply(api: Any, *manifests: dict[str, Any]) -> None:
    for item in manifests:
        testbed.accepted(api.kubectl("apply", "-f", "-", stdin=json.dumps(item)))


def _token(api: Any, namespace: str, account: str, audience: str = "") -> str:
    more = ("--audience", audience) if audience else ()
    return testbed.accepted(api.kubectl("create", "token", account, "-n", namespace, "--duration=10m", *more)).strip()


def test_a_workload_reads_its_own_secrets_and_nothing_else(vault: Any, slapd: Any, kube_api: Any) -> None:
    with real_site(vault, slapd) as site, kube_api.namespace("payments") as namespace:
        servers = Servers(kubernetes=Endpoint(kube_api.url), vault=Endpoint(vault.url))
        services = (
            service(f"{namespace}/api", team="payments", secrets=(Secret("payments/database", "/secrets/db"),)),
            service(f"{namespace}/other", team="payments", secrets=(Secret("payments/other", "/secrets/x"),)),
        )
        inputs = site.inputs(services=services, on=site.cluster(servers=servers))
        vault_setup.apply(site.root, inputs, kube_api.ca_file.read_text())
        for path in ("payments/database", "payments/other"):
            site.root.write(f"kv-{site.name}/data/{path}", {"data": {"password": path}})

        # Vault runs outside this cluster, so it looks tokens up with an account that may do that and nothing else.
        accounts = [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
            for name in ("api", "default", "vault-reviewer")
        ]
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"vault-reviewer-{namespace}"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:auth-delegator",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "vault-reviewer", "namespace": namespace}],
        }
        _apply(kube_api, *accounts, binding)
        mount = f"kubernetes-{site.name}"
        config = site.root.read(f"auth/{mount}/config") or {}
        known = {name: config[name] for name in ("kubernetes_host", "kubernetes_ca_cert", "disable_local_ca_jwt")}
        reviewer = _token(kube_api, namespace, "vault-reviewer")
        site.root.write(f"auth/{mount}/config", known | {"token_reviewer_jwt": reviewer})
        assert vault_setup.plan(site.root, inputs, kube_api.ca_file.read_text()).is_empty

        role = f"{namespace}.api"
        token = site.client.login_kubernetes(mount, role, _token(kube_api, namespace, "api", "vault"))
        assert token.policies == (f"ph.{site.name}.secrets.{namespace}.api",)
        assert 0 < token.seconds <= 1200
        workload = VaultClient(Endpoint(vault.url), token.token)
        read = workload.read(f"kv-{site.name}/data/payments/database") or {}
        assert read["data"] == {"password": "payments/database"}
        for call in (
            lambda: workload.read(f"kv-{site.name}/data/payments/other"),
            lambda: workload.write(f"kv-{site.name}/data/payments/database", {"data": {}}),
            lambda: workload.list(f"kv-{site.name}/metadata"),
        ):
            with pytest.raises(Denied):
                call()
        # Another account, the right account for another role, and a token that was made for somebody else.
        for account, wanted, audience in (
            ("default", role, "vault"),
            ("api", f"{namespace}.other", "vault"),
            ("api", role, ""),
        ):
            with pytest.raises(Denied):
                site.client.login_kubernetes(mount, wanted, _token(kube_api, namespace, account, audience))
        testbed.accepted(kube_api.kubectl("delete", "clusterrolebinding", f"vault-reviewer-{namespace}"))

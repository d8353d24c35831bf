"""An engineer's day with real servers: directory, Vault's PKI, the portal with its signer, kubectl, API server."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import testbed
from support.portal import Clock, make_app
from support.vault_site import PASSWORD, Site, real_site
from werkzeug.serving import make_server

from pilothouse import access
from pilothouse.artifacts.write import serialise
from pilothouse.problems import Denied
from pilothouse.signer import spawn
from pilothouse.store import Store, ledger
from pilothouse.workflows.rendering import inputs_for, open_platform

DOCUMENTS = """\
apiVersion: pilothouse.dev/v1
kind: Team
metadata: {{name: payments}}
spec:
  members: [{{user: alice}}]
  groups: [payments-people]
  approvers: [alice]
  receivers: [{{severity: page, email: payments@bank.example}}]
---
apiVersion: pilothouse.dev/v1
kind: Team
metadata: {{name: risk}}
spec:
  members: [{{user: bob}}]
  groups: [risk-people]
  platform: true
  approvers: [bob]
  receivers: [{{severity: page, email: risk@bank.example}}]
---
apiVersion: pilothouse.dev/v1
kind: Service
metadata: {{name: api, namespace: {payments}}}
spec: {{team: payments, podSelector: {{matchLabels: {{app: api}}}}}}
---
apiVersion: pilothouse.dev/v1
kind: Service
metadata: {{name: api, namespace: {risk}}}
spec: {{team: risk, podSelector: {{matchLabels: {{app: api}}}}}}
---
apiVersion: pilothouse.dev/v1
kind: Cluster
metadata: {{name: {cluster}}}
spec:
  environment: test
  podCIDRs: [10.40.0.0/16]
  serviceCIDRs: [10.50.0.0/16]
  nodeCIDRs: [10.60.0.0/24]
  servers:
    kubernetes: {{url: "{kubernetes}", caFile: {ca}}}
    vault: {{url: "{vault}", tokenFile: {vault_token}}}
  authority: {{backend: vault, mount: pki-{cluster}, login: {login}, commonName: {cluster} access}}
"""


@dataclass
class Day:
    """`run` is a command on the engineer's machine, `kubectl` theirs with the kubeconfig that pilothouse wrote."""

    site: Site
    api: Any
    home: Path
    data: Path
    platform: Path
    portal: str
    namespaces: dict[str, str]
    said: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home),
            # What must never be looked at.
            "VAULT_TOKEN": "ambient",
            "VAULT_ADDR": "http://127.0.0.1:1",
        }

    def run(self, *arguments: object, stdin: str = "", code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pilothouse", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.environment,
        )
        self.said += [done.stdout, done.stderr]
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def login(self, user: str) -> str:
        return self.run("access", "login", "--server", self.portal, "--user", user, stdin=f"{PASSWORD}\n")

    def cert(self, profile: str, *more: str, code: int = 0) -> str:
        """kubectl then knows the API server by what the Cluster document names as its authority."""
        return self.run("access", "cert", profile, "-c", self.site.name, *more, code=code)

    def kubectl(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        config = self.home / "pilothouse" / "kubeconfig" / f"{self.site.name}.yaml"
        return subprocess.run(
            [str(testbed.program("kubectl")), "--kubeconfig", str(config), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.environment,
        )

    def kinds(self) -> list[str]:
        store = Store(self.data)
        try:
            found, _ = ledger.find(store)
            return [item.entry.kind for item in reversed(found)]
        finally:
            store.close()


@pytest.fixture
def day(tmp_path: Path, vault: Any, slapd: Any, kube_api: Any) -> Iterator[Day]:
    with (
        real_site(vault, slapd) as site,
        kube_api.namespace("payments") as payments,
        kube_api.namespace("risk") as risk,
    ):
        root, data, home = (tmp_path / name for name in ("platform", "data", "home"))
        for folder in (root, data, home):
            folder.mkdir()
        text = DOCUMENTS.format(
            payments=payments,
            risk=risk,
            cluster=site.name,
            kubernetes=kube_api.url,
            ca=kube_api.ca_file,
            vault=vault.url,
            vault_token=vault.token_file,
            login=site.login_mount,
        )
        (root / "platform.yaml").write_text(text, encoding="utf-8")
        branch = site.extra["branch"]
        (data / "ldap-password").write_text(slapd.admin_password)
        directory = {
            "servers": [slapd.url],
            "bindDN": slapd.admin_dn,
            "passwordFile": str(data / "ldap-password"),
            "users": {"base": branch.people},
            "groups": {"base": branch.groups},
        }
        (data / "directory.yaml").write_text(yaml.safe_dump(directory))
        app = make_app(tmp_path, root=root, clock=_Now())
        signer = spawn.start(data, root)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            made = Day(site, kube_api, home, data, root, address, {"payments": payments, "risk": risk})
            made.run("access", "vault", "apply", site.name, root)
            kube_api.trust(site.client.authority(site.pki))
            _apply_rbac(kube_api, root, site.name)
            yield made
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            spawn.stop(signer)


class _Now(Clock):
    def __call__(self) -> datetime:
        return datetime.now(UTC)


def _apply_rbac(api: Any, root: Path, cluster: str) -> None:
    inputs, _ = inputs_for(open_platform(root), cluster, testbed.TODAY)
    for document in access.derive(inputs).artifacts.under("rbac/"):
        text = serialise(document).decode()
        testbed.accepted(api.kubectl("apply", "--server-side", "--field-manager=pilothouse", "-f", "-", stdin=text))


def _pod(api: Any, namespace: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "api-1", "namespace": namespace, "labels": {"app": "api"}},
        "spec": {
            "containers": [{"name": "api", "image": "registry.example/api:1"}],
            "automountServiceAccountToken": False,
        },
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}
    for item in (account, pod):
        testbed.accepted(api.kubectl("apply", "-f", "-", stdin=json.dumps(item)))


def test_the_day_of_an_engineer(day: Day) -> None:
    _pod(day.api, day.namespaces["payments"])
    said = day.login("ALICE")  # the directory knows who that is
    assert "as alice until" in said
    assert f"Logged in at the Vault of {day.site.name} until" in said
    written = day.run("access", "kubeconfig")  # before there is any certificate
    assert f"developer.payments@{day.site.name}" in written
    context = f"--context=developer.payments@{day.site.name}"
    listed = testbed.accepted(day.kubectl(context, "get", "pods", "-n", day.namespaces["payments"], "-o", "name"))
    assert listed.strip() == "pod/api-1"
    assert "for which of your teams?" in day.cert("developer", code=2)
    assert "alice may act as developer.payments" in day.cert("developer", "--team", "payments")

    config = yaml.safe_load((day.home / f"pilothouse/kubeconfig/{day.site.name}.yaml").read_text())
    (cluster,) = (item["cluster"] for item in config["clusters"])
    assert set(cluster) == {"server", "certificate-authority-data"}
    listed = testbed.accepted(day.kubectl("get", "pods", "-n", day.namespaces["payments"], "-o", "name"))
    assert listed.strip() == "pod/api-1"
    for forbidden in (
        ("get", "pods", "-n", day.namespaces["risk"]),
        ("get", "pods", "-A"),
        ("get", "secrets", "-n", day.namespaces["payments"]),
        ("delete", "pod", "api-1", "-n", day.namespaces["payments"]),
    ):
        done = day.kubectl(*forbidden)
        assert done.returncode != 0
        assert "Forbidden" in done.stderr

    who = json.loads(testbed.accepted(day.kubectl("auth", "whoami", "-o", "json")))["status"]["userInfo"]
    assert who["username"] == "alice"
    assert set(who["groups"]) == {"ph:developer:payments", "system:authenticated"}
    held = json.loads((day.home / f"pilothouse/credentials/{day.site.name}.developer.payments.json").read_text())
    (credential,) = who["extra"]["authentication.kubernetes.io/credential-id"]
    store = Store(day.data)
    (issued, intent, *_), _ = ledger.find(store)
    store.close()
    assert [intent.entry.kind, issued.entry.kind] == ["certificate.intent", "certificate.issued"]
    assert credential == f"X509SHA256={issued.entry.data['fingerprint']}"
    assert issued.entry.subject == held["serial"]
    assert issued.entry.data["intent"] == intent.entry.subject


def test_the_certificate_of_another_team_is_refused_before_and_by_vault(day: Day) -> None:
    day.login("bob")
    assert "is none of yours" in day.cert("developer", "--team", "payments", code=2)
    assert "bob may act as developer on" in day.cert("developer")
    assert day.kubectl("get", "pods", "-n", day.namespaces["payments"]).returncode != 0
    assert day.kubectl("get", "pods", "-n", day.namespaces["risk"]).returncode == 0
    # Removed from the team in the directory: Vault refuses with the next login, whatever the portal's session says.
    day.site.remove_member("risk-people", "bob")
    day.run("access", "login", "--user", "bob", stdin=f"{PASSWORD}\n")
    assert "answered 403" in day.cert("developer", code=2)
    assert day.kinds()[-2:] == ["certificate.intent", "certificate.failed"]


def test_without_a_login_at_vault_nothing_is_signed(day: Day) -> None:
    day.login("bob")
    (day.home / f"pilothouse/vault/{day.site.name}.json").unlink()
    assert "no login there came with the request" in day.cert("developer", code=2)
    assert day.kinds() == []


def test_a_token_of_somebody_else_signs_nothing(day: Day) -> None:
    day.login("bob")
    path = day.home / f"pilothouse/vault/{day.site.name}.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"token": day.site.login("alice").token}))
    assert "common name bob not allowed by this role" in day.cert("developer", code=2)
    assert day.kinds() == ["certificate.intent", "certificate.failed"]


def test_the_plugin_renews_with_the_kept_logins(day: Day) -> None:
    day.login("bob")
    day.cert("developer")
    path = day.home / f"pilothouse/credentials/{day.site.name}.developer.json"
    first = json.loads(path.read_text())
    path.write_text(json.dumps(first | {"not_after": "2020-01-01T00:00:00+00:00"}))
    assert day.kubectl("get", "pods", "-n", day.namespaces["risk"]).returncode == 0
    second = json.loads(path.read_text())
    assert second["serial"] != first["serial"]
    assert second["key"] != first["key"]


def test_elevation_is_refused_by_name(day: Day) -> None:
    day.login("olga")
    said = day.run(
        "access", "elevate", "cluster-admin", "-c", day.site.name, "--reason", "drain a node", "--for", "30m", code=2
    )
    assert f"elevation is not available on cluster {day.site.name}, whose authority is Vault" in said


def test_nothing_secret_is_told_or_kept_where_it_should_not_be(day: Day) -> None:
    day.login("alice")
    day.cert("developer", "--team", "risk")
    token = json.loads((day.home / f"pilothouse/vault/{day.site.name}.json").read_text())["token"]
    for path in day.home.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path == day.home
    everything = "".join(day.said)
    for file in day.data.rglob("*"):
        if file.is_file() and not file.is_symlink():
            everything += file.read_bytes().decode("latin-1")
    for secret in (token, PASSWORD):
        assert secret not in everything
    day.run("access", "logout")
    assert list((day.home / "pilothouse/vault").glob("*.json")) == []
    with pytest.raises(Denied, match="403"):
        day.site.client.renew(token)


@pytest.mark.attack("Vault sealed, standby or away", "Vault and slapd")
def test_a_vault_that_is_sealed_signs_nothing_and_says_why(day: Day, vault: Any, tmp_path: Path) -> None:
    day.login("bob")
    sealed = vault.fresh(persistent=True)
    sealed.seal()
    text = (day.platform / "platform.yaml").read_text().replace(vault.url, sealed.url)
    (day.platform / "platform.yaml").write_text(text)
    os.utime(day.platform / "platform.yaml")
    threading.Event().wait(1.5)  # the signer looks at its documents every second
    assert "is sealed" in day.cert("developer", code=2)
    assert "certificate.issued" not in day.kinds()


def test_a_second_set_up_by_the_command_changes_nothing(day: Day) -> None:
    assert "is as declared" in day.run("access", "vault", "plan", day.site.name, day.platform)
    planned = json.loads(day.run("access", "vault", "apply", day.site.name, day.platform, "-o", "json"))
    assert (planned["changes"], planned["problems"]) == ([], [])
    wrong = day.home / secrets.token_hex(4)
    wrong.write_text("hvs.wrong")
    said = day.run("access", "vault", "plan", day.site.name, day.platform, "--token-file", wrong, code=2)
    assert "answered 403" in said
    assert "hvs.wrong" not in said

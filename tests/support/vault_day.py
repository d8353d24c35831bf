"""An engineer's day with real servers: directory, Vault's PKI, the portal with its signer, kubectl, API server."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from support import testbed
from support.elevation_world import ACCOUNT, worker_account
from support.portal import Now, make_app
from support.vault_site import PASSWORD, Site, real_site
from werkzeug.serving import make_server

from pilothouse import access
from pilothouse.artifacts.write import serialise
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
    kubernetes: {{url: "{kubernetes}", caFile: {ca}{token}}}
    vault: {{url: "{vault}", tokenFile: {vault_token}}}
  authority: {{backend: vault, mount: pki-{cluster}, login: {login}, commonName: {cluster} access}}
{elevation}"""

GLASS = """\
---
apiVersion: pilothouse.dev/v1
kind: AccessProfile
metadata: {name: glass}
spec:
  title: Break-glass
  description: Everything, when nobody who approves can be reached.
  scope: cluster
  clusterRole: cluster-admin
  elevated: true
  breakGlass: {people: [olga, pat]}
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

    def of(self, user: str) -> Day:
        """The same day on another machine, where that person has logged in."""
        home = self.home.with_name(f"home-of-{user}")
        home.mkdir(exist_ok=True)
        found = replace(self, home=home)
        found.login(user)
        return found

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


@contextmanager
def vault_day(tmp_path: Path, vault: Any, slapd: Any, kube_api: Any, elevated: bool = False) -> Iterator[Day]:
    """`elevated`: the worker binds requests there, and has its secret for Vault and its account; `pat` may approve."""
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
            **_elevation(kube_api, tmp_path, elevated),
        )
        (root / "platform.yaml").write_text(text + (GLASS if elevated else ""), encoding="utf-8")
        branch = site.extra["branch"]
        if elevated:
            branch.add_user("pat", PASSWORD)
            branch.add_member("platform-admins", "pat")
        (data / "ldap-password").write_text(slapd.admin_password)
        directory = {
            "servers": [slapd.url],
            "bindDN": slapd.admin_dn,
            "passwordFile": str(data / "ldap-password"),
            "users": {"base": branch.people},
            "groups": {"base": branch.groups},
        }
        (data / "directory.yaml").write_text(yaml.safe_dump(directory))
        app = make_app(tmp_path, root=root, clock=Now())
        signer = spawn.start(data, root)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            made = Day(site, kube_api, home, data, root, address, {"payments": payments, "risk": risk})
            made.run("access", "vault", "apply", site.name, root)
            if elevated:
                made.run("access", "vault", "elevator", site.name, root, "--out", tmp_path / "vault-elevator")
            kube_api.trust(site.client.authority(site.pki))
            _apply_rbac(kube_api, root, site.name)
            yield made
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            spawn.stop(signer)


def _elevation(api: Any, folder: Path, elevated: bool) -> dict[str, str]:
    if not elevated:
        return {"token": "", "elevation": ""}
    token = worker_account(api, folder)
    said = f'{{account: "{ACCOUNT}", vaultSecretFile: "{folder / "vault-elevator"}"}}'
    return {"token": f', tokenFile: "{token}"', "elevation": f"  elevation: {said}\n"}


def _apply_rbac(api: Any, root: Path, cluster: str) -> None:
    inputs, _ = inputs_for(open_platform(root), cluster, testbed.TODAY)
    for document in access.derive(inputs).artifacts.under("rbac/"):
        text = serialise(document).decode()
        testbed.accepted(api.kubectl("apply", "--server-side", "--field-manager=pilothouse", "-f", "-", stdin=text))

"""The demo on a copy of the bank whose clusters point at real servers, for journeys in a browser.

`prod` has a real API server, which the worker applies by itself, and a real Alertmanager with the configuration that is
rendered for it, fed by a real Prometheus. The authority of `dev` is a real Vault, whose logins come from a real
directory with the demo's people and passwords. Everything else is the bank as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from support import policy_kinds
from support.bed import directory, kubernetes, monitoring, vault
from support.bed.process import free_port
from support.browser import People
from support.demo import TESTBED, Demo, Laptop, running
from support.testbed import BANK, written

from pilothouse import bundle
from pilothouse.alerts.routing.render import CONFIG
from pilothouse.clients.vault import VaultClient
from pilothouse.files import platform as platform_files
from pilothouse.platform.model import Endpoint
from pilothouse.workflows import demo as making
from pilothouse.workflows.rendering import inputs_for, open_platform

APPLIED, ISSUING = "prod", "dev"
"""The cluster that the worker applies, and the one whose certificates come from Vault."""
LOGIN = "ldap-bank"
ALERT = {"alertname": "LedgerOutOfBalance", "team": "accounts", "severity": "page", "cluster": APPLIED}
"""What fires: by a rule of a real Prometheus, with the labels that a declared alert has."""


@dataclass(frozen=True)
class RealBank:
    """`demo` is the portal; the servers are those of its clusters."""

    demo: Demo
    api: kubernetes.KubeApi
    alertmanager: monitoring.Monitor
    vault: vault.Vault

    def policies(self, namespace: str) -> list[dict[str, Any]]:
        """The policies that the API server has there now, enforced or staged."""
        kinds = ("networking.k8s.io/v1", "networkpolicies"), ("projectcalico.org/v3", "stagedkubernetesnetworkpolicies")
        return [
            item
            for group, kind in kinds
            for item in self.api.get(f"/apis/{group}/namespaces/{namespace}/{kind}")["items"]
        ]

    def receivers(self, name: str) -> set[str]:
        """Whom Alertmanager itself tells of the alert of that name."""
        alerts = self.alertmanager.get("/api/v2/alerts")
        return {to["name"] for item in alerts if item["labels"]["alertname"] == name for to in item["receivers"]}


@dataclass(frozen=True)
class Site:
    """What a journey walks on: the embedded demo, or (`real`) one whose clusters are real servers."""

    people: People
    laptop: Laptop
    real: RealBank | None

    @property
    def demo(self) -> Demo:
        return self.people.demo


@contextmanager
def real_bank(folder: Path) -> Iterator[RealBank]:
    """All of it, until the block ends. `folder` is empty."""
    with ExitStack() as ends:
        api = kubernetes.start()
        ends.callback(api.stop)
        policy_kinds.install(api, policy_kinds.of(*policy_kinds.CALICO))
        _namespaces(api)
        store = vault.start()
        ends.callback(store.stop)
        people = directory.start()
        ends.callback(people.stop)
        port = free_port()
        platform = _platform(folder / "bank", api, store, f"http://127.0.0.1:{port}")
        alertmanager = monitoring.start_alertmanager(_alertmanager(platform, folder / "rendered"), port=port)
        ends.callback(alertmanager.stop)
        prometheus = monitoring.start_prometheus(_prometheus(folder / "prometheus", alertmanager))
        ends.callback(prometheus.stop)
        log = TESTBED / "portal-real.log"
        demo = ends.enter_context(running(folder, log, platform=platform))
        _directory(people, store, demo)
        _vault(store, platform)
        yield RealBank(demo, api, alertmanager, store)


def _platform(folder: Path, api: kubernetes.KubeApi, store: vault.Vault, alertmanager: str) -> Path:
    shutil.copytree(BANK, folder)
    ca = {"caFile": str(api.ca_file)}
    _change(
        folder / "clusters" / f"{APPLIED}.yaml",
        servers={
            "kubernetes": {"url": api.url, "tokenFile": str(api.token_file), **ca},
            "alertmanagers": [{"url": alertmanager}],
        },
        apply="auto",
    )
    _change(
        folder / "clusters" / f"{ISSUING}.yaml",
        servers={"kubernetes": {"url": api.url, **ca}, "vault": {"url": store.url}},
        authority={"backend": "vault", "mount": "pki-bank", "login": LOGIN, "commonName": "Bank access"},
    )
    return folder


def _change(path: Path, servers: Mapping[str, Any], **spec: Any) -> None:
    """Replaces servers, and other parts of a Cluster document."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    kept = {} if spec.get("apply") else document["spec"]["servers"]
    document["spec"] |= {"servers": {**kept, **servers}, **spec}
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def _namespaces(api: kubernetes.KubeApi) -> None:
    """Those of the cluster that it is like, with their labels: policies select by them."""
    folder = BANK / "snapshots" / APPLIED
    present = {item["metadata"]["name"] for item in api.get("/api/v1/namespaces")["items"]}
    for path in sorted(folder.rglob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        for item in document.get("items", [document]):
            name = item["metadata"]["name"]
            if item["kind"] == "Namespace" and name not in present:
                metadata = {"name": name, "labels": item["metadata"].get("labels", {})}
                api.send("POST", "/api/v1/namespaces", {"metadata": metadata})


def _alertmanager(platform: Path, out: Path) -> Path:
    """The rendered configuration of the cluster's Alertmanagers, as a file."""
    inputs, _ = inputs_for(open_platform(platform), APPLIED, datetime.now(UTC).date())
    written(bundle.derive(inputs), CONFIG, out)
    return out / CONFIG


def _prometheus(folder: Path, alertmanager: monitoring.Monitor) -> Path:
    """A Prometheus with the one rule that fires at once."""
    labels = {name: value for name, value in ALERT.items() if name != "alertname"}
    rule = {"alert": ALERT["alertname"], "expr": "vector(1)", "labels": labels}
    rules = {"groups": [{"name": "proof", "rules": [rule]}]}
    config = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [alertmanager.endpoint.url.partition("//")[2]]}]}]
        },
    }
    folder.mkdir()
    (folder / "rules.yml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder / "prometheus.yml"


def _directory(people: directory.Slapd, store: vault.Vault, demo: Demo) -> None:
    """The demo's people with their passwords and groups, and Vault's login by that directory."""
    declared = platform_files.load(demo.platform).platform
    groups: dict[str, list[str]] = {}
    with people.subtree("bank") as branch:
        for person in making.people(declared):
            branch.add_user(person.name, demo.passwords[person.name])
            for group in person.groups:
                groups.setdefault(group, []).append(person.name)
        for group, members in groups.items():
            branch.add_group(group, tuple(members))
    root = VaultClient(Endpoint(store.url), store.root_token)
    root.write(f"sys/auth/{LOGIN}", {"type": "ldap"})
    settings = {
        "url": people.url,
        "binddn": people.admin_dn,
        "bindpass": people.admin_password,
        "userdn": branch.people,
        "userattr": "uid",
        "groupdn": branch.groups,
        "groupattr": "cn",
        "groupfilter": "(member={{.UserDN}})",
        "token_ttl": "1h",
        "token_explicit_max_ttl": "16h",
    }
    root.write(f"auth/{LOGIN}/config", settings)


def _vault(store: vault.Vault, platform: Path) -> None:
    """As the platform team sets it up: by the command."""
    command = ("access", "vault", "apply", ISSUING, platform, "--token-file", store.token_file)
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", *map(str, command)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""An engineer's day with real servers: directory, Vault's PKI, the portal with its signer, kubectl, API server."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import testbed
from support.vault_day import Day, vault_day
from support.vault_site import PASSWORD

from pilothouse.problems import Denied
from pilothouse.store import Store, ledger


@pytest.fixture
def day(tmp_path: Path, vault: Any, slapd: Any, kube_api: Any) -> Iterator[Day]:
    with vault_day(tmp_path, vault, slapd, kube_api) as made:
        yield made


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


def test_elevation_without_a_worker_that_writes_roles_is_refused_by_name(day: Day) -> None:
    day.login("olga")
    said = day.run(
        "access", "elevate", "cluster-admin", "-c", day.site.name, "--reason", "drain a node", "--for", "30m", code=2
    )
    assert f"cluster-admin cannot be had on cluster {day.site.name}: Vault signs there" in said
    assert "`elevation` with `account` and `vaultSecretFile`" in said


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
    assert planned["changes"] == []
    assert {item["code"] for item in planned["problems"]} <= {"access/vault-audit-missing", "access/vault-login-wide"}
    wrong = day.home / secrets.token_hex(4)
    wrong.write_text("hvs.wrong")
    said = day.run("access", "vault", "plan", day.site.name, day.platform, "--token-file", wrong, code=2)
    assert "answered 403" in said
    assert "hvs.wrong" not in said

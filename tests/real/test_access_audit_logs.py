"""Logs that the real Vault and the real API server write about a session that is known, imported and followed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from real.test_access_with_vault import Day, day
from support import testbed
from support.access_values import csr, key
from support.bed.vault import Vault

from pilothouse.access import certificates
from pilothouse.clients.vault import VaultClient
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Denied

__all__ = ["day"]


class Logs:
    """What both servers write from now on, as files of their own."""

    def __init__(self, vault: Vault, api: Any, folder: Path) -> None:
        self._of = {folder / "vault.log": vault.folder / "audit.log", folder / "kube.log": api.audit_log}
        self._from = {path: path.stat().st_size if path.exists() else 0 for path in self._of.values()}

    def files(self) -> list[Path]:
        for made, path in self._of.items():
            with path.open("rb") as file:
                file.seek(self._from[path])
                made.write_bytes(file.read())
        return list(self._of)


@pytest.fixture
def logs(day: Day, vault: Vault, tmp_path: Path) -> Logs:
    return Logs(vault, day.api, tmp_path)


def _held(day: Day) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (day.home / f"pilothouse/credentials/{day.site.name}.developer.payments.json").read_text()
    )
    return found


def _kubeconfig(day: Day, name: str, key_pem: str, certificate: str) -> Path:
    """A copy of a key and certificate, as somebody takes them away."""
    (day.home / f"{name}.key").write_text(key_pem)
    (day.home / f"{name}.crt").write_text(certificate)
    user = {"client-certificate": str(day.home / f"{name}.crt"), "client-key": str(day.home / f"{name}.key")}
    found: Path = day.api._kubeconfig(name, user)
    return found


def _import(day: Day, logs: Logs, code: int) -> dict[str, Any]:
    said = day.run(
        "access", "audit", "import", *logs.files(), "-c", day.site.name, "--data", day.data, "--platform",
        day.platform, "-o", "json", code=code,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(said)
    return found


def _show(day: Day, what: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(day.run("access", "audit", "show", what, "--data", day.data, "-o", "json"))
    return found


def _found(imported: dict[str, Any], code: str) -> list[str]:
    return [item["message"] for item in imported["problems"]["problems"] if item["code"] == f"access/{code}"]


def test_a_session_is_one_thread_through_all_three_logs(day: Day, logs: Logs) -> None:
    day.login("alice")
    day.cert("developer", "--team", "payments")
    namespace = day.namespaces["payments"]
    testbed.accepted(day.kubectl("get", "pods", "-n", namespace))
    assert "Forbidden" in day.kubectl("get", "secrets", "-n", namespace).stderr
    imported = _import(day, logs, 0)
    vault, kube = imported["imported"]
    assert (vault["kind"], kube["kind"]) == ("vault", "kubernetes")
    assert vault["broken"] == kube["broken"] == 0
    assert imported["problems"]["problems"] == []
    again = _import(day, logs, 0)
    assert [item["added"] for item in again["imported"]] == [0, 0]

    held = _held(day)
    thread = _show(day, held["serial"])
    assert thread["certificate"]["user"] == "alice"
    assert [row["kind"] for row in thread["ledger"]] == ["certificate.intent", "certificate.issued"]
    (signed,) = [item for item in thread["vault"] if item["type"] == "response"]
    assert signed["path"] == f"{day.site.pki}/sign/developer.payments"
    assert (signed["user"], signed["common_name"], signed["serial"]) == ("alice", "alice", held["serial"])
    leaf = x509.load_pem_x509_certificate(held["certificate"].encode())
    assert thread["fingerprint"] == signed["fingerprint"] == certificates.fingerprint(leaf)
    done = {(item["verb"], item["resource"], item["namespace"]): item for item in thread["done"]}
    assert done["list", "pods", namespace]["refused"] == 0
    assert done["list", "secrets", namespace]["refused"] >= 1

    event = next(json.loads(line) for line in logs.files()[1].read_text().splitlines() if '"alice"' in line)
    assert _show(day, event["auditID"])["certificate"]["serial"] == held["serial"]
    assert _show(day, signed["request_id"])["certificate"]["serial"] == held["serial"]


def test_what_goes_past_the_portal_is_found(day: Day, logs: Logs) -> None:
    """Signed at Vault directly, used; used after give-back; a binding changed by hand; `system:masters`."""
    day.login("alice")
    day.cert("developer", "--team", "payments")
    namespace = day.namespaces["payments"]
    testbed.accepted(day.kubectl("get", "pods", "-n", namespace))
    held = _held(day)
    taken = _kubeconfig(day, "taken", held["key"], held["certificate"])
    day.run("access", "give-back", held["serial"])

    token = json.loads((day.home / f"pilothouse/vault/{day.site.name}.json").read_text())["token"]
    own = key("past the portal")
    signed = day.site.client.sign(token, day.site.pki, "developer.payments", csr(own, "alice"), "alice", 3600)
    leaf = x509.load_pem_x509_certificate(signed.encode())
    past = _kubeconfig(day, "past", certificates_key(own), signed)
    testbed.accepted(day.api.kubectl("get", "pods", "-n", namespace, kubeconfig=past))

    role = ("clusterrole", "ph:developer", "touched=by-hand")
    testbed.accepted(day.api.kubectl("label", *role, "--overwrite"))
    testbed.accepted(day.api.kubectl("get", "nodes", kubeconfig=day.api.kubeconfig("root", "system:masters")))
    _wait(5.5)  # clocks may differ that much before a use counts as one after the end
    testbed.accepted(day.api.kubectl("get", "pods", "-n", namespace, kubeconfig=taken))
    _wait(15)  # what Vault signed this moment may still be on its way to the ledger

    imported = _import(day, logs, 1)
    (unknown,) = _found(imported, "unknown-certificate")
    assert certificates.fingerprint(leaf)[:16] in unknown
    (direct,) = _found(imported, "signed-past-portal")
    assert f"alice had Vault sign alice for {day.site.name}" in direct
    assert str(leaf.serial_number) in direct
    (late,) = _found(imported, "used-after-end")
    assert held["serial"] in late
    assert [
        text for text in _found(imported, "binding-changed-outside") if "bed-admin did patch of clusterroles" in text
    ]
    assert [text for text in _found(imported, "system-name-used") if text.startswith("root came to")]
    thread = _show(day, str(leaf.serial_number))
    assert thread["certificate"] is None
    assert [item["verb"] for item in thread["done"] if item["resource"] == "pods"] == ["list"]


def test_a_watch_that_outlives_its_give_back_is_found(day: Day, logs: Logs) -> None:
    """Rights are looked at when a request begins: who watches goes on watching, and the log shows until when."""
    day.login("alice")
    day.cert("developer", "--team", "payments")
    namespace = day.namespaces["payments"]
    held = _held(day)
    taken = _kubeconfig(day, "watching", held["key"], held["certificate"])
    url = f"/api/v1/namespaces/{namespace}/pods?watch=1"
    command = [str(testbed.program("kubectl")), "--kubeconfig", str(taken), "get", "--raw", url]
    watching = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(2)
        assert watching.poll() is None
        day.run("access", "give-back", held["serial"])
        _wait(7)
        assert watching.poll() is None, "it goes on"
    finally:
        watching.terminate()
        watching.wait()
    _wait(2)
    imported = _import(day, logs, 1)
    (open_,) = _found(imported, "open-past-end")
    assert open_.startswith(f"a watch of alice on {day.site.name}, watch of pods {namespace}/")
    assert f"with the certificate {held['serial']} and stayed open after the certificate was given back" in open_
    assert "UTC, until 20" in open_
    assert _found(imported, "used-after-end") == []


def test_what_vault_refuses_is_kept_with_who_asked(day: Day, logs: Logs) -> None:
    day.login("alice")
    token = json.loads((day.home / f"pilothouse/vault/{day.site.name}.json").read_text())["token"]
    with pytest.raises(Denied):
        VaultClient(Endpoint(day.site.url), token).read(f"kv-{day.site.name}/data/payments/database")
    _import(day, logs, 0)
    lines = [json.loads(line) for line in logs.files()[0].read_text().splitlines()]
    (request,) = {line["request"]["id"] for line in lines if line["request"].get("path", "").startswith("kv-")}
    refused = _show(day, request)["vault"]
    assert refused
    for item in refused:
        assert "permission denied" in item["error"]
        assert (item["user"], item["operation"], item["workload"]) == ("alice", "read", False)


def certificates_key(own: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    text: bytes = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


def _wait(seconds: float) -> None:
    import threading

    threading.Event().wait(seconds)

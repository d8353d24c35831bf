"""A lock on the real API server: one of two certificates, then the person, and what happens without the webhook."""

from __future__ import annotations

import http.client
import secrets
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from support import testbed
from support.access_portal import USERS
from support.access_values import csr, key
from support.access_world import write_platform
from support.bank_on_server import BankOnServer
from support.bed import kubernetes
from support.bed.pki import Authority
from support.bed.process import free_port
from support.portal import Now, bearer, make_app

from pilothouse import access
from pilothouse.access import apiserver
from pilothouse.artifacts.write import serialise
from pilothouse.signer import spawn
from pilothouse.store import Store, ledger
from pilothouse.workflows.rendering import inputs_for, open_platform

SECONDS = 5.0
"""Within which a lock must hold."""


@dataclass
class Bank(BankOnServer):
    """With the webhook as a process, which the API server asks."""

    webhook: subprocess.Popen[bytes]

    def becomes(self, pem: Path, status: int) -> float:
        """Seconds until the API server answers so."""
        started = time.monotonic()
        while time.monotonic() - started < SECONDS:
            if self.status(pem) == status:
                return time.monotonic() - started
            time.sleep(0.05)
        raise AssertionError(f"no {status} within {SECONDS} s: {self.ask(pem)}")


def _documents(root: Path, folder: Path) -> None:
    """What is rendered for the API server, with the files of this machine."""
    inputs, _ = inputs_for(open_platform(root), "dev", testbed.TODAY)
    for document in access.derive(inputs).artifacts.under("apiserver/"):
        text = serialise(document).decode().replace(apiserver.FOLDER, str(folder))
        (folder / Path(document.path).name).write_text(text, encoding="utf-8")


def _declare(root: Path, url: str, policy: str = "NoOpinion") -> None:
    path = root / "platform.yaml"
    text = path.read_text(encoding="utf-8")
    webhook = f"authority: {{backend: embedded, webhook: {{url: '{url}', failurePolicy: {policy}}}}}"
    path.write_text(text.replace("authority: {backend: embedded}", webhook, 1), encoding="utf-8")


def _files(folder: Path) -> Authority:
    """The webhook's certificate and the API server's for it, where the rendered files name them."""
    folder.mkdir()
    authority = Authority(folder, "webhook authority")
    (folder / "webhook-ca.crt").write_bytes(authority.file.read_bytes())
    client = authority.client("kube-apiserver")
    (folder / "client.crt").write_bytes(client.certificate.read_bytes())
    (folder / "client.key").touch(mode=0o600)
    (folder / "client.key").write_bytes(client.key.read_bytes())
    return authority


def _rbac(api: kubernetes.KubeApi, root: Path) -> None:
    inputs, _ = inputs_for(open_platform(root), "dev", testbed.TODAY)
    for name in ("payments", "tools"):
        api.send("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    for document in access.derive(inputs).artifacts.under("rbac/"):
        text = serialise(document).decode()
        testbed.accepted(api.kubectl("apply", "--server-side", "--field-manager=pilothouse", "-f", "-", stdin=text))


def _wait(check: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if check():
            return
        time.sleep(0.05)
    raise AssertionError(what)


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    root, files, data = write_platform(tmp_path / "platform"), tmp_path / "files", tmp_path / "data"
    authority, port = _files(files), free_port()
    _declare(root, f"https://127.0.0.1:{port}")
    users = {name: USERS[name] for name in ("alice", "olga")}
    app = make_app(tmp_path, root=root, users_=users, clock=Now())
    serving = authority.server("webhook")
    settings = {
        "port": port,
        "certFile": str(serving.certificate),
        "keyFile": str(serving.key),
        "clientCaFile": str(authority.file),
    }
    (data / "webhook.yaml").write_text(yaml.safe_dump(settings))
    signer = spawn.start(data, root)
    webhook = subprocess.Popen([sys.executable, "-m", "pilothouse.webhook", "--data", str(data)])
    api = None
    try:
        _documents(root, files)
        api = kubernetes.start(f"--authorization-config={files / apiserver.CONFIG}")
        made = Bank(tmp_path, app, api, webhook)
        api.trust(made.app.test_client().get("/api/v1/access/authorities/dev", headers=bearer(app, "olga")).json["pem"])
        _rbac(api, root)
        _wait(lambda: _answers(files, port), "the webhook does not answer")
        yield made
    finally:
        webhook.terminate()
        webhook.wait(10)
        spawn.stop(signer)
        if api is not None:
            api.stop()


def _answers(files: Path, port: int) -> bool:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, context=ssl.create_default_context(cafile=files / "webhook-ca.crt"), timeout=2
    )
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_one_of_two_certificates_then_the_person_then_neither(bank: Bank) -> None:
    first, laptop = bank.certificate("alice", "laptop")
    second, desktop = bank.certificate("alice", "desktop")
    serial, other = first["serial"], second["serial"]
    assert (bank.status(laptop), bank.status(desktop)) == (200, 200)

    bank.post("olga", "/locks", 201, subject=serial, reason="the laptop was stolen")
    assert bank.becomes(laptop, 403) < SECONDS
    assert f"certificate {serial} of alice on dev is locked by olga" in bank.ask(laptop)[1]
    assert "stolen" not in bank.ask(laptop)[1]
    assert bank.status(desktop) == 200

    bank.post("olga", "/locks", 201, subject="alice", reason="alice was phished")
    bank.becomes(desktop, 403)
    assert bank.status(laptop) == 403
    body = {"profile": "developer", "cluster": "dev", "csr": csr(key("another"))}
    assert "alice is locked" in bank.post("alice", "/certificates", 403, **body)["detail"]

    bank.post("olga", "/locks/lift", 200, subject="alice")
    bank.becomes(desktop, 200)
    assert bank.status(laptop) == 403
    bank.post("olga", "/locks/lift", 200, subject=serial)
    bank.becomes(laptop, 200)

    bank.post("alice", f"/give-back/{other}", 200)
    bank.becomes(desktop, 403)  # a copy of its key is worth nothing
    assert bank.status(laptop) == 200

    def used() -> list[tuple[str, str]]:
        store = Store(bank.folder / "data")
        found, _ = ledger.find(store, ledger.Filter(kind="lock.used"))
        store.close()
        return sorted({(item.entry.subject, item.entry.cluster) for item in found})

    expected = sorted([(serial, "dev"), ("alice", "dev"), (other, "dev")])
    _wait(lambda: used() == expected, f"{used()} was recorded")


def test_without_the_webhook_rbac_alone_decides(bank: Bank) -> None:
    made, laptop = bank.certificate("alice", "laptop")
    serial = made["serial"]
    bank.post("olga", "/locks", 201, subject=serial, reason="the laptop was stolen")
    bank.becomes(laptop, 403)
    bank.webhook.terminate()
    bank.webhook.wait(10)
    assert bank.status(laptop) == 200
    # What RBAC does not allow is an error then: the API server also tells of the webhook that it did not reach.
    assert bank.status(laptop, "/api/v1/namespaces/tools/pods") == 500


def test_with_deny_nobody_of_ours_passes_while_it_is_away(tmp_path: Path) -> None:
    root, files = write_platform(tmp_path / "platform"), tmp_path / "files"
    _files(files)
    _declare(root, f"https://127.0.0.1:{free_port()}", "Deny")
    _documents(root, files)
    api = kubernetes.start(f"--authorization-config={files / apiserver.CONFIG}")
    try:
        _rbac(api, root)
        ours = api.kubeconfig(f"alice-{secrets.token_hex(2)}", "ph:developer:payments")
        done = api.kubectl("get", "pods", "-n", "payments", kubeconfig=ours)
        assert done.returncode != 0
        assert "InternalError" in done.stderr  # as the API server calls it
        theirs = api.kubeconfig("node-admin", "system:masters")
        testbed.accepted(api.kubectl("get", "pods", "-n", "payments", kubeconfig=theirs))
    finally:
        api.stop()

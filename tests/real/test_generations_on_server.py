"""A raised generation on the real API server: every certificate of before is refused, the next one is good."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support import testbed
from support.access_portal import USERS
from support.access_world import write_platform
from support.bank_on_server import BankOnServer
from support.bed import kubernetes
from support.portal import Now, bearer, make_app

from pilothouse import access
from pilothouse.artifacts.model import Artifacts, Document, Format
from pilothouse.clients.kubernetes import Api, to_endpoint
from pilothouse.inventory.model import Manifest, Snapshot
from pilothouse.signer import spawn
from pilothouse.signer.declared import LOOK_EVERY
from pilothouse.workflows import applying
from pilothouse.workflows.applying import Options
from pilothouse.workflows.rendering import ClusterResult, inputs_for, open_platform


@dataclass
class Bank(BankOnServer):
    """An API server that asks nobody about locks. `root` is the platform's folder."""

    root: Path

    def declare(self, generation: int) -> None:
        """The bundle's profile, laid over with a generation."""
        path = self.root / "secrets" / "profiles" / "developer.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (testbed.ROOT / "secrets" / "profiles" / "developer.yaml").read_text(encoding="utf-8")
        path.write_text(text.replace("spec:\n", f"spec:\n  generation: {generation}\n", 1), encoding="utf-8")
        time.sleep(LOOK_EVERY + 0.2)  # until the signer has looked at the folder

    def apply(self) -> None:
        """As `pilothouse apply` does, of the RBAC alone: what is new first, then what goes."""
        opened = open_platform(self.root)
        inputs, _ = inputs_for(opened, "dev", testbed.TODAY)
        manifests = [
            dict(item) for document in access.derive(inputs).artifacts.under("rbac/") for item in document.data
        ]
        wanted = ClusterResult("dev", Artifacts.of([Document("all.yaml", manifests, Format.MANIFESTS)]))
        client = Api(to_endpoint(self.api.endpoint))
        try:
            applying.apply_now(client, inputs.cluster, wanted, Options(hold=True))
        finally:
            client.close()

    def codes(self) -> list[str]:
        """What the check says of the declarations beside what the server holds."""
        inputs, _ = inputs_for(open_platform(self.root), "dev", testbed.TODAY)
        items = self.api.get("/apis/rbac.authorization.k8s.io/v1/rolebindings")["items"]
        held = [
            Manifest(
                "RoleBinding",
                "rbac.authorization.k8s.io/v1",
                item["metadata"]["namespace"],
                item["metadata"]["name"],
                item,
            )
            for item in items
        ]
        derived = access.derive(replace(inputs, snapshot=Snapshot(rbac=tuple(held))))
        return [item.code for item in derived.problems]


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    root, data = write_platform(tmp_path / "platform"), tmp_path / "data"
    app = make_app(tmp_path, root=root, users_={name: USERS[name] for name in ("alice", "bob", "olga")}, clock=Now())
    signer = spawn.start(data, root)
    api = None
    try:
        api = kubernetes.start()
        made = Bank(tmp_path, app, api, root)
        api.trust(app.test_client().get("/api/v1/access/authorities/dev", headers=bearer(app, "olga")).json["pem"])
        for name in ("payments", "tools"):
            api.send("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        made.apply()
        yield made
    finally:
        spawn.stop(signer)
        if api is not None:
            api.stop()
        shutil.rmtree(tmp_path / "platform")


def test_a_raised_generation_ends_every_certificate_of_before(bank: Bank) -> None:
    first, of_alice = bank.certificate("alice", "alice-1")
    _, of_bob = bank.certificate("bob", "bob-1")
    assert first["groups"] == ["ph:developer:payments"]
    assert (bank.status(of_alice), bank.status(of_bob)) == (200, 200)

    locked = bank.post("olga", "/locks", 201, subject=first["serial"], reason="the laptop was stolen")
    (left,) = locked["unheld"]
    assert "write `generation: 1` into the profile, then `pilothouse apply dev`" in left
    assert bank.status(of_alice) == 200, "this API server does not ask"

    bank.declare(1)
    bank.apply()
    assert (bank.status(of_alice), bank.status(of_bob)) == (403, 403)
    second, again = bank.certificate("bob", "bob-2")
    assert second["groups"] == ["ph:developer.g1:payments"]
    assert (bank.status(again), bank.status(of_bob)) == (200, 403)

    bank.declare(2)
    bank.apply()
    assert bank.status(again) == 403
    third, newest = bank.certificate("bob", "bob-3")
    assert third["groups"] == ["ph:developer.g2:payments"]
    assert bank.status(newest) == 200
    assert "access/generation-lowered" not in bank.codes()
    bank.declare(1)
    assert "access/generation-lowered" in bank.codes()

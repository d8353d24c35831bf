"""A rotation where Vault signs, with every server real: old and new are good together, then the old one is not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from support.bed import kubernetes
from support.bed.kubernetes import KubeApi
from support.vault_day import Day, vault_day

from pilothouse.access.rotation import Stage
from pilothouse.clients.vault import VaultClient
from pilothouse.platform.model import Endpoint
from pilothouse.workflows import vault_rotation
from pilothouse.workflows.rendering import open_platform

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def api() -> Iterator[KubeApi]:
    found = kubernetes.start()
    yield found
    found.stop()


@pytest.fixture
def day(tmp_path: Path, vault: Any, slapd: Any, api: KubeApi) -> Iterator[Day]:
    with vault_day(tmp_path, vault, slapd, api, elevated=True) as made:
        yield made


def ca(day: Day, *arguments: str, code: int = 0) -> Any:
    said = day.run("access", "ca", *arguments, "-c", day.site.name, *(["-o", "json"] if not code else []), code=code)
    return json.loads(said) if not code else said


def rotate(day: Day, *arguments: str, code: int = 0) -> Any:
    return ca(day, "rotate", "--platform", str(day.platform), *arguments, code=code)


def bundle(day: Day) -> list[x509.Certificate]:
    """What the API servers are to be given."""
    session = json.loads((day.home / "pilothouse/session.json").read_text())["token"]
    address = f"{day.portal}/api/v1/access/authorities/{day.site.name}"
    answer = requests.get(address, headers={"Authorization": f"Bearer {session}"}, timeout=30)
    assert answer.status_code == 200, answer.text
    return x509.load_pem_x509_certificates(answer.json()["pem"].encode())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def status(day: Day) -> int:
    """How the API server answers alice, who asks for the pods of her team with what she holds."""
    done = day.kubectl("get", "pods", "-n", day.namespaces["payments"])
    return 200 if done.returncode == 0 else 401 if "Unauthorized" in done.stderr else 403


def held(day: Day) -> x509.Certificate:
    path = day.home / f"pilothouse/credentials/{day.site.name}.developer.payments.json"
    return x509.load_pem_x509_certificate(json.loads(path.read_text())["certificate"].encode())


def ids(day: Day) -> list[str]:
    return sorted(VaultClient(Endpoint(day.site.url)).issuers(day.site.pki))


def certificate(day: Day) -> None:
    """Asked for twice at most: the first time may be the one at which the signer learns of another authority."""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "pilothouse", "access", "cert", "developer", "-c", day.site.name],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=day.environment,
        )
        if done.returncode == 0:
            return
        assert "was rotated a moment ago" in done.stderr
    raise AssertionError(done.stderr)


def test_nobody_is_locked_out_and_the_old_one_ends(day: Day) -> None:
    bob, alice = day.of("bob"), day.of("alice")  # bob is of the platform team
    alice.cert("developer", "--team", "payments")
    plan = ca(bob, "plan")
    assert (plan["stage"], plan["backend"], plan["other"]) == ("at-rest", "vault", None)
    (old,) = bundle(bob)

    assert rotate(bob)["stage"] == "made"
    assert bundle(bob) == [old]
    assert rotate(bob)["stage"] == "trusted"
    first, new = bundle(bob)
    assert (first, new.subject) == (old, old.subject)
    assert "cannot be seen from here" in rotate(bob, code=2)
    day.api.trust(pem(new))
    seen = rotate(bob, "--trusted")
    assert (seen["stage"], seen["alive"]) == ("signing", 1)
    assert bundle(bob) == [new, old]
    assert status(alice) == 200, "what the old one signed is good"
    before = held(alice)
    certificate(bob)
    bobs = json.loads((bob.home / f"pilothouse/credentials/{day.site.name}.developer.json").read_text())
    x509.load_pem_x509_certificate(bobs["certificate"].encode()).verify_directly_issued_by(new)
    assert bob.kubectl("get", "pods", "-n", day.namespaces["risk"]).returncode == 0, "and what the new one signs"

    assert "1 living certificates are of the old authority" in rotate(bob, code=2)
    done = rotate(bob, "--force")
    assert (done["stage"], done["other"]) == ("at-rest", None)
    assert bundle(bob) == [new]
    assert len(ids(day)) == len(day.site.root.list(f"{day.site.pki}/keys")) == 1
    day.api.distrust(pem(old))
    assert held(alice) == before
    until(lambda: status(alice) == 401)
    assert bob.kubectl("get", "pods", "-n", day.namespaces["risk"]).returncode == 0
    assert "is as declared" in day.run("access", "vault", "plan", day.site.name, day.platform)
    kinds = [kind for kind in day.kinds() if kind.startswith("authority.")]
    assert kinds == ["authority.made", "authority.trusted", "authority.signing", "authority.withdrawn"]


def until(what: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < 20, "not within the time"
        time.sleep(0.1)


def test_what_was_cut_short_goes_on(day: Day) -> None:
    """Killed after each single request to Vault, the same command comes to the same end."""
    cluster = open_platform(day.platform).loaded.platform.clusters[day.site.name]

    class Cut(Exception):
        pass

    class Breaking:
        """Vault, until so many changes were made."""

        def __init__(self, left: int) -> None:
            self.left = left

        def __getattr__(self, name: str) -> Any:
            real = getattr(day.site.root, name)

            def change(*arguments: Any) -> Any:
                if self.left == 0:
                    raise Cut
                self.left -= 1
                return real(*arguments)

            return change if name in ("write", "patch", "delete") else real

    anybody = VaultClient(Endpoint(day.site.url))
    for to in (Stage.MADE, Stage.TRUSTED, Stage.SIGNING, Stage.AT_REST):
        for left in range(6):
            found = vault_rotation.held(anybody, day.site.pki)
            assert found is not None
            if found.shelf.stage is to:
                break
            try:
                vault_rotation.turn(Breaking(left), cluster, day.site.pki, to)
            except Cut:
                continue
        found = vault_rotation.held(anybody, day.site.pki)
        assert found is not None
        assert found.shelf.stage is to
    day.run("access", "vault", "apply", day.site.name, day.platform)
    assert "is as declared" in day.run("access", "vault", "plan", day.site.name, day.platform)
    assert len(ids(day)) == 1


def test_it_takes_a_token_that_may_and_the_documents(day: Day) -> None:
    bob = day.of("bob")
    assert "which one?" in ca(bob, "rotate", code=2)
    wrong = day.home / "wrong"
    wrong.write_text("hvs.wrong")
    assert "answered 403" in rotate(bob, "--token-file", str(wrong), code=2)
    assert "only the platform team may" in rotate(day.of("olga"), code=2)
    assert not [kind for kind in day.kinds() if kind.startswith("authority.")], "what cannot be taken is not recorded"

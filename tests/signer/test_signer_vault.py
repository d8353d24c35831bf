"""Issuance where Vault signs: with the engineer's own token, recorded before and after, never anywhere else instead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from support.access_values import csr, elevated, key
from support.access_world import World, make_world
from support.vault_fake import FakeVault, fake_vault
from support.vault_site import PASSWORD
from support.vault_world import declare, set_up

from pilothouse.access import certificates, grants
from pilothouse.clients.signer import SignerClient
from pilothouse.clients.vault import VaultClient
from pilothouse.problems import Denied, Invalid, PilothouseError, Unavailable
from pilothouse.signer.authorities import ByBackend, VaultAuthorities
from pilothouse.signer.server import Server
from pilothouse.store import certificates as certificate_rows
from pilothouse.store import grants as grant_rows
from pilothouse.store import ledger
from pilothouse.workflows.issuance import Ask, Issuance


@pytest.fixture
def server() -> Iterator[FakeVault]:
    with fake_vault() as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, server: FakeVault) -> World:
    made = make_world(tmp_path)
    made.now = datetime.now(UTC)  # Vault has a clock of its own
    declare(made.platform, server.url)
    set_up(server, made.platform)
    return made


@pytest.fixture
def issuance(world: World) -> Iterator[Issuance]:
    with world.authorities() as embedded:
        vaults = VaultAuthorities(world.data / "authorities", world.declared, lambda: 0.0)
        yield world.issuance(ByBackend(world.declared, embedded, vaults))


def vault_token(server: FakeVault, user: str = "alice") -> str:
    return VaultClient(server.engineers_endpoint).login_ldap("ldap", user, PASSWORD).token


def ask(world: World, server: FakeVault, user: str = "alice", **fields: Any) -> Ask:
    defaults: dict[str, Any] = {
        "token": world.token(user),
        "csr": csr(key(user)),
        "cluster": "vaulted",
        "profile": "developer",
        "vault_token": vault_token(server, user) if "vault_token" not in fields else "",
    }
    return Ask(**{**defaults, **fields})


def kinds(world: World) -> list[str]:
    return [item.entry.kind for item in reversed(ledger.find(world.store)[0])]


def test_vault_signs_with_the_engineers_own_token(world: World, server: FakeVault, issuance: Issuance) -> None:
    issued = issuance.issue(ask(world, server))
    leaf = x509.load_pem_x509_certificate(issued.pem.encode())
    assert (issued.user, issued.groups) == ("alice", ("ph:developer:payments",))
    assert issued.authority.strip() == VaultClient(server.engineers_endpoint).authority("pki-vaulted")
    assert (world.data / "authorities/vaulted.crt").read_text() == issued.authority
    assert issued.serial == str(leaf.serial_number)
    after, before = ledger.find(world.store)[0]
    assert (before.entry.kind, after.entry.kind) == ("certificate.intent", "certificate.issued")
    assert (before.entry.subject, after.entry.subject) == (after.entry.data["intent"], issued.serial)
    row = certificate_rows.of_user(world.store, "alice")[0]
    assert (row.serial, row.state, row.fingerprint) == (issued.serial, "issued", certificates.fingerprint(leaf))


def test_the_portals_own_authorities_are_as_before(world: World, server: FakeVault, issuance: Issuance) -> None:
    issued = issuance.issue(ask(world, server, cluster="dev"))
    assert "intent" not in ledger.find(world.store)[0][0].entry.data
    assert issued.authority.strip() != issuance.issue(ask(world, server)).authority.strip()


def test_a_team_may_be_named_and_narrows(world: World, server: FakeVault, issuance: Issuance) -> None:
    assert issuance.issue(ask(world, server, team="payments")).groups == ("ph:developer:payments",)
    assert issuance.issue(ask(world, server, cluster="dev", team="payments")).groups == ("ph:developer:payments",)
    with pytest.raises(Denied, match="team infra is none of yours"):
        issuance.issue(ask(world, server, team="infra"))


def test_an_elevated_profile_is_refused_by_name(world: World, server: FakeVault, issuance: Issuance) -> None:
    profile = elevated()
    grant = grants.request("g-1", "olga", profile, "vaulted", "drain a node", 1800, world.now)
    grant_rows.add(world.store, grants.approve(grant, "pat", "", world.now))
    with pytest.raises(Invalid, match="cannot be had on cluster vaulted: Vault signs there"):
        issuance.issue(Ask(world.token("olga"), csr(key("olga")), grant_id="g-1"))
    assert grant_rows.get(world.store, "g-1").state == "approved"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("token", "kind", "said"),
    [("", Denied, "no login there came"), ("hvs.nobody", Denied, "403"), ("bob", Invalid, "not allowed by this role")],
)
def test_without_ones_own_token_nothing_is_signed(
    world: World, server: FakeVault, issuance: Issuance, token: str, kind: type[PilothouseError], said: str
) -> None:
    if token == "bob":
        server.state.directory.groups["payments-people"].add("bob")
        token = vault_token(server, "bob")
    with pytest.raises(kind, match=said):
        issuance.issue(ask(world, server, vault_token=token))
    assert "certificate.issued" not in kinds(world)
    assert kinds(world) == ([] if not token else ["certificate.intent", "certificate.failed"])


def seal(server: FakeVault) -> None:
    server.state.sealed = True


def answer_429(server: FakeVault) -> None:
    server.state.status = 429


def go_away(server: FakeVault) -> None:
    server.shutdown()
    server.server_close()


@pytest.mark.attack("Vault sealed, standby or away", "Vault stand-in")
@pytest.mark.parametrize("hurt", [seal, answer_429, go_away])
def test_a_vault_that_does_not_sign_is_never_replaced_by_our_own_authority(
    world: World, server: FakeVault, issuance: Issuance, hurt: Any
) -> None:
    asked = ask(world, server)
    issuance.authorities.certificate("vaulted")  # known, so that the signature itself is what fails
    hurt(server)
    with pytest.raises(Unavailable):
        issuance.issue(asked)
    assert kinds(world) == ["certificate.intent", "certificate.failed"]
    assert certificate_rows.of_user(world.store, "alice")[0].state == "failed"
    assert not (world.data / "signer" / "vaulted").exists()


def test_what_vault_signs_wrongly_is_withheld(world: World, server: FakeVault, issuance: Issuance) -> None:
    """Somebody with more rights changed the role: what comes back is held against what was asked for."""
    role = server.state.pki["pki-vaulted"].roles["developer.payments"]
    for field, value, said in (
        ("organization", ["system:masters"], "its groups are"),
        ("organization", ["ph:developer:payments", "ph:on-call"], "its groups are"),
        ("server_flag", True, "extended key usages"),
        ("key_usage", ["DigitalSignature", "CertSign"], "used for more than"),
    ):
        kept, role[field] = role[field], value
        with pytest.raises(Unavailable, match=f"signed something else: .*{said}"):
            issuance.issue(ask(world, server))
        role[field] = kept
    assert kinds(world) == ["certificate.intent", "certificate.failed"] * 4
    assert issuance.issue(ask(world, server)).user == "alice"


def test_a_leaf_of_another_authority_is_withheld(world: World, server: FakeVault, issuance: Issuance) -> None:
    issuance.issue(ask(world, server))
    server.state.pki["pki-vaulted"].generate_root({"common_name": "another", "not_before_duration": "1h"})
    with pytest.raises(Unavailable, match="was rotated a moment ago"):
        issuance.issue(ask(world, server))
    assert issuance.issue(ask(world, server)).user == "alice"  # the new one is known now
    pki = server.state.pki["pki-vaulted"]
    known = pki.pem()
    pki.generate_root({"common_name": "a third", "not_before_duration": "1h"})
    pki.pem = lambda: known  # type: ignore[method-assign]  # it signs with what is none of the mount's own
    with pytest.raises(Unavailable, match="not signed by the cluster's authority"):
        issuance.issue(ask(world, server))


def test_a_clock_that_is_a_little_ahead_does_no_harm_and_one_far_ahead_does(
    world: World, server: FakeVault, issuance: Issuance
) -> None:
    world.later(seconds=-30)
    assert issuance.issue(ask(world, server)).user == "alice"
    world.later(seconds=-120)
    with pytest.raises(Unavailable, match="later than asked for"):
        issuance.issue(ask(world, server))


def test_a_cluster_without_a_vault_says_so(world: World, server: FakeVault, issuance: Issuance) -> None:
    path = world.platform / "platform.yaml"
    path.write_text(path.read_text().replace(f'vault: {{url: "{server.url}"}}, ', ""))
    with pytest.raises(Unavailable, match="no Vault is declared for it"):
        issuance.issue(ask(world, server))


def test_a_vault_without_an_authority_names_the_command(world: World, server: FakeVault, issuance: Issuance) -> None:
    server.state.pki["pki-vaulted"].certificate = None
    with pytest.raises(Unavailable) as refused:
        issuance.authorities.certificate("vaulted")
    assert "pilothouse access vault apply vaulted" in refused.value.hint


def test_a_key_of_somebody_else_is_refused_before_vault_is_asked(
    world: World, server: FakeVault, issuance: Issuance
) -> None:
    issuance.issue(ask(world, server))
    asked = ask(world, server, "bob", csr=csr(key("alice")))
    before = len(server.state.requests)
    with pytest.raises(Denied, match="this key was used for another user"):
        issuance.issue(asked)
    assert [path for _, path in server.state.requests[before:] if "/sign/" in path] == []


def test_the_token_stands_in_no_log_and_no_text(
    world: World, server: FakeVault, issuance: Issuance, tmp_path: Path
) -> None:
    lines: list[Any] = []
    token = vault_token(server)
    socket = Server(tmp_path / "s", issuance, lines.append)
    thread = threading.Thread(target=socket.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        client = SignerClient(tmp_path / "s")
        client.sign(world.token("alice"), csr(key("alice")), profile="developer", cluster="vaulted", vault_token=token)
        with pytest.raises(PilothouseError) as refused:
            client.sign(world.token("alice"), csr(), profile="on-call", cluster="vaulted", vault_token=token)
        assert "BEGIN CERTIFICATE" in client.authority("vaulted")
    finally:
        socket.shutdown()
        thread.join()
        socket.server_close()
    asked = ask(world, server, vault_token=token)
    text = repr((lines, asked, refused.value, ledger.find(world.store), issuance.authorities))
    assert token not in text
    assert asked.token not in text

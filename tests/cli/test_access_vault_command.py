"""`pilothouse access` where Vault signs: set it up, log in there too, one certificate per team."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from click.testing import CliRunner
from cryptography import x509
from support.access_portal import access_portal
from support.portal import PASSWORD, Clock
from support.vault_fake import FakeVault, fake_vault
from support.vault_site import PEOPLE
from support.vault_world import declare
from werkzeug.serving import make_server

from pilothouse.access import certificates
from pilothouse.cli.access import group
from pilothouse.clients.vault import VaultClient
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Denied, Invalid, PilothouseError, Unavailable
from pilothouse.signer.authorities import ByBackend, VaultAuthorities


class Machine:
    """An engineer's machine with a home of its own."""

    def __init__(self, home: Path, server: str) -> None:
        self.home, self.server = home, server

    def run(self, *arguments: object, stdin: str | None = None, code: int = 0) -> str:
        environment = {"XDG_CONFIG_HOME": str(self.home), "HOME": str(self.home), "VAULT_TOKEN": "ambient"}
        result = CliRunner().invoke(group, [str(item) for item in arguments], input=stdin, env=environment)
        if isinstance(result.exception, PilothouseError):
            raise result.exception
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    def login(self, user: str) -> str:
        return self.run("login", "--server", self.server, "--user", user, stdin=f"{PASSWORD}\n")


@pytest.fixture
def server() -> Iterator[FakeVault]:
    with fake_vault() as made:
        directory = made.state.directory
        for user, groups in PEOPLE.items():
            directory.people[user] = PASSWORD
            for name in groups:
                directory.groups.setdefault(name, set()).add(user)
        VaultClient(Endpoint(made.url), made.root_token).write("sys/auth/ldap", {"type": "ldap"})
        yield made


@pytest.fixture
def site(tmp_path: Path, server: FakeVault) -> Iterator[tuple[Callable[[str], Machine], Any]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with access_portal(tmp_path, ("alice", "olga"), clock=Clock(datetime.now(UTC))) as (app, world, _):
        declare(world.platform, server.url)
        signer = app.extensions["pilothouse"].settings.extra["signer"]
        embedded = signer.issuance.authorities
        vaults = VaultAuthorities(world.data / "authorities", world.declared, lambda: 0.0)
        signer.issuance = world.issuance(ByBackend(world.declared, embedded, vaults))
        app.extensions["pilothouse"].current.refresh()
        listening = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()

        def machine(name: str) -> Machine:
            (tmp_path / name).mkdir(exist_ok=True)
            return Machine(tmp_path / name, f"http://127.0.0.1:{listening.server_port}")

        (tmp_path / "root-token").write_text(server.root_token)
        yield machine, world
        listening.shutdown()
        thread.join()
        listening.server_close()
    structlog.reset_defaults()


def apply(machine: Machine, world: Any, tmp_path: Path, word: str = "apply", *more: str) -> str:
    return machine.run("vault", word, "vaulted", world.platform, "--token-file", tmp_path / "root-token", *more)


def test_set_up_shows_its_plan_and_changes_nothing_twice(site: Any, tmp_path: Path, server: FakeVault) -> None:
    machine, world = site
    admin = machine("admin")
    planned = apply(admin, world, tmp_path, "plan")
    assert "+ sys/mounts/pki-vaulted\n" in planned
    assert "changes to be made." in planned
    assert "pki-vaulted" not in server.state.pki
    made = apply(admin, world, tmp_path)
    assert "made, and read back." in made
    assert "The Vault of vaulted is as declared." in apply(admin, world, tmp_path)
    server.state.pki["pki-vaulted"].roles["developer.payments"]["allow_any_name"] = True
    again = apply(admin, world, tmp_path, "plan")
    assert "~ pki-vaulted/roles/developer.payments\n    allow_any_name is true, not false\n" in again
    data = json.loads(apply(admin, world, tmp_path, "plan", "-o", "json"))
    assert [item["path"] for item in data["changes"]] == ["pki-vaulted/roles/developer.payments"]
    assert server.root_token not in planned + made + again


def test_what_stops_a_set_up_is_shown_with_a_caret(site: Any, tmp_path: Path, server: FakeVault) -> None:
    machine, world = site
    server.state.data["auth/ldap/config"]["username_as_alias"] = True
    said = machine("admin").run(
        "vault", "apply", "vaulted", world.platform, "--token-file", tmp_path / "root-token", code=1
    )
    assert "access/vault-login-unsafe" in said
    assert "Nothing was changed." in said
    assert "pki-vaulted" not in server.state.pki


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        ((), Invalid, "a token of Vault's is needed"),
        (("--token-file", "nowhere"), Unavailable, "cannot read the token file nowhere"),
        (("--token-file", "empty"), Invalid, "holds no token"),
        (("--token-file", "wrong"), Denied, "answered 403"),
    ],
)
def test_a_token_is_needed_and_comes_from_a_file(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], kind: Any, said: str
) -> None:
    machine, world = site
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "wrong").write_text("hvs.wrong\n")
    with pytest.raises(kind, match=said) as refused:
        machine("admin").run("vault", "plan", "vaulted", world.platform, *more)
    assert "hvs.wrong" not in refused.value.message


def test_the_day_with_a_certificate_for_one_team(site: Any, tmp_path: Path, server: FakeVault) -> None:
    machine, world = site
    apply(machine("admin"), world, tmp_path)
    alice = machine("alice")
    assert "Logged in at the Vault of vaulted until" in alice.login("alice")
    said = alice.run("cert", "developer", "-c", "vaulted", "--team", "payments")
    assert "alice may act as developer.payments on vaulted" in said
    config = yaml.safe_load((alice.home / "pilothouse/kubeconfig/vaulted.yaml").read_text())
    assert config["current-context"] == "developer.payments@vaulted"
    assert config["users"][0]["user"]["exec"]["args"][-2:] == ["--team", "payments"]
    answer = json.loads(alice.run("credential", "-c", "vaulted", "--profile", "developer", "--team", "payments"))
    leaf = x509.load_pem_x509_certificate(answer["status"]["clientCertificateData"].encode())
    assert certificates.subject_of(leaf) == (("alice",), ("ph:developer:payments",), ())
    status = json.loads(alice.run("status", "-o", "json"))
    assert [item["role"] for item in status["credentials"]] == ["developer.payments"]
    assert [(item["cluster"], item["alive"]) for item in status["vaults"]] == [("vaulted", True)]
    assert len(server.state.tokens) == 1
    alice.run("logout")
    assert server.state.tokens == {}


def test_a_vault_that_is_sealed_costs_no_login_and_no_other_certificate(
    site: Any, tmp_path: Path, server: FakeVault
) -> None:
    machine, world = site
    apply(machine("admin"), world, tmp_path)
    server.state.sealed = True
    alice = machine("alice")
    said = alice.login("alice")
    assert "Logged in at http://" in said
    assert "No login at the Vault of vaulted, so it signs nothing" in said
    with pytest.raises(Denied, match="no login there came with the request"):
        alice.run("cert", "developer", "-c", "vaulted")
    assert "alice may act as developer on dev" in alice.run("cert", "developer", "-c", "dev")


def test_elevation_is_refused_before_anybody_is_asked(site: Any) -> None:
    machine, _ = site
    olga = machine("olga")
    olga.login("olga")
    with pytest.raises(Invalid, match="cannot be had on cluster vaulted: Vault signs there"):
        olga.run("elevate", "cluster-admin", "-c", "vaulted", "--reason", "drain a node")
    assert json.loads(olga.run("status", "-o", "json"))["requests"] == []


def test_the_portal_takes_no_vault_token_over_an_open_connection(site: Any, tmp_path: Path) -> None:
    machine, _ = site
    alice = machine("alice")
    alice.login("alice")
    with access_portal(tmp_path / "other", ("alice",)) as (app, _, _):
        client = app.test_client()
        token = client.post("/api/v1/session", json={"user": "alice", "password": PASSWORD}).json["token"]
        body = {"profile": "developer", "cluster": "vaulted", "csr": "x", "vault_token": "hvs.secret"}
        refused = client.post(
            "/api/v1/access/certificates",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            environ_overrides={"REMOTE_ADDR": "192.0.2.7"},
        )
        assert refused.status_code == 422
        assert "not encrypted" in refused.json["detail"]
        assert "hvs.secret" not in refused.get_data(as_text=True)

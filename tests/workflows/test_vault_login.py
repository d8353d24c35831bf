"""The engineer's own logins at Vault: made once for all clusters of a Vault, renewed, forgotten."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pilothouse.clients.vault import VaultToken
from pilothouse.files.wallet import Wallet
from pilothouse.problems import Denied, Invalid, Unavailable
from pilothouse.workflows import vault_login

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
PLACES = [
    {"cluster": "dev", "url": "https://one.example", "mount": "ldap", "ca_file": "/ca"},
    {"cluster": "prod", "url": "https://one.example", "mount": "ldap", "ca_file": ""},
    {"cluster": "uat", "url": "https://two.example", "mount": "people", "ca_file": ""},
]


class Vaults:
    """Every Vault; `failure` is raised by the next call."""

    def __init__(self, seconds: int = 3600) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.failure: Exception | None = None
        self.seconds = seconds
        self.at = ""

    def reach(self, url: str, ca_file: str) -> Any:
        self.at = url
        self.calls.append(("reach", url, ca_file))
        return self

    def _token(self, token: str) -> VaultToken:
        if self.failure:
            raise self.failure
        return VaultToken(token, "accessor", "entity", self.seconds, True, ())

    def login_ldap(self, mount: str, user: str, password: str) -> VaultToken:
        self.calls.append(("login", self.at, mount, user))
        if self.at == "https://two.example" and password != "right":
            raise Denied("did not accept alice")
        return self._token(f"hvs.{self.at}")

    def renew(self, token: str) -> VaultToken:
        self.calls.append(("renew", token))
        return self._token(token)

    def revoke(self, token: str) -> None:
        self.calls.append(("revoke", token))
        self._token(token)


@pytest.fixture
def wallet(tmp_path: Path) -> Wallet:
    return Wallet(tmp_path / "pilothouse")


def log_in(wallet: Wallet, vaults: Vaults, password: str = "right") -> tuple[vault_login.Outcome, ...]:
    return vault_login.log_in(wallet, vaults.reach, PLACES, "alice", password, NOW)


def test_one_password_makes_one_login_at_each_vault(wallet: Wallet) -> None:
    vaults = Vaults()
    outcomes = log_in(wallet, vaults)
    assert [call for call in vaults.calls if call[0] == "login"] == [
        ("login", "https://one.example", "ldap", "alice"),
        ("login", "https://two.example", "people", "alice"),
    ]
    assert [item.cluster for item in wallet.vaults()] == ["dev", "prod", "uat"]
    assert {item.expires_at for item in outcomes} == {NOW + timedelta(hours=1)}
    path = wallet.root / "vault/dev.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "right" not in path.read_text()
    assert "hvs." not in repr(wallet.vaults())


def test_a_vault_that_refuses_keeps_no_other_from_it_and_nothing_old(wallet: Wallet) -> None:
    log_in(wallet, Vaults())
    outcomes = log_in(wallet, Vaults(), "wrong there")
    assert [item.reason for item in outcomes] == ["", "", "did not accept alice"]
    assert [item.cluster for item in wallet.vaults()] == ["dev", "prod"]


def test_a_token_is_renewed_when_half_its_life_is_gone(wallet: Wallet) -> None:
    vaults = Vaults()
    log_in(wallet, vaults)
    vaults.calls.clear()
    assert vault_login.token_for(wallet, vaults.reach, "dev", NOW + timedelta(minutes=29)) == "hvs.https://one.example"
    assert vaults.calls == []
    later = NOW + timedelta(minutes=31)
    assert vault_login.token_for(wallet, vaults.reach, "dev", later) == "hvs.https://one.example"
    assert vaults.calls[-1] == ("renew", "hvs.https://one.example")
    assert wallet.vault("dev").expires_at == later + timedelta(hours=1)  # type: ignore[union-attr]


def test_a_token_that_renews_a_certificate_is_renewed_itself_in_any_case(wallet: Wallet) -> None:
    vaults = Vaults()
    log_in(wallet, vaults)
    vault_login.token_for(wallet, vaults.reach, "dev", NOW + timedelta(minutes=1), fresh=True)
    assert vaults.calls[-1] == ("renew", "hvs.https://one.example")
    vaults.failure = Denied("policies have changed")
    assert vault_login.token_for(wallet, vaults.reach, "dev", NOW + timedelta(minutes=2), fresh=True) == ""


def test_one_who_lost_a_right_is_logged_out(wallet: Wallet) -> None:
    vaults = Vaults()
    log_in(wallet, vaults)
    vaults.failure = Denied("policies have changed")
    assert vault_login.token_for(wallet, vaults.reach, "dev", NOW + timedelta(minutes=40)) == ""
    assert wallet.vault("dev") is None
    assert wallet.vault("uat") is not None


def test_a_vault_that_is_away_costs_no_login(wallet: Wallet) -> None:
    vaults = Vaults()
    log_in(wallet, vaults)
    vaults.failure = Unavailable("sealed")
    assert vault_login.token_for(wallet, vaults.reach, "dev", NOW + timedelta(minutes=40)) != ""
    assert vault_login.token_for(wallet, vaults.reach, "dev", NOW + timedelta(minutes=60)) == ""


def test_a_token_without_an_end_is_kept_for_a_day(wallet: Wallet) -> None:
    log_in(wallet, Vaults(seconds=0))
    assert wallet.vault("dev").expires_at == NOW + timedelta(days=1)  # type: ignore[union-attr]


def test_logging_out_ends_each_token_once_and_forgets_it_whatever_vault_says(wallet: Wallet) -> None:
    vaults = Vaults()
    log_in(wallet, vaults)
    vaults.calls.clear()
    vaults.failure = Unavailable("sealed")
    failed = vault_login.log_out(wallet, vaults.reach)
    assert [call for call in vaults.calls if call[0] == "revoke"] == [
        ("revoke", "hvs.https://one.example"),
        ("revoke", "hvs.https://two.example"),
    ]
    assert [item.reason for item in failed] == ["sealed", "sealed"]
    assert wallet.vaults() == ()


@pytest.mark.parametrize("cluster", ["../x", ".", "", "a/b"])
def test_a_name_that_would_leave_the_folder_is_refused(wallet: Wallet, cluster: str) -> None:
    with pytest.raises(Invalid):
        wallet.vault(cluster)

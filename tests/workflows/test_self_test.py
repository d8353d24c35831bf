"""The self-test of authorities: what is closed is told closed, and each escape that somebody opens is found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.access_values import NOW, csr, key
from support.access_world import World, make_world
from support.builders import bundle_content
from support.vault_fake import fake_vault
from support.vault_site import PASSWORD, Site, site_of
from support.vault_world import declare, set_up

from pilothouse.access import certificates
from pilothouse.access.escapes import TITLES, Outcome, Report, summary
from pilothouse.clients.vault import VaultClient
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Unavailable
from pilothouse.signer.authorities import ByBackend, VaultAuthorities
from pilothouse.signer.guard import Guarded
from pilothouse.workflows import self_test, self_test_embedded
from pilothouse.workflows.issuance import Ask


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def site(request: Any) -> Iterator[Site]:
    for made in site_of(request):
        made.set_up()
        yield made


def run(site: Site, user: str = "alice", token: str = "") -> Report:
    client = VaultClient(Endpoint(site.url), token or site.login(user).token)
    nowhere = VaultClient(self_test.NOWHERE)
    return self_test.vault_mount(client, nowhere, site.platform(), site.name, bundle_content(), datetime.now(UTC))


def opened(report: Report) -> set[str]:
    assert report.untested == ""
    return {item.escape for item in report.open}


# ---------------------------------------------------------------- where Vault signs


def test_what_we_set_up_withstands_every_escape(site: Site) -> None:
    report = run(site)
    assert report.untested == ""
    assert [item for item in report.attempts if item.outcome in (Outcome.OPEN, Outcome.UNTRIED)] == []
    assert {row.escape for row in report.rows()} >= {
        "role",
        "not-after", "ttl", "name", "csr", "key", "alternative-names", "name-as-alternative", "parameters", "issue",
        "sign-verbatim", "issuer", "other-role", "mount", "beyond", "path", "token",
    }  # fmt: skip
    assert not list(report.problems())
    # Both roles of hers were tried, and what Vault cuts or does not look at is told apart from what it refuses.
    assert {item.tried.partition(":")[0] for item in report.attempts if item.escape == "ttl"} == {
        "developer.payments",
        "developer.risk",
    }
    outcomes = {row.escape: row.outcome for row in report.rows()}
    assert outcomes["not-after"] is outcomes["name-as-alternative"] is outcomes["sign-verbatim"] is Outcome.REFUSED
    assert outcomes["ttl"] is outcomes["csr"] is Outcome.HARMLESS
    assert outcomes["name-case"] is Outcome.WITHHELD
    assert "none succeeded" in summary([report])


def test_a_policy_that_lets_not_after_through_is_found(site: Site) -> None:
    """The escape that this version of Vault has: only the policy stands in its way."""
    name = f"ph.{site.name}.profile.developer.payments"
    rules = {"path": {f"{site.pki}/sign/developer.payments": {"capabilities": ["update"]}}}
    site.root.write(f"sys/policies/acl/{name}", {"policy": json.dumps(rules)})
    report = run(site)
    assert opened(report) >= {"not-after", "name-as-alternative"}
    (found, *_) = [item for item in report.open if item.escape == "not-after"]
    assert "later than asked for" in found.how
    assert found.serial.isdigit()
    assert {problem.code for problem in report.problems()} == {"access/escape-open"}
    site.set_up()
    assert opened(run(site)) == set()


@pytest.mark.parametrize(
    ("change", "escape"),
    [
        ({"cn_validations": ["disabled"]}, "name"),
        ({"cn_validations": ["hostname", "email"]}, "name"),
        ({"allow_any_name": True}, "name"),
        ({"use_csr_sans": True}, "csr"),
        ({"server_flag": True}, "role"),
        ({"organization": ["system:masters"]}, "role"),
        ({"key_type": "any", "key_bits": 0}, "key"),
    ],
    ids=str,
)
def test_a_role_that_was_changed_is_found(site: Site, change: dict[str, Any], escape: str) -> None:
    path = f"{site.pki}/roles/developer.payments"
    site.root.write(path, {**(site.root.read(path) or {}), **change})
    assert escape in opened(run(site))


def test_a_way_around_the_roles_is_found(site: Site) -> None:
    name = f"ph.{site.name}.profile.developer.payments"
    body = site.root.read(f"sys/policies/acl/{name}") or {}
    policy = json.loads(body["policy"])
    policy["path"] |= {
        f"{site.pki}/issue/*": {"capabilities": ["update"]},
        f"{site.pki}/sign/on-call": {"capabilities": ["update"]},
        f"{site.pki}/config/urls": {"capabilities": ["update"]},
        "auth/token/create": {"capabilities": ["update"]},
    }
    site.root.write(f"sys/policies/acl/{name}", {"policy": json.dumps(policy)})
    found = opened(run(site))
    assert found >= {"mount", "beyond", "other-role"}
    assert ("issue" in found) == (site.fake is None)  # the stand-in makes no keys


def test_a_token_that_may_do_everything_proves_nothing_and_is_refused(site: Site) -> None:
    report = run(site, token=site.root._token)
    assert "an engineer's own is needed" in report.untested
    assert {problem.code for problem in report.problems()} == {"access/self-test-incomplete"}


def test_a_token_that_signs_nothing_proves_nothing(site: Site) -> None:
    assert "signs under no role" in run(site, "carol").untested  # in a team, and in no profile's group
    ended = site.login("alice")
    site.client.revoke(ended.token)
    assert "403" in run(site, token=ended.token).untested


# ---------------------------------------------------------------- the embedded authority


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def test_the_embedded_authority_withstands_every_escape(world: World) -> None:
    with world.authorities() as keys:
        other = {"prod": keys.certificate("prod"), "dev": keys.certificate("dev")}
        report = self_test_embedded.by_itself(keys.certificate("dev"), world.declared(), "dev", other, world.now)
    assert report.untested == ""
    assert [item for item in report.attempts if item.outcome in (Outcome.OPEN, Outcome.UNTRIED)] == []
    assert {row.escape for row in report.rows()} == {
        "csr", "key", "ttl", "session", "profile", "cluster", "team", "request", "key-reuse", "system", "authority",
    }  # fmt: skip
    assert list(report.problems()) == []


def test_a_cluster_whose_requests_are_bound_passes_without_a_worker(world: World) -> None:
    """Nobody binds what the test claims on its own store: a claim that waited for that would leave it untried, and the
    cluster unserved."""
    path = world.platform / "platform.yaml"
    account = 'elevation: {account: "system:serviceaccount:pilothouse:pilothouse"}'
    path.write_text(path.read_text().replace("  environment: dev\n", f"  environment: dev\n  {account}\n"))
    assert world.declared().clusters["dev"].binds_requests
    with world.authorities() as keys:
        report = self_test_embedded.by_itself(keys.certificate("dev"), world.declared(), "dev", {}, world.now)
    assert [item for item in report.attempts if item.outcome in (Outcome.OPEN, Outcome.UNTRIED)] == []


def test_an_authority_with_the_key_of_another_cluster_is_found(world: World) -> None:
    with world.authorities() as keys:
        dev = keys.certificate("dev")
    report = self_test_embedded.by_itself(dev, world.declared(), "dev", {"prod": dev}, world.now)
    assert [(item.escape, item.tried) for item in report.open] == [("authority", "the key of prod")]


def break_check(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    monkeypatch.setattr(f"pilothouse.workflows.issuance.{name}", value)


def allow(*_arguments: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("name", "escape"),
    [("_check_seconds", "ttl"), ("_require", "profile"), ("_check_cluster", "")],
)
def test_a_check_that_is_gone_is_found(world: World, monkeypatch: pytest.MonkeyPatch, name: str, escape: str) -> None:
    break_check(monkeypatch, name, allow)
    with world.authorities() as keys:
        report = self_test_embedded.by_itself(keys.certificate("dev"), world.declared(), "dev", {}, world.now)
    assert (escape in opened(report)) == bool(escape)
    if not escape:  # what then goes wrong is no refusal of ours, so it is not taken for one
        assert {item.escape for item in report.untried} == {"cluster"}


def test_through_a_door_with_a_session(world: World) -> None:
    class Door:
        def __init__(self, issuance: Any) -> None:
            self.issuance = issuance

        def sign(self, token: str, csr: str, **fields: Any) -> Any:
            return self.issuance.issue(Ask(token, csr, **fields))

    with world.authorities() as keys:
        door = Door(world.issuance(keys))
        report = self_test_embedded.through(door, world.declared(), "dev", world.token("alice"))
        nothing = self_test_embedded.through(door, world.declared(), "dev", "x" * 43)
    assert opened(report) == set()
    assert report.untried == ()
    assert "session has ended" in nothing.untested


# ---------------------------------------------------------------- who is refused then


def guarded(world: World, keys: Any, lines: list[Any], moment: list[float]) -> Guarded:
    vaults = VaultAuthorities(world.data / "authorities", world.declared, lambda: moment[0])
    inner = ByBackend(world.declared, keys, vaults)
    return Guarded(inner, world.declared, bundle_content, world.clock, lambda: moment[0], lines.append)


def test_a_cluster_with_an_open_escape_is_not_served(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    break_check(monkeypatch, "_check_seconds", allow)
    lines: list[Any] = []
    with world.authorities() as keys:
        issuance = world.issuance(guarded(world, keys, lines, [0.0]))
        asked = Ask(world.token("alice"), csr(key("alice")), "dev", "developer")
        with pytest.raises(Unavailable, match="self-test of dev's authority did not pass"):
            issuance.issue(asked)
        from pilothouse.store import ledger

        assert list(ledger.everything(world.store)) == []
        assert lines[-1]["outcome"] == "unavailable"


def test_a_cluster_that_passed_is_served_and_tested_once(world: World) -> None:
    lines: list[Any] = []
    with world.authorities() as keys:
        guard = guarded(world, keys, lines, [0.0])
        issuance = world.issuance(guard)
        for _ in range(2):
            issuance.issue(Ask(world.token("alice"), csr(key("alice")), "dev", "developer"))
        assert [line["outcome"] for line in lines] == ["ok"]
        assert guard.report("nowhere").untested == "it is not declared"


def test_a_vault_is_refused_from_the_test_that_finds_it_open_to_the_one_that_finds_it_closed(
    tmp_path: Path, world: World
) -> None:
    with fake_vault() as server, world.authorities() as keys:
        world.now = datetime.now(UTC)
        declare(world.platform, server.url)
        set_up(server, world.platform)
        lines: list[Any] = []
        moment = [0.0]
        guard = guarded(world, keys, lines, moment)

        guard.test_all()
        assert "names no token" in guard.report("vaulted").untested
        assert guard.certificate("vaulted")  # nothing was found, nothing is refused

        file = tmp_path / "token"
        file.write_text(VaultClient(server.engineers_endpoint).login_ldap("ldap", "alice", PASSWORD).token)
        documents = world.platform / "platform.yaml"
        documents.write_text(
            documents.read_text().replace("backend: vault", f'backend: vault, selfTestTokenFile: "{file}"')
        )
        moment[0] = 601
        guard.test_all()
        assert guard.report("vaulted").open == ()
        assert guard.report("vaulted").untested == ""

        role = server.state.pki["pki-vaulted"].roles["developer.payments"]
        kept, role["cn_validations"] = role["cn_validations"], ["disabled"]
        moment[0] = 700
        guard.test_all()
        assert guard.certificate("vaulted")  # not yet tested again
        moment[0] = 1300
        guard.test_all()
        with pytest.raises(Unavailable, match="an escape succeeded"):
            guard.certificate("vaulted")
        assert guard.certificate("dev")

        server.state.sealed = True
        guard.test("vaulted")
        with pytest.raises(Unavailable, match="an escape succeeded"):  # what cannot be tried closes nothing
            guard.certificate("vaulted")
        server.state.sealed = False
        role["cn_validations"] = kept
        guard.test("vaulted")
        assert guard.certificate("vaulted")


def test_every_escape_has_words() -> None:
    assert all(text and not text.endswith(".") for text in TITLES.values())
    assert certificates.CODE  # the check that decides what a certificate says too much
    assert NOW.tzinfo is not None

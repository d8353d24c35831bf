"""Vault is set up, once, from what is rendered; the same tests on the stand-in and on the real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.access_values import csr, key, profile
from support.builders import service, team
from support.vault_site import Site, fake_site, site_of

from pilothouse.access.vault import identity_group
from pilothouse.clients.vault import VaultClient
from pilothouse.platform.authority import Authority
from pilothouse.platform.model import Member, Secret
from pilothouse.problems import Conflict, Denied, Invalid, Unavailable
from pilothouse.workflows import vault_setup


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def site(request: Any) -> Iterator[Site]:
    yield from site_of(request)


def paths(plan: vault_setup.Plan, action: str = "") -> list[str]:
    return [change.path for change in plan.changes if action in ("", change.action)]


OF_THE_SERVER = ("access/vault-audit-missing", "access/vault-login-wide")
"""What is said of a Vault that was just started; `test_vault_audit` is about it."""


def codes(plan: vault_setup.Plan) -> list[str]:
    return [problem.code for problem in plan.problems if problem.code not in OF_THE_SERVER]


def test_a_plan_changes_nothing(site: Site) -> None:
    planned = site.plan()
    assert f"sys/mounts/{site.pki}" in paths(planned, "create")
    assert f"{site.pki}/" not in (site.root.read("sys/mounts") or {})
    assert site.plan() == planned


def test_a_second_apply_changes_nothing(site: Site) -> None:
    first = site.set_up()
    assert first.changes[0].path == f"sys/mounts/{site.pki}"
    assert f"{site.pki}/root/generate/internal" in paths(first)
    assert site.plan().is_empty
    authority = site.client.authority(site.pki)
    assert site.set_up().changes == ()
    assert site.client.authority(site.pki) == authority


def test_what_gives_a_right_is_written_last(site: Site) -> None:
    written = paths(site.set_up())
    assert written[-1].startswith(f"auth/{site.login_mount}/groups/")
    first_mapping = min(n for n, path in enumerate(written) if "/groups/" in path)
    assert all("/groups/" in path for path in written[first_mapping:])


def test_the_mount_keeps_no_leaf_longer_than_a_day_and_its_root_for_years(site: Site) -> None:
    from cryptography import x509

    site.set_up()
    tuned = site.root.read(f"sys/mounts/{site.pki}/tune") or {}
    assert tuned["max_lease_ttl"] == 16 * 3600
    assert "private_key" not in tuned["audit_non_hmac_request_keys"]
    root = x509.load_pem_x509_certificate(site.client.authority(site.pki).encode())
    assert (root.not_valid_after_utc - root.not_valid_before_utc).days >= 3649
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)


def test_a_change_by_hand_is_seen_and_set_back(site: Site) -> None:
    site.set_up()
    role = f"{site.pki}/roles/developer.payments"
    site.root.write(role, {"allow_any_name": True, "key_type": "any", "ou": ["x"], "organization": ["system:masters"]})
    planned = site.plan()
    assert paths(planned) == [role]
    said = " ".join(planned.changes[0].differs)
    for word in ("allow_any_name is true, not false", "organization", "ou is", "cn_validations"):
        assert word in said
    site.set_up()
    assert (site.root.read(role) or {})["organization"] == ["ph:developer:payments"]
    policy = f"sys/policies/acl/ph.{site.name}.profile.on-call"
    site.root.write(policy, {"policy": 'path "*" { capabilities = ["read"] }'})
    assert paths(site.plan()) == [policy]


def test_what_is_no_longer_declared_is_removed_and_nothing_else(site: Site) -> None:
    site.set_up()
    engineers = f"auth/{site.login_mount}/groups/engineers"
    foreign = f"theirs-{site.name}"
    site.root.write(f"sys/policies/acl/{foreign}", {"policy": 'path "x" { capabilities = ["read"] }'})
    mapped = (site.root.read(engineers) or {})["policies"]
    site.root.write(engineers, {"policies": [*mapped, foreign]})
    site.root.write(f"{site.pki}/roles/theirs", {"organization": ["theirs"]})
    assert codes(site.plan()) == ["access/foreign-vault-role"]

    def without_risk() -> dict[str, Any]:
        teams = [team("payments", members=(Member("alice"),), groups=("payments-people",))]
        return {"services": [service("payments/api")], "teams": teams}

    removed = site.set_up(**without_risk())
    gone = f"ph.{site.name}.profile.developer.risk"
    assert f"sys/policies/acl/{gone}" in paths(removed, "remove")
    assert f"{site.pki}/roles/developer.risk" in paths(removed, "remove")
    assert f"identity/group/name/{identity_group(site.name, 'risk')}" in paths(removed, "remove")
    assert f"sys/policies/acl/ph.{site.name}.secrets.payments.api" in paths(removed, "remove")
    first = removed.changes[0]
    assert (first.path, first.differs) == (engineers, (f"loses {gone}",))
    assert foreign in (site.root.read(engineers) or {})["policies"]
    assert gone not in (site.root.read(engineers) or {})["policies"]
    assert site.root.read(f"sys/policies/acl/{foreign}") is not None
    assert site.root.read(f"{site.pki}/roles/theirs") is not None
    assert site.plan(**without_risk()).is_empty


def test_a_group_that_loses_its_profile_loses_its_mapping(site: Site) -> None:
    site.set_up()
    only = {"profiles": {"developer": profile(groups=("engineers",))}}
    removed = site.set_up(**only)
    assert f"auth/{site.login_mount}/groups/on-call" in paths(removed, "remove")
    assert site.root.read(f"auth/{site.login_mount}/groups/on-call") is None


def test_both_the_profiles_group_and_the_teams_are_needed(site: Site) -> None:
    site.set_up()

    def signs(user: str, role: str) -> bool:
        try:
            site.client.sign(site.login(user).token, site.pki, role, csr(key(user)), user, 3600)
        except Denied:
            return False
        return True

    roles = ("developer.payments", "developer.risk", "on-call")
    assert {user: [role for role in roles if signs(user, role)] for user in ("alice", "bob", "carol", "olga")} == {
        "alice": ["developer.payments", "developer.risk"],
        "bob": ["developer.risk"],
        "carol": [],
        "olga": ["on-call"],
    }
    site.remove_member("payments-people", "alice")
    assert not signs("alice", "developer.payments")
    assert signs("alice", "developer.risk")


def test_members_put_into_a_team_by_hand_are_taken_out(site: Site) -> None:
    site.set_up()
    path = f"identity/group/name/{identity_group(site.name, 'payments')}"
    found = site.root.read(path) or {}
    site.root.write(path, {"type": "internal", "metadata": {"team": "risk"}, "member_group_ids": []})
    planned = site.plan()
    assert paths(planned) == [path]
    site.set_up()
    again = site.root.read(path) or {}
    assert again["member_group_ids"] == found["member_group_ids"]
    assert again["metadata"]["team"] == "payments"


def test_a_login_that_would_sign_what_was_typed_is_refused(site: Site) -> None:
    site.root.write(f"auth/{site.login_mount}/config", {"username_as_alias": True, "deny_null_bind": False})
    planned = site.plan()
    assert codes(planned) == ["access/vault-login-unsafe"] * 2
    with pytest.raises(Invalid, match="nothing was changed"):
        site.set_up()
    assert f"{site.pki}/" not in (site.root.read("sys/mounts") or {})


def test_without_a_login_mount_nothing_is_set_up(site: Site) -> None:
    on = site.cluster(authority=Authority("vault", site.pki, "x", "nowhere"))
    planned = site.plan(on=on)
    assert (codes(planned), planned.changes) == (["access/vault-login-missing"], ())


def test_a_mount_of_another_kind_is_left_alone(site: Site) -> None:
    site.root.write(f"sys/mounts/{site.pki}", {"type": "kv", "options": {"version": "2"}})
    with pytest.raises(Conflict, match="is of type kv, and pki is wanted"):
        site.set_up()


def test_a_cluster_with_another_authority_has_nothing_to_set_up(site: Site) -> None:
    with pytest.raises(Invalid, match="is embedded, not vault"):
        site.plan(on=site.cluster(authority=Authority("embedded", site.pki, "x")), services=())


def test_where_another_authority_signs_only_what_workloads_need_is_written(site: Site) -> None:
    elsewhere = site.cluster(authority=Authority("embedded", site.pki, "x"))
    by_hand = f"sys/policies/acl/ph.{site.name}.profile.by-hand"
    site.root.write(by_hand, {"policy": '{"path": {}}'})
    done = site.set_up(on=elsewhere)
    assert set(paths(done)) == {
        f"sys/mounts/kv-{site.name}",
        f"sys/auth/kubernetes-{site.name}",
        f"auth/kubernetes-{site.name}/config",
        f"auth/kubernetes-{site.name}/role/payments.api",
        f"sys/policies/acl/ph.{site.name}.secrets.payments.api",
    }
    assert site.plan(on=elsewhere).is_empty
    moved = (service("payments/web", secrets=(Secret("payments/database", "/secrets/db"),)),)
    left = site.set_up(on=elsewhere, services=moved)
    assert set(paths(left, "remove")) == {
        f"auth/kubernetes-{site.name}/role/payments.api",
        f"sys/policies/acl/ph.{site.name}.secrets.payments.api",
    }
    assert site.root.read(by_hand)
    assert f"{site.pki}/" not in (site.root.read("sys/mounts") or {})


def test_a_team_without_a_directory_group_is_named(site: Site) -> None:
    teams = [team("payments", groups=(), members=(Member("alice"),)), team("risk", groups=("risk-people",))]
    planned = site.plan(teams=teams)
    assert codes(planned) == ["access/team-without-group"]
    site.set_up(teams=teams)
    with pytest.raises(Denied):
        site.client.sign(site.login("alice").token, site.pki, "developer.payments", csr(), "alice", 3600)


def test_a_mount_that_somebody_made_empty_gets_its_root_and_its_limit(site: Site) -> None:
    site.root.write(f"sys/mounts/{site.pki}", {"type": "pki", "config": {"max_lease_ttl": "16h"}})
    site.set_up()
    tuned = site.root.read(f"sys/mounts/{site.pki}/tune") or {}
    assert tuned["max_lease_ttl"] == 16 * 3600
    leaf = site.client.sign(site.login("bob").token, site.pki, "developer.risk", csr(key("bob")), "bob", 57600)
    assert "BEGIN CERTIFICATE" in leaf


class Failing:
    """A Vault that goes away at the nth change."""

    def __init__(self, client: VaultClient, allowed: int) -> None:
        self.client, self.left = client, allowed
        self.read, self.list, self.authority = client.read, client.list, client.authority

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Unavailable("gone")

    def write(self, path: str, body: Any) -> dict[str, Any]:
        if path != "identity/lookup/group":
            self._count()
        return self.client.write(path, body)

    def delete(self, path: str) -> None:
        self._count()
        self.client.delete(path)


def test_a_set_up_that_breaks_off_anywhere_gives_no_right_too_early_and_is_finished_by_the_next() -> None:
    steps = 0
    finished = False
    while not finished:
        with fake_site() as site:
            try:
                vault_setup.apply(Failing(site.root, steps), site.inputs())
                finished = True
            except Unavailable:
                held = set(site.login("alice").policies) - {"default"}
                if held:  # then all that they refer to is there
                    site.client.sign(
                        site.login("alice").token, site.pki, "developer.risk", csr(key("alice")), "alice", 3600
                    )
            site.set_up()
            assert site.plan().is_empty
        steps += 1
    assert steps > 15


def test_a_removal_that_breaks_off_has_taken_the_right_first() -> None:
    with fake_site() as site:
        site.set_up()
        teams = [team("payments", members=(Member("alice"),), groups=("payments-people",))]
        fewer = {"services": [service("payments/api")], "teams": teams}
        with pytest.raises(Unavailable):
            vault_setup.apply(Failing(site.root, 1), site.inputs(**fewer))
        assert f"ph.{site.name}.profile.developer.risk" not in site.login("alice").policies
        assert f"ph.{site.name}.profile.developer.payments" in site.login("alice").policies

"""Roles of requests on a real Vault: what the worker may write, who may sign under it, and what is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from support.access_values import csr, elevated, key
from support.vault_site import Site, real_site

from pilothouse.access import content as vault_content
from pilothouse.access import grants, vault, vault_elevation
from pilothouse.access.certificates import subject_of
from pilothouse.access.grants import Grant
from pilothouse.access.pki_fields import MUST
from pilothouse.clients.vault import VaultClient
from pilothouse.platform.authority import Elevation
from pilothouse.platform.model import Cluster, Endpoint, Servers
from pilothouse.problems import Denied, Invalid, PilothouseError, Unavailable
from pilothouse.workflows import vault_elevation as hand
from pilothouse.workflows import vault_setup

pytestmark = pytest.mark.real
ACCOUNT = "system:serviceaccount:pilothouse:pilothouse"


@pytest.fixture
def site(vault: Any, slapd: Any) -> Iterator[Site]:
    with real_site(vault, slapd) as made:
        yield made


@pytest.fixture
def cluster(site: Site, tmp_path: Path) -> Cluster:
    """Set up for requests, with the worker's secret where the document says."""
    file = tmp_path / "vault-elevator"
    api = Endpoint(site.kubernetes, token_file=str(tmp_path / "token"))
    servers = Servers(kubernetes=api, vault=Endpoint(site.url))
    made = site.cluster(elevation=Elevation(ACCOUNT, str(file)), servers=servers)
    site.set_up(on=made)
    file.touch(mode=0o600)
    file.write_text(hand.new_secret(site.root, made))
    return made


def content(site: Site, cluster: Cluster) -> vault_content.VaultContent:
    found, problems = vault_content.read(site.inputs(on=cluster).content)
    assert found is not None, problems
    return found


def worker(site: Site, cluster: Cluster) -> VaultClient:
    """With a token such as the worker gets."""
    held = json.loads(Path(cluster.elevation.vault_secret_file).read_text())
    mount = vault_elevation.mount(site.name)
    login = site.client.login_approle(mount, held["role_id"], held["secret_id"])
    assert login.seconds <= 600
    return VaultClient(Endpoint(site.url), login.token)


def signed(site: Site, user: str, role: str, **more: Any) -> x509.Certificate:
    token = site.login(user).token
    pem = site.client.sign(token, site.pki, role, csr(key(user)), more.get("name", user), more.get("seconds", 1800))
    return x509.load_pem_x509_certificate(pem.encode())


def test_a_second_apply_changes_nothing_and_a_live_role_stays(site: Site, cluster: Cluster) -> None:
    site.login("olga")
    with hand.worker_roles(cluster, content(site, cluster)) as roles:
        roles.make("g-abc1", "olga")
        assert site.plan(on=cluster).is_empty
        assert not [item for item in site.plan(on=cluster).problems if item.code == "access/foreign-vault-role"]
        assert len(roles.present()) == 1


def test_who_claimed_signs_for_themselves_and_nobody_else_does(site: Site, cluster: Cluster) -> None:
    with hand.worker_roles(cluster, content(site, cluster)) as roles:
        with pytest.raises(Unavailable, match="does not know olga yet") as caught:
            roles.make("g-abc1", "olga")
        assert caught.value.hint == "log in there first: `pilothouse access login`"
        entity = site.login("olga").entity
        assert roles.make("g-abc1", "olga") == f"PKI role req_{entity}_g-abc1"
        role = vault_elevation.role_name(entity, "g-abc1")
        leaf = signed(site, "olga", role)
        assert subject_of(leaf)[:2] == (("olga",), ("ph:elev:g-abc1",))
        assert leaf.not_valid_after_utc - datetime.now(UTC) < timedelta(seconds=1801)
        longest = signed(site, "olga", role, seconds=57600)
        assert longest.not_valid_after_utc - datetime.now(UTC) <= timedelta(hours=1)
        for who, name in (("alice", "alice"), ("alice", "olga"), ("bob", "bob")):
            with pytest.raises(Denied):
                signed(site, who, role, name=name)
        for name in ("alice", "x@olga", "a.olga", "system:masters"):
            with pytest.raises(Invalid):
                signed(site, "olga", role, name=name)
        with pytest.raises(Denied):
            signed(site, "olga", "cluster-admin")
        # An engineer makes, changes and reads no role.
        own = VaultClient(Endpoint(site.url), site.login("olga").token)
        for attempt in (
            lambda: own.write(f"{site.pki}/roles/req_{entity}_g-mine", {"allow_any_name": "true"}),
            lambda: own.read(f"{site.pki}/roles/{role}"),
            lambda: own.list(f"{site.pki}/roles"),
        ):
            with pytest.raises(Denied):
                attempt()
        assert roles.remove("g-abc1") == (f"PKI role {role}",)
        assert roles.remove("g-abc1") == ()
        with pytest.raises(PilothouseError):
            signed(site, "olga", role)


def test_the_worker_can_write_no_other_role(site: Site, cluster: Cluster) -> None:
    entity = site.login("olga").entity
    api = worker(site, cluster)
    accessor = str((site.root.read("sys/auth") or {})[f"{site.login_mount}/"]["accessor"])
    body = vault_elevation.role_body("g-abc1", content(site, cluster), accessor)
    path = f"{site.pki}/roles/req_{entity}_g-abc1"

    def writes(fields: dict[str, Any], to: str = path) -> bool:
        try:
            api.write(to, fields)
        except Denied:
            return False
        return True

    assert writes(body)
    for group in (
        "system:masters",
        "ph:on-call",
        "ph:elevated:cluster-admin",
        "ph:elev:g-abc1,system:masters",
        "system:masters,ph:elev:g-abc1",
        ["ph:elev:g-abc1", "system:masters"],
        ["system:masters"],
        "",
    ):
        assert not writes({**body, "organization": group}), group
    for name, value in (
        ("allowed_domains", "olga"),
        ("allowed_domains", ["olga"]),
        ("allow_any_name", "true"),
        ("allow_any_name", True),
        ("allow_ip_sans", "true"),
        ("allow_localhost", "true"),
        ("cn_validations", "disabled"),
        ("enforce_hostnames", "false"),
        ("use_csr_common_name", "true"),
        ("use_csr_sans", "true"),
        ("server_flag", "true"),
        ("key_type", "any"),
        ("max_ttl", "57600s"),
        ("max_ttl", 57600),
        # Fields that are not named may not be set at all.
        ("ttl", "57600s"),
        ("not_after", "9999-12-31T23:59:59Z"),
        ("allowed_uri_sans", "*"),
        ("allowed_other_sans", "*"),
        ("allowed_serial_numbers", "*"),
        ("ou", "system:masters"),
        ("issuer_ref", "other"),
        ("policy_identifiers", "1.2.3"),
        ("ext_key_usage", "Any"),
    ):
        assert not writes({**body, name: value}), (name, value)
    # Nothing unsafe comes from what is left out, or given without a value, which Vault lets pass by a list of values.
    for name in body:
        for fields in ({field: value for field, value in body.items() if field != name}, {**body, name: ""}):
            if not writes(fields):
                continue
            found = site.root.read(path) or {}
            for field, (_, is_safe, consequence) in MUST.items():
                value = f"{found[field]}s" if field == "not_before_duration" else found.get(field)
                assert field not in found or is_safe(value), (name, fields.get(name), field, consequence)
            assert found["organization"] in ([], ["ph:elev:g-abc1"]), (name, found["organization"])
            assert found["allowed_domains"] in ([], [body["allowed_domains"]]), (name, found["allowed_domains"])
            assert found["max_ttl"] in (3600, 0), name
    for elsewhere in (
        f"{site.pki}/roles/developer",
        f"{site.pki}/roles/other",
        f"pki-other/roles/req_{entity}_g-abc1",
    ):
        assert not writes(body, elsewhere), elsewhere
    csr_text = csr(key("olga"))
    for attempt in (
        lambda: api.read(f"{site.pki}/roles/developer.payments"),
        lambda: api.read(f"sys/policies/acl/{vault.prefix(site.name)}elevator"),
        lambda: api.write(f"sys/policies/acl/{vault.prefix(site.name)}elevator", {"policy": "{}"}),
        lambda: api.write(f"auth/{site.login_mount}/groups/engineers", {"policies": ["root"]}),
        lambda: api.write("identity/entity", {"name": "x"}),
        lambda: api.write("auth/token/create", {}),
        lambda: api.read("identity/entity/id"),
        lambda: api.write("identity/lookup/entity", {"name": "x"}),
        lambda: site.client.sign(api._token, site.pki, f"req_{entity}_g-abc1", csr_text, "olga", 600),
        lambda: site.client.sign(api._token, site.pki, "developer.payments", csr_text, "olga", 600),
    ):
        with pytest.raises(Denied):
            attempt()
    assert writes(body)
    api.delete(path)


def test_the_sweep_removes_what_no_living_request_names(site: Site, cluster: Cluster) -> None:
    now = datetime.now(UTC)
    asked = grants.request("g-lives", "olga", elevated(), site.name, "repair the node", 1800, now)
    lives = grants.claim(grants.approve(asked, "pat", "", now), "1", now)
    known: dict[str, Grant] = {
        "g-lives": lives,
        "g-over": grants.give_back(replace(lives, id="g-over"), now),
        "g-waits": replace(asked, id="g-waits"),
        "g-elsewhere": replace(lives, id="g-elsewhere", cluster="other"),
        "g-late": replace(lives, id="g-late", claimed_at=now - timedelta(hours=2), deadline=now - timedelta(hours=1)),
    }
    entity = site.login("olga").entity
    with hand.worker_roles(cluster, content(site, cluster)) as roles:
        for request in (*known, "g-unknown"):
            roles.make(request, "olga")
        site.root.write(f"{site.pki}/roles/req_by-hand", {"organization": "system:masters"})
        another = vault_elevation.role_name(site.login("alice").entity, "g-lives")
        site.root.write(f"{site.pki}/roles/{another}", {"organization": "ph:elev:g-lives"})
        swept = {item.role.removeprefix("PKI role "): item.odd for item in roles.sweep(known.get, lambda: now)}
        assert swept == {
            **{f"req_{entity}_{name}": False for name in ("g-over", "g-waits", "g-late")},
            **{f"req_{entity}_{name}": True for name in ("g-elsewhere", "g-unknown")},
            "req_by-hand": True,
            another: True,
        }
        assert roles.present() == (f"req_{entity}_g-lives",)


def test_a_worker_without_its_secret_says_how_to_get_one(site: Site, cluster: Cluster) -> None:
    file = Path(cluster.elevation.vault_secret_file)
    text = file.read_text()
    for held, says in (
        ("{}", "does not hold what the worker logs in with"),
        (text.replace('"secret_id": "', '"secret_id": "0'), "does not accept the worker"),
    ):
        file.write_text(held)
        with pytest.raises(Unavailable, match=says) as caught, hand.worker_roles(cluster, content(site, cluster)):
            pass
        assert f"pilothouse access vault elevator {site.name}" in caught.value.hint
    file.chmod(0o644)
    with (
        pytest.raises(Unavailable, match="can be read by everybody"),
        hand.worker_roles(cluster, content(site, cluster)),
    ):
        pass
    file.unlink()
    with pytest.raises(Unavailable, match="cannot be read"), hand.worker_roles(cluster, content(site, cluster)):
        pass


def test_where_nothing_is_elevated_nothing_is_written_for_a_worker(site: Site, cluster: Cluster) -> None:
    plain = site.cluster()
    removed = vault_setup.apply(site.root, site.inputs(on=plain))
    gone = {change.path for change in removed.changes if change.action == "remove"}
    assert {f"sys/policies/acl/ph.{site.name}.elevator", f"sys/policies/acl/ph.{site.name}.profile.requests_"} <= gone
    assert f"auth/approle-{site.name}/role/elevator" in gone
    assert site.plan(on=plain).is_empty

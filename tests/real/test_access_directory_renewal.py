"""Rights that end in a real directory: no further certificate, without a new login and without a word of the portal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import break_glass
from support.access_values import csr, key
from support.access_world import World, make_world

from pilothouse.access import grants
from pilothouse.clients.directory import Directory, from_file
from pilothouse.clients.signer import SignerClient
from pilothouse.problems import Denied, Unavailable
from pilothouse.signer import spawn
from pilothouse.store import grants as grant_rows
from pilothouse.store import sessions
from pilothouse.store.users import User
from pilothouse.workflows.issuance import Ask

pytestmark = pytest.mark.real
PASSWORD = "correct horse battery"
VIEWER = """\
apiVersion: pilothouse.dev/v1
kind: AccessProfile
metadata: {name: viewer}
spec:
  title: Viewer
  description: Looks at pods.
  groups: [engineers]
  scope: cluster
  renewal: 1h
  rules: [{apiGroups: [""], resources: [pods], verbs: [get, list, watch]}]
"""


@pytest.fixture
def branch(slapd: Any) -> Iterator[Any]:
    with slapd.subtree("renewal") as found:
        found.add_user("dora", PASSWORD)
        found.add_user("erik", PASSWORD)
        found.add_group("engineers", ("dora", "erik"))
        yield found


@pytest.fixture
def world(slapd: Any, branch: Any, tmp_path: Path) -> World:
    made = make_world(tmp_path)
    made.now = datetime.now(UTC)
    (made.platform / "viewer.yaml").write_text(VIEWER, encoding="utf-8")
    (tmp_path / "password").write_text(slapd.admin_password)
    settings = {
        "servers": [slapd.url],
        "bindDN": slapd.admin_dn,
        "passwordFile": str(tmp_path / "password"),
        "users": {"base": branch.people},
        "groups": {"base": branch.groups},
    }
    (made.data / "directory.yaml").write_text(yaml.safe_dump(settings))
    return made


def directory(world: World) -> Directory:
    found = from_file(world.data / "directory.yaml")
    assert found is not None
    return found


def login(world: World, name: str) -> str:
    """Logged in with the directory's password, as the portal does it."""
    entry = directory(world).authenticate(name, PASSWORD)
    assert entry is not None
    token, _ = sessions.start(world.store, User(entry.name, groups=entry.groups), world.now, kind="token")
    return token


def test_a_removed_group_ends_a_renewed_profile_at_the_next_leaf(world: World, branch: Any) -> None:
    token = login(world, "dora")
    ask = Ask(token, csr(key("dora")), "dev", "viewer")
    with world.authorities() as authorities:
        issuance = world.issuance(authorities, look_up=directory(world).look_up)
        first = issuance.issue(ask)
        assert first.not_after <= world.now + timedelta(hours=1)
        world.later(minutes=45)
        second = issuance.issue(ask)
        assert second.not_after <= world.now + timedelta(hours=1)
        branch.remove_member("engineers", "dora")
        world.later(minutes=45)
        with pytest.raises(Denied, match="it is for members of engineers"):
            issuance.issue(ask)
        assert second.not_after - world.now <= timedelta(minutes=15)  # then there is nothing left
        branch.add_member("engineers", "dora")
        assert issuance.issue(ask).user == "dora"


def test_the_signers_process_asks_the_directory_itself(world: World, slapd: Any, branch: Any) -> None:
    token, other = login(world, "dora"), login(world, "erik")
    child = spawn.start(world.data, world.platform)
    try:
        signer = SignerClient(world.data / "signer.sock")

        def cert(name: str, held: str, profile: str) -> str:
            return signer.sign(held, csr(key(name)), profile=profile, cluster="dev").user

        assert (cert("dora", token, "viewer"), cert("erik", other, "viewer")) == ("dora", "erik")
        branch.remove_member("engineers", "dora")
        for profile in ("viewer", "developer"):
            with pytest.raises(Denied, match="members of engineers"):
                cert("dora", token, profile)
        with slapd.connection() as connection:
            connection.delete(branch.dn("erik"))
        with pytest.raises(Denied, match="does not know erik any more"):
            cert("erik", other, "viewer")
        (world.data.parent / "password").write_text("wrong")
        with pytest.raises(Unavailable, match="whether dora still may cannot be seen"):
            cert("dora", token, "viewer")
    finally:
        spawn.stop(child)


@pytest.mark.parametrize(
    ("asked", "found"),
    [("dora", True), ("DORA", False), ("Dora", False), ("*", False), ("d*", False), (")(uid=*", False), ("", False)],
)
def test_a_look_up_finds_exactly_that_name(world: World, asked: str, found: bool) -> None:
    entry = directory(world).look_up(asked)
    assert (entry is not None) is found
    assert entry is None or (entry.name, entry.groups) == ("dora", {"engineers"})


def test_people_who_log_in_by_mail_are_found_again_by_name(world: World) -> None:
    path = world.data / "directory.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["users"] |= {"filter": "(mail={user})"}
    path.write_text(yaml.safe_dump(settings))
    assert directory(world).authenticate("dora@bank.example", PASSWORD) is not None
    assert directory(world).look_up("dora") is None
    settings["users"]["lookup"] = "(uid={user})"
    path.write_text(yaml.safe_dump(settings))
    assert directory(world).look_up("dora") is not None


def test_a_break_glass_is_claimed_while_the_directory_is_gone(world: World, branch: Any) -> None:
    break_glass.declare(world.platform, "dora", "erik")
    token = login(world, "dora")
    asked = grants.request("g-1", "dora", world.declared().profiles["glass"], "dev", "no directory", 1800, world.now)
    grant_rows.add(world.store, asked)
    grant_rows.change(
        world.store, "g-1", lambda g: grants.approve(g, "erik", "", world.now), "erik", "elevation.approved", world.now
    )
    (world.data.parent / "password").write_text("wrong")
    with world.authorities() as authorities:
        issuance = world.issuance(authorities, look_up=directory(world).look_up)
        with pytest.raises(Unavailable):
            issuance.issue(Ask(token, csr(key("dora")), "dev", "viewer"))
        assert issuance.issue(Ask(token, csr(key("dora")), grant_id="g-1")).profile == "glass"

"""Profiles with `renewal`, and people who are asked for again before each certificate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.access_values import csr, key
from support.access_world import World, make_world

from pilothouse.access.certificates import Issued
from pilothouse.clients.directory import Entry
from pilothouse.problems import Denied, Invalid, Unavailable
from pilothouse.store import certificates as rows
from pilothouse.store import ledger, sessions, users
from pilothouse.store.users import User
from pilothouse.workflows.issuance import Ask, Issuance

RENEWED = """\
apiVersion: pilothouse.dev/v1
kind: AccessProfile
metadata: {name: viewer}
spec:
  title: Viewer
  description: Looks at pods.
  groups: [engineers]
  scope: cluster
  lifetime: 16h
  renewal: 1h
  rules: [{apiGroups: [""], resources: [pods], verbs: [get, list, watch]}]
"""


@dataclass
class Directory:
    """People by name; `up` False is one that does not answer."""

    people: dict[str, Entry]
    up: bool = True

    def __call__(self, name: str) -> Entry | None:
        if not self.up:
            raise Unavailable("the directory does not answer (ldap1: SocketOpenError)")
        return self.people.get(name)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = make_world(tmp_path)
    (made.platform / "viewer.yaml").write_text(RENEWED, encoding="utf-8")
    return made


@pytest.fixture
def directory() -> Directory:
    engineers, admins = frozenset(("engineers",)), frozenset(("platform-admins",))
    return Directory({"dora": Entry("dora", groups=engineers), "ada": Entry("ada", groups=admins)})


@pytest.fixture
def issuance(world: World, directory: Directory) -> Iterator[Issuance]:
    with world.authorities() as authorities:
        yield world.issuance(authorities, look_up=directory)


def login(world: World, name: str, *groups: str) -> str:
    """A session of the directory's person, with the groups of that moment."""
    token, _ = sessions.start(world.store, User(name, groups=frozenset(groups)), world.now, kind="token")
    return token


def ask(token: str, who: str = "alice", **fields: Any) -> Ask:
    return Ask(**{"token": token, "csr": csr(key(who)), "cluster": "dev", "profile": "viewer", **fields})


def lasts(issued: Issued, world: World) -> timedelta:
    return issued.not_after - world.now


def test_a_login_of_the_day_gets_certificates_of_an_hour(world: World, issuance: Issuance) -> None:
    token, begun = world.token("alice"), world.now
    first = issuance.issue(ask(token))
    assert lasts(first, world) == timedelta(hours=1)
    assert first.renewed_until == begun + timedelta(hours=16)
    world.later(hours=14, minutes=59)
    assert lasts(issuance.issue(ask(token)), world) == timedelta(hours=1)
    world.later(minutes=50)
    last = issuance.issue(ask(token))
    assert last.not_after == begun + timedelta(hours=16)  # never longer than the login
    world.later(minutes=10, seconds=30)
    with pytest.raises(Denied, match="viewer lasts 16 h from the login"):
        issuance.issue(ask(token))
    world.later(minutes=1)
    with pytest.raises(Denied, match="the session has ended"):
        issuance.issue(ask(token))


def test_the_signer_gives_no_longer_leaf_than_the_renewal(world: World, issuance: Issuance) -> None:
    token = world.token("alice")
    with pytest.raises(Invalid, match="lasts 10 min to 1 h, and is renewed without a question, not 8 h"):
        issuance.issue(ask(token, seconds=8 * 3600))
    assert lasts(issuance.issue(ask(token, seconds=900)), world) == timedelta(minutes=15)
    assert issuance.issue(ask(token, profile="developer")).renewed_until is None


def test_a_profile_may_renew_for_less_than_the_session(world: World, issuance: Issuance) -> None:
    path = world.platform / "viewer.yaml"
    path.write_text(RENEWED.replace("16h", "4h"), encoding="utf-8")
    token = world.token("alice")
    world.later(hours=3, minutes=59, seconds=30)
    with pytest.raises(Denied, match="viewer lasts 4 h from the login") as refused:
        issuance.issue(ask(token))
    assert "access login" in refused.value.hint
    assert issuance.issue(ask(token, profile="developer")).serial


def test_a_group_of_the_account_counts_as_it_is_now(world: World, issuance: Issuance) -> None:
    token = world.token("zoe")
    issuance.issue(ask(token, "zoe"))
    users.set_disabled(world.store, "zoe", True, world.now)
    with pytest.raises(Denied):
        issuance.issue(ask(token, "zoe"))


@pytest.mark.parametrize("profile", ["viewer", "on-call"])
def test_a_group_that_the_directory_took_away_gives_no_further_certificate(
    world: World, issuance: Issuance, directory: Directory, profile: str
) -> None:
    directory.people["dora"] = Entry("dora", groups=frozenset(("engineers", "on-call")))
    token = login(world, "dora", "engineers", "on-call")
    issuance.issue(ask(token, "dora", profile=profile))
    directory.people["dora"] = Entry("dora", groups=frozenset(("canteen",)))
    with pytest.raises(Denied, match="it is for members of"):
        issuance.issue(ask(token, "dora", profile=profile))
    assert [entry.entry.kind for entry in ledger.everything(world.store)] == [
        "certificate.intent",
        "certificate.issued",
    ]


def test_a_group_that_the_directory_gave_counts_without_a_new_login(
    world: World, issuance: Issuance, directory: Directory
) -> None:
    token = login(world, "dora")
    assert issuance.issue(ask(token, "dora")).groups == ("ph:viewer",)


@pytest.mark.parametrize("found", [None, Entry("Dora", groups=frozenset(("engineers",)))])
def test_whom_the_directory_does_not_know_by_that_name_is_refused(
    world: World, issuance: Issuance, directory: Directory, found: Entry | None
) -> None:
    token = login(world, "dora", "engineers")
    directory.people.pop("dora")
    if found:
        directory.people["dora"] = found
    with pytest.raises(Denied, match="does not know dora any more"):
        issuance.issue(ask(token, "dora"))


def test_a_directory_that_is_away_signs_nothing_and_costs_our_own_accounts_nothing(
    world: World, issuance: Issuance, directory: Directory
) -> None:
    token, ours = login(world, "dora", "engineers"), world.token("alice")
    directory.up = False
    with pytest.raises(Unavailable, match="whether dora still may cannot be seen") as refused:
        issuance.issue(ask(token, "dora"))
    assert "until the directory answers" in refused.value.hint
    assert not rows.of_user(world.store, "dora")
    assert issuance.issue(ask(ours)).user == "alice"


def test_without_a_directory_the_groups_are_those_of_the_login(world: World) -> None:
    with world.authorities() as authorities:
        issued = world.issuance(authorities).issue(ask(login(world, "otto", "engineers"), "otto"))
    assert issued.user == "otto"


def test_without_a_directory_a_login_counts_no_longer_than_the_renewal(world: World) -> None:
    """Nobody can say whether the groups of the login still hold: the profile's promise is kept by another login."""
    with world.authorities() as authorities:
        issuance = world.issuance(authorities)
        token, begun = login(world, "otto", "engineers"), world.now
        first = issuance.issue(ask(token, "otto"))
        assert (lasts(first, world), first.renewed_until) == (timedelta(hours=1), begun + timedelta(hours=1))
        world.later(minutes=50)
        assert issuance.issue(ask(token, "otto")).not_after == begun + timedelta(hours=1)
        world.later(minutes=9, seconds=30)
        with pytest.raises(Denied, match="viewer lasts 1 h from the login, and that is over: no directory") as refused:
            issuance.issue(ask(token, "otto"))
        assert "log in again" in refused.value.hint
        again = issuance.issue(ask(login(world, "otto", "engineers"), "otto"))
        assert lasts(again, world) == timedelta(hours=1)
        ours = world.token("alice")
        world.later(hours=2)
        assert lasts(issuance.issue(ask(ours)), world) == timedelta(hours=1)


def test_an_approver_of_the_directory_is_asked_for_again_at_the_claim(
    world: World, issuance: Issuance, directory: Directory
) -> None:
    from pilothouse.access import grants
    from pilothouse.store import grants as grant_rows

    profile = world.declared().profiles["cluster-admin"]
    asked = grants.request("g-1", "olga", profile, "dev", "repair the node", 1800, world.now)
    grant_rows.add(world.store, asked)
    grant_rows.change(
        world.store, "g-1", lambda g: grants.approve(g, "ada", "", world.now), "ada", "elevation.approved", world.now
    )
    kept = directory.people.pop("ada")
    claim = Ask(world.token("olga"), csr(key("olga")), grant_id="g-1")
    with pytest.raises(Denied, match="does not know ada"):
        issuance.issue(claim)
    directory.people["ada"] = kept  # nobody of that name has a session: the directory's word does
    assert issuance.issue(claim).profile == "cluster-admin"

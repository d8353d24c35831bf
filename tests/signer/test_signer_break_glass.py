"""The claim of a break-glass: by names, without the directory where that is away, and never by one person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from support import break_glass
from support.access_values import csr, key
from support.access_world import World, make_world

from pilothouse.access import break_glass as machine
from pilothouse.access import grants
from pilothouse.clients.directory import Entry
from pilothouse.problems import Conflict, Denied, Invalid, Unavailable
from pilothouse.store import grants as rows
from pilothouse.store import ledger, sessions, users
from pilothouse.store.users import User
from pilothouse.workflows.issuance import Ask, Issuance


@dataclass
class Directory:
    up: bool = True
    known: tuple[str, ...] = ("dora", "erik")

    def __call__(self, name: str) -> Entry | None:
        if not self.up:
            raise Unavailable("the directory does not answer")
        return Entry(name) if name in self.known else None


@pytest.fixture
def directory() -> Directory:
    return Directory()


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = make_world(tmp_path)
    break_glass.declare(made.platform, "olga", "bob", "dora", "erik")
    return made


@pytest.fixture
def issuance(world: World, directory: Directory) -> Iterator[Issuance]:
    with world.authorities() as authorities:
        yield world.issuance(authorities, look_up=directory)


def opened(world: World, who: str = "olga", by: str = "bob") -> str:
    profile = world.declared().profiles["glass"]
    asked = grants.request(f"g-{next(world.serials)}", who, profile, "dev", "directory is down", 1800, world.now)
    rows.add(world.store, asked)
    if by:
        rows.change(
            world.store, asked.id, lambda g: grants.approve(g, by, "", world.now), by, "elevation.approved", world.now
        )
    return asked.id


def claim(world: World, issuance: Issuance, id: str, who: str = "olga") -> str:
    token, _ = sessions.start(world.store, User(who), world.now, kind="token")
    return issuance.issue(Ask(token, csr(key(who)), grant_id=id)).profile


def test_two_accounts_open_it_and_the_ledger_says_so(world: World, issuance: Issuance) -> None:
    id = opened(world)
    assert claim(world, issuance, id) == "glass"
    kinds = [entry.entry.kind for entry in ledger.everything(world.store)]
    assert kinds == [
        "break-glass.requested",
        "break-glass.approved",
        "break-glass.claimed",
        "certificate.intent",
        "certificate.issued",
    ]
    assert ledger.verify(world.store)[0] == ()
    world.later(minutes=31)
    rows.settle(world.store, world.now)
    assert list(ledger.everything(world.store))[-1].entry.kind == "break-glass.expired"


def test_people_of_a_directory_that_is_away_can_still_open_it(
    world: World, issuance: Issuance, directory: Directory
) -> None:
    id = opened(world, "dora", "erik")
    directory.up = False
    assert claim(world, issuance, id, "dora") == "glass"
    token, _ = sessions.start(world.store, User("dora", groups=frozenset(("engineers",))), world.now, kind="token")
    with pytest.raises(Unavailable, match="whether dora still may cannot be seen"):
        issuance.issue(Ask(token, csr(key("dora")), "dev", "on-call"))


@pytest.mark.parametrize("gone", ["dora", "erik"])
def test_who_left_opens_nothing(world: World, issuance: Issuance, directory: Directory, gone: str) -> None:
    id = opened(world, "dora", "erik")
    directory.known = tuple(name for name in directory.known if name != gone)
    with pytest.raises(Denied, match=f"does not know {gone}"):
        claim(world, issuance, id, "dora")


def test_one_person_alone_opens_nothing(world: World, issuance: Issuance) -> None:
    with pytest.raises(Invalid, match="nobody decides on a request of their own"):
        opened(world, "olga", "olga")
    waiting = rows.find(world.store, "olga")[0].id
    with pytest.raises(Conflict, match="is requested, not approved"):
        claim(world, issuance, waiting)


def test_a_closed_account_counts_neither_way(world: World, issuance: Issuance) -> None:
    id = opened(world)
    users.set_disabled(world.store, "bob", True, world.now)
    with pytest.raises(Denied, match="account of bob, who approved, is closed"):
        claim(world, issuance, id)


def test_who_is_not_named_any_more_counts_no_longer(world: World, issuance: Issuance) -> None:
    id = opened(world)
    break_glass.declare(world.platform, "olga", "dora")
    with pytest.raises(Denied, match="the approval of bob does not count any more"):
        claim(world, issuance, id)


def test_a_request_is_not_carried_over_to_other_terms(world: World, issuance: Issuance) -> None:
    id = opened(world)
    (world.platform / "glass.yaml").write_text(
        break_glass.DOCUMENT.replace(
            "breakGlass: {people: [PEOPLE]}",
            "groups: [engineers]\n  approval: true\n  approverGroups: [engineers]",
        )
    )
    with pytest.raises(Denied, match="was changed since it was asked for"):
        claim(world, issuance, id)


def test_what_is_unfinished_is_found_until_it_is_reviewed(world: World, issuance: Issuance) -> None:
    id = opened(world)
    claim(world, issuance, id)
    assert [grant.id for grant in rows.broken_glass(world.store)] == [id]
    later = world.now + timedelta(hours=1)
    rows.change(
        world.store,
        id,
        lambda g: machine.review(g, "pat", break_glass.REVIEW, later),
        "pat",
        "break-glass.reviewed",
        later,
    )
    assert rows.broken_glass(world.store) == ()
    last = list(ledger.everything(world.store))[-1].entry
    assert (last.kind, last.actor, last.data["review"]) == ("break-glass.reviewed", "pat", break_glass.REVIEW)

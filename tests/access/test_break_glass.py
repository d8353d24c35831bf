"""Break-glass as a state machine, its permissions, and what is found about it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from support.access_values import NOW, elevated
from support.builders import platform, team

from pilothouse.access import break_glass, grants
from pilothouse.access.grants import Grant, State
from pilothouse.access.permissions import Action, may, person_of
from pilothouse.platform.model import Member, Scope
from pilothouse.problems import Conflict, Invalid

TEXT = "The directory was down; one node was drained."
PROFILE = elevated("glass", groups=(), approver_groups=(), break_glass=("olga", "pat", "quinn"))


def site(*profiles: Any) -> Any:
    return platform(
        [],
        teams=[
            team("infra", platform=True, members=(Member("olga"), Member("pat"), Member("ines"))),
            team("payments", members=(Member("zoe"), Member("quinn")), approvers=("zoe",)),
        ],
        profiles={profile.name: profile for profile in (profiles or (PROFILE,))},
    )


def asked(profile: Any = PROFILE) -> Grant:
    return grants.request("g-1", "olga", profile, "dev", "directory is down", 1800, NOW)


def opened() -> Grant:
    return grants.claim(grants.approve(asked(), "pat", "", NOW), "1000", NOW)


def test_it_is_open_until_it_ends_and_waits_for_a_review_then() -> None:
    grant = opened()
    end = NOW + timedelta(minutes=30)
    assert break_glass.is_open(grant, NOW)
    assert not break_glass.needs_review(grant, NOW)
    assert break_glass.needs_review(grant, end)
    assert not break_glass.is_open(grant, end)
    done = break_glass.review(grant, "zoe", f"  {TEXT} ", end)
    assert (done.state, done.reviewed_by, done.review) == (State.EXPIRED, "zoe", TEXT)
    assert not break_glass.needs_review(done, end)
    with pytest.raises(Conflict, match="reviewed by zoe already"):
        break_glass.review(done, "ines", TEXT, end)


@pytest.mark.parametrize(
    ("grant", "needed"),
    [
        (asked(), False),  # lapsed, nobody agreed
        (grants.deny(asked(), "pat", "no", NOW), False),
        (grants.give_back(asked(), NOW), False),
        (grants.approve(asked(), "pat", "", NOW), True),  # lapsed, but it was open
        (grants.give_back(grants.approve(asked(), "pat", "", NOW), NOW), True),
        (grants.give_back(opened(), NOW), True),
        (grants.request("g-2", "olga", elevated(), "dev", "another profile", 1800, NOW), False),
    ],
)
def test_what_two_people_opened_is_reviewed(grant: Grant, needed: bool) -> None:
    assert break_glass.needs_review(grant, NOW + timedelta(days=1)) is needed


def test_a_review_is_of_what_is_over_by_a_third_person_in_words() -> None:
    later = NOW + timedelta(hours=1)
    with pytest.raises(Conflict, match="is claimed: there is nothing to review"):
        break_glass.review(opened(), "zoe", TEXT, NOW)
    for name in ("olga", "pat"):
        with pytest.raises(Invalid, match="opened themselves"):
            break_glass.review(opened(), name, TEXT, later)
    for text in ("", "fine", " " * 40, "x" * 5000):
        with pytest.raises(Invalid, match="review"):
            break_glass.review(opened(), "zoe", text, later)
    with pytest.raises(Invalid, match="is no break-glass"):
        break_glass.review(asked(elevated()), "zoe", TEXT, later)


@pytest.mark.parametrize(
    ("name", "action", "allowed"),
    [
        ("olga", Action.ELEVATE, True),
        ("quinn", Action.ELEVATE, True),
        ("ines", Action.ELEVATE, False),  # of the platform team, and not named
        ("zoe", Action.ELEVATE, False),
        ("olga", Action.APPROVE_ELEVATION, False),
        ("pat", Action.APPROVE_ELEVATION, True),
        ("ines", Action.APPROVE_ELEVATION, False),
        ("olga", Action.CLAIM, True),
        ("pat", Action.CLAIM, False),
        ("olga", Action.REVIEW, False),
        ("pat", Action.REVIEW, False),
        ("ines", Action.REVIEW, True),
        ("zoe", Action.REVIEW, True),
        ("quinn", Action.REVIEW, False),
    ],
)
def test_who_may_do_what_with_it(name: str, action: Action, allowed: bool) -> None:
    found = site()
    grant = grants.approve(asked(), "pat", "", NOW) if action is Action.REVIEW else asked()
    subject: Any = PROFILE if action is Action.ELEVATE else grant
    groups = ("platform-admins", "engineers")  # groups decide nothing here
    decision = may(person_of(found, name, groups), action, subject, found)
    assert decision.allowed is allowed
    assert allowed or decision.whom_to_ask


def test_whom_to_ask_are_never_those_who_may_not() -> None:
    found = site()
    pat = person_of(found, "pat")
    grant = grants.approve(asked(), "pat", "", NOW)
    assert may(pat, Action.REVIEW, grant, found).whom_to_ask == ("ines", "zoe")
    assert may(person_of(found, "olga"), Action.APPROVE_ELEVATION, asked(), found).whom_to_ask == ("pat", "quinn")


def test_open_and_unreviewed_ones_are_findings_of_the_platform_team() -> None:
    later = NOW + timedelta(hours=1)
    (one,) = break_glass.findings([opened()], site(), NOW)
    assert (one.code, one.teams, one.cluster) == ("access/break-glass-open", ("infra",), "dev")
    assert "olga asked, pat agreed; reason: directory is down" in one.message
    (two,) = break_glass.findings([opened()], site(), later)
    assert two.code == "access/break-glass-review"
    assert not list(break_glass.findings([break_glass.review(opened(), "zoe", TEXT, later)], site(), later))
    assert [p.code for p in break_glass.findings([opened()], platform([]), NOW)] == ["access/break-glass-open"]


def test_everybody_concerned_is_told_and_nothing_secret() -> None:
    assert break_glass.concerned(site(), "glass") == ("olga", "pat", "quinn", "ines", "zoe")
    subject, text = break_glass.told(opened(), "claimed", "https://pilothouse.bank.example")
    assert subject == "BREAK-GLASS claimed: glass on dev"
    assert "https://pilothouse.bank.example/access/requests/g-1" in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"break_glass": ("olga",)}, "names one person"),
        ({"elevated": False}, "is not elevated"),
        ({"scope": Scope.TEAM_NAMESPACES}, "teams' namespaces"),
        ({"break_glass": ("olga", "pit")}, "`pit`, a member of no team"),
    ],
)
def test_a_profile_that_would_not_help_is_found(fields: dict[str, Any], said: str) -> None:
    values = {"groups": (), "approver_groups": (), "break_glass": ("olga", "pat")} | fields
    profile = elevated("glass", **values)
    found = list(break_glass.problems(profile, site(profile)))
    assert {problem.code for problem in found} == {"access/break-glass"}
    assert any(said in problem.message for problem in found)
    assert not list(break_glass.problems(PROFILE, site()))

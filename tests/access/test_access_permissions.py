import dataclasses
from datetime import timedelta

import pytest
from support.access_values import NOW, elevated, profile
from support.builders import platform, service, team

from pilothouse.access import grants, permissions
from pilothouse.access.permissions import Action, Certificate, Change, Person, may
from pilothouse.platform.model import Member

PLATFORM = platform(
    [service("payments/api")],
    teams=[
        team("payments", members=(Member("alice", "Alice", "a@bank.example"), Member("bob")), approvers=("alice",)),
        team("cards", members=(Member("carol"), Member("dave")), groups=("cards-engineers",)),
        team("infra", members=(Member("olga"),), approvers=("olga",), platform=True),
    ],
    profiles={
        "developer": profile(),
        "cluster-admin": elevated(),
        "on-call": profile("on-call", groups=("on-call",), scope=elevated().scope),
    },
)


def person(user, *groups):
    return permissions.person_of(PLATFORM, user, groups)


ALICE, BOB, CAROL = person("alice", "engineers"), person("bob", "engineers"), person("carol", "engineers")
OLGA, STRANGER = person("olga", "platform-admins"), person("zoe", "engineers")
SERVICE = PLATFORM.services["payments/api"]
TEAM = PLATFORM.teams["payments"]
GRANT = grants.Grant("g1", "olga", "cluster-admin", "dev", "repair it", 1800, NOW)


def test_a_person_has_the_teams_that_the_platform_gives():
    assert Person("alice", "Alice", "a@bank.example", frozenset(("engineers",)), frozenset(("payments",))) == ALICE
    assert person("erin", "cards-engineers").teams == {"cards"}
    assert person("erin").shown == "erin"
    assert ALICE.shown == "Alice"


@pytest.mark.parametrize(
    ("who", "action", "subject", "allowed"),
    [
        (STRANGER, Action.READ, None, True),
        (STRANGER, Action.READ_AUDIT, STRANGER, True),
        (STRANGER, Action.READ_AUDIT, None, False),
        (ALICE, Action.READ_AUDIT, None, True),
        (BOB, Action.READ_AUDIT, ALICE, False),
        (OLGA, Action.READ_AUDIT, None, True),
        (BOB, Action.PROPOSE, SERVICE, True),
        (CAROL, Action.PROPOSE, SERVICE, False),
        (OLGA, Action.PROPOSE, SERVICE, True),
        (BOB, Action.SILENCE, TEAM, True),
        (CAROL, Action.SILENCE, TEAM, False),
        (BOB, Action.APPROVE, Change("payments", "bob"), True),
        (CAROL, Action.APPROVE, Change("payments", "bob"), False),
        (BOB, Action.APPROVE, Change("payments", "alice", "it is sensitive"), False),
        (ALICE, Action.APPROVE, Change("payments", "alice", "it is sensitive"), False),
        (ALICE, Action.APPROVE, Change("payments", "bob", "it is sensitive"), True),
        (CAROL, Action.APPROVE, Change("cards", "dave", "it is sensitive"), True),
        (CAROL, Action.APPROVE, Change("nobody", "dave", "it is sensitive"), False),
        (ALICE, Action.REQUEST, profile(), True),
        (STRANGER, Action.REQUEST, profile(), False),
        (OLGA, Action.REQUEST, profile(), False),
        (OLGA, Action.REQUEST, elevated(), False),
        (OLGA, Action.ELEVATE, elevated(), True),
        (ALICE, Action.ELEVATE, elevated(), False),
        (ALICE, Action.ELEVATE, profile(), False),
        (person("zoe", "on-call"), Action.REQUEST, PLATFORM.profiles["on-call"], True),
        (OLGA, Action.APPROVE_ELEVATION, GRANT, False),
        (person("pat", "platform-admins"), Action.APPROVE_ELEVATION, GRANT, True),
        (ALICE, Action.APPROVE_ELEVATION, GRANT, False),
        (OLGA, Action.APPROVE_ELEVATION, dataclasses.replace(GRANT, user="x", profile="gone"), False),
        (OLGA, Action.CLAIM, GRANT, True),
        (person("olga"), Action.CLAIM, GRANT, False),
        (ALICE, Action.CLAIM, GRANT, False),
        (OLGA, Action.CLAIM, dataclasses.replace(GRANT, profile="developer"), False),
        (ALICE, Action.GIVE_BACK, Certificate("alice", "developer"), True),
        (OLGA, Action.GIVE_BACK, Certificate("alice", "developer"), True),
        (BOB, Action.GIVE_BACK, Certificate("alice", "developer"), False),
        (OLGA, Action.GIVE_BACK, GRANT, True),
        (BOB, Action.GIVE_BACK, GRANT, False),
        (OLGA, Action.ADMINISTER, None, True),
        (ALICE, Action.ADMINISTER, None, False),
    ],
)
def test_the_table(who, action, subject, allowed):
    decision = may(who, action, subject, PLATFORM)
    assert bool(decision) is allowed
    assert decision.why


def test_a_refusal_says_whom_to_ask():
    assert may(CAROL, Action.PROPOSE, SERVICE, PLATFORM).whom_to_ask == ("alice",)
    assert may(ALICE, Action.APPROVE, Change("cards", "dave", "high"), PLATFORM).whom_to_ask == ("carol",)
    assert may(ALICE, Action.ADMINISTER, None, PLATFORM).whom_to_ask == ("olga",)
    assert may(ALICE, Action.ADMINISTER, None, platform()).whom_to_ask == ()
    assert may(ALICE, Action.CLAIM, GRANT, PLATFORM).whom_to_ask == ("olga",)


def test_a_subject_of_the_wrong_kind_is_a_mistake_of_the_caller():
    with pytest.raises(TypeError, match="a Team is wanted, not NoneType"):
        may(ALICE, Action.SILENCE, None, PLATFORM)


def test_every_action_has_a_row_and_the_document_holds_the_table(root):
    assert {row.action for row in permissions.table()} == set(Action)
    document = (root / "docs/who-may-do-what.md").read_text(encoding="utf-8")
    assert permissions.markdown() in document


# ---------------------------------------------------------------- grants


def ask(**fields):
    values = {"id": "g1", "user": "olga", "profile": elevated(), "cluster": "dev", "reason": "repair  the\nnode"}
    return grants.request(**{**values, "seconds": 1800, "now": NOW, **fields})


def later(**delta):
    return NOW + timedelta(**delta)


def test_a_request_goes_its_way():
    asked = ask()
    assert (asked.state, asked.reason) == ("requested", "repair the node")
    approved = grants.approve(asked, "pat", "go  ahead", later(minutes=5))
    assert (approved.state, approved.decided_by, approved.comment) == ("approved", "pat", "go ahead")
    claimed = grants.claim(approved, "4711", later(minutes=50))
    assert (claimed.state, claimed.serial, claimed.expires_at) == ("claimed", "4711", later(minutes=80))
    assert claimed.state_at(later(minutes=79)) == "claimed"
    assert claimed.state_at(later(minutes=80)) == "expired"
    back = grants.give_back(claimed, later(minutes=60))
    assert (back.state, back.ended_at, back.deadline) == ("given-back", later(minutes=60), None)
    assert asked.expires_at is None


def test_without_approval_it_can_be_claimed_at_once():
    asked = ask(profile=elevated(approval=False))
    assert asked.state == "approved"
    assert grants.claim(asked, "1", NOW).state == "claimed"


def test_it_lapses_when_nobody_decides_or_claims():
    assert ask().state_at(later(hours=4)) == "lapsed"
    approved = grants.approve(ask(), "pat", "", NOW)
    assert approved.state_at(later(minutes=61)) == "lapsed"
    with pytest.raises(grants.Conflict, match="g1 is lapsed, not approved") as caught:
        grants.claim(approved, "1", later(minutes=61))
    assert caught.value.hint == "make a new request"
    assert grants.settle(ask(), later(hours=5)).ended_at == later(hours=4)


def test_what_cannot_follow():
    denied = grants.deny(ask(), "pat", "no", NOW)
    assert (denied.state, denied.ended_at) == ("denied", NOW)
    for step in (
        lambda: grants.approve(denied, "pat", "", NOW),
        lambda: grants.claim(denied, "1", NOW),
        lambda: grants.give_back(denied, NOW),
        lambda: grants.claim(ask(), "1", NOW),
        lambda: grants.claim(grants.claim(grants.approve(ask(), "pat", "", NOW), "1", NOW), "2", NOW),
    ):
        with pytest.raises(grants.Conflict):
            step()
    with pytest.raises(grants.Invalid, match="own"):
        grants.approve(ask(), "olga", "", NOW)
    assert grants.give_back(ask(), NOW).state == "withdrawn"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"profile": profile()}, "no elevated profile"),
        ({"profile": elevated(clusters=frozenset(("prod",)))}, "does not hold on cluster dev"),
        ({"reason": " x "}, "a reason is needed"),
        ({"reason": "x" * 501}, "longer than 500"),
        ({"seconds": 3601}, "lasts 10m to 1h, not 60m"),
        ({"seconds": 599}, "not 9m"),
    ],
)
def test_a_request_that_does_not_do(fields, message):
    with pytest.raises(grants.Invalid, match=message):
        ask(**fields)

"""Who may do what: one table, and the one function that enforces it.

Roles follow from the declarations: membership and approvers from `Team`, who may ask for which
certificate and who agrees to it from `AccessProfile`. `docs/who-may-do-what.md` holds this table; a
test keeps both in step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from pilothouse.access.grants import Grant
from pilothouse.access.locks import Kind as LockKind
from pilothouse.access.locks import Target
from pilothouse.platform.model import AccessProfile, Platform, Scope, Service, Team


@dataclass(frozen=True, slots=True)
class Person:
    """Who acts: `user` is the directory's own name, `groups` its groups, `teams` follow from the declarations."""

    user: str
    name: str = ""
    email: str = ""
    groups: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    machine: bool = False
    """Whether it is no person but a machine, which may have the standing profiles in `profiles`, and nothing else."""
    profiles: frozenset[str] = frozenset()

    @property
    def shown(self) -> str:
        return self.name or self.user


def person_of(platform: Platform, user: str, groups: Iterable[str] = (), name: str = "", email: str = "") -> Person:
    """A person with the teams that the platform gives them; name and address from their team where none is given."""
    held = frozenset(groups)
    teams = platform.teams_of_person(user, held)
    member = next((m for team in teams for m in team.members if m.user == user), None)
    return Person(
        user,
        name or (member.name if member else ""),
        email or (member.email if member else ""),
        held,
        frozenset(team.name for team in teams),
    )


class Action(StrEnum):
    READ = "read"
    READ_AUDIT = "read-audit"
    PROPOSE = "propose"
    APPROVE = "approve"
    SILENCE = "silence"
    REQUEST = "request"
    ELEVATE = "elevate"
    APPROVE_ELEVATION = "approve-elevation"
    CLAIM = "claim"
    REVIEW = "review"
    GIVE_BACK = "give-back"
    EXPECT = "expect"
    LOCK = "lock"
    UNLOCK = "unlock"
    ADMINISTER = "administer"


@dataclass(frozen=True, slots=True)
class Change:
    """A proposed change that waits for `team` to agree.

    `guarded` says why a second person is needed (high sensitivity, a guardrail), "" where none is.
    """

    team: str
    author: str
    guarded: str = ""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate as a subject: whose it is, and for which profile."""

    user: str
    profile: str


Kind = TypeVar("Kind")
Subject = Service | Team | Change | AccessProfile | Grant | Certificate | Target | Person | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, the reason in one sentence, and users or groups who could help where it is no."""

    allowed: bool
    why: str
    whom_to_ask: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    action: Action
    what: str
    who: str
    ask: str
    rule: Callable[[Person, Subject, Platform], Decision] = field(compare=False, repr=False)


def may(person: Person, action: Action, subject: Subject, platform: Platform) -> Decision:
    """Whether the person may do that to the subject; a subject of the wrong kind is a mistake of the caller."""
    if person.machine and action is not Action.REQUEST:
        return Decision(False, "a machine gets certificates and does nothing else", _platform_people(platform))
    return _ROWS[action].rule(person, subject, platform)


def table() -> tuple[Row, ...]:
    """The table, in the order of the document."""
    return tuple(_ROWS.values())


def markdown() -> str:
    """The table as `docs/who-may-do-what.md` holds it."""
    lines = ["| Action | What it is | Who may | Whom to ask otherwise |", "|---|---|---|---|"]
    lines += [f"| `{row.action}` | {row.what} | {row.who} | {row.ask} |" for row in table()]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- the rules


def _expect(subject: Subject, kind: type[Kind]) -> Kind:
    if not isinstance(subject, kind):
        raise TypeError(f"a {kind.__name__} is wanted, not {type(subject).__name__}")
    return subject


def _platform_people(platform: Platform) -> tuple[str, ...]:
    team = platform.platform_team
    return (team.approvers or tuple(member.user for member in team.members)) if team else ()


def _is_platform(person: Person, platform: Platform) -> bool:
    team = platform.platform_team
    return team is not None and team.name in person.teams


def _approvers(platform: Platform, team: str) -> tuple[str, ...]:
    found = platform.teams.get(team)
    return (found.approvers or tuple(member.user for member in found.members)) if found else ()


def _anyone(person: Person, _subject: Subject, _platform: Platform) -> Decision:
    return Decision(True, "whoever is logged in may read")


def _read_audit(person: Person, subject: Subject, platform: Platform) -> Decision:
    if isinstance(subject, Person) and subject.user == person.user:
        return Decision(True, "your own entries")
    if _is_platform(person, platform):
        return Decision(True, "you belong to the platform team")
    if any(person.user in team.approvers for team in platform.teams.values()):
        return Decision(True, "you approve for a team")
    return Decision(
        False,
        "the entries of others are for approvers and the platform team; you see your own",
        _platform_people(platform),
    )


def _of_team(person: Person, subject: Subject, platform: Platform) -> Decision:
    team = subject.team if isinstance(subject, Service) else _expect(subject, Team).name
    if team in person.teams:
        return Decision(True, f"you belong to team {team}")
    if _is_platform(person, platform):
        return Decision(True, "you belong to the platform team")
    return Decision(False, f"it belongs to team {team}, and you do not", _approvers(platform, team))


def _approve(person: Person, subject: Subject, platform: Platform) -> Decision:
    change = _expect(subject, Change)
    approvers = _approvers(platform, change.team)
    asked = tuple(user for user in approvers if user != change.author)
    if not change.guarded:
        if change.team in person.teams or person.user in approvers:
            return Decision(True, f"you belong to team {change.team}, and nothing in it needs a second person")
        return Decision(False, f"only members of team {change.team} may", asked)
    if person.user == change.author:
        return Decision(False, f"another person must agree: {change.guarded}", asked)
    if person.user in approvers:
        return Decision(True, f"you approve for team {change.team}")
    return Decision(False, f"only approvers of team {change.team} may: {change.guarded}", asked)


def _holds(person: Person, profile: AccessProfile, platform: Platform) -> Decision:
    if profile.break_glass:
        return _opens(person, profile)
    if person.machine:
        return _is_listed(person, profile, platform)
    if not person.groups.intersection(profile.groups):
        return Decision(False, f"it is for members of {_or(profile.groups)}", profile.groups)
    if profile.scope is Scope.TEAM_NAMESPACES and not person.teams:
        return Decision(
            False,
            "it holds in the namespaces of your teams, and you are in none",
            _platform_people(platform),
        )
    return Decision(True, f"you are a member of {_or(sorted(person.groups.intersection(profile.groups)))}")


def _is_listed(person: Person, profile: AccessProfile, platform: Platform) -> Decision:
    """A machine has the profiles on its own list; groups are people's."""
    if profile.name not in person.profiles:
        return Decision(False, f"it is not on the list of machine {person.user}", _platform_people(platform))
    if profile.scope is Scope.TEAM_NAMESPACES and not person.teams:
        return Decision(False, f"it holds in teams' namespaces, and machine {person.user} works for none")
    return Decision(True, f"it is on the list of machine {person.user}")


def machine_of(platform: Platform, user: str, profiles: Iterable[str], team: str) -> Person:
    """A machine as the one who asks; a team that is not declared (any more) gives it nothing."""
    teams = frozenset((team,) if team in platform.teams else ())
    return Person(user, f"machine {user}", teams=teams, machine=True, profiles=frozenset(profiles))


def _opens(person: Person, profile: AccessProfile) -> Decision:
    """A break-glass goes by names alone: no directory has to answer for it."""
    if person.user in profile.break_glass:
        return Decision(True, "you are named in its `breakGlass`")
    return Decision(False, f"it is for {_or(profile.break_glass)}", profile.break_glass)


def _request(person: Person, subject: Subject, platform: Platform) -> Decision:
    profile = _expect(subject, AccessProfile)
    if profile.elevated:
        return Decision(False, f"it is elevated: ask with a reason, `pilothouse access elevate {profile.name}`")
    return _holds(person, profile, platform)


def _elevate(person: Person, subject: Subject, platform: Platform) -> Decision:
    profile = _expect(subject, AccessProfile)
    if not profile.elevated:
        return Decision(False, "it is no elevated profile: request a certificate for it")
    return _holds(person, profile, platform)


def _approve_elevation(person: Person, subject: Subject, platform: Platform) -> Decision:
    grant = _expect(subject, Grant)
    profile = platform.profiles.get(grant.profile)
    groups = profile.approver_groups if profile else ()
    if person.user == grant.user:
        others = tuple(user for user in profile.break_glass if user != grant.user) if profile else ()
        return Decision(False, "nobody decides on a request of their own", groups or others)
    if profile and profile.break_glass:
        return _opens(person, profile)
    if not person.groups.intersection(groups):
        return Decision(False, f"only members of {_or(groups)} may", groups)
    return Decision(True, f"you are a member of {_or(sorted(person.groups.intersection(groups)))}")


def _claim(person: Person, subject: Subject, platform: Platform) -> Decision:
    grant = _expect(subject, Grant)
    if person.user != grant.user:
        return Decision(False, f"only {grant.user}, who asked, may", (grant.user,))
    profile = platform.profiles.get(grant.profile)
    if profile is None or not profile.elevated:
        return Decision(False, f"the profile {grant.profile} is not an elevated one any more")
    return _holds(person, profile, platform)


def _review(person: Person, subject: Subject, platform: Platform) -> Decision:
    grant = _expect(subject, Grant)
    approvers = {user for team in platform.teams.values() for user in team.approvers}
    others = tuple(
        u for u in (*_platform_people(platform), *sorted(approvers)) if u not in (grant.user, grant.decided_by)
    )
    ask = tuple(dict.fromkeys(others))
    if person.user in (grant.user, grant.decided_by):
        return Decision(False, "nobody reviews what they opened themselves", ask)
    if _is_platform(person, platform):
        return Decision(True, "you belong to the platform team")
    if person.user in approvers:
        return Decision(True, "you approve for a team")
    return Decision(False, "reviews are for the platform team and approvers of teams", ask)


def _give_back(person: Person, subject: Subject, platform: Platform) -> Decision:
    owner = subject.user if isinstance(subject, Grant) else _expect(subject, Certificate).user
    if person.user == owner:
        return Decision(True, "it is yours")
    if _is_platform(person, platform):
        return Decision(True, "you belong to the platform team")
    return Decision(False, f"it is {owner}'s", tuple(dict.fromkeys((owner, *_platform_people(platform)))))


def _expect_unusual(person: Person, subject: Subject, platform: Platform) -> Decision:
    if _expect(subject, Person).user == person.user:
        others = tuple(user for user in _platform_people(platform) if user != person.user)
        return Decision(False, "nobody calls their own doings expected", others)
    return _administer(person, subject, platform)


def _lock(person: Person, subject: Subject, platform: Platform) -> Decision:
    target = _expect(subject, Target)
    if target.kind is LockKind.CERTIFICATE and target.user == person.user:
        return Decision(True, "it is your certificate")
    if _is_platform(person, platform):
        return Decision(True, "you belong to the platform team")
    what = "a person is locked" if target.kind is LockKind.USER else f"it is {target.user}'s: certificates are locked"
    return Decision(False, f"{what} by the platform team", _platform_people(platform))


def _unlock(person: Person, subject: Subject, platform: Platform) -> Decision:
    target = _expect(subject, Target)
    others = tuple(user for user in _platform_people(platform) if user != person.user)
    if target.user == person.user:
        return Decision(False, "nobody lifts a lock on themselves", others)
    if _is_platform(person, platform):
        return Decision(True, "you belong to the platform team")
    return Decision(False, "locks are lifted by the platform team", _platform_people(platform))


def _administer(person: Person, _subject: Subject, platform: Platform) -> Decision:
    if _is_platform(person, platform):
        return Decision(True, "you belong to the platform team")
    return Decision(False, "only the platform team may", _platform_people(platform))


def _or(words: Iterable[str]) -> str:
    return " or ".join(words) or "nobody"


_ROWS: dict[Action, Row] = {
    row.action: row
    for row in (
        Row(
            Action.READ,
            "See services, alerts, policies, profiles and their effects",
            "everyone who is logged in",
            "—",
            _anyone,
        ),
        Row(
            Action.READ_AUDIT,
            "See the ledger's entries",
            "one's own: everyone; all: the platform team and approvers of any team",
            "the platform team",
            _read_audit,
        ),
        Row(
            Action.PROPOSE,
            "Propose a change of a service",
            "members of its team, the platform team",
            "approvers of its team",
            _of_team,
        ),
        Row(
            Action.APPROVE,
            "Agree to a proposed change for a team",
            "members of that team; where a guardrail or high sensitivity asks for a second person, its approvers"
            " (all members where it names none), never the author",
            "other approvers of that team",
            _approve,
        ),
        Row(
            Action.SILENCE,
            "Silence alerts of a team",
            "members of that team, the platform team",
            "approvers of that team",
            _of_team,
        ),
        Row(
            Action.REQUEST,
            "Get a certificate for a standing profile",
            "members of the profile's `groups`, and machines that list it;"
            " with a team where it holds in teams' namespaces",
            "the profile's `groups`",
            _request,
        ),
        Row(
            Action.ELEVATE,
            "Ask for an elevated profile",
            "members of the profile's `groups`, or who is named in its `breakGlass`, with a reason",
            "the profile's `groups`",
            _elevate,
        ),
        Row(
            Action.APPROVE_ELEVATION,
            "Approve or deny such a request",
            "members of the profile's `approverGroups`, or another one named in its `breakGlass`; never who asked",
            "the profile's `approverGroups`",
            _approve_elevation,
        ),
        Row(
            Action.CLAIM,
            "Claim what was approved",
            "who asked, while still a member of the profile's `groups` and the approver of its `approverGroups`",
            "who asked",
            _claim,
        ),
        Row(
            Action.REVIEW,
            "Review a break-glass that is over",
            "the platform team and approvers of any team, neither of the two who opened it",
            "the platform team",
            _review,
        ),
        Row(
            Action.GIVE_BACK,
            "Give a certificate or an elevation back early",
            "its holder, the platform team",
            "its holder",
            _give_back,
        ),
        Row(
            Action.EXPECT,
            "Call what audit logs show, or what was unusual of somebody, expected",
            "the platform team, never the one whom it is about",
            "the platform team",
            _expect_unusual,
        ),
        Row(
            Action.LOCK,
            "Lock a person or a certificate: nothing more is signed, API servers refuse it",
            "the platform team; one's own certificates: their holder",
            "the platform team",
            _lock,
        ),
        Row(
            Action.UNLOCK,
            "Lift such a lock",
            "the platform team, never on oneself",
            "another member of the platform team",
            _unlock,
        ),
        Row(
            Action.ADMINISTER,
            "Run jobs, reload, manage users, export the ledger's head, rotate authorities",
            "the platform team",
            "the platform team",
            _administer,
        ),
    )
}

__all__ = ["Action", "Certificate", "Change", "Decision", "Person", "markdown", "may", "person_of", "table"]

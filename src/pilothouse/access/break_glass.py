"""Break-glass: a profile that two named people open together when directory or approvers are gone.

It is a request like any other (`access.grants`), with people named in the declarations instead of groups, so that
nothing has to be asked of a directory. What sets it apart: it is told to everybody concerned at each step, it is a
finding while it is open, and once it is over a third person has to review it and write down what came of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from pilothouse.access.grants import Grant, State, settle
from pilothouse.platform.model import AccessProfile, Platform, Scope
from pilothouse.problems import NOWHERE, Conflict, Invalid, Problem, error, nearest, warning

MIN_REVIEW = 20
MAX_REVIEW = 4_000
FEWEST = 2
"""One person alone opens nothing."""


def needs_review(grant: Grant, now: datetime) -> bool:
    """Whether it was opened, is over, and nobody has reviewed it yet."""
    settled = settle(grant, now)
    if not settled.break_glass or settled.reviewed_at or settled.state.is_open:
        return False
    return bool(settled.decided_by) and settled.state is not State.DENIED


def is_open(grant: Grant, now: datetime) -> bool:
    """Whether it is asked for, agreed to or in use."""
    return grant.break_glass and settle(grant, now).state.is_open


def review(grant: Grant, reviewer: str, text: str, now: datetime) -> Grant:
    """Closed by a third person with what came of it. `Invalid` or `Conflict` where that cannot be."""
    settled = settle(grant, now)
    if not settled.break_glass:
        raise Invalid(f"request {grant.id} is no break-glass", "only those are reviewed afterwards")
    if settled.reviewed_at:
        raise Conflict(f"request {grant.id} was reviewed by {settled.reviewed_by} already")
    if not needs_review(settled, now):
        raise Conflict(
            f"request {grant.id} is {settled.state}: there is nothing to review",
            f"end it first: pilothouse access give-back {grant.id}" if settled.state.is_open else "",
        )
    if reviewer in (settled.user, settled.decided_by):
        raise Invalid("nobody reviews what they opened themselves", "ask somebody else")
    text = text.strip()
    if len(text) < MIN_REVIEW:
        raise Invalid(
            f"a review is needed, of {MIN_REVIEW} characters or more",
            "say what was done, whether it was right, and what will make it unnecessary",
        )
    if len(text) > MAX_REVIEW:
        raise Invalid(f"the review is longer than {MAX_REVIEW} characters", "put the details into the ticket")
    return replace(settled, reviewed_by=reviewer, reviewed_at=now, review=text)


def concerned(platform: Platform, profile: str) -> tuple[str, ...]:
    """Everybody who is told: the people named in the profile, the platform team, and every team's approvers."""
    declared = platform.profiles.get(profile)
    team = platform.platform_team
    users = dict.fromkeys(declared.break_glass if declared else ())
    users |= dict.fromkeys(member.user for member in (team.members if team else ()))
    users |= dict.fromkeys(user for found in platform.teams.values() for user in found.approvers)
    return tuple(users)


def findings(grants: Iterable[Grant], platform: Platform, now: datetime) -> Iterator[Problem]:
    """One for each that is open, and for each that waits for its review."""
    team = platform.platform_team
    teams = (team.name,) if team else ()
    for grant in grants:
        profile = platform.profiles.get(grant.profile)
        place = profile.place if profile else NOWHERE
        if is_open(grant, now):
            yield error(
                "access/break-glass-open",
                f"break-glass {grant.id}, {grant.profile} on {grant.cluster}, is {grant.state_at(now)}:"
                f" {_who(grant)}; reason: {grant.what_for}",
                place,
                f"end it when it is not needed: `pilothouse access give-back {grant.id}`",
                teams=teams,
                cluster=grant.cluster,
            )
        elif needs_review(grant, now):
            yield error(
                "access/break-glass-review",
                f"break-glass {grant.id}, {grant.profile} on {grant.cluster}, is over and nobody has reviewed it:"
                f" {_who(grant)}; reason: {grant.what_for}",
                place,
                f'a third person runs `pilothouse access review {grant.id} --text "…"`',
                teams=teams,
                cluster=grant.cluster,
            )


def _who(grant: Grant) -> str:
    return f"{grant.user} asked" + (f", {grant.decided_by} agreed" if grant.decided_by else "")


def told(grant: Grant, what: str, address: str = "") -> tuple[str, str]:
    """(subject, text) of what everybody concerned is told. Holds no secret."""
    subject = f"BREAK-GLASS {what}: {grant.profile} on {grant.cluster}"
    lines = (
        f"{_who(grant)}. Reason: {grant.what_for}",
        f"It lasts at most {grant.seconds // 60} minutes from the claim on.",
        f"See it, end it, review it: {address}/access/requests/{grant.id}"
        if address
        else f"End it: pilothouse access give-back {grant.id}; afterwards: pilothouse access review {grant.id}",
    )
    return subject, "\n".join(lines)


def problems(profile: AccessProfile, platform: Platform) -> Iterator[Problem]:
    """Why a break-glass profile would not help when it is needed."""
    people = profile.break_glass
    if not people:
        return
    place = profile.place
    if len(set(people)) < FEWEST:
        yield error(
            "access/break-glass",
            f"break-glass profile {profile.name} names one person, and one alone opens nothing",
            place,
            "name two people or more in `breakGlass.people`",
        )
    if not (profile.elevated and profile.approval):
        yield error(
            "access/break-glass",
            f"break-glass profile {profile.name} is not elevated, so nobody would have to agree",
            place,
            "set `elevated: true`",
        )
    if profile.scope is Scope.TEAM_NAMESPACES:
        yield error(
            "access/break-glass",
            f"break-glass profile {profile.name} holds in teams' namespaces, which directory groups may decide",
            place,
            "set `scope: cluster`, or name `namespaces`",
        )
    known = {member.user for team in platform.teams.values() for member in team.members}
    for user in people:
        if user not in known:
            yield warning(
                "access/break-glass",
                f"break-glass profile {profile.name} names `{user}`, a member of no team",
                place,
                nearest(user, known) or "add them to a team, so that their address is known, or correct the name",
            )

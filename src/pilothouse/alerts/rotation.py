"""Who is on call: a weekly rotation, handed over at a wall-clock time of its own zone.

A week is counted in local dates, so a handover stays at 09:00 when the clocks change
(the week is then an hour shorter or longer).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pilothouse.alerts.routing.intervals import zone
from pilothouse.platform.model import Member, Platform, Rotation, Team


@dataclass(frozen=True, slots=True)
class Shift:
    """One person's week; `begin` and `end` are in UTC, `end` belongs to the next."""

    user: str
    begin: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class OnCall:
    """The answer to "who": the person of a team, until when, and who follows.

    `member` is None where the team has no rotation, or names a user that is no member;
    `reason` then says so in words.
    """

    team: str
    member: Member | None
    shift: Shift | None
    following: tuple[Shift, ...] = ()
    timezone: str = "UTC"
    reason: str = ""

    @property
    def person(self) -> str:
        """A name to show: the member's, else the account, else ""."""
        if self.member is not None:
            return self.member.name or self.member.user
        return self.shift.user if self.shift else ""


def handover(rotation: Rotation, week: int) -> datetime:
    """The moment in UTC at which week number `week` (0 is the first) begins."""
    day = rotation.start + timedelta(weeks=week)
    hour, minute = rotation.handover
    local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone(rotation.timezone))
    return local.astimezone(UTC)


def shift_at(rotation: Rotation, at: datetime) -> Shift | None:
    """The shift that holds at that moment; None before the first handover or without users."""
    if not rotation.users:
        return None
    moment = at.astimezone(UTC)
    week = (moment.astimezone(zone(rotation.timezone)).date() - rotation.start).days // 7
    if moment < handover(rotation, week):
        week -= 1
    if week < 0:
        return None
    return _shift(rotation, week)


def _shift(rotation: Rotation, week: int) -> Shift:
    user = rotation.users[week % len(rotation.users)]
    return Shift(user, handover(rotation, week), handover(rotation, week + 1))


def following(rotation: Rotation, at: datetime, count: int) -> tuple[Shift, ...]:
    """The next `count` shifts that begin after that moment."""
    if not rotation.users:
        return ()
    current = shift_at(rotation, at)
    week = 0 if current is None else round((current.begin - handover(rotation, 0)) / timedelta(weeks=1)) + 1
    return tuple(_shift(rotation, number) for number in range(week, week + count))


def who(platform: Platform, team: str, at: datetime, upcoming: int = 3) -> OnCall:
    """Who of that team is called at that moment, and the next handovers."""
    found = platform.teams.get(team)
    if found is None:
        return OnCall(team, None, None, reason=f"there is no team {team!r}")
    rotation = found.rotation
    if rotation is None or not rotation.users:
        return OnCall(team, None, None, reason=f"team {team} has no on-call rotation")
    shift = shift_at(rotation, at)
    shifts = following(rotation, at, upcoming)
    if shift is None:
        return OnCall(
            team, None, None, shifts, rotation.timezone, f"the rotation of team {team} starts {rotation.start:%Y-%m-%d}"
        )
    member = _member(found, shift.user)
    reason = "" if member else f"{shift.user} is on the rotation of team {team}, but not among its members"
    return OnCall(team, member, shift, shifts, rotation.timezone, reason)


def _member(team: Team, user: str) -> Member | None:
    return next((member for member in team.members if member.user == user), None)

"""The life of a request for an elevated profile, as a state machine.

    requested ──approve──▶ approved ──claim──▶ claimed ──▶ expired | given back
        │                     │
        ├──deny──▶ denied     └──▶ lapsed (not claimed in time)
        ├──withdraw──▶ withdrawn
        └──▶ lapsed (not decided in time)

The clock of the elevation starts at the claim, which can happen once. Who may do each step is
`permissions`; here it is about what may follow what, and when. Moments are aware UTC datetimes, handed in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from pilothouse.platform.model import AccessProfile
from pilothouse.problems import Conflict, Invalid

DECIDE_WITHIN = timedelta(hours=4)
"""A request that nobody decided on lapses."""
CLAIM_WITHIN = timedelta(hours=1)
"""An approval that was not claimed lapses."""
MIN_REASON = 5
MAX_REASON = 500
MAX_TICKET = 100


class State(StrEnum):
    REQUESTED = "requested"
    APPROVED = "approved"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    CLAIMED = "claimed"
    GIVEN_BACK = "given-back"
    EXPIRED = "expired"
    LAPSED = "lapsed"

    @property
    def is_open(self) -> bool:
        """Whether something can still happen to it."""
        return self in (State.REQUESTED, State.APPROVED, State.CLAIMED)


@dataclass(frozen=True, slots=True)
class Grant:
    """A request and what became of it. `seconds` is how long it may last from the claim on.

    `deadline` is when the present state ends by itself; None where nothing more can happen.
    """

    id: str
    user: str
    profile: str
    cluster: str
    reason: str
    seconds: int
    requested_at: datetime
    state: State = State.REQUESTED
    deadline: datetime | None = None
    decided_by: str = ""
    decided_at: datetime | None = None
    comment: str = ""
    claimed_at: datetime | None = None
    serial: str = ""
    ended_at: datetime | None = None
    break_glass: bool = False
    """Whether the profile was a break-glass one when it was asked for; it then has to be reviewed."""
    reviewed_by: str = ""
    reviewed_at: datetime | None = None
    review: str = ""
    ticket: str = ""

    @property
    def what_for(self) -> str:
        """Ticket and reason on one line."""
        return f"{self.ticket}: {self.reason}" if self.ticket else self.reason

    def state_at(self, now: datetime) -> State:
        """The state, deadlines that have passed taken into account."""
        return settle(self, now).state

    @property
    def expires_at(self) -> datetime | None:
        """When the elevation ends, once it is claimed."""
        return self.claimed_at + timedelta(seconds=self.seconds) if self.claimed_at else None


def request(
    id: str,
    user: str,
    profile: AccessProfile,
    cluster: str,
    reason: str,
    seconds: int,
    now: datetime,
    ticket: str = "",
) -> Grant:
    """A new request; `Invalid` where reason, ticket or duration do not do. Without `approval` it is approved."""
    reason, ticket = " ".join(reason.split()), ticket.strip()
    if not profile.elevated:
        raise Invalid(f"{profile.name} is no elevated profile", f"run `pilothouse access cert {profile.name}`")
    if not profile.holds_on(cluster):
        raise Invalid(f"profile {profile.name} does not hold on cluster {cluster}")
    if len(reason) < MIN_REASON:
        raise Invalid(
            f"a reason is needed, of {MIN_REASON} characters or more",
            "say what you are about to do, and why the daily profile does not do",
        )
    if len(reason) > MAX_REASON:
        raise Invalid(f"the reason is longer than {MAX_REASON} characters", "put the details into the ticket")
    _check_ticket(profile, ticket)
    check_seconds(profile, seconds)
    grant = Grant(
        id,
        user,
        profile.name,
        cluster,
        reason,
        seconds,
        now,
        deadline=now + DECIDE_WITHIN,
        break_glass=bool(profile.break_glass),
        ticket=ticket,
    )
    if not profile.approval:
        return replace(
            grant, state=State.APPROVED, decided_at=now, comment="no approval needed", deadline=now + CLAIM_WITHIN
        )
    return grant


def _check_ticket(profile: AccessProfile, ticket: str) -> None:
    if len(ticket) > MAX_TICKET or not ticket.isprintable():
        raise Invalid(f"a ticket has at most {MAX_TICKET} characters on one line", "name it as it is called, PLAT-4711")
    if not profile.ticket or re.fullmatch(profile.ticket, ticket):
        return
    said = f"`{ticket}` is no ticket for {profile.name}" if ticket else f"{profile.name} wants a ticket"
    raise Invalid(said, f"name one that looks like {profile.ticket}")


def check_seconds(profile: AccessProfile, seconds: int) -> None:
    """`Invalid` unless the profile may last that long."""
    least = min(600, profile.lifetime)
    if not least <= seconds <= profile.max_lifetime:
        raise Invalid(
            f"{profile.name} lasts {_minutes(least)} to {_minutes(profile.max_lifetime)}, not {_minutes(seconds)}",
            f"ask for {_minutes(profile.lifetime)}",
        )


def _minutes(seconds: int) -> str:
    return f"{seconds // 3600}h" if seconds % 3600 == 0 and seconds else f"{seconds // 60}m"


def settle(grant: Grant, now: datetime) -> Grant:
    """The grant as it is at that moment: one whose deadline has passed is lapsed or expired."""
    if grant.deadline is None or now < grant.deadline or not grant.state.is_open:
        return grant
    state = State.EXPIRED if grant.state is State.CLAIMED else State.LAPSED
    return replace(grant, state=state, ended_at=grant.deadline, deadline=None)


def approve(grant: Grant, approver: str, comment: str, now: datetime) -> Grant:
    """Approved, to be claimed within `CLAIM_WITHIN`. Never by who asked."""
    return _decide(grant, State.APPROVED, approver, comment, now, now + CLAIM_WITHIN)


def deny(grant: Grant, approver: str, comment: str, now: datetime) -> Grant:
    """Denied, for good."""
    return _decide(grant, State.DENIED, approver, comment, now, None)


def _decide(grant: Grant, state: State, approver: str, comment: str, now: datetime, deadline: datetime | None) -> Grant:
    grant = _in(settle(grant, now), State.REQUESTED)
    if approver == grant.user:
        raise Invalid("nobody decides on a request of their own", "ask another approver")
    return replace(
        grant,
        state=state,
        decided_by=approver,
        decided_at=now,
        comment=" ".join(comment.split())[:MAX_REASON],
        deadline=deadline,
        ended_at=None if deadline else now,
    )


def claim(grant: Grant, serial: str, now: datetime) -> Grant:
    """Claimed with the certificate of that serial (decimal); the clock starts."""
    grant = _in(settle(grant, now), State.APPROVED)
    return replace(
        grant, state=State.CLAIMED, claimed_at=now, serial=serial, deadline=now + timedelta(seconds=grant.seconds)
    )


def give_back(grant: Grant, now: datetime) -> Grant:
    """Ended early by its holder; a request that was not claimed is withdrawn."""
    grant = settle(grant, now)
    if grant.state is State.CLAIMED:
        return replace(grant, state=State.GIVEN_BACK, ended_at=now, deadline=None)
    _in(grant, State.REQUESTED, State.APPROVED)
    return replace(grant, state=State.WITHDRAWN, ended_at=now, deadline=None)


def _in(grant: Grant, *states: State) -> Grant:
    if grant.state not in states:
        raise Conflict(
            f"request {grant.id} is {grant.state}, not {' or '.join(states)}",
            "make a new request" if not grant.state.is_open else "see `pilothouse access status`",
        )
    return grant


def told(grant: Grant, actor: str, what: str) -> tuple[str, str]:
    """(subject, text) of a step that was taken: `what` was done with the request, by `actor` ("" where it ended by
    itself)."""
    by = f" by {actor}" if actor and actor != grant.user else ""
    subject = f"{grant.profile} on {grant.cluster}: {what}{by}"
    lines = [
        f"Request {grant.id} of {grant.user} for {grant.profile} on {grant.cluster}: {what}{by}.",
        f"Reason: {grant.what_for}",
    ]
    if grant.decided_by:
        lines.append(f"Approved by {grant.decided_by}.")
    return subject, "\n".join(lines)

"""Locks, as pages, API and command line set, lift and list them. The decision is that of `access.permissions`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pilothouse.access import locks as machine
from pilothouse.access.locks import Kind, Lock, Target
from pilothouse.access.permissions import Action, Decision, Person, may
from pilothouse.platform.model import Platform
from pilothouse.problems import Denied, Invalid, PilothouseError, nearest
from pilothouse.store import Store, sessions, users
from pilothouse.store import certificates as certificate_rows
from pilothouse.store import grants as grant_rows
from pilothouse.store import locks as lock_rows
from pilothouse.workflows import access
from pilothouse.workflows.access import Desk, GivenBack, Message, addresses_of
from pilothouse.workflows.unheld import unheld

LONGEST = timedelta(days=366)
"""Of a lock that ends by itself; one without an end holds until it is lifted."""


@dataclass(frozen=True, slots=True)
class Step:
    """A lock after a step, how many sessions ended with it, and why somebody could not be told ("" where all were).

    `requests` are elevations that ended with it, each with what became of its rights; `unheld` says which certificates
    an API server goes on accepting, and what ends them.
    """

    lock: Lock
    sessions: int = 0
    untold: str = ""
    requests: tuple[GivenBack, ...] = ()
    unheld: tuple[str, ...] = ()


def target_of(store: Store, platform: Platform, text: str, now: datetime, anyway: bool = False) -> Target:
    """What is meant by a user's name, a serial (decimal or colon-hex) or a fingerprint.

    A name that nobody here has is `Invalid`, since a lock on it would protect nobody, unless `anyway`: a person of the
    directory who has never logged in is known nowhere.
    """
    text = text.strip()
    certificate = _certificate(store, text)
    if certificate is not None:
        if not certificate.fingerprint:
            raise Invalid(
                f"certificate {certificate.serial} was never handed out, so there is nothing to lock",
                f"lock the person instead: pilothouse access lock {certificate.user}",
            )
        return Target(
            Kind.CERTIFICATE,
            certificate.serial,
            certificate.user,
            certificate.cluster,
            certificate.fingerprint,
        )
    if not text or len(text) > 64 or not text.isprintable():
        raise Invalid("whom or what? give a user's name, or the serial of a certificate")
    if not anyway and not is_known(store, platform, text, now):
        names = {user.name for user in users.everyone(store)} | _members(platform)
        hint = nearest(text, names) or "`--anyway` locks a name that nobody has yet"
        raise Invalid(f"there is no person and no certificate `{text}`", hint)
    return Target(Kind.USER, text, text)


def _certificate(store: Store, text: str) -> certificate_rows.Certificate | None:
    fingerprint, serial = machine.fingerprint_in(text), machine.serial_in(text)
    if fingerprint:
        found = certificate_rows.by_fingerprint(store, fingerprint)
        if found is None:
            raise Invalid(f"no certificate with the fingerprint {fingerprint[:16]}… was signed here")
        return found
    return certificate_rows.get(store, serial) if serial else None


def is_known(store: Store, platform: Platform, name: str, now: datetime) -> bool:
    """Whether it is an account, a member of a team, somebody logged in, or somebody who ever had a certificate."""
    return (
        name in _members(platform)
        or users.get(store, name) is not None
        or bool(certificate_rows.of_user(store, name, limit=1))
        or bool(sessions.living(store, name, now))
    )


def _members(platform: Platform) -> set[str]:
    return {member.user for team in platform.teams.values() for member in team.members}


def lock(
    desk: Desk,
    platform: Platform,
    person: Person,
    subject: str,
    reason: str,
    seconds: int,
    now: datetime,
    anyway: bool = False,
) -> Step:
    """Lock a person or a certificate; `seconds` 0 holds until it is lifted. Who is concerned is told."""
    target = target_of(desk.store, platform, subject, now, anyway)
    _require(may(person, Action.LOCK, target, platform))
    return place(desk, platform, person, target, reason, seconds, now)


def place(
    desk: Desk, platform: Platform, person: Person, target: Target, reason: str, seconds: int, now: datetime
) -> Step:
    """Set the lock. That the person may is the caller's to have asked."""
    if seconds < 0 or timedelta(seconds=seconds) > LONGEST:
        raise Invalid("a lock that ends by itself lasts at most 366 days", "leave the time out")
    until = now + timedelta(seconds=seconds) if seconds else None
    wanted = machine.lock("l" + desk.new_id()[1:], target, person.user, reason, now, until)
    made, ended = lock_rows.put(desk.store, wanted)
    requests = access.give_back_all(desk, platform, person, _elevations_of(desk.store, target), now)
    left = unheld(desk.store, platform, target, now)
    text = [
        f"{made.sentence}: {made.reason}",
        "Nothing more is signed for it, and API servers that ask pilothouse refuse it.",
        *(f"Request {item.id}: {item.meaning}" for item in requests),
        *left,
        f"Lift it: pilothouse access unlock {target.subject}",
    ]
    return Step(made, ended, _tell(desk, platform, person, made, f"Locked: {target}", text), requests, left)


def _elevations_of(store: Store, target: Target) -> list[str]:
    """The requests that are over with the lock: the person's open ones; of a certificate the one that it came from."""
    if target.kind is Kind.USER:
        return [grant.id for grant in grant_rows.find(store, target.user, only_open=True)]
    row = certificate_rows.get(store, target.subject, target.cluster)
    return [row.grant_id] if row is not None and row.grant_id else []


def unlock(desk: Desk, platform: Platform, person: Person, subject: str, why: str, now: datetime) -> Step:
    """Lift the lock that holds on a person or a certificate. Sessions that it ended stay ended."""
    target = target_of(desk.store, platform, subject, now, anyway=True)
    _require(may(person, Action.UNLOCK, target, platform))
    lifted = lock_rows.lift(desk.store, target.kind, target.subject, person.user, why, now)
    text = [f"{person.shown} lifted the lock on {target}." + (f" {lifted.lifted_why}" if lifted.lifted_why else "")]
    return Step(lifted, 0, _tell(desk, platform, person, lifted, f"Unlocked: {target}", text))


@dataclass(frozen=True, slots=True)
class Shown:
    """A lock as one person sees it."""

    lock: Lock
    holds: bool
    may_lift: Decision


@dataclass(frozen=True, slots=True)
class Listing:
    """`narrowed` is the reason why only the person's own locks are listed, "" where all are."""

    items: tuple[Shown, ...]
    narrowed: str = ""


def listing(store: Store, platform: Platform, person: Person, now: datetime, past: bool = False) -> Listing:
    """The locks that hold, with `past` also earlier ones, the newest first: one's own (that concern one, or that one
    set), or all where one may read the ledger."""
    decision = may(person, Action.READ_AUDIT, None, platform)
    found = lock_rows.find(store, "" if decision else person.user, None if past else now)
    items = tuple(Shown(item, item.holds(now), may(person, Action.UNLOCK, item.target, platform)) for item in found)
    return Listing(items, "" if decision else decision.why)


def _tell(desk: Desk, platform: Platform, actor: Person, item: Lock, subject: str, text: list[str]) -> str:
    """The person concerned and the platform team; what was done stays done where nobody could be told."""
    team = platform.platform_team
    names = {item.target.user, *(member.user for member in (team.members if team else ()))} - {actor.user}
    to = tuple(sorted({mail for name in names for mail in addresses_of(desk.store, platform, name)}))
    try:
        desk.notifier.tell(Message(to, subject, "\n".join(text)))
    except PilothouseError as failure:
        return failure.message
    return ""


def _require(decision: Decision) -> None:
    if not decision:
        raise Denied(decision.why, f"ask {', '.join(decision.whom_to_ask)}" if decision.whom_to_ask else "")

"""Locks: a person, or one certificate, that gets nothing more and is refused by the API servers.

A lock is set by somebody, for a reason, until it is lifted or its time is over. Moments are aware UTC
datetimes, handed in. What an API server may be told about a request is decided in `access.reviews`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from pilothouse.problems import Conflict, Invalid

MIN_REASON = 5
MAX_REASON = 500
FINGERPRINT = 64
"""Letters of a SHA-256 in hex."""


class Kind(StrEnum):
    USER = "user"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Target:
    """What is locked: a person by the directory's own name, or a certificate by its decimal serial.

    `user` is whose access ends; `cluster` and `fingerprint` (SHA-256 of the DER in hex) are a certificate's.
    """

    kind: Kind
    subject: str
    user: str
    cluster: str = ""
    fingerprint: str = ""

    def __str__(self) -> str:
        if self.kind is Kind.USER:
            return self.subject
        return f"certificate {self.subject} of {self.user} on {self.cluster}"


@dataclass(frozen=True, slots=True)
class Lock:
    """`until` None holds until somebody lifts it."""

    id: str
    target: Target
    by: str
    reason: str
    at: datetime
    until: datetime | None = None
    lifted_at: datetime | None = None
    lifted_by: str = ""
    lifted_why: str = ""

    def holds(self, now: datetime) -> bool:
        return self.lifted_at is None and (self.until is None or now < self.until)

    @property
    def sentence(self) -> str:
        """Who is locked, since when and until when; not why, which is for those who may read it."""
        end = f" until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else ""
        return f"{self.target} is locked by {self.by} since {self.at:%Y-%m-%d %H:%M} UTC{end}"


def lock(id: str, target: Target, by: str, reason: str, now: datetime, until: datetime | None = None) -> Lock:
    """A new lock; `Invalid` where the reason or the end does not do."""
    reason = " ".join(reason.split())
    if len(reason) < MIN_REASON:
        raise Invalid(f"a reason is needed, of {MIN_REASON} characters or more", "say what happened")
    if len(reason) > MAX_REASON:
        raise Invalid(f"the reason is longer than {MAX_REASON} characters", "put the details into the ticket")
    if until is not None and until <= now:
        raise Invalid("the lock would have ended already", "leave the time out: it then holds until it is lifted")
    return Lock(id, target, by, reason, now, until)


def over(present: Lock, wanted: Lock) -> Lock:
    """The present lock as it is left when a longer one takes its place; `Conflict` where the wanted one is no longer.

    So nobody can shorten another's lock by setting one of their own.
    """
    if present.until is None or (wanted.until is not None and wanted.until <= present.until):
        raise Conflict(
            present.sentence, "it stays as it is; lift it first (`pilothouse access unlock`) to set a shorter one"
        )
    return replace(present, lifted_at=wanted.at, lifted_by=wanted.by, lifted_why=f"{wanted.id} holds for longer")


def lift(present: Lock, by: str, why: str, now: datetime) -> Lock:
    """Lifted; `Conflict` where it does not hold any more."""
    if not present.holds(now):
        raise Conflict(f"{present.target} is not locked any more", "see `pilothouse access locks --all`")
    return replace(present, lifted_at=now, lifted_by=by, lifted_why=" ".join(why.split())[:MAX_REASON])


@dataclass(frozen=True, slots=True)
class Held:
    """What holds at one moment, as it is looked up for every request: users by name, certificates by fingerprint."""

    users: Mapping[str, Lock] = field(default_factory=dict)
    certificates: Mapping[str, Lock] = field(default_factory=dict)

    @classmethod
    def of(cls, locks: Iterable[Lock]) -> Held:
        users: dict[str, Lock] = {}
        certificates: dict[str, Lock] = {}
        for item in locks:
            if item.target.kind is Kind.USER:
                users[item.target.subject] = item
            elif item.target.fingerprint:
                certificates[item.target.fingerprint] = item
        return cls(users, certificates)

    def __len__(self) -> int:
        return len(self.users) + len(self.certificates)


def serial_in(text: str) -> str:
    """The decimal serial in what people paste: decimal, or colon-hex as Vault writes it; "" where it is none."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return str(int(text)) if len(text) <= 50 else ""
    digits = text.replace(":", "")
    is_hex = ":" in text and len(digits) <= 40 and set(digits.lower()) <= set("0123456789abcdef")
    return str(int(digits, 16)) if is_hex and digits else ""


def fingerprint_in(text: str) -> str:
    """The SHA-256 in what people paste (`X509SHA256=…`, with or without colons), lower case; "" where it is none."""
    digits = text.strip().removeprefix("X509SHA256=").replace(":", "").lower()
    return digits if len(digits) == FINGERPRINT and set(digits) <= set("0123456789abcdef") else ""

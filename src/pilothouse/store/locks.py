"""Locks as rows of `access.locks.Lock`, each step in one transaction with its entry in the ledger.

The signer asks `refuse` inside the transaction that records an intent: what was locked before that is never signed.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, bindparam, insert, or_, select, true, update

from pilothouse.access import locks as machine
from pilothouse.access.ledger import Entry
from pilothouse.access.locks import Held, Kind, Lock, Target
from pilothouse.problems import Denied, Invalid
from pilothouse.store import certificates as certificate_rows
from pilothouse.store import ledger
from pilothouse.store.database import Store
from pilothouse.store.schema import certificates, locks, sessions

ASK = "ask the platform team; `pilothouse access locks` says who locked it"


def put(store: Store, wanted: Lock) -> tuple[Lock, int]:
    """(the lock, sessions that it ended). A lock that holds already gives way only to a longer one.

    The sessions of a locked person end with it, and so does the one that a locked certificate was signed for.
    """
    target, now = wanted.target, wanted.at
    with store.write() as connection:
        present = _holding(connection, target.kind, target.subject, now)
        if present is not None:
            _save(connection, machine.over(present, wanted))
        connection.execute(insert(locks).values(**_values(wanted)))
        ended = _end_sessions(connection, target, now)
        data = {
            "kind": target.kind.value,
            "user": target.user,
            "fingerprint": target.fingerprint,
            "reason": wanted.reason,
            "until": wanted.until.isoformat() if wanted.until else "",
            "lock": wanted.id,
            "sessions": ended,
        } | ({"instead_of": present.id} if present else {})
        ledger.append(connection, Entry("lock.set", wanted.by, target.subject, target.cluster, data), now)
    return wanted, ended


def _end_sessions(connection: Connection, target: Target, now: datetime) -> int:
    condition: ColumnElement[bool] = sessions.c.revoked_at.is_(None) & (sessions.c.user == target.user)
    if target.kind is Kind.CERTIFICATE:
        row = select(certificates.c.session).where(
            certificates.c.cluster == target.cluster, certificates.c.serial == target.subject
        )
        condition &= sessions.c.id_hash.in_(row)
    return connection.execute(update(sessions).where(condition).values(revoked_at=now)).rowcount


def lift(store: Store, kind: Kind, subject: str, by: str, why: str, now: datetime) -> Lock:
    """End the lock that holds on it. `Invalid` where none does."""
    with store.write() as connection:
        present = _holding(connection, kind, subject, now)
        if present is None:
            raise Invalid(f"{subject} is not locked", "see `pilothouse access locks`")
        lifted = machine.lift(present, by, why, now)
        _save(connection, lifted)
        data = {"kind": kind.value, "user": lifted.target.user, "why": lifted.lifted_why, "lock": lifted.id}
        ledger.append(connection, Entry("lock.lifted", by, subject, lifted.target.cluster, data), now)
    return lifted


def used(store: Store, lock: Lock, cluster: str, now: datetime) -> None:
    """Record that somebody tried what is locked."""
    data = {"kind": lock.target.kind.value, "user": lock.target.user, "lock": lock.id, "by": lock.by}
    with store.write() as connection:
        ledger.append(connection, Entry("lock.used", lock.target.user, lock.target.subject, cluster, data), now)


def holding(store: Store, kind: Kind, subject: str, now: datetime) -> Lock | None:
    """The lock that holds on that person or certificate."""
    with store.read() as connection:
        return _holding(connection, kind, subject, now)


def find(store: Store, user: str = "", since: datetime | None = None, limit: int = 500) -> tuple[Lock, ...]:
    """Locks, the newest first: with `since` only those that hold at that moment."""
    condition: ColumnElement[bool] = true()
    if user:
        condition &= (locks.c.user == user) | (locks.c.by == user)
    if since is not None:
        condition &= _holds(since)
    with store.read() as connection:
        query = select(locks).where(condition).order_by(locks.c.at.desc(), locks.c.id).limit(limit)
        return tuple(_lock(row) for row in connection.execute(query).mappings())


def held(store: Store, now: datetime) -> Held:
    """Everything that an API server must refuse: locks, and certificates that were given back before their end."""
    with store.read() as connection:
        rows = connection.execute(select(locks).where(_holds(now))).mappings()
        found = [_lock(row) for row in rows]
        returned = [_given_back(row) for row in certificate_rows.given_back(connection, now)]
    return Held.of([*returned, *found])  # of two the lock is named


def _given_back(row: certificate_rows.Certificate) -> Lock:
    target = Target(Kind.CERTIFICATE, row.serial, row.user, row.cluster, row.fingerprint)
    return Lock("", target, row.user, "given back", row.ended_at or row.asked_at, row.not_after)


def refuse(connection: Connection, user: str, session: str, key_sha256: str, now: datetime) -> None:
    """`Denied` where the person is locked, or a certificate that has this key or was signed for this session."""
    found = _holding(connection, Kind.USER, user, now)
    if found is not None:
        raise Denied(found.sentence, ASK)
    given = {"key": key_sha256, "session": session or key_sha256, "now": now}  # a key is no session: it finds none
    row = connection.execute(_OF_SAME, given).mappings().first()
    if row is not None:
        raise Denied(f"{_lock(row).sentence}, and is not renewed", "log in again and make a new key; or " + ASK)


def require_unlocked(store: Store, names: Iterable[str], now: datetime) -> None:
    """`Denied` where one of these people is locked."""
    for name in names:
        found = holding(store, Kind.USER, name, now)
        if found is not None:
            raise Denied(found.sentence, ASK)


def _holding(connection: Connection, kind: Kind, subject: str, now: datetime) -> Lock | None:
    given = {"kind": kind.value, "subject": subject, "now": now}
    row = connection.execute(_HOLDING, given).mappings().first()
    return _lock(row) if row else None


def _holds(now: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    return locks.c.lifted_at.is_(None) & or_(locks.c.until.is_(None), locks.c.until > now)


# Made once: a statement costs as much to make as to run, and these run for every certificate.
_HOLDING = (
    select(locks)
    .where(locks.c.kind == bindparam("kind"), locks.c.subject == bindparam("subject"), _holds(bindparam("now")))
    .order_by(locks.c.at.desc())
    .limit(1)
)
_OF_SAME = (
    select(locks)
    .join(certificates, (certificates.c.serial == locks.c.subject) & (certificates.c.cluster == locks.c.cluster))
    .where(
        locks.c.kind == Kind.CERTIFICATE.value,
        _holds(bindparam("now")),
        or_(certificates.c.key_sha256 == bindparam("key"), certificates.c.session == bindparam("session")),
    )
    .limit(1)
)


def _save(connection: Connection, lock: Lock) -> None:
    connection.execute(update(locks).where(locks.c.id == lock.id).values(**_values(lock)))


def _values(lock: Lock) -> dict[str, Any]:
    target = lock.target
    return {
        "id": lock.id,
        "kind": target.kind.value,
        "subject": target.subject,
        "user": target.user,
        "cluster": target.cluster,
        "fingerprint": target.fingerprint,
        "by": lock.by,
        "reason": lock.reason,
        "at": lock.at,
        "until": lock.until,
        "lifted_at": lock.lifted_at,
        "lifted_by": lock.lifted_by,
        "lifted_why": lock.lifted_why,
    }


def _lock(row: Any) -> Lock:
    target = Target(Kind(row["kind"]), row["subject"], row["user"], row["cluster"], row["fingerprint"])
    names = ("by", "reason", "at", "until", "lifted_at", "lifted_by", "lifted_why")
    return Lock(row["id"], target, *(row[name] for name in names))

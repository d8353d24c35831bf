"""What happened beside the ledger: logins, proposals, jobs asked for. Shown on the audit page, kept for a while.

The ledger (`store.ledger`) is the proof of who was given access; this is the log of everything smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, select, true

from pilothouse.store.database import Store
from pilothouse.store.schema import events


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is `area.what` (`login.failed`); `subject` what it was done to; `message` one sentence for people."""

    at: datetime
    kind: str
    actor: str = ""
    subject: str = ""
    message: str = ""
    address: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events: each field narrows; `kind` is a prefix; `until` is exclusive."""

    actor: str = ""
    kind: str = ""
    subject: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None


def record(store: Store, event: Event) -> None:
    """Keep an event. Its texts are cut to their columns; a NUL, which PostgreSQL cannot hold, is replaced."""

    def fit(text: str, length: int) -> str:
        return text.replace("\0", "\ufffd")[:length]

    with store.write(alone=False) as connection:
        connection.execute(
            insert(events).values(
                at=event.at,
                kind=event.kind,
                actor=fit(event.actor, 100),
                subject=fit(event.subject, 200),
                message=fit(event.message, 2000),
                address=fit(event.address, 64),
                data=dict(event.data),
            )
        )


def find(store: Store, wanted: Filter = Filter(), limit: int = 50, offset: int = 0) -> tuple[tuple[Event, ...], int]:
    """A page of events, the newest first, and how many there are in all."""
    where = _where(wanted)
    with store.read() as connection:
        total = connection.execute(select(func.count()).select_from(events).where(where)).scalar_one()
        rows = connection.execute(
            select(events).where(where).order_by(events.c.at.desc(), events.c.id.desc()).limit(limit).offset(offset)
        ).mappings()
        return tuple(Event(**row) for row in rows), total


def _where(wanted: Filter) -> ColumnElement[bool]:
    parts: list[ColumnElement[bool]] = [true()]
    if wanted.actor:
        parts.append(events.c.actor == wanted.actor)
    if wanted.kind:
        parts.append(events.c.kind.startswith(wanted.kind, autoescape=True))
    if wanted.subject:
        parts.append(events.c.subject == wanted.subject)
    if wanted.text:
        parts.append(events.c.message.icontains(wanted.text, autoescape=True))
    if wanted.since:
        parts.append(events.c.at >= wanted.since)
    if wanted.until:
        parts.append(events.c.at < wanted.until)
    return and_(*parts)


def purge(store: Store, now: datetime, keep: timedelta = timedelta(days=400)) -> int:
    with store.write() as connection:
        return connection.execute(delete(events).where(events.c.at < now - keep)).rowcount

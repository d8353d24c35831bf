"""The ledger's rows. An entry is appended inside the caller's transaction, so that what it tells happened with it.

Rows are only ever added. The chain itself (`access.ledger`) shows whether somebody did otherwise.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, and_, func, insert, or_, select, true, type_coerce

from pilothouse.access import ledger as chain
from pilothouse.access.ledger import EMPTY, Entry, Head, Recorded
from pilothouse.problems import Problem
from pilothouse.store.database import Store
from pilothouse.store.schema import ledger

BATCH = 5_000
# Made once: a statement costs as much to make as to run, and these run for every certificate.
_APPEND = insert(ledger)
_HEAD = select(ledger.c.sequence, ledger.c.hash).order_by(ledger.c.sequence.desc()).limit(1)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries: each field narrows; `kind` is a prefix; `text` occurs anywhere, in upper
    or lower case; `until` is exclusive."""

    actor: str = ""
    kind: str = ""
    subject: str = ""
    cluster: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None


def append(connection: Connection, entry: Entry, at: datetime) -> Recorded:
    """Append to the chain inside a `store.write()`; it is there once that transaction is committed.

    Writers are let in one by one, so that no two follow the same head; the sequence is the primary key, so that a fork
    could not be stored either.
    """
    recorded = chain.append(_head(connection), entry, at)
    connection.execute(_APPEND, _values(recorded))
    return recorded


class Appending:
    """Entries that are appended within one transaction: the head is read once, and all are written by `write`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._before: Head | None = None
        self._made: list[Recorded] = []

    def append(self, entry: Entry, at: datetime) -> None:
        """The next entry; it is there once `write` was called and the transaction committed."""
        if self._before is None:
            self._before = _head(self._connection)
        previous = self._made[-1].head if self._made else self._before
        self._made.append(chain.append(previous, entry, at))

    def mark(self) -> int:
        """What `back_to` wants, to forget what is appended from now on."""
        return len(self._made)

    def back_to(self, mark: int) -> None:
        del self._made[mark:]

    def write(self) -> Head | None:
        """The new head; None where nothing was appended."""
        if not self._made:
            return None
        self._connection.execute(_APPEND, [_values(recorded) for recorded in self._made])
        return self._made[-1].head


def _values(recorded: Recorded) -> dict[str, Any]:
    return {
        "sequence": recorded.sequence,
        "at": recorded.at,
        "kind": recorded.entry.kind,
        "actor": recorded.entry.actor,
        "subject": recorded.entry.subject,
        "cluster": recorded.entry.cluster,
        "text": recorded.text,
        "hash": recorded.hash,
    }


def _head(connection: Connection) -> Head:
    row = connection.execute(_HEAD).first()
    return Head(row.sequence, row.hash) if row else EMPTY


def head(store: Store) -> Head:
    """The newest entry: what to keep elsewhere, so that a cut end is noticed."""
    with store.read() as connection:
        return _head(connection)


def find(store: Store, wanted: Filter = Filter(), limit: int = 50, offset: int = 0) -> tuple[tuple[Recorded, ...], int]:
    """(entries, how many there are in all), the newest first."""
    condition = _condition(wanted)
    with store.read() as connection:
        total = connection.execute(select(func.count()).select_from(ledger).where(condition)).scalar_one()
        rows = connection.execute(
            select(ledger).where(condition).order_by(ledger.c.sequence.desc()).limit(limit).offset(offset)
        ).mappings()
        return tuple(_recorded(row) for row in rows), total


def _condition(wanted: Filter) -> ColumnElement[bool]:
    parts: list[ColumnElement[bool]] = [true()]
    for column, value in (
        (ledger.c.actor, wanted.actor),
        (ledger.c.subject, wanted.subject),
        (ledger.c.cluster, wanted.cluster),
    ):
        if value:
            parts.append(column == value)
    if wanted.kind:
        parts.append(ledger.c.kind.startswith(wanted.kind, autoescape=True))
    if wanted.text:
        parts.append(
            or_(
                ledger.c.text.icontains(wanted.text, autoescape=True),
                # The text is ASCII with escapes; what was typed may not be.
                ledger.c.text.icontains(json.dumps(wanted.text)[1:-1], autoescape=True),
            )
        )
    if wanted.since:
        parts.append(ledger.c.at >= wanted.since)
    if wanted.until:
        parts.append(ledger.c.at < wanted.until)
    return and_(*parts)


def between(store: Store, kinds: Iterable[str], since: datetime | None, until: datetime) -> tuple[Recorded, ...]:
    """The entries of these kinds (beginnings of them) from `since` to `until`, both included, in the chain's order."""
    condition = or_(*(ledger.c.kind.startswith(kind, autoescape=True) for kind in kinds)) & (ledger.c.at <= until)
    if since is not None:
        condition &= ledger.c.at >= since
    with store.read() as connection:
        rows = connection.execute(select(ledger).where(condition).order_by(ledger.c.sequence)).mappings()
        return tuple(_recorded(row) for row in rows)


def everything(store: Store, start: int = 1) -> Iterator[Recorded]:
    """The entries from `start` on in the order of the chain, in batches, one consistent state."""
    with store.read() as connection:
        last = start - 1
        while True:
            rows = (
                connection.execute(
                    select(ledger).where(ledger.c.sequence > last).order_by(ledger.c.sequence).limit(BATCH)
                )
                .mappings()
                .all()
            )
            if not rows:
                return
            yield from (_recorded(row) for row in rows)
            last = rows[-1]["sequence"]


def verify(store: Store, exported: Iterable[Head] = ()) -> tuple[tuple[Problem, ...], Head]:
    """(every break of the chain, its head)."""
    last: tuple[int, str] = (0, chain.GENESIS)

    def followed() -> Iterator[chain.Row]:
        nonlocal last
        for row in _rows(store):
            last = row[0], row[7]
            yield row

    problems = tuple(chain.verify_rows(followed(), exported))
    return problems, Head(*last)


def _rows(store: Store) -> Iterator[chain.Row]:
    """The columns of every entry in the order of the chain, without an object for each."""
    columns = (
        ledger.c.sequence,
        type_coerce(ledger.c.at, BigInteger),
        ledger.c.kind,
        ledger.c.actor,
        ledger.c.subject,
        ledger.c.cluster,
        ledger.c.text,
        ledger.c.hash,
    )
    with store.read() as connection:
        last = 0
        while True:
            wanted = select(*columns).where(ledger.c.sequence > last).order_by(ledger.c.sequence).limit(BATCH)
            rows = connection.execute(wanted).all()
            if not rows:
                return
            for sequence, at, kind, actor, subject, cluster, text, hash in rows:
                yield sequence, _iso(at), kind, actor, subject, cluster, text, hash
            last = rows[-1][0]


def _iso(microseconds: int) -> str:
    """What `Moment` keeps, as ISO 8601."""
    minutes, rest = divmod(microseconds, 60_000_000)
    return f"{_minute(minutes)}:{rest // 1_000_000:02d}.{rest % 1_000_000:06d}+00:00"


@lru_cache(maxsize=4096)
def _minute(minutes: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M", time.gmtime(60 * minutes))


def _recorded(row: Any) -> Recorded:
    return chain.read(
        row["sequence"],
        row["at"],
        row["kind"],
        row["actor"],
        row["subject"],
        row["cluster"],
        row["text"],
        row["hash"],
    )

"""Unusual days with their evidence, and what somebody called expected. Neither goes when a log does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from sqlalchemy import delete, insert, select, update

from pilothouse.access.audit.certain import id_of
from pilothouse.access.unusual.model import Alert, Expected, Signal
from pilothouse.problems import Conflict
from pilothouse.store.database import Store
from pilothouse.store.schema import audit_expected
from pilothouse.store.schema import unusual as rows


@dataclass(frozen=True, slots=True)
class Kept:
    """`id` is what it is called; `expected` who said that it was meant, with the reason, where somebody did."""

    id: str
    alert: Alert
    expected: Answer | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Somebody called a finding expected."""

    id: str
    by: str
    at: datetime
    reason: str
    who: str = ""
    signals: tuple[tuple[str, str], ...] = ()


def id_for(alert: Alert) -> str:
    return id_of("unusual", alert.who, alert.day.isoformat())


def keep(store: Store, alerts: Iterable[Alert]) -> tuple[Kept, ...]:
    """Add them; a day that is known grows with what came later, and never shrinks. Returns those that page now and
    did not before."""
    fresh: list[Kept] = []
    with store.write() as connection:
        for alert in alerts:
            id = id_for(alert)
            known = connection.execute(select(rows.c.score, rows.c.paged).where(rows.c.id == id)).first()
            values: dict[str, Any] = {
                "score": alert.score,
                "paged": alert.paged,
                "signals": [asdict(signal) for signal in alert.signals],
            }
            if known is None:
                day = datetime.combine(alert.day, time(), UTC)
                connection.execute(
                    insert(rows).values(id=id, who=alert.who, day=day, workload=alert.workload, **values)
                )
            elif alert.score > known.score:
                values["paged"] = alert.paged or known.paged
                connection.execute(update(rows).where(rows.c.id == id).values(**values))
            else:
                continue
            if alert.paged and not (known and known.paged):
                fresh.append(Kept(id, alert))
    return tuple(fresh)


def find(store: Store, who: str = "", since: datetime | None = None, paged: bool = False) -> tuple[Kept, ...]:
    """Unusual days, the newest first, those of the highest score before others of their day."""
    wanted = select(rows).order_by(rows.c.day.desc(), rows.c.score.desc(), rows.c.id)
    if who:
        wanted = wanted.where(rows.c.who == who)
    if since is not None:
        wanted = wanted.where(rows.c.day >= since)
    if paged:
        wanted = wanted.where(rows.c.paged)
    answered = answers(store)
    with store.read() as connection:
        found = connection.execute(wanted.limit(5000)).mappings().all()
    return tuple(_kept(row, answered.get(row["id"])) for row in found)


def get(store: Store, id: str) -> Kept | None:
    with store.read() as connection:
        row = connection.execute(select(rows).where(rows.c.id == id)).mappings().first()
    return _kept(row, answers(store).get(id)) if row else None


def expect(store: Store, answer: Answer) -> None:
    """Remember that it was meant; `Conflict` where somebody said so before."""
    with store.write() as connection:
        known = connection.execute(select(audit_expected).where(audit_expected.c.id == answer.id)).first()
        if known is not None:
            raise Conflict(f"{known.by} called {answer.id} expected already: {known.reason}", "nothing is to be done")
        connection.execute(
            insert(audit_expected).values(
                id=answer.id,
                who=answer.who,
                signals=[list(item) for item in answer.signals],
                reason=answer.reason,
                by=answer.by,
                at=answer.at,
            )
        )


def answers(store: Store) -> dict[str, Answer]:
    """What was called expected, by id."""
    with store.read() as connection:
        found = connection.execute(select(audit_expected).order_by(audit_expected.c.at)).mappings().all()
    return {
        row["id"]: Answer(
            row["id"],
            row["by"],
            row["at"],
            row["reason"],
            row["who"],
            tuple((str(rule), str(value)) for rule, value in row["signals"]),
        )
        for row in found
    }


def exceptions(store: Store) -> tuple[Expected, ...]:
    """What the answers say of rules: as good as learned."""
    return tuple(
        Expected(answer.who, rule, value)
        for answer in answers(store).values()
        for rule, value in answer.signals
        if value  # a burst or a spike of one day says nothing of the next
    )


def purge(store: Store, now: datetime, keep: timedelta = timedelta(days=400)) -> int:
    with store.write() as connection:
        return connection.execute(delete(rows).where(rows.c.day < now - keep)).rowcount


def _kept(row: Any, answer: Answer | None) -> Kept:
    signals = tuple(Signal(**{**signal, "also": tuple(signal["also"])}) for signal in row["signals"])
    alert = Alert(row["who"], row["day"].date(), row["score"], row["paged"], signals, row["workload"])
    return Kept(row["id"], alert, answer)

"""The worker's jobs: whose turn it is, their last result and next run, and runs that somebody asked for on a page.

Several workers may share a database. Each run is claimed by one of them, in a row that names the holder, until when
its lease lasts, and a fence that goes up with every claim: a worker that was paused and wakes up after another one has
taken over finds that its fence has passed, and can record nothing
(https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html).
Leases are held against the database's own clock where it has one, so that workers whose clocks differ agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, insert, literal, literal_column, or_, select, update

from pilothouse.problems import Conflict, Invalid
from pilothouse.store.database import Store
from pilothouse.store.schema import Moment, jobs

LEASE = timedelta(seconds=20)
RETRY_FIRST = timedelta(minutes=1)
RETRY_LONGEST = timedelta(minutes=5)
CUT_SHORT = "the worker ended during the run"


class JobState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    OK = "ok"
    PROBLEMS = "problems"
    """It ran, and found something that a person should look at."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """`schedule` is in words ("every 5 minutes"); `seconds` is how long the last run took.

    `failures` counts the failed runs since the last one that did not fail, `failing_since` is the end of the first of
    them. `holder` is the worker that ran it last, or runs it now, until `lease_until` unless it is heard from again.
    """

    name: str
    title: str
    schedule: str
    state: JobState
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None
    next_run_at: datetime | None = None
    requested_at: datetime | None = None
    requested_by: str = ""
    holder: str = ""
    fence: int = 0
    lease_until: datetime | None = None
    failures: int = 0
    failing_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to one run. `before` is the worker that ran the job last, `taken_over` whether it ended halfway."""

    name: str
    holder: str
    fence: int
    before: str = ""
    taken_over: bool = False
    asked_by: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """`fence` is that of the last run that was claimed."""

    name: str
    fence: int
    waiting: bool


def register(store: Store, name: str, title: str, schedule: str, next_run_at: datetime | None) -> None:
    """Make the job known, or bring its title, schedule and next run up to date. A run cut short by an end
    of the worker is marked as failed: for the one worker of a data folder."""
    values = {"title": title, "schedule": schedule, "next_run_at": next_run_at}
    with store.write() as connection:
        if not connection.execute(update(jobs).where(jobs.c.name == name).values(values)).rowcount:
            connection.execute(insert(jobs).values(name=name, state=JobState.WAITING, **values))
        connection.execute(
            update(jobs)
            .where(jobs.c.name == name, jobs.c.state == JobState.RUNNING)
            .values(state=JobState.FAILED, message=CUT_SHORT, lease_until=None)
        )


def announce(store: Store, name: str, title: str, schedule: str, now: datetime) -> None:
    """Make the job known where several workers share it: what another one does or has planned stays."""
    values = {"title": title, "schedule": schedule}
    with store.write() as connection:
        row = connection.execute(select(jobs.c.schedule, jobs.c.next_run_at).where(jobs.c.name == name)).first()
        if row is None:
            connection.execute(insert(jobs).values(name=name, state=JobState.WAITING, next_run_at=now, **values))
            return
        planned = row.next_run_at if row.schedule == schedule else None
        connection.execute(update(jobs).where(jobs.c.name == name).values(next_run_at=planned or now, **values))


# ---------------------------------------------------------------- claims


def claim(
    store: Store,
    name: str,
    holder: str,
    now: datetime,
    every: timedelta,
    lease: timedelta = LEASE,
    patience: timedelta = timedelta(0),
) -> Claim | None:
    """The next run of a job, if it is due and nobody else has it; its row then says that it runs.

    Another worker than the one that ran it last leaves it `patience` of time to do so again.
    """
    with store.write() as connection:
        row = connection.execute(select(jobs).where(jobs.c.name == name)).mappings().first()
        if row is None:
            return None
        moment = connection.execute(select(_clock(store, now))).scalar_one()
        due, asked = row["next_run_at"], row["requested_at"]
        if row["state"] == JobState.RUNNING:
            if row["lease_until"] is not None and moment < row["lease_until"]:
                return None
            taken_over = True
        else:
            wait = patience if row["holder"] not in ("", holder) else timedelta(0)
            if not any(at is not None and at + wait <= now for at in (due, asked)):
                return None
            taken_over = False
        connection.execute(
            update(jobs)
            .where(jobs.c.name == name)
            .values(
                state=JobState.RUNNING,
                holder=holder[:100],
                fence=row["fence"] + 1,
                lease_until=moment + lease,
                started_at=now,
                next_run_at=now + every,
                requested_at=None,
                requested_by="",
            )
        )
        return Claim(name, holder, row["fence"] + 1, row["holder"], taken_over, row["requested_by"])


def beat(store: Store, held: Claim, now: datetime, lease: timedelta = LEASE) -> bool:
    """The holder is alive: the lease begins anew. False where another worker has the job by now."""
    with store.write(alone=False) as connection:
        moment = connection.execute(select(_clock(store, now))).scalar_one()
        return bool(connection.execute(update(jobs).where(_holds(held)).values(lease_until=moment + lease)).rowcount)


def require(connection: Connection, held: Claim) -> None:
    """`Conflict` where another worker has the job by now: the guard of everything that a run writes."""
    if not connection.execute(select(jobs.c.name).where(_holds(held))).first():
        raise Conflict(
            f"another worker has taken the job {held.name} over", "this one was away for longer than its lease"
        )


def finish(
    store: Store, held: Claim, state: JobState, message: str, now: datetime, every: timedelta
) -> datetime | None:
    """Record the end of a claimed run and return when the next one is due. `Conflict` where the claim has passed.

    After a failure it is tried again sooner than a long period says, and less often than a short one (`pause`).
    """
    with store.write() as connection:
        require(connection, held)
        row = connection.execute(select(jobs).where(jobs.c.name == held.name)).mappings().one()
        failures = row["failures"] + 1 if state is JobState.FAILED else 0
        next_run_at = now + pause(failures, every) if failures else row["next_run_at"]
        connection.execute(
            update(jobs)
            .where(_holds(held))
            .values(
                state=state,
                message=message[:2000],
                finished_at=now,
                seconds=(now - row["started_at"]).total_seconds(),
                next_run_at=next_run_at,
                lease_until=None,
                failures=failures,
                failing_since=(row["failing_since"] or now) if failures else None,
            )
        )
    return next_run_at


def pause(failures: int, every: timedelta) -> timedelta:
    """How long after the last of so many failures in a row the next run is."""
    first, longest = min(every, RETRY_FIRST), max(every, RETRY_LONGEST)
    factor: int = 2 ** min(failures - 1, 20)
    return min(first * factor, longest)


def _clock(store: Store, now: datetime) -> ColumnElement[datetime]:
    """The moment that leases are held against: that of the database's host where it has one of its own."""
    if store.is_sqlite:
        return literal(now, Moment)
    return literal_column("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint", Moment)


def _holds(held: Claim) -> ColumnElement[bool]:
    return and_(jobs.c.name == held.name, jobs.c.fence == held.fence, jobs.c.state == JobState.RUNNING)


# ---------------------------------------------------------------- what is asked for and shown


def request(store: Store, name: str, user: str, now: datetime) -> None:
    """Ask for a run now; a worker looks several times a second."""
    with store.write() as connection:
        changed = connection.execute(
            update(jobs).where(jobs.c.name == name).values(requested_at=now, requested_by=user)
        ).rowcount
    if not changed:
        raise Invalid(f"there is no job `{name}`", "the worker makes its jobs known when it starts")


def due_by(store: Store, name: str, moment: datetime) -> None:
    """The next run is at that moment, or sooner where it is planned so."""
    later = or_(jobs.c.next_run_at.is_(None), jobs.c.next_run_at > moment)
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.name == name, later).values(next_run_at=moment))


def requested(store: Store) -> tuple[str, ...]:
    """Names of the jobs that somebody asked to run now."""
    with store.read() as connection:
        return tuple(connection.execute(select(jobs.c.name).where(jobs.c.requested_at.is_not(None))).scalars())


def waiting(store: Store, now: datetime) -> tuple[str, ...]:
    """Names of the jobs whose turn it is: asked for, due, or left behind by a worker that is heard from no more."""
    return tuple(turn.name for turn in turns(store, now) if turn.waiting)


def turns(store: Store, now: datetime) -> tuple[Turn, ...]:
    """Every job with whether its turn has come, those that are due longest first."""
    idle = and_(jobs.c.state != JobState.RUNNING, or_(jobs.c.requested_at.is_not(None), jobs.c.next_run_at <= now))
    left = and_(
        jobs.c.state == JobState.RUNNING, or_(jobs.c.lease_until.is_(None), jobs.c.lease_until <= _clock(store, now))
    )
    query = select(jobs.c.name, jobs.c.fence, or_(idle, left).label("waiting")).order_by(
        jobs.c.next_run_at, jobs.c.name
    )
    with store.read() as connection:
        return tuple(Turn(row.name, row.fence, bool(row.waiting)) for row in connection.execute(query))


def everything(store: Store) -> tuple[Job, ...]:
    """All jobs, by name."""
    with store.read() as connection:
        return tuple(_job(row) for row in connection.execute(select(jobs).order_by(jobs.c.name)).mappings())


def _job(row: Mapping[Any, Any]) -> Job:
    return Job(**{**row, "state": JobState(row["state"])})

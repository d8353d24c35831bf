"""The worker's jobs: their last result and next run, and runs that somebody asked for on a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import insert, select, update

from pilothouse.problems import Invalid
from pilothouse.store.database import Store
from pilothouse.store.schema import jobs


class JobState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    OK = "ok"
    PROBLEMS = "problems"
    """It ran, and found something that a person should look at."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """`schedule` is in words ("every 5 minutes"); `seconds` is how long the last run took."""

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


def register(store: Store, name: str, title: str, schedule: str, next_run_at: datetime | None) -> None:
    """Make the job known, or bring its title, schedule and next run up to date. A run cut short by an end
    of the worker is marked as failed."""
    values = {"title": title, "schedule": schedule, "next_run_at": next_run_at}
    with store.write() as connection:
        if not connection.execute(update(jobs).where(jobs.c.name == name).values(values)).rowcount:
            connection.execute(insert(jobs).values(name=name, state=JobState.WAITING, **values))
        connection.execute(
            update(jobs)
            .where(jobs.c.name == name, jobs.c.state == JobState.RUNNING)
            .values(state=JobState.FAILED, message="the worker ended during the run")
        )


def started(store: Store, name: str, now: datetime) -> None:
    with store.write() as connection:
        connection.execute(
            update(jobs)
            .where(jobs.c.name == name)
            .values(state=JobState.RUNNING, started_at=now, requested_at=None, requested_by="")
        )


def finished(
    store: Store, name: str, state: JobState, message: str, now: datetime, next_run_at: datetime | None = None
) -> None:
    """Record a run's end; `message` is one line for people."""
    with store.write() as connection:
        row = connection.execute(select(jobs.c.started_at).where(jobs.c.name == name)).first()
        seconds = (now - row.started_at).total_seconds() if row and row.started_at else None
        connection.execute(
            update(jobs)
            .where(jobs.c.name == name)
            .values(state=state, message=message[:2000], finished_at=now, seconds=seconds, next_run_at=next_run_at)
        )


def request(store: Store, name: str, user: str, now: datetime) -> None:
    """Ask for a run now; the worker looks every few seconds."""
    with store.write() as connection:
        changed = connection.execute(
            update(jobs).where(jobs.c.name == name).values(requested_at=now, requested_by=user)
        ).rowcount
    if not changed:
        raise Invalid(f"there is no job `{name}`", "the worker makes its jobs known when it starts")


def requested(store: Store) -> tuple[str, ...]:
    """Names of the jobs that somebody asked to run now."""
    with store.read() as connection:
        return tuple(connection.execute(select(jobs.c.name).where(jobs.c.requested_at.is_not(None))).scalars())


def everything(store: Store) -> tuple[Job, ...]:
    """All jobs, by name."""
    with store.read() as connection:
        return tuple(_job(row) for row in connection.execute(select(jobs).order_by(jobs.c.name)).mappings())


def _job(row: Mapping[Any, Any]) -> Job:
    return Job(**{**row, "state": JobState(row["state"])})

"""Findings of the worker: problems with the time since when they are known. Each source replaces its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, select, update

from pilothouse.problems import Place, Problem, Severity
from pilothouse.store.database import Store
from pilothouse.store.schema import findings


@dataclass(frozen=True, slots=True)
class Finding:
    """`resolved_at` is set once the source no longer reports it."""

    source: str
    problem: Problem
    first_seen: datetime
    last_seen: datetime
    resolved_at: datetime | None = None


def fingerprint(problem: Problem) -> str:
    """What makes two reports the same finding: code, file and message; not the line, which moves."""
    return hashlib.sha256(f"{problem.code}\0{problem.place.path}\0{problem.message}".encode()).hexdigest()


def replace(
    store: Store, source: str, cluster: str, problems: Iterable[Problem], now: datetime
) -> tuple[tuple[Problem, ...], int]:
    """Everything that `source` finds on `cluster` now. Returns the new ones and how many were resolved."""
    found = {fingerprint(problem): problem for problem in problems}
    mine = (findings.c.source == source) & (findings.c.cluster == cluster)
    fresh: list[Problem] = []
    with store.write() as connection:
        known = {
            row.fingerprint: row.resolved_at
            for row in connection.execute(select(findings.c.fingerprint, findings.c.resolved_at).where(mine))
        }
        for key, problem in found.items():
            values = _values(problem) | {"last_seen": now, "resolved_at": None}
            if key not in known:
                connection.execute(
                    insert(findings).values(source=source, cluster=cluster, fingerprint=key, first_seen=now, **values)
                )
                fresh.append(problem)
                continue
            if known[key] is not None:  # it is back
                values["first_seen"] = now
                fresh.append(problem)
            connection.execute(update(findings).where(mine, findings.c.fingerprint == key).values(values))
        gone = [key for key, resolved in known.items() if resolved is None and key not in found]
        for key in gone:
            connection.execute(update(findings).where(mine, findings.c.fingerprint == key).values(resolved_at=now))
    return tuple(fresh), len(gone)


def _values(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "severity": problem.severity.value,
        "message": problem.message,
        "hint": problem.hint,
        "path": problem.place.path,
        "line": problem.place.line,
        "column": problem.place.column,
        "teams": list(problem.teams),
    }


def current(store: Store, cluster: str | None = None) -> tuple[Finding, ...]:
    """Findings that hold now, errors first, then by code and message."""
    wanted: ColumnElement[bool] = findings.c.resolved_at.is_(None)
    if cluster is not None:
        wanted &= findings.c.cluster == cluster
    with store.read() as connection:
        rows = connection.execute(select(findings).where(wanted)).mappings()
        found = [_finding(row) for row in rows]
    return tuple(sorted(found, key=lambda item: (item.problem.severity.rank, item.problem.code, item.problem.message)))


def _finding(row: Mapping[Any, Any]) -> Finding:
    problem = Problem(
        row["code"],
        row["message"],
        Place(row["path"], row["line"], row["column"]),
        Severity(row["severity"]),
        row["hint"],
        teams=tuple(row["teams"]),
        cluster=row["cluster"],
    )
    return Finding(row["source"], problem, row["first_seen"], row["last_seen"], row["resolved_at"])


def purge(store: Store, now: datetime, keep: timedelta = timedelta(days=90)) -> int:
    """Remove what was resolved longer ago than `keep`."""
    with store.write() as connection:
        return connection.execute(delete(findings).where(findings.c.resolved_at < now - keep)).rowcount

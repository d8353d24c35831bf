"""What a run of the scoring costs when the window is full: lines read anew, and kept days.

The company of `unusual_made.py` becomes rows of a store: a login an event, a certificate a row, requests lines of the
API server's log, reads of secrets lines of Vault's. Peer: the same activities from the lines themselves.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import Any

import unusual_made
from processes import tell
from sqlalchemy import Table as Rows
from sqlalchemy import insert
from table import Budget, Column, Table

from pilothouse.access.unusual import Act, Activity
from pilothouse.files.audit_settings import AuditSettings
from pilothouse.platform.model import Platform
from pilothouse.store import Store, schema
from pilothouse.workflows import unusual as scoring
from pilothouse.workflows.rendering import open_platform

SIZES = {"full": (240, 120, 60), "tiny": (8, 4, 40)}
BATCH = 5000


def table(scale: str) -> Table:
    users, workloads, days = SIZES[scale]
    tell(f"unusual: a store of {users} users, {workloads} workloads and {days} days")
    corpus = unusual_made.make(users, workloads, days, 11)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "platform"
        root.mkdir()
        (root / "platform.yaml").write_text(PLATFORM)
        platform = open_platform(root).loaded.platform
        store = Store(Path(folder) / "data")
        store.migrate()
        lines = _fill(store, corpus.activities)
        now = datetime.combine(unusual_made.START, clock(), UTC) + timedelta(days=days, hours=-12)
        rows = [_row(name, seconds) for name, seconds in _runs(store, platform, now)]
        store.close()
    title = f"A run of the scoring over {days} days of {users} people and {workloads} workloads"
    columns = (Column("seconds", "time", "s", 2), Column("differs", "differ"))
    return Table(title, columns, rows, [f"{lines:,} rows of logs"], [Budget("activities from kept days", "differs", 0)])


def _row(name: str, measured: tuple[float, int]) -> dict[str, Any]:
    return {"name": name, "seconds": round(measured[0], 2), "differs": measured[1]}


def _runs(store: Store, platform: Platform, now: datetime) -> Iterator[tuple[str, tuple[float, int]]]:
    began = time.perf_counter()
    whole = scoring.activities_of_lines(store, platform, now)
    yield "activities from the lines", (time.perf_counter() - began, 0)
    for name in ("the first run, which keeps days", "the second run"):
        began = time.perf_counter()
        scoring.run(store, platform, AuditSettings(), now)
        yield name, (time.perf_counter() - began, 0)
    began = time.perf_counter()
    kept = scoring.activities(store, platform, now)
    seconds = time.perf_counter() - began
    yield "activities from kept days", (seconds, sum(a != b for a, b in zip(whole, kept, strict=True)))


def _fill(store: Store, activities: Iterable[Activity]) -> int:
    rng = random.Random(3)
    lines = 0
    pending: dict[Rows, list[dict[str, Any]]] = {}
    for number, item in enumerate(activities):
        where, made = _rows(rng, number, item)
        pending.setdefault(where, []).extend(made)
        lines += len(made) if item.act in (Act.USED, Act.SECRET) else 0
        if len(pending[where]) > BATCH:
            _write(store, where, pending.pop(where))
    for where, made in pending.items():
        _write(store, where, made)
    return lines


def _write(store: Store, where: Rows, made: list[dict[str, Any]]) -> None:
    with store.write() as connection:
        connection.execute(insert(where), made)


def _rows(rng: random.Random, number: int, item: Activity) -> tuple[Rows, list[dict[str, Any]]]:
    if item.act is Act.LOGIN:
        return schema.events, [{"at": item.at, "kind": "login", "actor": item.who, "address": item.address, "data": {}}]
    if item.act is Act.ISSUED:
        row = {
            "cluster": "prod", "serial": str(number), "user": item.who, "profile": item.subject, "groups": ["ph:x"],
            "key_sha256": f"{number:064x}", "fingerprint": f"{number:064x}", "state": "issued", "asked_at": item.at,
            "not_after": item.at + timedelta(hours=16), "pem": "P" * 900,
        }  # fmt: skip
        return schema.certificates, [row]
    if item.act is Act.SECRET:
        cluster, _, name = item.who.partition(":")
        row = {
            "request_id": f"r-{number}", "type": "response", "cluster": cluster, "at": item.at, "operation": "read",
            "path": item.subject, "mount": "kv-prod", "user": name, "entity": "", "workload": True,
            "address": "10.40.0.7" if item.address == "pods" else item.address, "error": "", "common_name": "",
            "serial": "", "fingerprint": "", "signs": False, "hidden": False,
        }  # fmt: skip
        return schema.audit_vault, [row]
    return schema.audit_cluster, [
        {
            "cluster": "prod", "key": f"{number}-{part}", "audit_id": f"{number}-{part}", "stage": "ResponseComplete",
            "at": item.at + timedelta(seconds=rng.randrange(600)), "ended": item.at, "user": item.who,
            "groups": ["ph:x"], "verb": "list", "resource": "pods", "namespace": "payments", "name": "",
            "address": item.address, "agent": item.agent, "code": 403 if part < item.denied else 200,
            "fingerprint": "ab" * 32, "ours": True, "system": False, "changes": False,
        }
        for part in range(1 + item.count // 10)
    ]  # fmt: skip


PLATFORM = """\
apiVersion: pilothouse.dev/v1
kind: Cluster
metadata: {name: prod}
spec: {environment: prod, podCIDRs: [10.40.0.0/16], serviceCIDRs: [10.50.0.0/16], nodeCIDRs: [10.60.0.0/24]}
"""

"""How many attacks are found in a company's days, and how many innocent days are paged?

The corpus (`unusual_made.py`) is judged with the rules as they are shipped and without any feedback. A page or digest
of somebody who is not attacked that day is false. What a log shows for certain (`access.audit`) is asked in a second
table: each kind is put into a store through the same import that users have.
"""

from __future__ import annotations

import time
from collections import Counter

import unusual_certain
import unusual_made
import unusual_speed
from processes import tell
from table import Budget, Column, Row, Table

from pilothouse.access.unusual import Alert, judge

SIZES = {"full": (240, 120, 60), "tiny": (12, 6, 40)}
SEEDS = {"full": (11, 12, 13), "tiny": (11,)}
FOUND = (
    Column("attacks", "attacks"),
    Column("paged", "paged"),
    Column("seen", "paged or in a digest"),
    Column("rate", "paged", "%"),
)
FALSE = (
    Column("user_days", "user-days"),
    Column("pages", "false pages"),
    Column("digest", "false digest entries"),
    Column("per_100", "pages per 100", digits=3),
    Column("digest_per_100", "entries per 100", digits=2),
    Column("seconds", "judged in", "s", 2),
)


def answer(scale: str) -> list[Table]:
    users, workloads, days = SIZES[scale]
    attacks: Counter[str] = Counter()
    paged: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    rows: list[Row] = []
    for seed in SEEDS[scale]:
        tell(f"unusual: {users} users, {workloads} workloads, {days} days, seed {seed}")
        corpus = unusual_made.make(users, workloads, days, seed)
        began = time.perf_counter()
        alerts = list(judge(corpus.activities))
        seconds = time.perf_counter() - began
        by_day = {(item.who, item.day): item for item in alerts}
        for attack in corpus.attacks:
            attacks[attack.kind] += 1
            alert = by_day.get((attack.who, attack.day))
            paged[attack.kind] += alert is not None and alert.paged
            seen[attack.kind] += alert is not None
        rows.append(_false(f"seed {seed}", corpus, alerts, seconds))
    kinds = [
        {
            "name": kind,
            "attacks": attacks[kind],
            "paged": paged[kind],
            "seen": seen[kind],
            "rate": round(100 * paged[kind] / attacks[kind]),
        }
        for kind in sorted(attacks)
    ]
    title = f"Attacks among {users} users and {workloads} workloads in {days} days"
    budgets = [Budget(str(row["name"]), "per_100", 1.0) for row in rows]
    return [
        Table(title, FOUND, kinds),
        Table("Innocent days", FALSE, rows, budgets=budgets),
        unusual_certain.table(scale),
        unusual_speed.table(scale),
    ]


def _false(name: str, corpus: unusual_made.Corpus, alerts: list[Alert], seconds: float) -> Row:
    attacked = {(item.who, item.day) for item in corpus.attacks}
    false = [item for item in alerts if (item.who, item.day) not in attacked]
    user_days = len({(item.who, item.at.date()) for item in corpus.activities if not item.workload})
    pages = sum(item.paged for item in false)
    return {
        "name": name,
        "user_days": user_days,
        "pages": pages,
        "digest": len(false) - pages,
        "per_100": round(100 * pages / user_days, 3),
        "digest_per_100": round(100 * (len(false) - pages) / user_days, 2),
        "seconds": round(seconds, 2),
    }

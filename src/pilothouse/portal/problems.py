"""The problems page: everything that every check found, with the place and the way out; and the page of each code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, abort, render_template
from prometheus_client.core import Metric

from pilothouse.files.content import bundle_root
from pilothouse.portal.frame import NavItem, Portal, live, me, store
from pilothouse.portal.frame import portal as the_portal
from pilothouse.portal.listing import Query, page_of
from pilothouse.portal.metrics import gauge
from pilothouse.portal.text import html_of
from pilothouse.problems import Problem, Problems, Severity, ordered
from pilothouse.store import findings

blueprint = Blueprint("problems", __name__, url_prefix="/problems")
NAV = (NavItem("Problems", "problems.index", 50, "What is there"),)


@dataclass(frozen=True)
class Known:
    """`since` says when the worker first saw a problem; what the portal itself derives has no such time."""

    problems: Problems
    waiting: tuple[str, ...]
    failed: Mapping[str, str]
    since: Mapping[Problem, datetime]


def known_problems() -> Known:
    """What is derived here and what the worker found, each once."""
    found, waiting, failed = live().all_problems()
    rows = findings.current(store())
    prints = {(findings.fingerprint(item), item.cluster): item for item in found}
    since: dict[Problem, datetime] = {}
    more: list[Problem] = []
    for row in rows:
        same = prints.get((findings.fingerprint(row.problem), row.problem.cluster))
        since[same or row.problem] = row.first_seen
        if same is None:
            more.append(row.problem)
    return Known(ordered([*found, *more]), waiting, failed, since)


_KEYS = {
    "severity": lambda item: (item.severity.rank, item.sort_key),
    "code": lambda item: (item.code, item.sort_key),
    "place": lambda item: item.sort_key,
}


@blueprint.get("/")
def index() -> str:
    known = known_problems()
    query = Query.of_request(_KEYS, "severity", ("severity", "cluster", "team", "area"))
    wanted = query.filters

    def where(item: Problem) -> bool:
        return (
            ("severity" not in wanted or item.severity.value == wanted["severity"])
            and ("cluster" not in wanted or item.cluster in ("", wanted["cluster"]))
            and ("team" not in wanted or wanted["team"] in item.teams)
            and ("area" not in wanted or item.code.split("/")[0] == wanted["area"])
        )

    page = page_of(
        known.problems,
        query,
        _KEYS,
        lambda item: f"{item.code} {item.message} {item.place} {item.hint} {' '.join(item.teams)}",
        where,
    )
    counts = {severity: sum(item.severity is severity for item in known.problems) for severity in Severity}
    return render_template(
        "problems/index.html",
        page=page,
        known=known,
        counts=counts,
        clusters=live().clusters,
        teams=list(live().platform.teams),
        areas=sorted({item.code.split("/")[0] for item in known.problems}),
        mine=sorted(me().teams),
        root=the_portal().settings.platform,
    )


_CODE = re.compile(r"[a-z0-9-]+/[a-z0-9-]+\Z")


@blueprint.get("/<path:code>")
def explain(code: str) -> str:
    """What a code means: its page of `docs/problems`, and where it holds now."""
    if not _CODE.match(code):
        abort(404)
    here = [item for item in known_problems().problems if item.code == code]
    text = _doc(code)
    if text is None and not here:
        abort(404, f"no problem has the code {code}")
    return render_template(
        "problems/code.html", code=code, text=html_of(text) if text else None, found=here[:50], total=len(here)
    )


def _doc(code: str) -> str | None:
    """The Markdown of a code's page, from the checkout or the installed package."""
    path = bundle_root() / "docs" / "problems" / f"{code}.md"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def start(portal: Portal) -> None:
    def collect() -> list[Metric]:
        found, _, _ = portal.current.get().all_problems()
        rows = [row.problem for row in findings.current(portal.store)]
        counts: dict[tuple[str, ...], float] = {}
        for item in dict.fromkeys([*found, *rows]):
            key = (item.code, item.severity.value, item.cluster)
            counts[key] = counts.get(key, 0) + 1
        return [
            gauge("pilothouse_problems", "Problems by code.", ("code", "severity", "cluster"), sorted(counts.items()))
        ]

    portal.metrics.add(collect)

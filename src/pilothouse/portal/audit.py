"""The audit page: who did what, when, approved by whom. Filters in the address, the same as CSV, the chain's state."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from flask import Blueprint, Response, render_template, request, url_for

from pilothouse.access.ledger import Recorded
from pilothouse.access.permissions import Action
from pilothouse.portal.frame import NavItem, live, may, me, now, require, store
from pilothouse.portal.listing import Page, Query
from pilothouse.store import events, ledger
from pilothouse.store.events import Event

blueprint = Blueprint("audit", __name__, url_prefix="/audit")
NAV = (NavItem("Audit", "audit.index", 60, "What is there"),)
FILTERS = ("actor", "kind", "subject", "cluster", "since", "until")
CSV_ROWS = 100_000
BATCH = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of the ledger or an event, as the page shows it. `details` is one line for people."""

    number: int
    at: datetime
    kind: str
    actor: str
    subject: str
    cluster: str
    details: str
    address: str = ""
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the address asks for; `mistakes` are filters that cannot be understood, by name."""

    query: Query
    since: datetime | None
    until: datetime | None
    mistakes: dict[str, str]
    only_own: bool

    @property
    def actor(self) -> str:
        return me().user if self.only_own else self.query.filters.get("actor", "")

    def get(self, name: str) -> str:
        return self.query.filters.get(name, "")


def _wanted() -> Wanted:
    query = Query.of_request(("at",), "at", FILTERS)
    mistakes: dict[str, str] = {}
    moments: dict[str, datetime | None] = {}
    for name in ("since", "until"):
        text = query.filters.get(name, "")
        moments[name] = None
        if text:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                mistakes[name] = f"{text!r} is no date such as 2027-01-31 or 2027-01-31T03:00"
                continue
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
            # A day as the end means that whole day.
            moments[name] = moment + timedelta(days=1) if name == "until" and len(text) == 10 else moment
    return Wanted(query, moments["since"], moments["until"], mistakes, not may(Action.READ_AUDIT))


def _ledger(wanted: Wanted, limit: int, offset: int) -> tuple[list[Line], int]:
    rows, total = ledger.find(
        store(),
        ledger.Filter(
            wanted.actor,
            wanted.get("kind"),
            wanted.get("subject"),
            wanted.get("cluster"),
            wanted.query.q,
            wanted.since,
            wanted.until,
        ),
        limit,
        offset,
    )
    return [_of_ledger(row) for row in rows], total


def _of_ledger(row: Recorded) -> Line:
    entry = row.entry
    details = ", ".join(f"{name}: {_short(value)}" for name, value in entry.data.items() if value not in ("", None, []))
    return Line(row.sequence, row.at, entry.kind, entry.actor, entry.subject, entry.cluster, details, "", row.hash)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 160 else text[:159] + "…"


def _events(wanted: Wanted, limit: int, offset: int) -> tuple[list[Line], int]:
    rows, total = events.find(
        store(),
        events.Filter(
            wanted.actor, wanted.get("kind"), wanted.get("subject"), wanted.query.q, wanted.since, wanted.until
        ),
        limit,
        offset,
    )
    return [_of_event(row) for row in rows], total


def _of_event(row: Event) -> Line:
    return Line(row.id, row.at, row.kind, row.actor, row.subject, "", row.message, row.address)


_SOURCES = {"ledger": _ledger, "events": _events}


@blueprint.get("/")
def index() -> str:
    """The ledger: every step of access."""
    return _page("ledger")


@blueprint.get("/events")
def log() -> str:
    """Everything smaller: logins, jobs asked for, steps of proposals."""
    return _page("events")


def _page(source: str) -> str:
    wanted = _wanted()
    lines, total = _SOURCES[source](wanted, wanted.query.per_page, wanted.query.offset)
    arguments = {name: value for name, value in request.args.items() if name in (*FILTERS, "q") and value}
    return render_template(
        "audit/index.html",
        source=source,
        page=Page(lines, total, wanted.query, total),
        wanted=wanted,
        only_own=wanted.only_own,
        head=ledger.head(store()),
        csv_url=f"{url_for('audit.as_csv', source=source)}?{urlencode(arguments)}".rstrip("?"),
        clusters=live().clusters,
        tabs=tabs(source),
    )


def tabs(chosen: str) -> list[tuple[str, str, bool]]:
    """The logs, and what in them is unusual for those who may read all of it."""
    found = [
        ("Access ledger", url_for("audit.index"), chosen == "ledger"),
        ("Other events", url_for("audit.log"), chosen == "events"),
    ]
    if may(Action.READ_AUDIT):
        found.append(("Unusual activity", url_for("unusual.index"), chosen == "unusual"))
    return found


@blueprint.get("/<any(ledger, events):source>.csv")
def as_csv(source: str) -> Response:
    """What the page shows with the same filters, whole, for a spreadsheet."""
    wanted = _wanted()
    # Everything is read before the first byte goes out: a database that goes away must not leave half a file.
    lines: list[Line] = []
    while len(lines) < CSV_ROWS:
        batch, _ = _SOURCES[source](wanted, BATCH, len(lines))
        lines.extend(batch)
        if len(batch) < BATCH:
            break
    name = f"pilothouse-{source}-{now():%Y%m%dT%H%M}Z.csv"
    return Response(
        _csv(lines),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _csv(lines: list[Line]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(("number", "at", "kind", "actor", "subject", "cluster", "details", "address", "hash"))
    for line in lines:
        writer.writerow(
            (
                line.number,
                line.at.isoformat(),
                *(
                    inert(text)
                    for text in (
                        line.kind,
                        line.actor,
                        line.subject,
                        line.cluster,
                        line.details,
                        line.address,
                        line.hash,
                    )
                ),
            )
        )
        if buffer.tell() > 60_000:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def inert(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: https://owasp.org/www-community/attacks/CSV_Injection"""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


@blueprint.get("/verify")
def verify() -> str:
    """Follow the whole chain now. For those who may read all of it."""
    require(Action.READ_AUDIT)
    problems, head = ledger.verify(store())
    return render_template("audit/verify.html", problems=problems, head=head)

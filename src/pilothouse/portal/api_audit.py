"""`/api/v1/access/audit`: what audit logs show for certain and what is unusual, for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

from flask import Blueprint, Response, abort, request
from pydantic import BaseModel, Field

from pilothouse.access.audit.certain import Found, id_in
from pilothouse.access.permissions import Action, Person
from pilothouse.files import audit_settings
from pilothouse.portal.api import In, answer, body_of, describe
from pilothouse.portal.frame import live, me, now, portal, require, store
from pilothouse.portal.listing import Page, Query, page_of
from pilothouse.portal.unusual import KEYS, standing, text_of
from pilothouse.problems import Invalid
from pilothouse.store import findings, unusual
from pilothouse.store.findings import Finding
from pilothouse.store.unusual import Answer, Kept
from pilothouse.workflows import audit, audit_jobs

blueprint = Blueprint("api_audit", __name__, url_prefix="/api/v1/access/audit")
BASE = "/api/v1/access/audit"
PER_PAGE = 200
DAYS = 90
_SOURCES = (audit.SOURCE, audit_jobs.READING)
_SORTS: Mapping[str, Callable[[Finding], Any]] = {
    "first_seen": lambda item: (item.first_seen, item.problem.code, item.problem.message),
    "code": lambda item: (item.problem.code, item.first_seen, item.problem.message),
    "cluster": lambda item: (item.problem.cluster, item.problem.code, item.problem.message),
}


class ExpectedIn(In):
    reason: str = Field(max_length=500, description="Why it was to be expected; the ledger keeps it.")


class ExpectedOut(BaseModel):
    id: str
    by: str
    at: datetime
    reason: str


class SignOut(BaseModel):
    rule: str
    points: int
    value: str = Field(description="What was new; empty for a burst or a spike.")
    also: list[str] = Field(description="Where it was several things: the others.")
    evidence: str
    baseline: str = Field(description="What it was held against.")


class UnusualOut(BaseModel):
    id: str
    day: date
    who: str = Field(description="A user, or a workload as cluster:namespace/account.")
    workload: bool
    score: int
    standing: str = Field(description="paged, digest or expected")
    signs: list[SignOut]
    expected: ExpectedOut | None


class UnusualList(BaseModel):
    items: list[UnusualOut]
    total: int
    page: int
    pages: int


class AuditFindingOut(BaseModel):
    id: str = Field(description="By which it is called expected; empty where it cannot be.")
    code: str
    severity: str
    message: str
    hint: str
    cluster: str
    first_seen: datetime
    last_seen: datetime


class AuditFindingList(BaseModel):
    items: list[AuditFindingOut]
    total: int
    page: int
    pages: int


describe(
    "get",
    f"{BASE}/findings",
    "What audit logs show for certain, as of the worker's last run; for who may read the whole ledger.",
    answer=AuditFindingList,
    query=(
        ("q", "words that must occur"),
        ("code", "the code of a problem, such as access/open-past-end"),
        ("cluster", "a cluster"),
        ("severity", "error or warning"),
        ("sort", "first_seen, code, cluster; `-` before it for descending"),
        ("page", "from 1"),
    ),
)


@blueprint.get("/findings")
def index() -> Response:
    require(Action.READ_AUDIT)
    query = Query.of_request(_SORTS, "-first_seen", ("code", "cluster", "severity"), PER_PAGE)
    wanted = query.filters
    page: Page[Finding] = page_of(
        (item for item in findings.current(store()) if item.source in _SOURCES),
        query,
        _SORTS,
        lambda item: f"{id_in(item.problem)} {item.problem.message} {item.problem.hint}",
        lambda item: (
            wanted.get("code", item.problem.code) == item.problem.code
            and wanted.get("cluster", item.problem.cluster) == item.problem.cluster
            and wanted.get("severity", item.problem.severity.value) == item.problem.severity.value
        ),
    )
    items = [_finding(item) for item in page.items]
    return answer(AuditFindingList(items=items, total=page.total, page=page.query.page, pages=page.pages))


describe(
    "get",
    f"{BASE}/unusual",
    "Unusual days with their evidence, the newest first; for who may read the whole ledger.",
    answer=UnusualList,
    query=(
        ("q", "words that must occur"),
        ("who", "a user, or a workload as cluster:namespace/account"),
        ("standing", "paged, digest or expected"),
        ("days", "how far back, 1 to 400; 90 where it is left out"),
        ("sort", "day, score, who; `-` before it for the other way round"),
        ("page", "from 1"),
    ),
)


@blueprint.get("/unusual")
def days() -> Response:
    require(Action.READ_AUDIT)
    query = Query.of_request(KEYS, "day", ("who", "standing"), PER_PAGE)
    wanted = query.filters
    page: Page[Kept] = page_of(
        unusual.find(store(), wanted.get("who", ""), now() - timedelta(days=_days())),
        query,
        KEYS,
        text_of,
        lambda item: wanted.get("standing", standing(item)) == standing(item),
    )
    items = [_day(item) for item in page.items]
    return answer(UnusualList(items=items, total=page.total, page=page.query.page, pages=page.pages))


def _days() -> int:
    text = request.args.get("days", str(DAYS))
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and 1 <= int(text) <= 400):
        raise Invalid(f"days is {text[:20]!r}", "give a number from 1 to 400")
    return int(text)


describe(
    "post",
    f"{BASE}/{{id}}/expected",
    "Say that a finding or an unusual day was to be expected. Never of oneself.",
    body=ExpectedIn,
    answer=ExpectedOut,
    status=201,
)


@blueprint.post("/<id>/expected")
def expected(id: str) -> Response:
    kept = unusual.get(store(), id)
    known: tuple[Found, ...] = () if kept is not None else _known()
    who = kept.alert.who if kept is not None else next((item.who for item in known if item.id == id), None)
    if who is None:
        require(Action.EXPECT, Person(""))
        abort(404, f"there is no finding and no unusual day {id}")
    require(Action.EXPECT, Person(who))
    said = audit.expect(store(), id, me().user, body_of(ExpectedIn).reason, now(), lambda: known)
    if kept is None:
        audit.record_findings(store(), live().opened, _settings(), now())
    return answer(_said(said), 201)


def _known() -> tuple[Found, ...]:
    """Every finding as of now: only the judgement itself says whose doing each is."""
    return audit.all_findings(store(), live().opened, _settings(), now())


def _settings() -> audit_settings.AuditSettings:
    return audit_settings.from_file(portal().settings.data / "audit.yaml")


def _said(item: Answer) -> ExpectedOut:
    return ExpectedOut(id=item.id, by=item.by, at=item.at, reason=item.reason)


def _day(item: Kept) -> UnusualOut:
    return UnusualOut(
        id=item.id,
        day=item.alert.day,
        who=item.alert.who,
        workload=item.alert.workload,
        score=item.alert.score,
        standing=standing(item),
        signs=[
            SignOut(
                rule=sign.rule,
                points=sign.points,
                value=sign.value,
                also=list(sign.also),
                evidence=sign.evidence,
                baseline=sign.baseline,
            )
            for sign in item.alert.signals
        ],
        expected=_said(item.expected) if item.expected is not None else None,
    )


def _finding(item: Finding) -> AuditFindingOut:
    found = item.problem
    return AuditFindingOut(
        id=id_in(found),
        code=found.code,
        severity=found.severity.value,
        message=found.message,
        hint=found.hint,
        cluster=found.cluster,
        first_seen=item.first_seen,
        last_seen=item.last_seen,
    )

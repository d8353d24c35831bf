"""`/api/v1/alerts`: what fires now, silences, and what Alertmanagers have loaded, for programs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Blueprint, Response, abort, request
from pydantic import BaseModel, Field

from pilothouse.alerts.live import Board
from pilothouse.portal import firing as pages
from pilothouse.portal import silences as silence_pages
from pilothouse.portal.api import In, answer, body_of, describe
from pilothouse.portal.frame import live, now
from pilothouse.portal.listing import Query
from pilothouse.workflows import firing as workflow
from pilothouse.workflows import silences
from pilothouse.workflows.latest import Seen

blueprint = Blueprint("api_alerts", __name__, url_prefix="/api/v1/alerts")
BASE = "/api/v1/alerts"


class FiringOut(BaseModel):
    alert: str
    fingerprint: str
    team: str
    severity: str
    service: str
    since: datetime | None
    summary: str
    runbook: str
    labels: dict[str, str]
    receivers: list[str]
    state: str = Field(description="told, silenced, inhibited or muted")
    why: str = Field(description="What holds it back, in words.")
    silences: list[str]
    inhibitedBy: list[str]  # noqa: N815 - as the command line writes it
    mutedBy: list[str]  # noqa: N815
    onCall: str | None  # noqa: N815
    person: str | None
    explain: str
    expression: str


class FiringList(BaseModel):
    cluster: str
    items: list[FiringOut]
    total: int
    page: int
    pages: int
    heard: datetime | None = Field(description="When the Alertmanagers said so; null where they never did.")
    reason: str = Field(description="Why it is no newer, or empty.")
    reasons: dict[str, str] = Field(description="Alertmanagers that did not answer, and why.")


class SilenceIn(In):
    cluster: str = Field(max_length=63)
    matchers: str = Field(max_length=2_000, description='Such as {team="payments",alertname="SqlSlow"}.')
    seconds: int = Field(ge=1)
    comment: str = Field(max_length=2_000)


class SilenceOut(BaseModel):
    id: str
    state: str
    matchers: list[str]
    startsAt: datetime  # noqa: N815
    endsAt: datetime  # noqa: N815
    createdBy: str  # noqa: N815
    comment: str
    servers: list[str]


class SilenceList(BaseModel):
    cluster: str
    items: list[SilenceOut]
    heard: datetime | None
    reason: str
    reasons: dict[str, str]


class DifferenceOut(BaseModel):
    part: str
    subject: str
    rendered: str
    loaded: str
    teams: list[str]


class LoadedOut(BaseModel):
    server: str
    version: str
    differences: list[DifferenceOut]
    reason: str


class LoadedList(BaseModel):
    cluster: str
    items: list[LoadedOut]
    heard: datetime | None
    reason: str


def _cluster(name: str) -> str:
    if name not in live().platform.clusters:
        abort(404, f"no cluster {name!r} is declared: name one with `cluster`")
    return name


def _heard(seen: Seen[Board]) -> dict[str, Any]:
    reasons = dict(seen.value.reasons) if seen.value else {}
    return {"heard": seen.at, "reason": seen.reason, "reasons": reasons}


describe(
    "get",
    f"{BASE}/firing",
    "What fires now on a cluster.",
    answer=FiringList,
    query=(
        ("cluster", "name of the cluster"),
        ("q", "words that must occur"),
        ("team", "name of a team"),
        ("severity", "page, ticket or info"),
        ("state", "told, silenced, inhibited or muted"),
        ("receiver", "name of a receiver"),
        ("sort", "state, alert, team, severity, since; `-` before it for descending"),
        ("page", "from 1"),
    ),
)


@blueprint.get("/firing")
def firing() -> Response:
    cluster = _cluster(request.args.get("cluster", ""))
    seen = pages.board_of(cluster)
    page = pages.chosen(seen.value or Board(), Query.of_request(pages.SORTS, "state", pages.FILTERS, per_page=200))
    found = workflow.firing(seen.value, live().platform, now(), page.items) if seen.value else ()
    items = [FiringOut(**workflow.as_data(item)) for item in found]
    return answer(
        FiringList(
            cluster=cluster, items=items, total=page.total, page=page.query.page, pages=page.pages, **_heard(seen)
        )
    )


describe(
    "get",
    f"{BASE}/silences",
    "Silences that hold now or will.",
    answer=SilenceList,
    query=(("cluster", "name of the cluster"),),
)


@blueprint.get("/silences")
def silence_list() -> Response:
    cluster = _cluster(request.args.get("cluster", ""))
    seen = pages.board_of(cluster)
    found = workflow.silences_in_force(seen.value) if seen.value else ()
    items = [SilenceOut(**workflow.silence_data(item)) for item in found]
    return answer(SilenceList(cluster=cluster, items=items, **_heard(seen)))


describe("post", f"{BASE}/silences", "Hold alerts back.", body=SilenceIn, answer=SilenceOut, status=201)


@blueprint.post("/silences")
def silence() -> Response:
    given = body_of(SilenceIn)
    made = silence_pages.make(_cluster(given.cluster), silences.wanted(given.matchers, given.seconds, given.comment))
    return answer(SilenceOut(**workflow.silence_data(made)), 201)


describe("delete", f"{BASE}/silences/{{cluster}}/{{id}}", "End a silence now.", answer=SilenceOut)


@blueprint.delete("/silences/<cluster>/<id>")
def end(cluster: str, id: str) -> Response:
    return answer(SilenceOut(**workflow.silence_data(silence_pages.finish(_cluster(cluster), id))))


describe(
    "get",
    f"{BASE}/loaded",
    "Where the configuration that each Alertmanager has loaded differs in meaning from the rendered one.",
    answer=LoadedList,
    query=(("cluster", "name of the cluster"),),
)


@blueprint.get("/loaded")
def loaded() -> Response:
    cluster = _cluster(request.args.get("cluster", ""))
    seen = pages.loaded_of(cluster)
    items = [
        LoadedOut(
            server=item.server,
            version=item.version,
            reason=item.reason,
            differences=[
                DifferenceOut(
                    part=one.part,
                    subject=one.subject,
                    rendered=one.rendered,
                    loaded=one.loaded,
                    teams=list(one.teams),
                )
                for one in item.differences
            ],
        )
        for item in seen.value or ()
    ]
    return answer(LoadedList(cluster=cluster, items=items, heard=seen.at, reason=seen.reason))

"""`/api/v1/access/who-can` and `what-can`: who could do something, and what somebody can do."""

from __future__ import annotations

from datetime import datetime

from flask import Blueprint, Response, request
from pydantic import BaseModel, Field

from pilothouse.access import can_i
from pilothouse.access.can_i import Grantor
from pilothouse.access.history import Living
from pilothouse.portal.api import answer, describe
from pilothouse.portal.frame import me, now, store
from pilothouse.portal.reach import opened
from pilothouse.problems import Invalid
from pilothouse.workflows import reach

blueprint = Blueprint("api_reach", __name__, url_prefix="/api/v1/access")
BASE = "/api/v1/access"


class HeldOut(BaseModel):
    cluster: str
    serial: str
    user: str
    profile: str
    groups: list[str]
    issued_at: datetime
    not_after: datetime
    fingerprint: str
    request: str = Field(description="The request for an elevated profile, or empty.")
    approved_by: str
    reason: str
    locked: bool


class ByOut(BaseModel):
    binding: str
    role: str
    rule: dict[str, object] = Field(description="The PolicyRule; empty where the role is not known.")


class WayOut(BaseModel):
    kind: str = Field(description="Of the binding's subject: User, Group or ServiceAccount.")
    subject: str
    by: ByOut
    profile: str = Field(description="Empty for a subject that is not of pilothouse.")
    team: str
    elevated: bool = Field(description="Needs a request of its own.")
    approvers: list[str] = Field(description="Directory groups that must agree.")
    groups: list[str] = Field(description="Directory groups that may have it.")
    people: list[str]
    certificates: list[HeldOut]


class WhoCanOut(BaseModel):
    question: str
    cluster: str
    at: datetime
    commit: str
    ways: list[WayOut]
    notes: list[str]


class RightOut(BaseModel):
    cluster: str
    profile: str
    team: str
    elevated: bool
    group: str
    namespace: str = Field(description="Empty: all of them.")
    by: ByOut


class WhatCanOut(BaseModel):
    user: str
    teams: list[str]
    groups: list[str]
    rights: list[RightOut]
    certificates: list[HeldOut]
    locked: str = Field(description="The lock that holds on them, in a sentence, or empty.")
    notes: list[str]


describe(
    "get",
    f"{BASE}/who-can",
    "Who could do that on a cluster: through which profile, binding, certificate and approval.",
    answer=WhoCanOut,
    query=(
        ("verb", "such as delete"),
        ("resource", "as kubectl takes it: pods, deploy/scale, widgets.example.org, or a path"),
        ("name", "of one object"),
        ("namespace", "left out: all of them, or none"),
        ("cluster", "a cluster"),
        ("at", "a moment that has passed (ISO 8601); left out: now"),
    ),
)


@blueprint.get("/who-can")
def who_can() -> Response:
    given = request.args
    verb, resource, cluster = (given.get(name, "") for name in ("verb", "resource", "cluster"))
    if not verb or not resource or not cluster:
        raise Invalid("a question has a verb, a resource and a cluster", "pilothouse access who-can get pods -c dev")
    question = can_i.question(verb, resource, given.get("namespace", ""), given.get("name", ""))
    at = reach.moment_of(given["at"]) if given.get("at") else None
    found = reach.who_can(store(), opened(), me(), question, cluster, now(), at)
    return answer(
        WhoCanOut(
            question=found.question,
            cluster=found.cluster,
            at=found.at,
            commit=found.commit,
            notes=list(found.notes),
            ways=[
                WayOut(
                    kind=way.subject.kind,
                    subject=way.subject.name,
                    by=_by(way.by),
                    profile=way.profile,
                    team=way.team,
                    elevated=way.elevated,
                    approvers=list(way.approvers),
                    groups=list(way.groups),
                    people=list(way.people),
                    certificates=[_held(item) for item in way.certificates],
                )
                for way in found.ways
            ],
        )
    )


describe(
    "get",
    f"{BASE}/what-can/{{user}}",
    "Everything that a person can do, and the certificates that they hold; one's own, or all where one may read the"
    " ledger.",
    answer=WhatCanOut,
    query=(("cluster", "a cluster; left out: all of them"),),
)


@blueprint.get("/what-can/<user>")
def what_can(user: str) -> Response:
    found = reach.what_can(store(), opened(), me(), user, now(), request.args.get("cluster", ""))
    return answer(
        WhatCanOut(
            user=found.user,
            teams=list(found.teams),
            groups=list(found.groups),
            certificates=[_held(item) for item in found.certificates],
            locked=found.locked.sentence if found.locked else "",
            notes=list(found.notes),
            rights=[
                RightOut(
                    cluster=right.cluster,
                    profile=right.profile,
                    team=right.team,
                    elevated=right.elevated,
                    group=right.group,
                    namespace=right.namespace,
                    by=_by(right.by),
                )
                for right in found.rights
            ],
        )
    )


def _by(grantor: Grantor) -> ByOut:
    return ByOut(binding=grantor.binding, role=grantor.role, rule=dict(grantor.rule))


def _held(item: Living) -> HeldOut:
    return HeldOut(
        cluster=item.cluster,
        serial=item.serial,
        user=item.user,
        profile=item.profile,
        groups=sorted(item.groups),
        issued_at=item.issued_at,
        not_after=item.not_after,
        fingerprint=item.fingerprint,
        request=item.request,
        approved_by=item.approved_by,
        reason=item.reason,
        locked=item.locked,
    )

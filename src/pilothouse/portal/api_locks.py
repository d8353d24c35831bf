"""`/api/v1/access/locks`: the page of locks for programs; the command line uses nothing else."""

from __future__ import annotations

from datetime import datetime

from flask import Blueprint, Response, request
from pydantic import BaseModel, Field

from pilothouse.access.locks import Lock
from pilothouse.portal.access_desk import desk
from pilothouse.portal.api import In, answer, body_of, describe
from pilothouse.portal.frame import live, me, now, store
from pilothouse.workflows import locks
from pilothouse.workflows.locks import Step

blueprint = Blueprint("api_locks", __name__, url_prefix="/api/v1/access/locks")
BASE = "/api/v1/access/locks"


class LockIn(In):
    subject: str = Field(max_length=200, description="A user's name, or a certificate's serial or SHA-256.")
    reason: str = Field(max_length=2_000)
    seconds: int = Field(default=0, ge=0, le=366 * 24 * 3600, description="0: until somebody lifts it.")
    anyway: bool = Field(default=False, description="Lock a name that nobody here has yet.")


class LiftIn(In):
    subject: str = Field(max_length=200)
    why: str = Field(default="", max_length=2_000)


class LockOut(BaseModel):
    id: str
    kind: str = Field(description="user or certificate")
    subject: str = Field(description="The user's name, or the certificate's serial.")
    user: str = Field(description="Whose access it ends.")
    cluster: str
    fingerprint: str
    by: str
    reason: str
    at: datetime
    until: datetime | None = Field(description="Null: until somebody lifts it.")
    holds: bool
    lifted_at: datetime | None
    lifted_by: str
    lifted_why: str
    sessions: int = Field(default=0, description="How many sessions ended with it, in the answer that set it.")
    requests: list[str] = Field(default=[], description="What became of elevations that ended with it, likewise.")
    unheld: list[str] = Field(
        default=[], description="Certificates that an API server goes on accepting, and what ends them, likewise."
    )
    untold: str = Field(default="", description="Why nobody could be told, where that is so.")


class LockList(BaseModel):
    items: list[LockOut]
    narrowed: str = Field(description="Why only the caller's own locks are listed, where that is so.")


describe(
    "get",
    BASE,
    "Locks of people and certificates, the newest first; one's own, or all where one may read the ledger.",
    answer=LockList,
    query=(("past", "yes: also those that do not hold any more"),),
)


@blueprint.get("")
def index() -> Response:
    found = locks.listing(store(), live().platform, me(), now(), request.args.get("past") == "yes")
    return answer(LockList(items=[_lock(shown.lock) for shown in found.items], narrowed=found.narrowed))


describe("post", BASE, "Lock a person or a certificate.", body=LockIn, answer=LockOut, status=201)


@blueprint.post("")
def put() -> Response:
    given = body_of(LockIn)
    step = locks.lock(
        desk(), live().platform, me(), given.subject, given.reason, given.seconds, now(), anyway=given.anyway
    )
    return answer(_step(step), 201)


describe("post", f"{BASE}/lift", "Lift the lock on a person or a certificate.", body=LiftIn, answer=LockOut)


@blueprint.post("/lift")
def lift() -> Response:
    given = body_of(LiftIn)
    return answer(_step(locks.unlock(desk(), live().platform, me(), given.subject, given.why, now())))


def _step(step: Step) -> LockOut:
    ended = [f"{item.id}: {item.meaning}" for item in step.requests]
    return _lock(step.lock, step.sessions, step.untold).model_copy(
        update={"requests": ended, "unheld": list(step.unheld)}
    )


def _lock(item: Lock, sessions: int = 0, untold: str = "") -> LockOut:
    return LockOut(
        id=item.id,
        kind=item.target.kind.value,
        subject=item.target.subject,
        user=item.target.user,
        cluster=item.target.cluster,
        fingerprint=item.target.fingerprint,
        by=item.by,
        reason=item.reason,
        at=item.at,
        until=item.until,
        holds=item.holds(now()),
        lifted_at=item.lifted_at,
        lifted_by=item.lifted_by,
        lifted_why=item.lifted_why,
        sessions=sessions,
        untold=untold,
    )

"""Proposed changes of declarations on their way to Git: who wrote what, who must agree, who did, what came of it.

A proposal is a state machine; each step is one transaction that also writes the history, in which every
version of the document stays. `version` goes up with every step: a caller names the version it has seen,
and gets `Conflict` when somebody else was faster.

    draft → submitted → approved → committed
              ↓ ↑          ↓ ↑
           rejected      failed          (withdrawn: from every state but committed)

Whoever edits sends it back to draft, and every agreement given before is void.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, true, update

from pilothouse.problems import Conflict, Denied, Invalid
from pilothouse.store.database import Store
from pilothouse.store.schema import proposal_history, proposal_reviews, proposals


class State(StrEnum):
    DRAFT = "draft"
    SUBMITTED = "submitted"
    APPROVED = "approved"
    REJECTED = "rejected"
    COMMITTED = "committed"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


OPEN = frozenset((State.DRAFT, State.SUBMITTED, State.APPROVED, State.REJECTED, State.FAILED))
SECOND_PERSON = "second-person"
"""Roles that start so are for somebody other than the author."""
EDITABLE = OPEN - {State.APPROVED}


@dataclass(frozen=True, slots=True)
class Requirement:
    """Somebody who must agree: `role` is `team:NAME` or `second-person:NAME` (of that team), and why, in words."""

    role: str
    why: str


@dataclass(frozen=True, slots=True)
class Review:
    role: str
    reviewer: str
    decision: str
    """`approved` or `rejected`."""
    at: datetime
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of the history: `step` is what was done, `state` what it led to, `document` the text at that time."""

    version: int
    at: datetime
    actor: str
    step: str
    state: State
    comment: str = ""
    document: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """What an author writes. `base` is the Git commit it was written against and `before` the text at that commit;
    `path` is the file in the repository; `data` anything else that the page wants back (JSON)."""

    kind: str
    subject: str
    team: str
    document: str
    title: str = ""
    reason: str = ""
    base: str = ""
    path: str = ""
    before: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proposal:
    id: int
    draft: Draft
    state: State
    version: int
    author: str
    created_at: datetime
    updated_at: datetime
    required: tuple[Requirement, ...] = ()
    reviews: tuple[Review, ...] = ()
    commit: str = ""
    error: str = ""

    @property
    def outstanding(self) -> tuple[Requirement, ...]:
        """Whose agreement is still missing."""
        agreed = {review.role for review in self.reviews if review.decision == "approved"}
        return tuple(item for item in self.required if item.role not in agreed)


def create(store: Store, draft: Draft, author: str, now: datetime) -> Proposal:
    with store.write() as connection:
        result = connection.execute(
            insert(proposals).values(
                **_columns(draft),
                state=State.DRAFT,
                version=1,
                author=author,
                required=[],
                created_at=now,
                updated_at=now,
            )
        )
        identifier = int((result.inserted_primary_key or (0,))[0])
        _remember(connection, identifier, 1, now, author, "created", State.DRAFT, "", draft.document)
        return _get(connection, identifier)


def _columns(draft: Draft) -> dict[str, Any]:
    return {name: getattr(draft, name) for name in _DRAFT} | {"data": dict(draft.data)}


_DRAFT = ("kind", "subject", "team", "document", "title", "reason", "base", "path", "before")


def edit(store: Store, identifier: int, version: int, draft: Draft, actor: str, now: datetime) -> Proposal:
    """Replace what is proposed; it is a draft again and has to be submitted anew."""
    with store.write() as connection:
        _step(connection, identifier, version, EDITABLE, "edited")
        connection.execute(delete(proposal_reviews).where(proposal_reviews.c.proposal_id == identifier))
        return _move(
            connection, identifier, State.DRAFT, now, actor, "edited", required=[], error="", **_columns(draft)
        )


def submit(
    store: Store,
    identifier: int,
    version: int,
    required: Iterable[Requirement],
    actor: str,
    now: datetime,
    standing: str = "",
) -> Proposal:
    """Ask those who must agree. With nobody to ask it is approved at once. `standing` says what that was found from;
    it is kept in `data` until somebody edits."""
    roles = [{"role": item.role, "why": item.why} for item in required]
    with store.write() as connection:
        states = frozenset((State.DRAFT, State.REJECTED, State.FAILED))
        now_is = _step(connection, identifier, version, states, "submitted")
        connection.execute(delete(proposal_reviews).where(proposal_reviews.c.proposal_id == identifier))
        state = State.SUBMITTED if roles else State.APPROVED
        data = {**now_is.draft.data, "standing": standing}
        return _move(connection, identifier, state, now, actor, "submitted", required=roles, error="", data=data)


def review(
    store: Store,
    identifier: int,
    version: int,
    role: str,
    reviewer: str,
    approve: bool,
    now: datetime,
    comment: str = "",
) -> Proposal:
    """One of those who must agree says yes or no; whether that person holds the role is for the caller to check.

    The last yes makes it approved, the first no rejected. For a role of `SECOND_PERSON` the author is refused
    (`Denied`), whatever the caller found.
    """
    with store.write() as connection:
        now_is = _step(connection, identifier, version, frozenset((State.SUBMITTED,)), "reviewed")
        if reviewer == now_is.author and role.startswith(SECOND_PERSON):
            raise Denied("the second person must be another one than the author", "ask another approver of the team")
        if role not in {item.role for item in now_is.outstanding}:
            raise Conflict(f"nobody waits for `{role}` on proposal {identifier}", "read it again")
        connection.execute(
            insert(proposal_reviews).values(
                proposal_id=identifier,
                role=role,
                reviewer=reviewer,
                decision="approved" if approve else "rejected",
                comment=comment,
                at=now,
            )
        )
        left = {item.role for item in now_is.outstanding} - {role}
        state = State.REJECTED if not approve else State.SUBMITTED if left else State.APPROVED
        return _move(connection, identifier, state, now, reviewer, f"{'agreed' if approve else 'refused'}", comment)


def committed(store: Store, identifier: int, version: int, commit: str, actor: str, now: datetime) -> Proposal:
    """It is in Git as `commit`."""
    with store.write() as connection:
        _step(connection, identifier, version, frozenset((State.APPROVED,)), "committed")
        return _move(connection, identifier, State.COMMITTED, now, actor, "committed", commit, commit=commit, error="")


def failed(store: Store, identifier: int, version: int, error: str, actor: str, now: datetime) -> Proposal:
    """Git did not take it; `error` says why. `retry` tries again."""
    with store.write() as connection:
        _step(connection, identifier, version, frozenset((State.APPROVED,)), "marked as failed")
        return _move(connection, identifier, State.FAILED, now, actor, "failed", error, error=error)


def retry(store: Store, identifier: int, version: int, actor: str, now: datetime) -> Proposal:
    """A failed one is approved again: nothing that was agreed is lost by a failure of ours."""
    with store.write() as connection:
        _step(connection, identifier, version, frozenset((State.FAILED,)), "tried again")
        return _move(connection, identifier, State.APPROVED, now, actor, "tried again", error="")


def withdraw(store: Store, identifier: int, version: int, actor: str, now: datetime, comment: str = "") -> Proposal:
    with store.write() as connection:
        _step(connection, identifier, version, OPEN, "withdrawn")
        return _move(connection, identifier, State.WITHDRAWN, now, actor, "withdrawn", comment)


def _step(connection: Connection, identifier: int, version: int, states: frozenset[State], what: str) -> Proposal:
    proposal = _get(connection, identifier)
    if proposal.version != version:
        raise Conflict(
            f"proposal {identifier} was changed in the meantime (it is version {proposal.version}, you saw {version})",
            "look at what changed, then try again",
        )
    if proposal.state not in states:
        raise Conflict(f"proposal {identifier} is {proposal.state} and cannot be {what}", "read it again")
    return proposal


def _move(
    connection: Connection,
    identifier: int,
    state: State,
    now: datetime,
    actor: str,
    step: str,
    comment: str = "",
    **values: Any,
) -> Proposal:
    connection.execute(
        update(proposals)
        .where(proposals.c.id == identifier)
        .values(state=state, version=proposals.c.version + 1, updated_at=now, **values)
    )
    proposal = _get(connection, identifier)
    _remember(connection, identifier, proposal.version, now, actor, step, state, comment, proposal.draft.document)
    return proposal


def _remember(
    connection: Connection,
    identifier: int,
    version: int,
    now: datetime,
    actor: str,
    step: str,
    state: State,
    comment: str,
    document: str,
) -> None:
    connection.execute(
        insert(proposal_history).values(
            proposal_id=identifier,
            version=version,
            at=now,
            actor=actor,
            step=step,
            state=state,
            comment=comment,
            document=document,
        )
    )


def get(store: Store, identifier: int) -> Proposal:
    """`Invalid` when there is none of that number."""
    with store.read() as connection:
        return _get(connection, identifier)


def _get(connection: Connection, identifier: int) -> Proposal:
    found = _load(connection, proposals.c.id == identifier)
    if not found:
        raise Invalid(f"there is no proposal {identifier}")
    return found[0]


def find(
    store: Store,
    *,
    states: Iterable[State] = (),
    kind: str = "",
    team: str = "",
    author: str = "",
    subject: str = "",
    limit: int = 50,
    offset: int = 0,
) -> tuple[tuple[Proposal, ...], int]:
    """A page of proposals, the last changed first, and how many there are in all."""
    where = _where(states, kind, team, author, subject)
    with store.read() as connection:
        total = connection.execute(select(func.count()).select_from(proposals).where(where)).scalar_one()
        return _load(connection, where, limit, offset), total


def _where(states: Iterable[State], kind: str, team: str, author: str, subject: str) -> ColumnElement[bool]:
    parts: list[ColumnElement[bool]] = [true()]
    wanted = tuple(states)
    if wanted:
        parts.append(proposals.c.state.in_(wanted))
    for column, value in (
        (proposals.c.kind, kind),
        (proposals.c.team, team),
        (proposals.c.author, author),
        (proposals.c.subject, subject),
    ):
        if value:
            parts.append(column == value)
    return and_(*parts)


def awaiting(store: Store, limit: int = 1000) -> tuple[Proposal, ...]:
    """Every proposal that waits for somebody's agreement, the last changed first."""
    with store.read() as connection:
        return _load(connection, proposals.c.state == State.SUBMITTED, limit)


def history(store: Store, identifier: int) -> tuple[Step, ...]:
    """Every step, the oldest first."""
    with store.read() as connection:
        rows = connection.execute(
            select(proposal_history).where(proposal_history.c.proposal_id == identifier).order_by(proposal_history.c.id)
        )
        return tuple(
            Step(row.version, row.at, row.actor, row.step, State(row.state), row.comment, row.document) for row in rows
        )


def _load(connection: Connection, where: ColumnElement[bool], limit: int = 1, offset: int = 0) -> tuple[Proposal, ...]:
    rows = (
        connection.execute(
            select(proposals)
            .where(where)
            .order_by(proposals.c.updated_at.desc(), proposals.c.id.desc())
            .limit(limit)
            .offset(offset)
        )
        .mappings()
        .all()
    )
    reviews: dict[int, list[Review]] = {}
    for row in connection.execute(
        select(proposal_reviews)
        .where(proposal_reviews.c.proposal_id.in_([row["id"] for row in rows]))
        .order_by(proposal_reviews.c.at)
    ):
        reviews.setdefault(row.proposal_id, []).append(
            Review(row.role, row.reviewer, row.decision, row.at, row.comment)
        )
    return tuple(
        Proposal(
            id=row["id"],
            draft=Draft(**{name: row[name] for name in _DRAFT}, data=row["data"]),
            state=State(row["state"]),
            version=row["version"],
            author=row["author"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            required=tuple(Requirement(item["role"], item["why"]) for item in row["required"]),
            reviews=tuple(reviews.get(row["id"], ())),
            commit=row["commit"],
            error=row["error"],
        )
        for row in rows
    )

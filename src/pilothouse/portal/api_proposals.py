"""`/api/v1/proposals`: the egress pages for programs, by the same steps. Items of a list count from 1 here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from flask import Blueprint, Response, request
from pydantic import BaseModel, Field, model_validator

from pilothouse.policies.compare import effect
from pilothouse.portal import egress_desk
from pilothouse.portal.api import ErrorOut, In, ProblemOut, answer, body_of, describe, problem_of
from pilothouse.portal.frame import live, me, store
from pilothouse.problems import Invalid, Problem, has_errors
from pilothouse.store import proposals
from pilothouse.store.proposals import Proposal, State
from pilothouse.workflows import commits, egress
from pilothouse.workflows import proposals as steps
from pilothouse.workflows.egress import Preview
from pilothouse.workflows.proposals import Desk

blueprint = Blueprint("api_proposals", __name__, url_prefix="/api/v1/proposals")
BASE = "/api/v1/proposals"
PER_PAGE = 100

Number = Annotated[int, Field(ge=1, le=10_000)]
Key = Annotated[str, Field(max_length=130)]


class ChangeIn(In):
    """A change of a service: the whole text of its file, or items of `egress` that are added and removed."""

    service: str = Field(max_length=130, description="`namespace/name`")
    text: str | None = Field(default=None, description="The whole file as it should be.")
    add: list[dict[str, Any]] = Field(
        default_factory=list,
        max_length=200,
        description="Items of `egress`, such as `{'to': {'service': 'ledger/ledger'}}`.",
    )
    remove: list[Number] = Field(default_factory=list, max_length=200, description="Items of `egress`, counted from 1.")
    asks: list[Key] = Field(
        default_factory=list,
        max_length=200,
        description="Services that do not let it in yet, though it declares to go there: their teams are asked to.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> ChangeIn:
        if self.text is not None and (self.add or self.remove):
            raise ValueError("give either `text`, or `add` and `remove`")
        return self


class ProposalIn(ChangeIn):
    title: str = Field(default="", max_length=180)
    reason: str = Field(default="", max_length=5_000, description="Becomes part of the commit.")
    submit: bool = Field(default=True, description="False keeps it as a draft.")


class RevisionIn(In):
    version: int = Field(ge=1, description="The version that was seen.")
    text: str
    title: str = Field(default="", max_length=180)
    reason: str = Field(default="", max_length=5_000)
    asks: list[Key] | None = Field(default=None, max_length=200, description="Null leaves them as they were.")


class StepIn(In):
    version: int = Field(ge=1, description="The version that was seen.")
    comment: str = Field(default="", max_length=2_000)


class AgreementIn(StepIn):
    approve: bool
    role: str = Field(default="", max_length=200, description="Empty where the caller may agree in one role only.")


class PlacedProblemOut(ProblemOut):
    excerpt: str = Field(description="The line that it is about.")
    width: int = Field(description="How many characters of it.")


class NeededOut(BaseModel):
    role: str = Field(description="`team:NAME` or `second-person:NAME`")
    team: str
    why: str


class PreviewOut(BaseModel):
    service: str
    summary: str
    can_submit: bool
    problems: list[PlacedProblemOut]
    effects: dict[str, dict[str, Any]] = Field(description="By cluster: what appears and what goes.")
    needed: list[NeededOut] = Field(description="Who must agree; nobody: it is committed when it is submitted.")
    others: list[str] = Field(description="Documents of other services that change along.")
    asks: list[str] = Field(description="Services that are asked to let it in.")
    diff: str
    document: str = Field(description="The whole text of the service's file.")


class RequirementOut(NeededOut):
    agreed_by: str


class ReviewOut(BaseModel):
    role: str
    reviewer: str
    decision: str
    comment: str
    at: datetime


class ProposalOut(BaseModel):
    number: int
    service: str
    team: str
    title: str
    reason: str
    state: str
    version: int
    author: str
    summary: str = Field(description="The effect when it was written, in a line.")
    required: list[RequirementOut]
    reviews: list[ReviewOut]
    mine: list[str] = Field(description="The roles in which the caller may agree now.")
    commit: str
    error: str
    created_at: datetime
    updated_at: datetime


class ProposalStepOut(BaseModel):
    version: int
    at: datetime
    actor: str
    step: str
    state: str
    comment: str


class ProposalDetailOut(ProposalOut):
    document: str
    diff: str
    preview: PreviewOut | None = Field(description="The effect on the platform as it is now, while it is open.")
    unknown: str = Field(description="Why there is no such preview, where that is so.")
    history: list[ProposalStepOut]


class ProposalList(BaseModel):
    items: list[ProposalOut]
    total: int


# ---------------------------------------------------------------- reading

describe(
    "get",
    BASE,
    "Proposals, the last changed first.",
    answer=ProposalList,
    query=(
        ("state", "draft, submitted, approved, committed, rejected, failed or withdrawn"),
        ("author", "a user"),
        ("team", "a team"),
        ("service", "namespace/name"),
        ("waiting", "`yes`: those that wait for the caller's agreement"),
        ("page", "from 1"),
    ),
)


@blueprint.get("")
def index() -> Response:
    if request.args.get("waiting") == "yes":
        waiting = steps.waiting_for(store(), me(), live().platform)
        return answer(ProposalList(items=[_proposal(item) for item in waiting], total=len(waiting)))
    state = request.args.get("state", "")
    if state and state not in {item.value for item in State}:
        raise Invalid(f"{state!r} is no state of a proposal", ", ".join(State))
    page = request.args.get("page", "1")
    if not page.isdigit() or not 1 <= int(page) <= 1_000_000:
        raise Invalid(f"{page!r} is no page", "pages count from 1")
    found, total = proposals.find(
        store(),
        states=[State(state)] if state else (),
        kind=egress.KIND,
        author=request.args.get("author", ""),
        team=request.args.get("team", ""),
        subject=request.args.get("service", ""),
        limit=PER_PAGE,
        offset=(int(page) - 1) * PER_PAGE,
    )
    return answer(ProposalList(items=[_proposal(item) for item in found], total=total))


describe("get", f"{BASE}/{{number}}", "One proposal with its difference, effect and history.", answer=ProposalDetailOut)


@blueprint.get("/<int:number>")
def show(number: int) -> Response:
    return _detail(proposals.get(store(), number))


# ---------------------------------------------------------------- writing

describe(
    "post",
    f"{BASE}/preview",
    "What a change would do: its problems, its effect on each cluster, and who must agree. Nothing is stored.",
    body=ChangeIn,
    answer=PreviewOut,
)


@blueprint.post("/preview")
def preview() -> Response:
    here = egress_desk.desk()
    return answer(_preview(here, _looked_at(here, body_of(ChangeIn))))


describe("post", BASE, "Propose a change.", body=ProposalIn, answer=ProposalDetailOut, status=201)


@blueprint.post("")
def create() -> Response:
    given = body_of(ProposalIn)
    here = steps.settled(egress_desk.desk())  # items are added to the text as it is, not as it was a moment ago
    found = _looked_at(here, given)
    egress.require_may(egress.may_propose(me(), found.target.service, here.platform))
    if given.submit:
        if has_errors(found.problems):
            return _refused(found)
        egress.require_submittable(found, given.reason)
    elif not found.files:
        raise Invalid("nothing is changed", "give another `text`, or something to `add`, `remove` or ask for")
    kept = steps.save(here, found, me(), given.title, given.reason)
    if given.submit:
        kept = steps.submit(here, kept, kept.version, me())
        egress_desk.after(kept, "submitted")
    return _detail(kept, 201)


describe(
    "put",
    f"{BASE}/{{number}}",
    "Write one's own proposal anew: it is a draft again, and every agreement is void.",
    body=RevisionIn,
    answer=ProposalDetailOut,
)


@blueprint.put("/<int:number>")
def revise(number: int) -> Response:
    given = body_of(RevisionIn)
    here = egress_desk.desk()
    earlier = proposals.get(store(), number)
    asks = steps.asks_of(earlier) if given.asks is None else given.asks
    found = egress_desk.preview(here, earlier.draft.subject, given.text, asks)
    return _detail(steps.save(here, found, me(), given.title, given.reason, earlier, given.version))


# ---------------------------------------------------------------- steps

describe(
    "post",
    f"{BASE}/{{number}}/decide",
    "Agree or refuse; the last agreement commits it. A refusal needs a comment.",
    body=AgreementIn,
    answer=ProposalDetailOut,
)


@blueprint.post("/<int:number>/decide")
def decide(number: int) -> Response:
    given = body_of(AgreementIn)
    found = proposals.get(store(), number)
    here = egress_desk.desk()
    role = given.role or steps.only_role(found, me(), here.platform)
    kept = steps.decide(here, found, given.version, role, me(), given.approve, given.comment)
    egress_desk.after(kept, "agreed" if given.approve else "refused")
    return _detail(kept)


_STEPS = {
    "submit": "Ask those who must agree; where nobody must, it is committed at once.",
    "withdraw": "Take one's own proposal back.",
    "retry": "Commit a failed proposal again, with the agreements given.",
}
_DONE = {"submit": "submitted", "withdraw": "withdrawn", "retry": "retried"}
for _word, _summary in _STEPS.items():
    describe("post", f"{BASE}/{{number}}/{_word}", _summary, body=StepIn, answer=ProposalDetailOut)


@blueprint.post("/<int:number>/<any(submit, withdraw, retry):word>")
def step(number: int, word: str) -> Response:
    given = body_of(StepIn)
    found = proposals.get(store(), number)
    here = egress_desk.desk()
    match word:
        case "submit":
            kept = steps.submit(here, found, given.version, me())
        case "withdraw":
            kept = steps.withdraw(here, found, given.version, me(), given.comment)
        case _:
            kept = steps.retry(here, found, given.version, me())
    egress_desk.after(kept, _DONE[word])
    return _detail(kept)


# ---------------------------------------------------------------- in words and numbers


def _looked_at(here: Desk, given: ChangeIn) -> Preview:
    target = egress.target(here.opened, given.service)
    text = given.text
    if text is None:
        text = egress.with_edges(target.text, given.service, given.add, [number - 1 for number in given.remove])
    return egress_desk.preview(here, given.service, text, given.asks)


def _refused(found: Preview) -> Response:
    body = ErrorOut(
        title="That cannot be used",
        status=422,
        detail="the change has errors",
        hint="mend them first, or keep it as a draft",
        errors=[item.model_dump() for item in _problems(found.problems)],
    )
    return Response(body.model_dump_json(), 422, content_type="application/problem+json")


def _preview(here: Desk, found: Preview) -> PreviewOut:
    return PreviewOut(
        service=found.target.service.key,
        summary=found.summary,
        can_submit=found.can_submit,
        problems=_problems(found.problems),
        effects={cluster: effect.as_data(item) for cluster, item in found.effects.items()},
        needed=[NeededOut(role=item.role, team=item.team, why=item.why) for item in found.needed],
        others=list(found.others),
        asks=list(found.asks),
        diff=egress_desk.diff(here, found),
        document=found.files.get(found.target.path, found.target.text),
    )


def _problems(found: Iterable[Problem]) -> list[PlacedProblemOut]:
    return [
        PlacedProblemOut(**problem_of(item).model_dump(), excerpt=item.place.excerpt, width=item.place.width)
        for item in found
    ]


def _proposal(found: Proposal) -> ProposalOut:
    return ProposalOut(**_fields(found))


def _fields(found: Proposal) -> dict[str, Any]:
    agreed = {item.role: item.reviewer for item in found.reviews if item.decision == "approved"}
    required = [
        RequirementOut(
            role=item.role, team=item.role.partition(":")[2], why=item.why, agreed_by=agreed.get(item.role, "")
        )
        for item in found.required
    ]
    reviews = [
        ReviewOut(role=item.role, reviewer=item.reviewer, decision=item.decision, comment=item.comment, at=item.at)
        for item in found.reviews
    ]
    return {
        "number": found.id,
        "service": found.draft.subject,
        "team": found.draft.team,
        "title": found.draft.title,
        "reason": found.draft.reason,
        "state": found.state.value,
        "version": found.version,
        "author": found.author,
        "summary": str(found.draft.data.get("summary", "")),
        "required": required,
        "reviews": reviews,
        "mine": list(steps.roles_for(found, me(), live().platform)) if found.state is State.SUBMITTED else [],
        "commit": found.commit,
        "error": found.error,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }


def _detail(found: Proposal, status: int = 200) -> Response:
    here = egress_desk.desk()
    looked, unknown = egress_desk.effect_of(here, found)
    history = [
        ProposalStepOut(
            version=item.version,
            at=item.at,
            actor=item.actor,
            step=item.step,
            state=item.state.value,
            comment=item.comment,
        )
        for item in proposals.history(store(), found.id)
    ]
    body = ProposalDetailOut(
        **_fields(found),
        document=found.draft.document,
        diff=commits.patch(steps.before_of(found), steps.files_of(found)),
        preview=_preview(here, looked) if looked else None,
        unknown=unknown,
        history=history,
    )
    return answer(body, status)

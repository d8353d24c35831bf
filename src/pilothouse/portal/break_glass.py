"""Break-glass in the portal: what is open now, on everybody's home page, and the review afterwards; pages and API."""

from __future__ import annotations

from flask import Blueprint, Response, flash, redirect, render_template, url_for
from pydantic import BaseModel, Field
from werkzeug.wrappers import Response as BaseResponse

from pilothouse.access.grants import Grant
from pilothouse.access.permissions import Action
from pilothouse.portal.access_desk import desk
from pilothouse.portal.api import In, answer, body_of, describe
from pilothouse.portal.api_access import BASE, RequestOut, request_out
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import HomePanel, live, may, me, now, store
from pilothouse.problems import Invalid
from pilothouse.workflows import break_glass

blueprint = Blueprint("break_glass", __name__)


class ReviewIn(In):
    text: str = Field(max_length=8_000, description="What was done, whether it was right, and what follows from it.")


class BreakGlassList(BaseModel):
    open: list[RequestOut]
    waiting: list[RequestOut] = Field(description="Over, and not reviewed yet.")


@blueprint.get("/access/break-glass")
def index() -> str:
    """What is open, and what waits for its review."""
    return _page(Form(), "")


def _page(form: Form, id: str) -> str:
    found = break_glass.broken(store(), now())
    waiting = [(grant, may(Action.REVIEW, grant)) for grant in found.waiting]
    return render_template("access/break_glass.html", open=found.open, waiting=waiting, form=form, id=id)


@blueprint.post("/access/requests/<id>/review")
def review(id: str) -> BaseResponse | tuple[str, int]:
    form = Form.posted(("text",), limit=8_000)
    try:
        break_glass.review(desk(), live().platform, me(), id, form["text"], now())
    except Invalid as failure:
        form.error("text", failure.with_hint)
        return _page(form, id), 422
    flash(f"Break-glass {id} was reviewed.")
    return redirect(url_for("break_glass.index"))


describe("get", f"{BASE}/break-glass", "Every break-glass that is open or waits for its review.", answer=BreakGlassList)


@blueprint.get(f"{BASE}/break-glass")
def listed() -> Response:
    found = break_glass.broken(store(), now())
    return answer(BreakGlassList(open=_out(found.open), waiting=_out(found.waiting)))


def _out(found: tuple[Grant, ...]) -> list[RequestOut]:
    return [request_out(grant) for grant in found]


describe(
    "post",
    f"{BASE}/requests/{{id}}/review",
    "Review a break-glass that is over; by neither of the two who opened it.",
    body=ReviewIn,
    answer=RequestOut,
)


@blueprint.post(f"{BASE}/requests/<id>/review")
def review_by_api(id: str) -> Response:
    told = break_glass.review(desk(), live().platform, me(), id, body_of(ReviewIn).text, now())
    return answer(request_out(told.grant, told.untold))


def home() -> HomePanel | None:
    """On everybody's page, first of all, as long as one is open or not reviewed."""
    found = break_glass.broken(store(), now())
    if not found.open and not found.waiting:
        return None
    return HomePanel(
        "Break-glass", "access/break_glass_home.html", 0, {"open": found.open, "waiting": found.waiting}, urgent=True
    )


__all__ = ["blueprint", "home"]

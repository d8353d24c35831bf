"""The page of locks: who is locked, by whom, why, until when; to lock and to lift."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from pilothouse.access.locks import Kind, Target
from pilothouse.access.permissions import Action
from pilothouse.platform import scalars
from pilothouse.portal.access_desk import desk
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import HomePanel, live, may, me, now, store
from pilothouse.problems import Conflict, Denied, Invalid
from pilothouse.workflows import access, locks

blueprint = Blueprint("locks", __name__, url_prefix="/access/locks")
_FIELDS = ("subject", "reason", "duration")


@blueprint.get("")
def index() -> str:
    return _page(Form({"subject": request.args.get("subject", "")[:200]}))


def _page(form: Form) -> str:
    past = request.args.get("past") == "yes"
    return render_template(
        "access/locks.html",
        form=form,
        past=past,
        found=locks.listing(store(), live().platform, me(), now(), past),
        may_lock=may(Action.LOCK, Target(Kind.USER, "", "")),
        mine=[row for row in access.mine(store(), me(), now()).certificates if row.is_alive(now())],
    )


@blueprint.post("")
def put() -> BaseResponse | tuple[str, int]:
    """Lock; a mistake brings the form back as it was typed."""
    form = Form.posted(_FIELDS, limit=2_000)
    form.require(subject="name a person, or the serial of a certificate", reason="say what happened")
    seconds = _seconds(form)
    if form.errors:
        return _page(form), 422
    try:
        step = locks.lock(desk(), live().platform, me(), form["subject"], form["reason"], seconds, now())
    except (Invalid, Conflict) as failure:
        form.error("reason" if "reason" in failure.message else "subject", failure.with_hint)
        return _page(form), 409 if isinstance(failure, Conflict) else 422
    except Denied as failure:
        form.error("", failure.with_hint)
        return _page(form), 403
    told = f" Nobody could be told: {step.untold}." if step.untold else ""
    over = "".join(f" Request {item.id}: {item.meaning}" for item in step.requests)
    left = "".join(f" {item}." for item in step.unheld)
    flash(f"{step.lock.sentence}.{over}{left}{told}")
    return redirect(url_for("locks.index"))


@blueprint.post("/lift")
def lift() -> BaseResponse:
    step = locks.unlock(
        desk(), live().platform, me(), request.form.get("subject", ""), request.form.get("why", ""), now()
    )
    flash(f"{step.lock.target} is not locked any more.")
    return redirect(url_for("locks.index"))


def _seconds(form: Form) -> int:
    if not form["duration"]:
        return 0
    try:
        return scalars.duration(form["duration"])
    except ValueError:
        form.error("duration", "write it as 45m, 8h or 7d; empty holds until it is lifted")
        return 0


def home() -> HomePanel | None:
    """What is locked of one's own; nothing where nothing is."""
    shown = locks.listing(store(), live().platform, me(), now()).items
    found = [item.lock for item in shown if item.lock.target.user == me().user]
    return HomePanel("Locked", "access/locks_home.html", 5, {"locks": found}, urgent=True) if found else None

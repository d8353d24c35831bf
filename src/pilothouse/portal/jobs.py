"""The jobs page: what the worker does, when it last did, what came of it, when it does again."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response

from pilothouse.access.permissions import Action
from pilothouse.portal.frame import NavItem, address, may, me, now, require, store
from pilothouse.store import events, jobs

blueprint = Blueprint("jobs", __name__, url_prefix="/jobs")
NAV = (NavItem("Jobs", "jobs.index", 70, "What is there"),)


@blueprint.get("/")
def index() -> str:
    return render_template("jobs.html", jobs=jobs.everything(store()), decision=may(Action.ADMINISTER))


@blueprint.post("/<name>/run")
def run(name: str) -> Response:
    require(Action.ADMINISTER)
    jobs.request(store(), name, me().user, now())
    events.record(
        store(), events.Event(now(), "job.requested", me().user, name, f"asked for a run of {name}", address())
    )
    flash(f"The worker runs {name} at once, or when the job before it is done.")
    return redirect(url_for("jobs.index"))

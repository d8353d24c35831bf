"""Silences on the portal: what is held back, by whom and why; making one and ending one, where the person may."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from pilothouse.access.permissions import Decision
from pilothouse.alerts.live import LiveAlert, Silence
from pilothouse.alerts.routing.matchers import BadMatcher
from pilothouse.alerts.routing.matchers import parse as parse_matchers
from pilothouse.alerts.routing.model import Matchers, matchers_text
from pilothouse.clients.alertmanager import Alertmanagers
from pilothouse.platform.scalars import duration
from pilothouse.portal.firing import board_of, watches
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import live, me, now, store
from pilothouse.portal.listing import Query, page_of
from pilothouse.portal.routing import chosen_cluster
from pilothouse.problems import Invalid, PilothouseError
from pilothouse.workflows import firing as workflow
from pilothouse.workflows import silences

blueprint = Blueprint("silences", __name__, url_prefix="/alerts")
_KEYS: dict[str, Callable[[Silence], Any]] = {"until": lambda item: item.ends_at}
LENGTHS = ("30m", "2h", "8h", "1d", "3d")


@blueprint.get("/silences")
def index() -> tuple[str, int] | str:
    """Silences that hold or will, and the form for one."""
    cluster = chosen_cluster()
    if not cluster:
        return render_template("routing/nothing.html")
    return _silences(Form({"matchers": request.args.get("matchers", "")[:2000], "length": "2h"}), cluster)


@blueprint.post("/silences")
def silence() -> tuple[str, int] | str | Response:
    """Makes a silence, where the person may."""
    cluster = chosen_cluster()
    form = Form.posted(("matchers", "length", "comment"), limit=2000)
    form.require(matchers="say which alerts", comment="say what is done about it meanwhile")
    if not form.errors:
        try:
            wanted = silences.wanted(form["matchers"], seconds_of(form["length"]), form["comment"])
            make(cluster, wanted)
            flash("The alerts are held back; the Alertmanagers know.")
            return redirect(url_for("silences.index", cluster=cluster))
        except PilothouseError as failure:
            form.error("", f"{failure.message} ({failure.hint})" if failure.hint else failure.message)
    return _silences(form, cluster)


@blueprint.post("/silences/<id>/end")
def end(id: str) -> Response:
    """Ends a silence now."""
    cluster = chosen_cluster()
    finish(cluster, id)
    flash("The silence has ended; its alerts are told again.")
    return redirect(url_for("silences.index", cluster=cluster))


def seconds_of(text: str) -> int:
    try:
        return duration(text)
    except ValueError:
        raise Invalid(f"{text!r} is no length of time", "write it as 45m, 2h or 3d") from None


def make(cluster: str, wanted: silences.Wanted) -> Silence:
    """Creates the silence in the name of the person of this request; the page shows it at once."""
    declared = live().platform.clusters[cluster]
    servers = Alertmanagers(declared.servers.alertmanagers)
    made = silences.create(store(), servers, live().platform, me(), cluster, wanted, now())
    watches().board(declared).forget()
    return made


def finish(cluster: str, id: str) -> Silence:
    """Ends it in the name of the person of this request."""
    declared = live().platform.clusters[cluster]
    servers = Alertmanagers(declared.servers.alertmanagers)
    ended = silences.end(store(), servers, live().platform, me(), cluster, id, now())
    watches().board(declared).forget()
    return ended


def _silences(form: Form, cluster: str) -> tuple[str, int]:
    declared = live().platform.clusters[cluster]
    seen = board_of(cluster)
    if seen.value is not None:
        seen = watches().board(declared).get(wait=True)
    found = workflow.silences_in_force(seen.value) if seen.value else ()
    alerts = seen.value.alerts if seen.value else ()
    by_id = {id: item.id for item in found for id in item.named}
    held = Counter(id for alert in alerts for id in {by_id[name] for name in alert.silenced_by if name in by_id})
    shown = page_of(
        found,
        Query.of_request(_KEYS, "until", ("cluster",)),
        _KEYS,
        lambda item: f"{matchers_text(item.matchers)} {item.comment} {item.created_by}",
    )
    page = render_template(
        "routing/silences.html",
        form=form,
        seen=seen,
        shown=shown,
        held=held,
        decisions={item.id: _may_end(item.matchers) for item in shown.items},
        would=_would(form["matchers"], alerts),
        cluster=cluster,
        clusters=live().clusters,
        lengths=LENGTHS if form["length"] in LENGTHS else (*LENGTHS, form["length"]),
        matchers_text=matchers_text,
        command=shlex.join(["pilothouse", "alerts", "silences", str(live().root), "--cluster", cluster]),
    )
    return page, 422 if form.errors else 200


def _may_end(matchers: Matchers) -> Decision:
    return silences.decision(live().platform, me(), matchers, gone=True)


def _would(text: str, alerts: tuple[LiveAlert, ...]) -> int | None:
    """How many alerts that fire now the matchers in the form take; None where they cannot be read."""
    try:
        matchers = parse_matchers(text) if text.strip() else ()
    except BadMatcher:
        return None
    return sum(all(item.matches(alert.labels) for item in matchers) for alert in alerts) if matchers else None

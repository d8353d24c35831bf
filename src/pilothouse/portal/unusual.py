"""Unusual activity: the days with their evidence and baseline, as CSV too, and "that was to be expected"."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, abort, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response as BaseResponse

from pilothouse.access.permissions import Action, Person
from pilothouse.portal.audit import inert, tabs
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import may, me, now, require, store
from pilothouse.portal.listing import Page, Query, page_of
from pilothouse.problems import Conflict, Invalid
from pilothouse.store import unusual
from pilothouse.store.unusual import Kept
from pilothouse.workflows import audit

blueprint = Blueprint("unusual", __name__, url_prefix="/audit/unusual")
DAYS = 90
_STANDINGS = ("paged", "digest", "expected")
KEYS: Mapping[str, Callable[[Kept], Any]] = {
    "day": lambda item: (-item.alert.day.toordinal(), -item.alert.score, item.id),
    "score": lambda item: (-item.alert.score, -item.alert.day.toordinal(), item.id),
    "who": lambda item: (item.alert.who, -item.alert.day.toordinal()),
}


def standing(item: Kept) -> str:
    if item.expected is not None:
        return "expected"
    return "paged" if item.alert.paged else "digest"


def text_of(item: Kept) -> str:
    """What words are searched in."""
    return f"{item.id} {item.alert.who} {' '.join(f'{sign.rule} {sign.evidence}' for sign in item.alert.signals)}"


def _page(per_page: int = 50) -> Page[Kept]:
    query = Query.of_request(KEYS, "day", ("who", "standing"), per_page)
    wanted = query.filters
    found = unusual.find(store(), wanted.get("who", ""), now() - timedelta(days=DAYS))
    return page_of(
        found,
        query,
        KEYS,
        text_of,
        lambda item: "standing" not in wanted or standing(item) == wanted["standing"],
    )


@blueprint.get("/")
def index() -> str:
    require(Action.READ_AUDIT)
    return _shown({})


def _shown(forms: Mapping[str, Form]) -> str:
    page = _page()
    return render_template(
        "audit/unusual.html",
        page=page,
        forms=forms,
        standing=standing,
        standings=_STANDINGS,
        days=DAYS,
        decisions={item.id: may(Action.EXPECT, Person(item.alert.who)) for item in page.items},
        tabs=tabs("unusual"),
        csv_url=page.query.url(page="").replace(page.query.path, url_for("unusual.as_csv"), 1),
    )


@blueprint.get("/list.csv")
def as_csv() -> Response:
    """What the page shows with the same filters, whole: one row for each sign."""
    require(Action.READ_AUDIT)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(("id", "day", "who", "score", "standing", "rule", "points", "evidence", "usual"))
    for item in _page(per_page=100_000).items:
        for signal in item.alert.signals:
            texts = (signal.rule, str(signal.points), signal.evidence, signal.baseline)
            head = (item.id, item.alert.day.isoformat(), item.alert.who, str(item.alert.score), standing(item))
            writer.writerow([inert(text) for text in (*head, *texts)])
    name = f"pilothouse-unusual-{now():%Y%m%dT%H%M}Z.csv"
    return Response(
        buffer.getvalue(),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@blueprint.post("/<id>/expected")
def expected(id: str) -> BaseResponse | tuple[str, int]:
    """Somebody says that it was meant, and why."""
    kept = unusual.get(store(), id)
    if kept is None:
        abort(404, f"there is no unusual day {id}")
    require(Action.EXPECT, Person(kept.alert.who))
    form = Form.posted(("reason",), 500)
    try:
        audit.expect(store(), id, me().user, form["reason"], now(), tuple)
    except (Invalid, Conflict) as failure:
        form.error("reason" if isinstance(failure, Invalid) else "", failure.message)
        return _shown({id: form}), 422
    flash(f"{id} is expected: what was new of {kept.alert.who} counts as usual from now on.")
    return redirect(url_for("unusual.index"))

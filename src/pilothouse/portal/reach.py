"""Who can do something, and what somebody can do: pages with the question in the address, so that it can be sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Blueprint, render_template, request

from pilothouse.access import can_i, words
from pilothouse.access.can_i import Grantor
from pilothouse.access.history import Living
from pilothouse.access.permissions import Action
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import live, may, me, now, store
from pilothouse.problems import Denied, Invalid, PilothouseError, Unavailable, nearest
from pilothouse.workflows import reach
from pilothouse.workflows.rendering import Opened

blueprint = Blueprint("reach", __name__, url_prefix="/access")
VERBS = "get list watch create update patch delete deletecollection impersonate bind escalate".split()
_WHO = ("verb", "resource", "name", "namespace", "cluster", "at")


@blueprint.app_template_filter("rule")
def rule(by: Grantor) -> str:
    """The rule that allows it, in one line."""
    return words.rule_text(by.rule) if by.rule else f"{by.role}, whose rules are not known"


@blueprint.get("/who-can")
def who_can() -> str | tuple[str, int]:
    """Who could do that: through which profile, binding, certificate and approval."""
    form = Form({name: request.args.get(name, "").strip()[:300] for name in _WHO})
    found, status = None, 200
    if form["verb"] or form["resource"]:
        form.require(
            verb="say what is done, such as delete", resource="say to what, such as pods", cluster="which one?"
        )
        if not form.errors:
            try:
                found = _asked(form)
            except PilothouseError as failure:
                form.error("at" if "moment" in failure.message else "", _said(failure))
        if form.errors:
            status = 422 if may(Action.READ_AUDIT) else 403
    page = render_template(
        "access/who_can.html",
        form=form,
        found=found,
        held=_unique(item for way in found.ways for item in way.certificates) if found else (),
        clusters=tuple(live().platform.clusters),
        verbs=VERBS,
        resources=can_i.known_resources(),
        command=_command(form),
        allowed=may(Action.READ_AUDIT),
    )
    return (page, status) if status != 200 else page


def _asked(form: Form) -> reach.WhoCan:
    try:
        question = can_i.question(form["verb"], form["resource"], form["namespace"], form["name"])
    except ValueError as failure:
        word = form["resource"].partition("/")[0]
        hint = nearest(word, can_i.known_resources()) or f"write {word}.example.org"
        raise Invalid(str(failure), hint) from failure
    at = reach.moment_of(form["at"]) if form["at"] else None
    return reach.who_can(store(), opened(), me(), question, form["cluster"], now(), at)


def opened() -> Opened:
    """The platform with its content. `Unavailable` where none was ever read."""
    found = live().opened
    if not isinstance(found, Opened):
        raise Unavailable("nothing is declared yet", "write a Cluster, a Team and a Service document")
    return found


def _command(form: Form) -> str:
    """The same for the command line."""
    parts = ["pilothouse access who-can", form["verb"] or "delete", form["resource"] or "pods", form["name"]]
    parts += [f"-n {form['namespace']}" if form["namespace"] else "", f"-c {form['cluster'] or 'CLUSTER'}"]
    parts += [f"--at {form['at']}" if form["at"] else ""]
    return " ".join(part for part in parts if part)


@blueprint.get("/what-can")
def what_can() -> str | tuple[str, int]:
    """What somebody can do; oneself where nobody is named."""
    form = Form({name: request.args.get(name, "").strip()[:300] for name in ("user", "cluster")})
    form.values["user"] = form["user"] or me().user
    found, said, status = None, "", 200
    try:
        found = reach.what_can(store(), opened(), me(), form["user"], now(), form["cluster"])
    except Unavailable as failure:
        said = _said(failure)
    except PilothouseError as failure:
        form.error("", _said(failure))
        status = 403 if isinstance(failure, Denied) else 422
    everybody = bool(may(Action.READ_AUDIT))
    page = render_template(
        "access/what_can.html",
        form=form,
        said=said,
        found=found,
        clusters=("", *live().platform.clusters),
        people=[item.user for item in reach.known_people(store(), live().platform, now())] if everybody else [],
        everybody=everybody,
    )
    return (page, status) if status != 200 else page


def _unique(items: Iterable[Living]) -> tuple[Living, ...]:
    """Each certificate once, however many ways lead through it."""
    found: Mapping[Any, Living] = {(item.cluster, item.serial): item for item in items}
    return tuple(found.values())


def _said(failure: PilothouseError) -> str:
    return f"{failure.message}: {failure.hint}" if failure.hint else failure.message

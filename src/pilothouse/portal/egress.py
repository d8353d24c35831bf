"""Egress: what may my service talk to, and what changes if I submit?

Form and YAML are two views of one document: a button of the form changes the text, and whoever knows
better edits the text. Nothing is stored before "Keep as draft" or "Submit", and nothing typed is lost before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import yaml
from flask import Blueprint, Response, abort, flash, redirect, render_template, request, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response as BaseResponse

from pilothouse.access.permissions import Action, Decision
from pilothouse.portal import egress_desk
from pilothouse.portal.egress_desk import desk
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import HomePanel, NavItem, live, may, me, store
from pilothouse.portal.listing import Query, page_of
from pilothouse.portal.pictures.neighbours import draw
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError
from pilothouse.source import plain
from pilothouse.store import proposals
from pilothouse.store.proposals import Proposal, State
from pilothouse.workflows import commits, egress
from pilothouse.workflows import proposals as steps
from pilothouse.workflows.egress import Preview, Target
from pilothouse.workflows.neighbours import Neighbour
from pilothouse.workflows.proposals import Desk

blueprint = Blueprint("egress", __name__, url_prefix="/egress")
NAV = (NavItem("Egress", "egress.index", 20, "Answers"),)

PEERS = (
    ("service", "a declared service"),
    ("domain", "a domain name"),
    ("cidr", "an address range"),
    ("apiServer", "the API server"),
    ("internet", "the internet"),
)
FIELDS = (
    *("service", "yaml", "title", "reason", "version", "asks"),
    *("peer", "value", "ports", "why", "expires", "clusters"),
)
MOST_PREPARED = 50
"""So many items may an address bring along."""


@blueprint.app_template_global()
def neighbours_picture(key: str, found: Sequence[Neighbour]) -> Markup:
    """The picture of a service and its neighbours. Style: `neighbours.css`."""
    return Markup(draw(key, found))  # noqa: S704  # `draw` escapes every text that it is given


def home() -> HomePanel | None:
    """What waits for my agreement, and what became of my own proposals."""
    waiting = steps.waiting_for(store(), me(), live().platform)
    mine, _ = proposals.find(store(), author=me().user, states=sorted(proposals.OPEN), limit=10)
    if not waiting and not mine:
        return None
    return HomePanel("Proposals", "egress/home.html", 20, {"waiting": waiting, "mine": mine}, urgent=bool(waiting))


# ---------------------------------------------------------------- lists


@blueprint.get("/")
def index() -> str:
    keys = {"name": lambda s: s.key, "team": lambda s: (s.team, s.key), "egress": lambda s: (-len(s.egress), s.key)}
    query = Query.of_request(keys, "name", ("team", "all"))
    mine = me().teams
    services = live().platform.services.values()
    everything = "all" in query.filters or not any(service.team in mine for service in services)
    page = page_of(
        [service for service in services if everything or service.team in mine],
        query,
        keys,
        lambda s: f"{s.key} {s.team} {s.description}",
        lambda s: query.filters.get("team", s.team) == s.team,
    )
    recent, total = proposals.find(store(), kind=egress.KIND, limit=20)
    return render_template(
        "egress/index.html",
        page=page,
        everything=everything,
        waiting=steps.waiting_for(store(), me(), live().platform),
        recent=recent,
        total=total,
    )


# ---------------------------------------------------------------- writing one


@blueprint.route("/new", methods=["GET", "POST"])
def new() -> str | BaseResponse | tuple[str, int]:
    key = request.values.get("service", "")
    if not key:
        return redirect(url_for("egress.index"))
    target = egress.target(desk().opened, key)
    if request.method == "POST":
        return _write(Form.posted(FIELDS), key, None)
    form = Form({"service": key, "yaml": target.text, "asks": " ".join(request.args.getlist("ask"))[:10_000]})
    try:
        form.values["yaml"] = _prepared(target)
    except Invalid as failure:
        form.error("", failure.with_hint)
    return _write(form, key, None)


def _prepared(target: Target) -> str:
    """The document with what the address of the page brings along, as a suggestion from another page: items of `egress`
    (`add`, `remove` by number from 1) and of `ingress` (`let`, `shut`)."""
    text = target.text
    for field_, add, remove in (("egress", "add", "remove"), ("ingress", "let", "shut")):
        items = [_item_of(item) for item in request.args.getlist(add)[:MOST_PREPARED]]
        words = request.args.getlist(remove)[:MOST_PREPARED]
        numbers = [int(word) - 1 for word in words if word.isdecimal() and word.strip("0")]
        text = egress.with_edges(text, target.service.key, items, numbers, field_)
    return text


def _item_of(text: str) -> dict[str, Any]:
    """One item in YAML. No aliases: with them a short text means a huge one."""
    try:
        short = len(text) <= 2_000 and not any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text))
        found = plain(text) if short else None
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict):
        raise Invalid(
            "what the address brings along is no item of a document", "follow the link again, or add it below"
        )
    return found


@blueprint.route("/<int:number>/edit", methods=["GET", "POST"])
def edit(number: int) -> str | BaseResponse | tuple[str, int]:
    found = proposals.get(store(), number)
    if found.author != me().user:
        raise Denied("only its author changes a proposal", f"ask {found.author}, or propose a change of your own")
    if found.state not in proposals.EDITABLE:
        raise Conflict(f"proposal {number} is {found.state} and cannot be changed", "propose another change")
    values = {
        "service": found.draft.subject,
        "yaml": found.draft.document,
        "title": found.draft.title,
        "reason": found.draft.reason,
        "version": str(found.version),
        "asks": " ".join(steps.asks_of(found)),
    }
    form = Form.posted(FIELDS) if request.method == "POST" else Form(values)
    return _write(form, found.draft.subject, found)


def _write(form: Form, key: str, earlier: Proposal | None) -> str | BaseResponse | tuple[str, int]:
    """One step of writing: the form as it was sent, changed by the button that was pressed."""
    here = desk()
    target = egress.target(here.opened, key)
    decision = egress.may_propose(me(), target.service, here.platform)
    action = request.form.get("action", "") if request.method == "POST" else ""
    if action == "enter":
        # Enter in a field: what was typed into the fields of a destination is meant to be added.
        action = "add" if form["value"] else "look"
    added = ""
    try:
        if action.startswith("remove:"):
            _remove(form, target, action)
        elif action == "add" and (item := _item(form)):
            form.values["yaml"] = egress.with_edges(form["yaml"], key, [item])
            added = form["value"] or dict(PEERS)[form["peer"]]
            for name in ("value", "ports", "why", "expires", "clusters"):
                form.values[name] = ""
        elif action.startswith("ask:"):
            form.values["asks"] = " ".join(dict.fromkeys((*form["asks"].split(), action.removeprefix("ask:"))))
        elif action.startswith("unask:"):
            form.values["asks"] = " ".join(k for k in form["asks"].split() if k != action.removeprefix("unask:"))
        elif action == "reset":
            form.values["yaml"], form.values["asks"] = target.text, ""
        elif action in ("draft", "submit") and form["value"]:
            form.error("value", "this destination is typed, and not in the document yet: add it, or clear the field")
    except Invalid as failure:
        form.error("", failure.with_hint)
    asks = tuple(dict.fromkeys(form["asks"].split()))
    found = egress_desk.preview(here, key, form["yaml"], asks)
    if action == "submit" and not found.can_submit:
        here, found = _read_again(here, found, form["yaml"], asks)
    if action in ("draft", "submit") and not form.errors:
        answer = _store(form, here, found, earlier, submit=action == "submit")
        if answer is not None:
            return answer
    status = 422 if form.errors else 200
    return (
        render_template(
            "egress/edit.html",
            form=form,
            target=target,
            decision=decision,
            preview=found,
            diff=egress_desk.diff(here, found),
            edges=tuple(enumerate(found.after.egress)) if found.after else None,
            peers=PEERS,
            services=sorted(here.platform.services),
            clusters=[name for name in here.platform.clusters if target.service.runs_on(name)],
            added=added,
            earlier=earlier,
            unheard=_unheard(here, key),
        ),
        status,
    )


def _unheard(here: Desk, key: str) -> Mapping[str, str]:
    """Service → its team, of those that the service declares to go to and that do not let it in, on some cluster."""
    found: dict[str, str] = {}
    for cluster in here.platform.clusters:
        try:
            disagreements = live().edges(cluster).disagreements
        except PilothouseError:
            continue  # why its edges are not known stands on the page of the service
        found |= {item.destination: item.teams[1] for item in disagreements if item.source == key}
    return dict(sorted(found.items()))


def _read_again(here: Desk, found: Preview, text: str, asks: Sequence[str]) -> tuple[Desk, Preview]:
    """What is about to be refused, upon the platform as it is now; not where another text would be replaced by now."""
    fresh = steps.settled(here)
    source = fresh.opened.loaded.source(found.target.path)
    if fresh is here or source is None or source.text != found.target.text:
        return here, found
    return fresh, egress_desk.preview(fresh, found.target.service.key, text, asks)


def _remove(form: Form, target: Target, action: str) -> None:
    """Take the item out whose button was pressed, where it is still the one that the button stood beside."""
    number, _, shown = action.removeprefix("remove:").partition(":")
    edges = egress.edges_in(target, form["yaml"])
    if not number.isdigit() or int(number) >= len(edges) or str(edges[int(number)].peer) != shown:
        raise Invalid("the document has changed since the list was shown", "look at the list again, then remove")
    form.values["yaml"] = egress.with_edges(form["yaml"], target.service.key, remove=[int(number)])


def _store(form: Form, here: Desk, found: Preview, earlier: Proposal | None, submit: bool) -> BaseResponse | None:
    """Keep or submit; None when the form has to be shown again with what is wrong."""
    if submit:
        try:
            egress.require_submittable(found, form["reason"])
        except Invalid as failure:
            name = "reason" if found.can_submit and not form["reason"].strip() else ""
            form.error(name, failure.with_hint)
            return None
    version = int(form["version"]) if form["version"].isdigit() else 0
    try:
        kept = steps.save(here, found, me(), form["title"], form["reason"], earlier, version)
    except Conflict as failure:
        form.error("", f"{failure.message}. What you typed is below; the stored version is on the proposal's page.")
        return None
    if submit:
        kept = steps.submit(here, kept, kept.version, me())
        egress_desk.after(kept, "submitted")
    flash("Kept as a draft." if not submit else _said(kept))
    return redirect(url_for("egress.show", number=kept.id))


def _said(proposal: Proposal) -> str:
    if proposal.state is State.COMMITTED:
        return f"Committed as {proposal.commit[:12]}: nobody else had to agree.{egress_desk.unsent(proposal)}"
    if proposal.state is State.FAILED:
        return f"Not committed: {proposal.error}"
    return "Submitted. Those who must agree were told."


def _item(form: Form) -> dict[str, Any] | None:
    """The form's fields as an item of `egress`; what is missing is marked on the form."""
    peer, value = form["peer"], form["value"].strip()
    if peer not in dict(PEERS):
        form.error("peer", "choose what kind of destination it is")
        return None
    if peer in ("service", "domain", "cidr") and not value:
        form.error(
            "value", {"service": "name the service", "domain": "name the domain", "cidr": "name the range"}[peer]
        )
        return None
    item: dict[str, Any] = {"to": {peer: value if peer in ("service", "domain", "cidr") else True}}
    ports = [part.strip() for part in form["ports"].replace(";", ",").split(",") if part.strip()]
    if ports:
        item["ports"] = [int(part) if part.isdigit() else part for part in ports]
    clusters = [part.strip() for part in form["clusters"].split(",") if part.strip()]
    if clusters:
        item["clusters"] = clusters
    if form["why"].strip():
        item["reason"] = form["why"].strip()
    if form["expires"].strip():
        try:
            item["expires"] = date.fromisoformat(form["expires"].strip())
        except ValueError:
            form.error("expires", "a date such as 2027-01-31")
            return None
    return item


# ---------------------------------------------------------------- one proposal


@blueprint.get("/<int:number>")
def show(number: int) -> str:
    return _show(number)


def _show(number: int, form: Form | None = None) -> str:
    found = proposals.get(store(), number)
    here = desk()
    effect, reason = egress_desk.effect_of(here, found)
    allowed: list[tuple[str, str, Decision]] = [
        (item.role, item.why, egress.may_agree(me(), item.role, item.why, found.author, here.platform))
        for item in found.outstanding
    ]
    return render_template(
        "egress/show.html",
        proposal=found,
        preview=effect,
        reason=reason,
        diff=commits.patch(steps.before_of(found), steps.files_of(found)),
        history=proposals.history(store(), number),
        outstanding=allowed if found.state is State.SUBMITTED else [],
        is_author=found.author == me().user,
        may_retry=may(Action.PROPOSE, here.platform.services.get(found.draft.subject))
        if _declared(here, found)
        else None,
        form=form or Form({"comment": "", "version": str(found.version)}),
        now_text=_now_text(here, found),
    )


def _declared(here: Desk, found: Proposal) -> bool:
    return found.draft.subject in here.platform.services


def _now_text(here: Desk, found: Proposal) -> str:
    """The file as it is now where that is neither what the author saw nor what they wrote: both versions are shown."""
    source = here.opened.loaded.source(found.draft.path)
    text = source.text if source else ""
    if found.state is State.COMMITTED or text in (found.draft.before, found.draft.document):
        return ""
    return commits.patch({found.draft.path: found.draft.before}, {found.draft.path: text})


@blueprint.post("/<int:number>/decide")
def decide(number: int) -> str | BaseResponse | tuple[str, int]:
    form = Form.posted(("role", "comment", "version", "action"))
    found = proposals.get(store(), number)
    approve = form["action"] == "approve"
    if not approve and not form["comment"].strip():
        form.error("comment", "a refusal needs a comment: say what should change")
        return _show(number, form), 422
    kept = steps.decide(desk(), found, _version(form), form["role"], me(), approve, form["comment"])
    egress_desk.after(kept, "agreed" if approve else "refused")
    flash(
        {
            State.COMMITTED: f"Agreed, and committed as {kept.commit[:12]}.{egress_desk.unsent(kept)}",
            State.REJECTED: "Refused.",
        }.get(kept.state, "Agreed.")
    )
    return redirect(url_for("egress.show", number=number))


@blueprint.post("/<int:number>/submit")
def submit(number: int) -> BaseResponse:
    form = Form.posted(("version",))
    kept = steps.submit(desk(), proposals.get(store(), number), _version(form), me())
    egress_desk.after(kept, "submitted")
    flash(_said(kept))
    return redirect(url_for("egress.show", number=number))


@blueprint.post("/<int:number>/retry")
def retry(number: int) -> BaseResponse:
    form = Form.posted(("version",))
    kept = steps.retry(desk(), proposals.get(store(), number), _version(form), me())
    egress_desk.after(kept, "retried")
    flash(_said(kept))
    return redirect(url_for("egress.show", number=number))


@blueprint.post("/<int:number>/withdraw")
def withdraw(number: int) -> BaseResponse:
    form = Form.posted(("version", "comment"))
    kept = steps.withdraw(desk(), proposals.get(store(), number), _version(form), me(), form["comment"])
    egress_desk.after(kept, "withdrawn")
    flash("Withdrawn.")
    return redirect(url_for("egress.show", number=number))


def _version(form: Form) -> int:
    if not form["version"].isdigit():
        abort(400, "the version that was seen is missing")
    return int(form["version"])


@blueprint.get("/<int:number>.patch")
def patch(number: int) -> Response:
    """The change as `git apply` takes it, for a platform that the portal may not write."""
    found = proposals.get(store(), number)
    before: Mapping[str, str] = steps.before_of(found)
    return Response(
        commits.patch(before, steps.files_of(found)),
        mimetype="text/x-diff",
        headers={"Content-Disposition": f'attachment; filename="proposal-{number}.patch"'},
    )

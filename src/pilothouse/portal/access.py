"""The access pages: what may I do, and how do I get it? Certificates, requests, approvals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, abort, flash, redirect, render_template, request, url_for
from prometheus_client.core import Metric
from werkzeug.wrappers import Response as BaseResponse

from pilothouse.access import grants as machine
from pilothouse.access import words
from pilothouse.access.grants import Grant, State
from pilothouse.access.permissions import Action
from pilothouse.clients import notify
from pilothouse.clients.signer import SignerClient
from pilothouse.portal.access_desk import SOCKET, desk, issued, signer_of, token
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import HomePanel, NavItem, Portal, live, may, me, now, portal, require, store
from pilothouse.portal.metrics import gauge
from pilothouse.problems import Denied, Invalid
from pilothouse.store import certificates as certificate_rows
from pilothouse.store import grants as grant_rows
from pilothouse.workflows import access
from pilothouse.workflows.access import Offer
from pilothouse.workflows.elevation_state import Shown as Binding
from pilothouse.workflows.notices import Outbox, in_a_thread

blueprint = Blueprint("access", __name__, url_prefix="/access")
NAV = (NavItem("Access", "access.index", 10, "Answers"),)


@dataclass(frozen=True, slots=True)
class Shown:
    """A grant as a page shows it, with what it would allow and what this person may do about it."""

    grant: Grant
    offer: Offer | None
    place: str
    may_decide: Any
    may_end: Any
    may_claim: Any
    binding: Binding
    """How its binding stands on the cluster."""
    by_vault: bool
    """Whether Vault signs: with the claimer's own login there, which no page has."""

    @property
    def is_waiting(self) -> bool:
        return self.grant.state is State.REQUESTED


def _shown(grant: Grant) -> Shown:
    settled = machine.settle(grant, now())
    platform = live().platform
    offers = {offer.profile.name: offer for offer in access.profiles_of(platform, me())}
    profile = platform.profiles.get(grant.profile)
    return Shown(
        settled,
        offers.get(grant.profile),
        words.where(profile, platform, grant.cluster, ()) if profile else "",
        may(Action.APPROVE_ELEVATION, settled),
        may(Action.GIVE_BACK, settled),
        may(Action.CLAIM, settled),
        access.on_cluster(store(), [settled], now())[settled.id],
        grant.cluster in platform.clusters and platform.clusters[grant.cluster].authority.backend == "vault",
    )


@blueprint.get("/")
def index() -> str:
    platform = live().platform
    mine = access.mine(store(), me(), now())
    return render_template(
        "access/index.html",
        offers=access.profiles_of(platform, me()),
        certificates=mine.certificates,
        alive=[row for row in mine.certificates if row.is_alive(now())],
        requests=[_shown(grant) for grant in mine.grants[:20]],
        waiting=[_shown(grant) for grant in access.waiting_for(store(), platform, me(), now())],
        server=request.host_url.rstrip("/"),
    )


# ---------------------------------------------------------------- certificates

_FIELDS = ("cluster", "csr", "duration")


def _offer(name: str) -> Offer:
    profile = access.profile_named(live().platform, name)
    return next(o for o in access.profiles_of(live().platform, me()) if o.profile.name == profile.name)


def _named(name: str) -> Offer:
    try:
        return _offer(name)
    except Invalid as failure:
        abort(404, failure.message)


@blueprint.get("/profiles/<name>")
def profile(name: str) -> str:
    """One profile: what it may do, where, and how to get it."""
    offer = _named(name)
    form = Form({"cluster": request.args.get("cluster", ""), "duration": _short(offer.profile.leaf)})
    return _profile_page(offer, form)


def _profile_page(offer: Offer, form: Form, result: Any = None) -> str:
    return render_template(
        "access/profile.html",
        offer=offer,
        form=form,
        result=result,
        cluster=form["cluster"] or next((name for name, _ in offer.places), ""),
        server=request.host_url.rstrip("/"),
    )


@blueprint.post("/profiles/<name>/certificate")
def certificate(name: str) -> str | tuple[str, int]:
    """Sign a CSR that was pasted, for a standing profile. The certificate is shown once, on the answer's page."""
    offer = _named(name)
    require(Action.REQUEST, offer.profile)
    form = Form.posted(_FIELDS, limit=20_000)
    form.require(cluster="choose a cluster", csr="paste the signing request")
    seconds = _seconds(form)
    if form.errors:
        return _profile_page(offer, form), 422
    try:
        result = issued(access.certificate(desk(), token(), name, form["cluster"], form["csr"], seconds))
    except Invalid as failure:
        form.error("csr" if "request" in failure.message or "key" in failure.message else "", failure.with_hint)
        return _profile_page(offer, form), 422
    return _profile_page(offer, form, result)


@blueprint.post("/give-back")
def give_back() -> BaseResponse:
    """End a request or certificate early."""
    ended = access.give_back(desk(), live().platform, me(), request.form.get("id", ""), now())
    flash(ended.meaning)
    return redirect(url_for("access.index"))


@blueprint.get("/authorities/<cluster>.crt")
def authority(cluster: str) -> Response:
    """The public certificate of a cluster's authority, for API servers and whoever verifies."""
    if cluster not in live().platform.clusters:
        abort(404, f"there is no cluster {cluster}")
    return Response(
        signer_of(portal()).authority(cluster),
        content_type="application/x-pem-file",
        headers={"Content-Disposition": f'attachment; filename="{cluster}.crt"'},
    )


# ---------------------------------------------------------------- elevation


@blueprint.post("/profiles/<name>/request")
def ask(name: str) -> BaseResponse | tuple[str, int]:
    """Ask for an elevated profile."""
    offer = _named(name)
    require(Action.ELEVATE, offer.profile)
    form = Form.posted(("cluster", "reason", "ticket", "duration"), limit=5_000)
    form.require(cluster="choose a cluster", reason="say what for")
    seconds = _seconds(form)
    if form.errors:
        return _profile_page(offer, form), 422
    try:
        given = name, form["cluster"], form["reason"], seconds, now(), form["ticket"]
        told = access.request(desk(), live().platform, me(), *given)
    except Invalid as failure:
        field = next((field for field in ("reason", "ticket") if field in failure.message), "")
        form.error(field, failure.with_hint)
        return _profile_page(offer, form), 422
    flash("Your request was sent." if not told.untold else f"Your request waits; nobody could be told: {told.untold}")
    return redirect(url_for("access.grant", id=told.grant.id))


def _found(id: str) -> Grant:
    grant = grant_rows.get(store(), id)
    if grant is None:
        abort(404, f"there is no request {id}")
    if grant.break_glass:
        return grant  # it is meant to be seen
    decisions = (may(Action.GIVE_BACK, grant), may(Action.APPROVE_ELEVATION, grant), may(Action.READ_AUDIT))
    if not any(decisions):
        raise Denied(f"it is {grant.user}'s", "ask them")
    return grant


@blueprint.get("/requests/<id>")
def grant(id: str) -> str:
    """One request: what it would grant, what became of it, and the next step."""
    return render_template(
        "access/request.html", item=_shown(_found(id)), form=Form(), server=request.host_url.rstrip("/")
    )


@blueprint.post("/requests/<id>/decide")
def decide(id: str) -> BaseResponse | tuple[str, int]:
    found = _found(id)
    form = Form.posted(("comment",), limit=2_000)
    word = request.form.get("decision", "")
    if word not in ("approve", "deny"):
        abort(400, "a decision is approve or deny")
    if word == "deny" and not form["comment"]:
        form.error("comment", "say why, so that the next request can be better")
        return render_template(
            "access/request.html", item=_shown(found), form=form, server=request.host_url.rstrip("/")
        ), 422
    step = access.approve if word == "approve" else access.deny
    told = step(desk(), live().platform, me(), id, form["comment"], now())
    flash(f"Request {id} was {told.grant.state}." + (f" {told.grant.user} could not be told." if told.untold else ""))
    return redirect(url_for("access.grant", id=id))


@blueprint.post("/requests/<id>/claim")
def claim(id: str) -> str | tuple[str, int]:
    """Claim an approved request with a CSR that was pasted."""
    found = _found(id)
    form = Form.posted(("csr",), limit=20_000)
    form.require(csr="paste the signing request")
    result = None
    if not form.errors:
        try:
            result = issued(access.claim(desk(), live().platform, token(), id, form["csr"]))
        except Invalid as failure:
            form.error("csr", failure.with_hint)
    page = render_template(
        "access/request.html",
        item=_shown(grant_rows.get(store(), id) or found),
        form=form,
        result=result,
        server=request.host_url.rstrip("/"),
    )
    return (page, 422) if form.errors else page


# ---------------------------------------------------------------- words

_DURATION = re.compile(r"(?:(\d+)\s*h)?\s*(?:(\d+)\s*m(?:in)?)?\Z")


def _seconds(form: Form) -> int:
    """The field `duration` (`8h`, `45m`, `1h30m`) in seconds; 0 where it is empty. Marks the field if it is none."""
    text = form["duration"].strip().lower()
    if not text:
        return 0
    match = _DURATION.match(text)
    if not match or not any(match.groups()):
        form.error("duration", "write it as 8h, 45m or 1h30m")
        return 0
    return int(match[1] or 0) * 3600 + int(match[2] or 0) * 60


def _short(seconds: int) -> str:
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds // 60}m"


# ---------------------------------------------------------------- home, health, numbers


def home() -> HomePanel | None:
    """Certificates with their countdown, requests of one's own, and what waits for one's decision."""
    mine = access.mine(store(), me(), now())
    waiting = [_shown(grant) for grant in access.waiting_for(store(), live().platform, me(), now())]
    context: Mapping[str, Any] = {
        "alive": [row for row in mine.certificates if row.is_alive(now())],
        "requests": _of_home(mine.grants),
        "waiting": waiting,
    }
    ready = any(item.grant.state is State.APPROVED for item in context["requests"])
    return HomePanel("Access", "access/home.html", 10, context, urgent=bool(waiting) or ready)


def _of_home(requests: tuple[Grant, ...]) -> list[Shown]:
    """What is open, and what is over and may still be bound."""
    recent = requests[:50]
    bindings = access.on_cluster(store(), recent, now())
    return [
        _shown(grant) for grant in recent if grant.state.is_open or bindings[grant.id].state in ("waiting", "failed")
    ]


def start(state: Portal) -> None:
    """The signer among the backends, certificates in the numbers, mail or webhook where one is set."""

    def signer() -> str:
        found = signer_of(state)
        if isinstance(found, SignerClient):
            found.ping()
        return "answers"

    state.backends["signer"] = signer

    def collect() -> list[Metric]:
        alive = certificate_rows.alive(state.store, state.settings.clock())
        return [
            gauge(
                "pilothouse_certificates_alive",
                "Certificates that are issued and not ended.",
                ("profile",),
                [((profile,), number) for profile, number in alive.items()],
            )
        ]

    state.metrics.add(collect)
    if "notifier" not in state.settings.extra:
        channels = notify.channels(state.settings.data / "notify.yaml")
        if channels:
            made = Outbox(state.store, channels, state.settings.clock, in_a_thread)
            state.settings.extra["notifier"] = made


__all__ = ["NAV", "SOCKET", "blueprint", "home", "start"]

"""Logging in at the provider that `DATA/oidc.yaml` names: there and back, then a session like any other."""

from __future__ import annotations

import time
from datetime import timedelta

import flask
from flask import Blueprint, abort, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from pilothouse.clients import oidc
from pilothouse.clients.oidc import Pending, Provider
from pilothouse.portal import auth, security
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import Portal, address, maybe_me, now, portal, public, store
from pilothouse.problems import Denied, PilothouseError, Unavailable
from pilothouse.store import limits, users

blueprint = Blueprint("oidc", __name__)
KEPT = "oidc"
"""Where the form cookie, which is signed, holds a login that was begun."""
ONCE = limits.Limit("oidc-state", 1, timedelta(minutes=15))
"""An answer is taken once, however often its address and its cookie are sent."""


def start(state: Portal) -> None:
    """The provider, where one is set."""
    if "oidc" not in state.settings.extra:
        found = oidc.from_file(
            state.settings.data / "oidc.yaml", lambda: state.settings.clock().timestamp(), time.monotonic
        )
        if found is not None:
            state.settings.extra["oidc"] = found


def provider() -> Provider | None:
    found: Provider | None = portal().settings.extra.get("oidc")
    return found


@blueprint.app_context_processor
def shown() -> dict[str, Provider | None]:
    """For the button of the login page."""
    return {"oidc": provider()}


@blueprint.get("/login/oidc")
@public
def begin() -> BaseResponse | tuple[str, int] | tuple[str, int, dict[str, str]]:
    """Send the browser to the provider."""
    found = provider() or abort(404)
    target = request.args.get("next", "")
    target = target if security.is_local_path(target) else ""
    if maybe_me() is not None:
        return redirect(target or "/")
    allowance = limits.hit(store(), auth.PER_ADDRESS, address(), now())
    if not allowance.allowed:
        failure = auth.TooMany(allowance.retry_after)
        return *_again(failure, target, 429), {"Retry-After": str(failure.retry_after)}
    try:
        url, pending = found.begin()
    except Unavailable as failure:
        return _again(failure, target, 503)
    flask.session[KEPT] = {
        "state": pending.state,
        "nonce": pending.nonce,
        "verifier": pending.verifier,
        "next": target,
        "at": now().timestamp(),
    }
    return redirect(url)


@blueprint.get(oidc.BACK)
@public
def back() -> BaseResponse | tuple[str, int]:
    """The browser comes back with a code, or with a refusal."""
    found = provider() or abort(404)
    begun = flask.session.pop(KEPT, None)
    if not isinstance(begun, dict) or now().timestamp() - begun["at"] > oidc.MAX_AGE:
        return _again(Denied("that login was begun elsewhere, or too long ago", "log in again"), "", 403)
    target = begun["next"]
    pending = Pending(begun["state"], begun["nonce"], begun["verifier"])
    try:
        if not limits.hit(store(), ONCE, pending.state, now()).allowed:
            raise Denied("that answer was used already", "log in again")
        who = found.finish(pending, {name: request.args[name] for name in request.args})
        if auth.is_ours(who.name):
            raise Denied(f"{who.name} has an account of pilothouse", "log in with its password")
    except PilothouseError as failure:
        away = isinstance(failure, Unavailable)
        portal().metrics.logins.labels("unavailable" if away else "refused").inc()
        auth.log("login.unavailable" if away else "login.failed", "", f"{found.settings.title}: {failure.message}")
        return _again(failure, target, 503 if away else 403)
    limits.give_back(store(), auth.PER_ADDRESS, address())
    portal().metrics.logins.labels("ok").inc()
    user = users.User(who.name, who.display_name, who.email, who.groups)
    return auth.logged_in(user, target)


def _again(failure: PilothouseError, target: str, status: int) -> tuple[str, int]:
    form = Form()
    form.error("", f"{failure}: {failure.hint}" if failure.hint else str(failure))
    return render_template("login.html", form=form, next=target), status

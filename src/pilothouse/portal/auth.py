"""Login and logout, and the guard before every request: who is it, may they see a page at all.

A browser holds a random token in a cookie, the command line the same kind of token as a bearer; the row
behind it is `store.sessions`. Flask's own signed session holds nothing but the CSRF token and messages.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import flask
from flask import Blueprint, Response, abort, current_app, flash, g, redirect, render_template, request, url_for
from flask_wtf.csrf import CSRFProtect
from werkzeug.wrappers import Response as BaseResponse

from pilothouse.access.permissions import Person, machine_of, person_of
from pilothouse.platform.model import Platform
from pilothouse.portal import security
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import (
    Portal,
    address,
    is_api,
    is_htmx,
    live,
    maybe_me,
    me,
    now,
    portal,
    public,
    session,
    store,
)
from pilothouse.problems import Denied, PilothouseError, Unavailable
from pilothouse.store import events, limits, sessions, users

if TYPE_CHECKING:
    from pilothouse.clients.directory import Directory

blueprint = Blueprint("auth", __name__)
csrf = CSRFProtect()

MACHINE_MAY = frozenset(("api_access.certificate", "api_access.profiles"))
PER_USER = limits.Limit("login-user", 4, timedelta(minutes=15))
"""Below the lockout of the directories behind us (Vault's is 5 in 15 minutes)."""
PER_ADDRESS = limits.Limit("login-address", 30, timedelta(minutes=15))


class TooMany(PilothouseError):
    """A rate limit; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        minutes = -(-retry_after // 60)
        super().__init__("too many attempts", f"wait {minutes} minute{'s' if minutes != 1 else ''}, then try again")
        self.retry_after = retry_after


def cookie_name() -> str:
    """With TLS the name carries `__Host-`, which no other host and no plain connection can set."""
    return "__Host-pilothouse" if portal().settings.tls else "pilothouse"


def authenticate(name: str, password: str) -> users.User | None:
    """The person of that name and password, or None; counts the attempt. Raises `TooMany`.

    Accounts of our own come first, and the directory is never asked about a name that one of them has, open or closed:
    whoever can write to the directory cannot become the administrator who is needed when it is gone. `Unavailable`
    where the directory does not answer; the attempt does not count then.

    A stranger can use up the attempts that all unknown addresses share, never those of an address
    from which the person has logged in before.
    """
    name = name[:200]
    known = sessions.is_known(store(), name, address())
    keys = ((PER_ADDRESS, address()), (PER_USER, f"{name}@{address()}" if known else name))
    for limit, key in keys:
        allowance = limits.hit(store(), limit, key, now())
        if not allowance.allowed:
            portal().metrics.logins.labels("limited").inc()
            log("login.limited", name, f"too many attempts ({limit.name})")
            raise TooMany(allowance.retry_after)
    user = users.verify(store(), name, password)
    if user is None:
        try:
            user = _from_directory(name, password)
        except Unavailable as failure:
            for limit, key in keys:
                limits.give_back(store(), limit, key)
            portal().metrics.logins.labels("unavailable").inc()
            log("login.unavailable", name, failure.message)
            raise
    if user is None:
        portal().metrics.logins.labels("refused").inc()
        log("login.failed", name, "wrong name or password")
        return None
    limits.clear(store(), *keys[1])
    limits.give_back(store(), *keys[0])
    portal().metrics.logins.labels("ok").inc()
    return user


def _from_directory(name: str, password: str) -> users.User | None:
    """The person as the directory has them, or None. Names are compared without case: our own are in lower case."""
    directory: Directory | None = portal().settings.extra.get("directory")
    if directory is None or is_ours(name):
        return None
    found = directory.authenticate(name, password)
    if found is None:
        return None
    if is_ours(found.name):
        log("login.refused", found.name, "the directory has a person under the name of an account of pilothouse")
        return None
    return users.User(found.name, found.display_name, found.email, found.groups)


def is_ours(name: str) -> bool:
    return users.get(store(), name.strip().lower()) is not None


def start(state: Portal) -> None:
    """The directory, where one is set."""
    if "directory" not in state.settings.extra:
        from pilothouse.clients import directory

        found = directory.from_file(state.settings.data / "directory.yaml")
        if found is not None:
            state.settings.extra["directory"] = found


def log(kind: str, name: str, message: str) -> None:
    """An event about somebody who logs in, or tries to."""
    events.record(store(), events.Event(now(), kind, sessions.printable(name), "", message, address()))


@blueprint.route("/login", methods=["GET", "POST"])
@public
def login() -> BaseResponse | str | tuple[str, int] | tuple[str, int, dict[str, str]]:
    target = request.values.get("next", "")
    target = target if security.is_local_path(target) else ""
    if request.method != "POST":
        if maybe_me() is not None:
            return redirect(target or "/")
        return render_template("login.html", form=Form(), next=target)
    form = Form({"user": request.form.get("user", "").strip()})
    if not form["user"]:
        form.error("user", "type your user name")
    if not request.form.get("password"):
        form.error("password", "type your password")
    if form.errors:
        return render_template("login.html", form=form, next=target), 422
    try:
        user = authenticate(form["user"], request.form["password"])
    except TooMany as failure:
        form.error("", f"{failure}: {failure.hint}")
        return render_template("login.html", form=form, next=target), 429, {"Retry-After": str(failure.retry_after)}
    except Unavailable as failure:
        form.error("", f"{failure}: {failure.hint}")
        return render_template("login.html", form=form, next=target), 503
    if user is None:
        form.error("", "the name or the password is wrong")
        return render_template("login.html", form=form, next=target), 422
    return logged_in(user, target)


def logged_in(user: users.User, target: str) -> BaseResponse:
    """A new session of that person, in the place of the browser's last one, and on to the page that was asked for."""
    token, _ = sessions.start(
        store(),
        user,
        now(),
        address=address(),
        agent=request.user_agent.string,
        replaces=request.cookies.get(cookie_name(), ""),
    )
    log("login", user.name, "logged in")
    flask.session.clear()  # a new CSRF token: what was planted before the login is worth nothing after it
    response = redirect(target or "/")
    set_cookie(response, token)
    return response


def set_cookie(response: BaseResponse, token: str) -> None:
    response.set_cookie(cookie_name(), token, httponly=True, secure=portal().settings.tls, samesite="Lax", path="/")


@blueprint.post("/logout")
def logout() -> BaseResponse:
    sessions.revoke(store(), session().id, now())
    log("logout", me().user, "logged out")
    flask.session.clear()
    response = redirect(url_for("auth.login"))
    response.delete_cookie(cookie_name(), path="/", secure=portal().settings.tls, httponly=True, samesite="Lax")
    return response


@blueprint.get("/me")
def profile() -> str:
    return render_template(
        "me.html",
        sessions=sessions.living(store(), me().user, now()),
        mine=session().id,
        approves=approved_teams(me(), live().platform),
    )


@blueprint.post("/me/sessions/<identifier>/end")
def end_session(identifier: str) -> BaseResponse:
    if sessions.revoke(store(), identifier, now(), user=me().user):
        log("session.ended", me().user, "ended one of their sessions")
        flash("The session was ended.")
    else:
        flash("That session had ended already.")
    return redirect(url_for("auth.profile"))


@blueprint.post("/theme")
@public
def theme() -> BaseResponse:
    """Light, dark, or as the system says; in a cookie, so that the login page follows it too."""
    chosen = request.form.get("theme", "")
    if chosen not in ("light", "dark", "system"):
        abort(400)
    back = request.form.get("next", "")
    response = redirect(back if security.is_local_path(back) else "/")
    response.set_cookie(
        "theme", chosen, max_age=365 * 86400, httponly=True, secure=portal().settings.tls, samesite="Lax"
    )
    return response


def approved_teams(person: Person, platform: Platform) -> tuple[str, ...]:
    """The teams for which that person approves: as a named approver, or as a member where none is named."""
    return tuple(
        team.name
        for team in platform.teams.values()
        if person.user in team.approvers or (not team.approvers and team.name in person.teams)
    )


# ---------------------------------------------------------------- the guard


def guard() -> BaseResponse | None:
    """Before every request: origin, who it is, whether they may see a page, CSRF, the limit on changes."""
    security.check_origin()
    bearer = _bearer()
    token = bearer or request.cookies.get(cookie_name(), "")
    view = current_app.view_functions.get(request.endpoint or "")
    if request.endpoint == "static":
        return None
    is_public = view is None or getattr(view, "public", False)
    if token:
        try:
            identify(token)
        except Unavailable:
            if not is_public:  # what nobody has to log in for also answers without the store
                raise
    if not is_public and g.get("person") is None:
        return _ask_to_log_in()
    if view is None:
        return None
    if request.method not in security.SAFE:
        if not bearer and not getattr(view, "without_csrf", False):
            csrf.protect()
        who = maybe_me()
        if who is not None:
            allowance = portal().writes.hit(store(), who.user, now())
            if not allowance.allowed:
                raise TooMany(allowance.retry_after)
    return None


def _machine(name: str) -> Person:
    """A machine, which may call what `MACHINE_MAY` lists; `Denied` (403) for everything else."""
    if request.endpoint not in MACHINE_MAY:
        raise Denied("a machine gets certificates and does nothing else", "log in as a person")
    account = users.get(store(), name)
    if account is None or not account.is_machine:
        raise Denied(f"machine {name} is no more")
    return machine_of(live().platform, name, account.profiles, account.team)


def _bearer() -> str:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def identify(token: str) -> None:
    """Set the person and the session of this request, where the token is that of a living session."""
    found = sessions.find(store(), token, now())
    if found is None or (found.kind == "web") == bool(_bearer()):
        return
    user = found.user
    g.session_row = found
    if found.kind == users.MACHINE:
        g.person = _machine(user.name)
        return
    g.person = person_of(live().platform, user.name, user.groups, user.display_name, user.email)


def _ask_to_log_in() -> BaseResponse:
    if is_api():
        abort(401)
    here = request.full_path.rstrip("?") if request.method == "GET" else ""
    target = url_for("auth.login", next=here) if here and here != "/" else url_for("auth.login")
    if is_htmx():
        return Response(status=204, headers={"HX-Redirect": target})
    return redirect(target)

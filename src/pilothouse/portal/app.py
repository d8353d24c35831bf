"""The application factory: frame, guard, headers, errors; every module with a `blueprint` is a page of it."""

from __future__ import annotations

import importlib
import pkgutil
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from flask import Flask, current_app, g, make_response, render_template, request, url_for
from flask_wtf.csrf import CSRFError
from markupsafe import Markup, escape
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

import pilothouse.portal as package
from pilothouse import __version__
from pilothouse.access.permissions import Action
from pilothouse.files.domains import DOMAINS
from pilothouse.files.snapshot import SNAPSHOTS
from pilothouse.portal import auth, security, words
from pilothouse.portal.frame import NavItem, Portal, Settings, is_api, live, may, maybe_me, now, portal
from pilothouse.portal.metrics import Metrics
from pilothouse.portal.state import Current, Engine
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, Unavailable
from pilothouse.store import Store

log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(
    settings: Settings, store: Store | None = None, engine: Engine | None = None, warm: bool = True
) -> Flask:
    """The portal as a WSGI application; the store is migrated, so that the first request finds its tables."""
    store = store or Store(settings.data)
    store.migrate()
    app = Flask(__name__, static_folder="static", template_folder="templates")
    app.config.update(
        SECRET_KEY=settings.secret_key,
        SESSION_COOKIE_NAME="__Host-pilothouse-form" if settings.tls else "pilothouse-form",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.tls,
        WTF_CSRF_CHECK_DEFAULT=False,  # auth.guard checks, once it knows how the request identified itself
        WTF_CSRF_TIME_LIMIT=None,  # a form left open over lunch is still good; the token ends with the session
        WTF_CSRF_SSL_STRICT=False,  # the guard checks the Origin, which is present where the Referer is not
        MAX_CONTENT_LENGTH=settings.max_body,
        MAX_FORM_MEMORY_SIZE=settings.max_body,
        SEND_FILE_MAX_AGE_DEFAULT=timedelta(days=365),
    )
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    auth.csrf.init_app(app)
    state = Portal(
        settings,
        store,
        Current(
            settings.platform,
            settings.clock,
            settings.watch_seconds,
            engine,
            warm,
            kept=settings.data / SNAPSHOTS,
            domains=settings.data / DOMAINS,
        ),
        Metrics(),
    )
    app.extensions["pilothouse"] = state
    _frame(app)
    _errors(app)
    state.nav = _register_pages(app)
    if settings.trusted_proxies:
        app.wsgi_app = security.TrustedProxies(app.wsgi_app, settings.trusted_proxies)  # type: ignore[method-assign]
    return app


def _register_pages(app: Flask) -> tuple[NavItem, ...]:
    """Every module of this package that has a `blueprint`, in the order of their names."""
    nav: list[NavItem] = []
    state: Portal = app.extensions["pilothouse"]
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda item: item.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        blueprint = getattr(module, "blueprint", None)
        if blueprint is None:
            continue
        app.register_blueprint(blueprint)
        nav.extend(getattr(module, "NAV", ()))
        start = getattr(module, "start", None)
        if start is not None:
            start(state)
        home = getattr(module, "home", None)
        if callable(home):
            state.panels = (*state.panels, home)
    return tuple(sorted(nav, key=lambda item: item.order))


def _frame(app: Flask) -> None:
    @app.before_request
    def begin() -> None:
        g.started = time.perf_counter()
        g.request_id = secrets.token_hex(8)
        structlog.contextvars.bind_contextvars(request=g.request_id)

    app.before_request(auth.guard)

    @app.after_request
    def end(response: BaseResponse) -> BaseResponse:
        metrics = portal().metrics
        endpoint = request.endpoint or "none"
        if endpoint != "static":
            seconds = time.perf_counter() - g.get("started", time.perf_counter())
            metrics.requests.labels(endpoint, request.method, str(response.status_code)).inc()
            metrics.seconds.labels(endpoint).observe(seconds)
            log.info(
                "request",
                method=request.method,
                path=request.path,
                status=response.status_code,
                seconds=round(seconds, 4),
                user=getattr(g.get("person"), "user", ""),
                address=request.remote_addr,
            )
        response.headers["X-Request-Id"] = g.get("request_id", "")
        structlog.contextvars.unbind_contextvars("request")
        return response

    app.after_request(security.add_headers)

    @app.context_processor
    def names() -> dict[str, Any]:
        return {
            "person": maybe_me(),
            "now": now(),
            "nav": portal().nav,
            "version": __version__,
            "theme": request.cookies.get("theme", "system"),
            "here": request.full_path.rstrip("?") if request.method == "GET" else "/",
            "platform_reason": _reason(),
            "may": may,
            "Action": Action,
            "static": _static,
        }

    app.jinja_env.filters["when"] = lambda moment: words.relative(moment, now())
    app.jinja_env.filters["countdown"] = lambda moment: words.countdown(moment, now())
    app.jinja_env.filters["ticked"] = _ticked
    app.jinja_env.filters["utc"] = words.utc
    app.jinja_env.filters["duration"] = words.duration
    app.jinja_env.globals["badge_of"] = words.badge
    app.jinja_env.globals["count"] = words.count
    app.jinja_env.globals["caret"] = _caret
    app.jinja_env.globals["url_if"] = _url_if


def _reason() -> tuple[str, str] | None:
    """Why the platform shown is not the one in the folder, for the note at the head of every page."""
    if maybe_me() is None:
        return None
    found = live()
    return (found.reason, found.hint) if found.reason else None


def _static(name: str) -> str:
    """The address of a file of ours; the version in it lets browsers keep it for a year."""
    return url_for("static", filename=name, v=__version__)


def _url_if(endpoint: str, **values: Any) -> str:
    """The address of a page, or "" where this portal has no such page."""
    return url_for(endpoint, **values) if endpoint in current_app.view_functions else ""


def _ticked(text: str) -> Markup:
    """A message of ours with what stands in backticks as code."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:  # an odd backtick: not meant so
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def _caret(place: Any) -> Markup:
    """The line of a problem with a caret under the place, as text for a <pre>."""
    lead = "".join("\t" if char == "\t" else " " for char in place.excerpt[: max(0, place.column - 1)])
    width = max(1, min(place.width, max(1, len(place.excerpt) - len(lead))))
    return Markup("{}\n{}<b>{}</b>").format(place.excerpt, lead, "^" * width)


# ---------------------------------------------------------------- errors

_STATUS: dict[type[PilothouseError], int] = {Denied: 403, Invalid: 422, Conflict: 409, Unavailable: 503}
_TITLES = {
    400: "That request cannot be used",
    401: "Log in first",
    403: "You may not do that",
    404: "There is no such page",
    405: "That cannot be done here",
    409: "Somebody else was faster",
    413: "That is too large",
    422: "That cannot be used",
    429: "Too many attempts",
    500: "A mistake of ours",
    503: "Something behind the portal does not answer",
}


def _errors(app: Flask) -> None:
    @app.errorhandler(PilothouseError)
    def ours(failure: PilothouseError) -> BaseResponse:
        if isinstance(failure, auth.TooMany):
            response = answer(429, failure.message, failure.hint)
            response.headers["Retry-After"] = str(failure.retry_after)
            return response
        status = next((code for kind, code in _STATUS.items() if isinstance(failure, kind)), 500)
        if isinstance(failure, Invalid) and "another site" in failure.message:
            status = 400
        return answer(status, failure.message, failure.hint)

    @app.errorhandler(CSRFError)
    def forged(failure: CSRFError) -> BaseResponse:
        return answer(
            400, "the form has expired or did not come from this site", "go back, reload the page, send again"
        )

    @app.errorhandler(HTTPException)
    def plain(failure: HTTPException) -> BaseResponse:
        code = failure.code or 500
        if code < 400:
            return failure.get_response()
        response = answer(code, failure.description or "", "")
        if code == 405 and getattr(failure, "valid_methods", None):
            response.headers["Allow"] = ", ".join(failure.valid_methods)  # type: ignore[attr-defined]
        if code == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    @app.errorhandler(Exception)
    def surprise(failure: Exception) -> BaseResponse:
        log.exception("unexpected", path=request.path)
        return answer(
            500, "something went wrong that should not", f"tell the platform team this number: {g.request_id}"
        )


def answer(status: int, message: str, hint: str) -> BaseResponse:
    """An error as a page, or as problem+json (RFC 9457) to the API."""
    title = _TITLES.get(status, "Error")
    if is_api():
        from pilothouse.portal.api import problem

        return problem(status, title, message, hint)
    try:
        body = render_template("error.html", status=status, title=title, message=message, hint=hint)
    except PilothouseError:  # the store itself is away: the page must not need it
        body = render_template("error_plain.html", status=status, title=title, message=message, hint=hint)
    return make_response(body, status)


__all__ = ["Settings", "create_app", "utc_now"]

"""What a page needs from the frame: the person, the platform, the store, the clock, and the marks of a route.

A module of this package that has a `blueprint` is registered by itself; a `NAV` beside it puts it into
the navigation column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flask import current_app, g, request

from pilothouse.access.permissions import Action, Decision, Person, Subject
from pilothouse.access.permissions import may as decide
from pilothouse.problems import Denied
from pilothouse.store import Store, limits
from pilothouse.store.sessions import Session

if TYPE_CHECKING:
    from pilothouse.portal.metrics import Metrics
    from pilothouse.portal.state import Current, Live

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class NavItem:
    """An entry of the navigation column. `order` sorts; `endpoint` is the page's; `group` its heading."""

    label: str
    endpoint: str
    order: int
    group: str = ""
    icon: str = ""


@dataclass(frozen=True)
class HomePanel:
    """A panel of the home page; `urgent` ones stand first, then by `order`. The template sees `panel` and `context`."""

    title: str
    template: str
    order: int
    context: Mapping[str, Any] = field(default_factory=dict)
    urgent: bool = False


@dataclass(frozen=True)
class Settings:
    """How the portal runs. `platform` is the folder (or working copy) of the documents; `data` the data folder."""

    data: Path
    platform: Path
    secret_key: bytes
    clock: Callable[[], datetime]
    tls: bool = False
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose X-Forwarded-* headers are believed."""
    watch_seconds: float = 2.0
    """How often, at most, the platform folder is looked at for changes."""
    max_body: int = 2_000_000
    extra: dict[str, Any] = field(default_factory=dict)


WRITES = limits.Limit("writes", 120, timedelta(minutes=1))


@dataclass
class Portal:
    """Everything that lives as long as the application does."""

    settings: Settings
    store: Store
    current: Current
    metrics: Metrics
    nav: tuple[NavItem, ...] = ()
    panels: tuple[Callable[[], HomePanel | None], ...] = ()
    writes: limits.Portions = field(default_factory=lambda: limits.Portions(WRITES, 10))
    """How much one person changes, counted without a write to the database for each change."""
    backends: dict[str, Callable[[], str]] = field(default_factory=dict)
    """Name → a function that says in one phrase how that backend is, or raises `Unavailable`; for `/readyz`."""


def portal() -> Portal:
    """The portal of the application that serves this request."""
    found: Portal = current_app.extensions["pilothouse"]
    return found


def store() -> Store:
    return portal().store


def now() -> datetime:
    """The moment of this request (aware, UTC): one moment for all that happens in it."""
    if "now" not in g:
        g.now = portal().settings.clock()
    moment: datetime = g.now
    return moment


def live() -> Live:
    """The platform as it is declared now (see `state.Live`); the same one throughout a request."""
    if "live" not in g:
        g.live = portal().current.get()
    found: Live = g.live
    return found


def me() -> Person:
    """The person who is logged in. `Denied` on a public page where nobody is."""
    found = g.get("person")
    if found is None:
        raise Denied("you are not logged in", "log in first")
    person: Person = found
    return person


def maybe_me() -> Person | None:
    """The person who is logged in, or None (public pages)."""
    found: Person | None = g.get("person")
    return found


def may(action: Action, subject: Subject = None) -> Decision:
    """Whether the person of this request may do that (`access.permissions`, the one place where it is decided)."""
    return decide(me(), action, subject, live().platform)


def require(action: Action, subject: Subject = None) -> None:
    """Raise `Denied` (403) with the reason and whom to ask, unless they may."""
    decision = may(action, subject)
    if not decision:
        raise Denied(decision.why, f"ask {', '.join(decision.whom_to_ask)}" if decision.whom_to_ask else "")


def session() -> Session:
    """The server-side session of this request. `Denied` where there is none."""
    found = g.get("session_row")
    if found is None:
        raise Denied("you are not logged in", "log in first")
    row: Session = found
    return row


def address() -> str:
    """The client's address, through the trusted proxies."""
    return request.remote_addr or ""


def is_private() -> bool:
    """Whether nobody on the way can read this request: TLS, or this machine itself."""
    try:
        return request.is_secure or ip_address(address()).is_loopback
    except ValueError:
        return False


def is_htmx() -> bool:
    """Whether htmx asked, which swaps a part of the page."""
    return request.headers.get("HX-Request") == "true"


def is_api() -> bool:
    return request.path.startswith("/api/")


def public(view: View) -> View:
    """Marks a view that may be seen without a login. Everything else may not."""
    view.public = True  # type: ignore[attr-defined]  # a mark on a function, read by `auth.guard`
    return view


def without_csrf(view: View) -> View:
    """Marks an API view that takes no cookie and so needs no CSRF token."""
    view.without_csrf = True  # type: ignore[attr-defined]  # a mark on a function, read by `auth.guard`
    return view

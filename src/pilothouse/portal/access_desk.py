"""What the access pages and the access API share: the desk of the use cases, and the token of a request."""

from __future__ import annotations

import secrets

from flask import g, request

from pilothouse.access.certificates import Issued
from pilothouse.clients.signer import SignerClient
from pilothouse.portal import auth
from pilothouse.portal.frame import Portal, address, portal, store
from pilothouse.portal.telling import notifier
from pilothouse.problems import Denied
from pilothouse.workflows.access import Desk, Signer

SOCKET = "signer.sock"
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def new_id() -> str:
    """The id of a request: short enough to be read out, without letters that look alike."""
    return "g-" + "".join(secrets.choice(_LETTERS) for _ in range(8))


def signer_of(state: Portal) -> Signer:
    """The signer of the application: that of `Settings.extra`, else the one beside the data folder."""
    found: Signer = state.settings.extra.get("signer") or SignerClient(state.settings.data / SOCKET)
    return found


def desk() -> Desk:
    return Desk(store(), signer_of(portal()), notifier(), new_id, request.host_url.rstrip("/"), caller=address())


def token() -> str:
    """The session's token of this request: the signer looks it up itself."""
    if "person" not in g:
        raise Denied("you are not logged in", "log in first")
    kind, _, bearer = request.headers.get("Authorization", "").partition(" ")
    return bearer.strip() if kind.lower() == "bearer" else request.cookies.get(auth.cookie_name(), "")


def issued(result: Issued) -> Issued:
    """Counted; the ledger has it already."""
    portal().metrics.issued.labels(result.cluster, result.profile).inc()
    return result

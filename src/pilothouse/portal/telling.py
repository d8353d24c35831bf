"""Telling people from a page: by mail or webhook where one is set; the home page shows it in any case."""

from __future__ import annotations

import structlog

from pilothouse.portal.frame import live, portal, store
from pilothouse.problems import PilothouseError
from pilothouse.workflows.access import Message, Nobody, Notifier, addresses_of

log = structlog.get_logger(__name__)


def notifier() -> Notifier:
    found: Notifier = portal().settings.extra.get("notifier") or Nobody()
    return found


def tell(users: tuple[str, ...], subject: str, text: str) -> None:
    """Tell these users; where that fails it is logged, and the step that was taken stays taken."""
    to = tuple(address for user in users for address in addresses_of(store(), live().platform, user))
    if not to:
        return
    try:
        notifier().tell(Message(to, subject, text))
    except PilothouseError as failure:
        log.warning("not told", subject=subject, reason=failure.message)

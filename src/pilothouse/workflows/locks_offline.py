"""A lock that is set in the data folder itself, for when the portal is down: no session says who it is.

Whoever may write the database may write any row of it, so there is no permission to ask about: the right is that of the
data folder. The ledger's entry is the same, by the account of the operating system.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NoReturn

from pilothouse.access.certificates import Issued
from pilothouse.access.permissions import Person
from pilothouse.platform.model import Platform
from pilothouse.problems import Unavailable
from pilothouse.store import Store
from pilothouse.workflows import locks
from pilothouse.workflows.access import Desk, Notifier
from pilothouse.workflows.locks import Step


class _NoSigner:
    """To lock needs none."""

    def sign(self, token: str, csr: str, **_fields: object) -> Issued:
        self._away()

    def authority(self, cluster: str) -> str:
        self._away()

    def _away(self) -> NoReturn:
        raise Unavailable("no signer is asked where the data folder is written directly")


def lock(
    store: Store,
    platform: Platform,
    actor: str,
    subject: str,
    reason: str,
    seconds: int,
    now: datetime,
    *,
    notifier: Notifier,
    new_id: Callable[[], str],
    anyway: bool = False,
) -> Step:
    """As `locks.lock`, by `actor`. `platform` may be an empty one, where the documents cannot be read: the lock is the
    same then, nobody of a team is told, and what API servers go on accepting is not known."""
    desk = Desk(store, _NoSigner(), notifier, new_id)
    target = locks.target_of(store, platform, subject, now, anyway)
    return locks.place(desk, platform, Person(actor), target, reason, seconds, now)

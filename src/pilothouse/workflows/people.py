"""Who somebody is at this moment, as the signer sees it: the session, then account or directory, asked again each time.

A session says who logged in this morning; what they may have is decided by what they are now. An account of ours is
read from the store. Anybody else is looked up in the directory by the service's own account, so that a group that was
taken away there counts at the next certificate. A directory that does not answer gives nobody a certificate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pilothouse.access.permissions import Person, machine_of, person_of
from pilothouse.platform.model import Platform
from pilothouse.problems import Denied, Unavailable
from pilothouse.store import Store, locks, sessions, users
from pilothouse.store.sessions import Session
from pilothouse.store.users import User


class Known(Protocol):
    """A person as the directory has them now (`clients.directory.Entry` is one)."""

    @property
    def name(self) -> str: ...
    @property
    def groups(self) -> frozenset[str]: ...


LookUp = Callable[[str], Known | None]
"""Asks the directory for the person of exactly that name. None where it has nobody; may raise `Unavailable`."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A living session, and the account of its user at that moment; None for a person of the directory."""

    session: Session
    account: User | None


@dataclass(frozen=True, slots=True)
class People:
    """`look_up` is None where no directory is set; who logged in by another way then keeps the groups of the login."""

    store: Store
    look_up: LookUp | None = None

    def asker(self, platform: Platform, asking: Asking, by_name: bool = False) -> Person:
        """Whose session that is, with their groups of now. `Denied` or `Unavailable`.

        `by_name` is for what groups do not decide: a directory that does not answer is no hindrance then.
        """
        session, account = asking.session, asking.account
        user = session.user
        if (session.kind == users.MACHINE) != (account is not None and account.is_machine):
            raise Denied(f"this token is not of {user.name} as it is now", "get a new one")
        if account is not None and account.is_machine:
            if account.disabled:
                raise Denied(f"machine {account.name} is closed")
            return machine_of(platform, account.name, account.profiles, account.team)
        groups = self._groups(user.name, account, user.groups, by_name)
        return person_of(platform, user.name, groups, user.display_name, user.email)

    def asking(self, token: str, now: datetime) -> Asking:
        """The living session of that token, and the account it is of; `Denied` where there is none."""
        with self.store.read() as connection:
            found = sessions.find_in(connection, token, now)
            account = users.get_in(connection, found.user.name) if found else None
        if found is None:
            raise Denied("the session has ended", "log in again: `pilothouse access login`")
        sessions.touch(self.store, found, now)
        return Asking(found, account)

    def asks_again(self, asking: Asking) -> bool:
        """Whether the groups that count are those of now, and not those of the login."""
        return asking.account is not None or self.look_up is not None

    def _groups(self, name: str, account: User | None, at_login: frozenset[str], by_name: bool) -> frozenset[str]:
        """The groups as they are now: of the account, else of the directory, else those of the login."""
        if account is not None:
            if account.disabled:
                raise Denied(f"the account {name} is closed")
            return account.groups
        return at_login if self.look_up is None else self._looked_up(self.look_up, name, by_name)

    def approver(self, platform: Platform, name: str, now: datetime, by_name: bool = False) -> Person:
        """Who approved, as they are now. `Denied` where that cannot be seen, or they are locked."""
        locks.require_unlocked(self.store, (name,), now)
        account = users.get(self.store, name)
        if account is not None:
            if account.disabled or account.is_machine:
                raise Denied(f"the account of {name}, who approved, is closed", "make a new request")
            return person_of(platform, name, account.groups)
        if self.look_up is not None:
            return person_of(platform, name, self._looked_up(self.look_up, name, by_name))
        living = sessions.living(self.store, name, now)
        if not living:
            raise Denied(
                f"whether {name}, who approved, still may cannot be seen", f"ask {name} to log in, then claim again"
            )
        return person_of(platform, name, living[0].user.groups)

    def _looked_up(self, look_up: LookUp, name: str, by_name: bool) -> frozenset[str]:
        try:
            found = look_up(name)
        except Unavailable as failure:
            if by_name:
                return frozenset()
            raise Unavailable(
                f"whether {name} still may cannot be seen: {failure.message}",
                "nothing is signed until the directory answers; certificates that you have go on",
            ) from failure
        if found is None or found.name != name:
            raise Denied(
                f"the directory does not know {name} any more",
                "ask the owners of the directory; `users.lookup` of directory.yaml says how people are found",
            )
        return found.groups

"""Group commit: steps of several threads share one transaction, and so one wait for the disk.

Whoever comes while a transaction is being committed waits for the next one, together with everybody else who came
meanwhile. One of them leads it. Each is told only after its own rows are on the disk, or that they are not: what a
caller does afterwards (sign, hand out) never comes before its record.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from pilothouse.access.ledger import Head
from pilothouse.problems import Unavailable
from pilothouse.store.database import Store
from pilothouse.store.ledger import Appending

MOST = 64
"""Steps in one transaction: so many that the disk is no limit, so few that the last does not wait for long."""

Step = Callable[[Connection, Appending], None]


class _Member:
    """One caller's step, and what became of it."""

    __slots__ = ("failure", "leads", "step", "turn")

    def __init__(self, step: Step) -> None:
        self.step = step
        self.turn = threading.Lock()
        """Held until it is this caller's turn: to lead a transaction, or to go on."""
        self.turn.acquire()
        self.leads = False
        self.failure: BaseException | None = None


class GroupCommit:
    """`exported` is told the ledger's new head after each transaction, once, before anybody who took part goes on; what
    it raises is raised for all of them. Safe to share between threads."""

    def __init__(self, store: Store, exported: Callable[[Head], None], most: int = MOST) -> None:
        self._store = store
        self._exported = exported
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[_Member] = deque()
        self._busy = False

    def write(self, step: Step) -> None:
        """Return once the rows of `step` are committed.

        It runs in some caller's thread, and again where another one's failed beside it: it must do nothing but read and
        write through the connection. What it raises is raised here, and undoes its own rows alone.
        """
        member = _Member(step)
        with self._lock:
            self._waiting.append(member)
            if not self._busy:
                self._busy = member.leads = True
        if not member.leads:
            member.turn.acquire()
        if member.leads:
            self._lead()
        if member.failure is not None:
            raise member.failure

    def _lead(self) -> None:
        """Commit for everybody who waits, this caller among them, and hand over to the next who came meanwhile."""
        with self._lock:
            members = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
        try:
            self._commit(members)
        except BaseException as failure:
            for member in members:  # a copy for each: threads would write their tracebacks into one
                member.failure = member.failure or copy.copy(failure)
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._busy = following is not None
            if following is not None:
                following.leads = True
                following.turn.release()
            for member in members:
                if not member.leads:
                    member.turn.release()

    def _commit(self, members: Sequence[_Member]) -> None:
        try:
            with self._store.write() as connection:
                entries = Appending(connection)
                for member in members:
                    member.step(connection, entries)
                head = entries.write()
        except Unavailable:
            raise  # the database itself: nobody's rows are there
        except Exception as failure:
            if len(members) == 1:
                members[0].failure = failure
                return
            head = self._commit_each(members)
        if head is not None:
            self._exported(head)

    def _commit_each(self, members: Sequence[_Member]) -> Head | None:
        """Somebody was refused, which rolled everybody back: once more, each so that it can be undone alone."""
        with self._store.write() as connection:
            entries = Appending(connection)
            for member in members:
                before = entries.mark()
                try:
                    with self._store.part(connection):
                        member.step(connection, entries)
                except Unavailable:
                    raise
                except Exception as failure:
                    entries.back_to(before)
                    member.failure = failure
            return entries.write()

"""What is locked, read again every half second, and kept when the database is away."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from pilothouse.access.locks import Held, Lock
from pilothouse.problems import PilothouseError

EVERY = 0.5
"""Seconds between two readings."""
STALE = 15.0
"""Seconds after which the webhook says of itself that it is not ready."""
REMEMBER = timedelta(minutes=5)
"""A use of what is locked is recorded at most this often, for each lock and cluster."""
MOST_USES = 1_000

log = structlog.get_logger(__name__)


class Memory:
    """`read` is the store's own reading, `record` its entry of a use. Safe for many threads."""

    def __init__(
        self,
        read: Callable[[datetime], Held],
        record: Callable[[Lock, str, datetime], None],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._read = read
        self._record = record
        self._monotonic = monotonic
        self.clock = clock
        self._held: Held | None = None
        self._read_at = 0.0
        self._reason = "the locks were not read yet"
        self._lock = threading.Lock()
        self._uses: deque[tuple[Lock, str, datetime]] = deque()
        self._seen: dict[tuple[str, str, str], datetime] = {}

    def held(self) -> Held | None:
        """What is locked, as last read; None before the first reading, when nothing can be said."""
        return self._held

    def age(self) -> float:
        """Seconds since the last reading that succeeded."""
        return self._monotonic() - self._read_at if self._held is not None else float("inf")

    @property
    def reason(self) -> str:
        """Why the webhook is not ready, "" where it is."""
        return self._reason if self.age() > STALE else ""

    def refresh(self) -> bool:
        """Read now; what was read before stays where that fails."""
        try:
            self._held = self._read(self.clock())
        except PilothouseError as failure:
            if failure.message != self._reason:
                log.warning("locks not read", reason=failure.message)
            self._reason = failure.message
            return False
        self._read_at = self._monotonic()
        self._reason = "the locks are not read any more"
        return True

    def use(self, lock: Lock, cluster: str) -> None:
        """Somebody tried what is locked: kept for the ledger, which is written by `write_uses`."""
        now = self.clock()
        key = (lock.id, lock.target.subject, cluster)
        with self._lock:
            last = self._seen.get(key)
            if (last is not None and now - last < REMEMBER) or len(self._uses) >= MOST_USES:
                return
            if len(self._seen) > 10 * MOST_USES:
                self._seen.clear()
            self._seen[key] = now
            self._uses.append((lock, cluster, now))

    def write_uses(self) -> int:
        """Write down what was tried; what could not be written waits for the next time."""
        written = 0
        while self._uses:
            lock, cluster, at = self._uses[0]
            try:
                self._record(lock, cluster, at)
            except PilothouseError as failure:
                log.warning("use of a lock not recorded", subject=lock.target.subject, reason=failure.message)
                return written
            self._uses.popleft()
            written += 1
            log.warning("locked and tried", subject=lock.target.subject, user=lock.target.user, cluster=cluster)
        return written

    def keep_up(self, stop: threading.Event) -> None:
        """Read and write until told to stop."""
        while not stop.wait(EVERY):
            try:
                self.refresh()
                self.write_uses()
            except Exception:  # this thread must not end: the process would answer from an old memory for ever
                log.exception("unexpected")

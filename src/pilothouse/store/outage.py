"""A server that does not answer costs one caller its time-out, not every caller: the others are told at once.

After a failure to reach it nobody asks for `PAUSE` seconds. Then one caller tries, and only when that one was answered
do the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pilothouse.problems import Unavailable

PAUSE = 1.0
TRY_SECONDS = 20.0
"""A try that has not said how it ended after so long is taken for lost."""


class Outage:
    """Safe for many threads. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failure: Unavailable | None = None
        self._try_at = 0.0
        self._trying = 0

    def check(self) -> None:
        """Raise what the last try met, unless there is no outage or it is this caller's turn to try."""
        with self._lock:
            if self._failure is None:
                return
            now, me = self._clock(), threading.get_ident()
            if now < self._try_at and me != self._trying:
                raise Unavailable(self._failure.message, self._failure.hint)
            self._try_at, self._trying = now + TRY_SECONDS, me  # until this caller has its answer

    def failed(self, failure: Unavailable) -> None:
        """It did not answer."""
        with self._lock:
            self._failure = failure
            self._try_at, self._trying = self._clock() + PAUSE, 0

    def over(self) -> None:
        """It answered."""
        if self._failure is not None:
            with self._lock:
                self._failure = None

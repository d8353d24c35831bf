"""The last good answer of a server, kept for some seconds and shown with its age: a page never waits for a dead server.

A first reader waits for a short while, later ones get what is there while a thread asks again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from pilothouse.problems import PilothouseError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Seen(Generic[Value]):
    """`value` is the last good answer, from `at`; `reason` why it is not a newer one ("" where it is fresh)."""

    value: Value | None
    at: datetime | None
    reason: str = ""
    hint: str = ""


class Latest(Generic[Value]):
    """Asks `ask` at most every `keep` seconds, and makes nobody wait longer than `patience` seconds.

    `ask` raises an exception of ours where there is no answer; `clock` gives aware moments. Safe for many threads.
    """

    def __init__(
        self, ask: Callable[[], Value], clock: Callable[[], datetime], keep: float = 10.0, patience: float = 1.5
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._keep = keep
        self._patience = patience
        self._lock = threading.Lock()
        self._asking: threading.Event | None = None
        self._asked = float("-inf")
        self._stale = False
        self._seen: Seen[Value] = Seen(None, None)

    def get(self, wait: bool = False, patience: float | None = None) -> Seen[Value]:
        """What is known. `wait` waits for an answer that is due even where an older one is there.

        `patience` in place of that of the watch: 0 only starts asking.
        """
        patience = self._patience if patience is None else patience
        asking = self._ask_if_due()
        if asking is not None and (wait or (self._seen.at is None and not self._seen.reason)):
            asking.wait(patience)
        if wait:
            again = self._ask_if_due()  # what was asked may have been under way before `forget`
            if again is not None and again is not asking:
                again.wait(patience)
        seen = self._seen
        if seen.at is None and not seen.reason:
            return Seen(None, None, "it was asked and has not answered yet", "look again in a few seconds")
        return seen

    def forget(self) -> None:
        """The next reader asks again: something was changed there."""
        with self._lock:
            self._stale = True

    def _ask_if_due(self) -> threading.Event | None:
        """Starts asking where it is time; what is under way, or None."""
        with self._lock:
            due = self._stale or time.monotonic() - self._asked >= self._keep
            if due and self._asking is None:
                self._stale, self._asked = False, time.monotonic()
                self._asking = threading.Event()
                threading.Thread(target=self._refresh, args=(self._asking,), name="latest", daemon=True).start()
            return self._asking

    def _refresh(self, done: threading.Event) -> None:
        try:
            self._seen = Seen(self._ask(), self._clock())
        except PilothouseError as failure:
            self._seen = Seen(self._seen.value, self._seen.at, failure.message, failure.hint)
        except Exception as failure:
            self._seen = Seen(self._seen.value, self._seen.at, f"a mistake of ours: {failure!r}")
            raise
        finally:
            with self._lock:
                self._asking = None
            done.set()

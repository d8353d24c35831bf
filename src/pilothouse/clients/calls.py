"""What every call of a real server has in common: it is counted and timed, and repeated where that is safe.

    with calls.measured("prometheus", "query"):
        ...

Outcomes are the classes of the one small tree of exceptions, so that `pilothouse_client_calls_total` says of each
server how often it did not answer, refused us, or refused what we sent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from pilothouse.problems import Conflict, Denied, Invalid, Unavailable

Value = TypeVar("Value")

REGISTRY = CollectorRegistry()
"""The numbers of this process' clients; whoever serves `/metrics` adds them to its own."""

CALLS = Counter(
    "pilothouse_client_calls_total", "Calls of real servers.", ["server", "operation", "outcome"], registry=REGISTRY
)
SECONDS = Histogram(
    "pilothouse_client_seconds",
    "Time of a call, repeats included.",
    ["server", "operation"],
    buckets=(0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60),
    registry=REGISTRY,
)
RETRIES = Counter("pilothouse_client_retries_total", "Repeated attempts.", ["server", "operation"], registry=REGISTRY)

_OUTCOMES: tuple[tuple[type[Exception], str], ...] = (
    (Unavailable, "unavailable"),
    (Denied, "denied"),
    (Conflict, "conflict"),
    (Invalid, "invalid"),
)


@contextmanager
def measured(server: str, operation: str) -> Iterator[None]:
    """Counts and times what is done inside. `operation` is a fixed word, never a path or a name."""
    started = time.monotonic()
    outcome = "mistake"
    try:
        yield
        outcome = "ok"
    except Exception as failure:
        outcome = next((word for kind, word in _OUTCOMES if isinstance(failure, kind)), outcome)
        raise
    finally:
        CALLS.labels(server, operation, outcome).inc()
        SECONDS.labels(server, operation).observe(time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how long apart something that may be repeated is tried.

    Pauses grow by the factor 2 from `first` to at most `longest` seconds, each shortened at random by up to a half,
    so that many clients do not come back at the same moment. `budget` bounds all pauses together.
    """

    attempts: int = 3
    first: float = 0.2
    longest: float = 5.0
    budget: float = 15.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    chance: Callable[[], float] = field(default=random.random, repr=False)

    def run(self, call: Callable[[], Value], server: str, operation: str) -> Value:
        """What `call` returns; `Unavailable` alone is tried again, `retry_after` of it is respected."""
        spent = 0.0
        for attempt in range(1, self.attempts + 1):
            try:
                return call()
            except Unavailable as failure:
                pause = min(self.first * 2 ** (attempt - 1), self.longest) * (1 - self.chance() / 2)
                pause = max(pause, getattr(failure, "retry_after", 0.0))
                if attempt == self.attempts or spent + pause > self.budget:
                    raise
                spent += pause
                RETRIES.labels(server, operation).inc()
                self.sleep(pause)
        raise AssertionError("the loop ends by return or raise")


ONCE = Retry(attempts=1)
"""For what must not be repeated: it may have happened although no answer came."""

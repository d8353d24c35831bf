"""Several servers asked at once, with one deadline for all of them.

A server that hangs costs its own answer and nobody else's. The threads are daemons: a process that ends does not
wait for a server that does not.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from pilothouse.clients.http import Http
from pilothouse.problems import PilothouseError, Unavailable

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def together(calls: Mapping[Key, Callable[[], Value]], seconds: float) -> dict[Key, Value | PilothouseError]:
    """Each call's value or failure, in the order of `calls`; one that is not back in time is `Unavailable`.

    A failure that is no exception of ours is a mistake, and is raised here.
    """
    done: queue.SimpleQueue[tuple[Key, Value | Exception]] = queue.SimpleQueue()

    def run(key: Key, call: Callable[[], Value]) -> None:
        try:
            done.put((key, call()))
        except Exception as failure:
            done.put((key, failure))

    for key, call in calls.items():
        threading.Thread(target=run, args=(key, call), name=f"ask {key}", daemon=True).start()
    found: dict[Key, Value | PilothouseError] = {}
    ends = time.monotonic() + seconds
    while len(found) < len(calls):
        try:
            key, value = done.get(timeout=max(ends - time.monotonic(), 0.001))
        except queue.Empty:
            break
        if isinstance(value, Exception) and not isinstance(value, PilothouseError):
            raise value
        found[key] = value
    late = "it hangs or is overloaded; what it last said may be shown meanwhile"
    return {key: found.get(key, Unavailable(f"{key} did not answer within {seconds:g} s", late)) for key in calls}


@contextmanager
def understood(http: Http) -> Iterator[None]:
    """An answer of another shape than the server's API has is `Unavailable`: something else listens there."""
    try:
        yield
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as failure:
        raise Unavailable(
            f"{http.url} answers what no {http.server} would: {type(failure).__name__} {failure}",
            f"is the declared address that of the {http.server} itself, and not of a login page before it?",
        ) from failure

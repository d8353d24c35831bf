"""Python's search for reference cycles, paused where it costs much and finds nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Reading and deriving make millions of objects and no cycles: looking for cycles meanwhile takes a third of the
    time. Also a decorator. Of several at once, the first to end lets the search begin again.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

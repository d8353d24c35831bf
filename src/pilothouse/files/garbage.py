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


def settle() -> None:
    """Look for cycles now, and leave everything that lives out of later searches: for a process that has just loaded
    what it keeps for long. A search through a large platform stops every thread for a third of a second, and would
    otherwise fall into somebody's request. What is left out is still freed when nothing refers to it any more.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()

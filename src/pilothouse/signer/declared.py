"""The declarations as the signer reads them itself, anew whenever a file of the folder changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from pilothouse.files import platform as platform_files
from pilothouse.platform.model import Platform
from pilothouse.problems import PilothouseError, Unavailable

LOOK_EVERY = 1.0
"""Seconds between two looks at the folder."""


class Declared:
    """`declared()` is the platform now. A document with errors is left out, as if it were not there.

    Where the folder cannot be read at all it raises `Unavailable`: rights that cannot be looked up are not given.
    """

    def __init__(self, root: Path, monotonic: Callable[[], float]) -> None:
        self._root = root
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._seen: tuple[float, Platform] | None = None
        """When the folder was last looked at, and what it declared: replaced as one, so that it is read without a lock.
        Every certificate asks several times, and threads that queue for a lock cost more than what it guards."""
        self._stamp: object = None

    def __call__(self) -> Platform:
        fresh = self._fresh()
        return self._looked() if fresh is None else fresh

    def _fresh(self) -> Platform | None:
        seen = self._seen
        return seen[1] if seen is not None and self._monotonic() - seen[0] < LOOK_EVERY else None

    def _looked(self) -> Platform:
        with self._lock:
            fresh = self._fresh()  # somebody else looked meanwhile
            if fresh is not None:
                return fresh
            moment = self._monotonic()
            before, self._seen = self._seen, None
            platform = self._read(before[1] if before else None)
            self._seen = moment, platform
            return platform

    def _read(self, known: Platform | None) -> Platform:
        """What is declared now: `known` where no file has changed since."""
        try:
            stamp = tuple(_files(str(self._root)))
            if known is not None and stamp == self._stamp:
                return known
            platform = platform_files.load(self._root).platform
            self._stamp = stamp
            return platform
        except OSError as failure:
            raise Unavailable(f"the declarations in {self._root} cannot be read: {failure.strerror}") from failure
        except PilothouseError as failure:
            raise Unavailable(f"the declarations cannot be read: {failure.message}", failure.hint) from failure


def _files(folder: str) -> Iterator[tuple[str, int, int]]:
    """(path, size, time of change) of every file that may hold a declaration."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            if entry.name.startswith(".") or entry.name == platform_files.SNAPSHOTS:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            elif entry.name.endswith((".yaml", ".yml")) and entry.is_file():
                status = entry.stat()
                yield entry.path, status.st_size, status.st_mtime_ns

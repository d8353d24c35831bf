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
        self._platform: Platform | None = None
        self._stamp: object = None
        self._looked = 0.0

    def __call__(self) -> Platform:
        with self._lock:
            moment = self._monotonic()
            if self._platform is None or moment - self._looked >= LOOK_EVERY:
                self._looked = moment
                self._look()
            if self._platform is None:
                raise Unavailable(f"the declarations in {self._root} cannot be read")
            return self._platform

    def _look(self) -> None:
        try:
            stamp = tuple(_files(str(self._root)))
            if self._platform is not None and stamp == self._stamp:
                return
            self._platform = None
            self._platform = platform_files.load(self._root).platform
            self._stamp = stamp
        except OSError as failure:
            self._platform = None
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

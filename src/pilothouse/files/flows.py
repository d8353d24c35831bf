"""Files of observed flows: lines as they come, plain or gzip, with limits and progress."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from pilothouse.problems import Invalid, Unavailable

MAX_FLOW_BYTES = 50_000_000_000
"""Of what a file holds once unpacked, about fifty million flows; more is taken for a mistake."""
MAX_LINE_BYTES = 256_000_000
"""A page of flows on one line may be large; nothing else is."""

Progress = Callable[[int, int], object]
"""Told the bytes read so far and the file's size (0: not known), as they lie on the disk."""

_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"


@contextmanager
def opened(path: Path, progress: Progress | None = None) -> Iterator[Iterator[bytes]]:
    """The lines of a file, without their ends; a gzip file is told by its content, whatever it is called.

    Raises `Invalid` where there is no such file, it is too large or its gzip is broken, `Unavailable` where the file
    system does not let us; both also while the lines are read.
    """
    path = Path(path)
    shown = path.as_posix()
    if path.is_dir():
        raise Invalid(f"{shown} is a folder", "name one file of flows, or give several to stdin: cat flows/* | ... -")
    try:
        file = path.open("rb")
        size = path.stat().st_size
    except FileNotFoundError as failure:
        raise Invalid(f"no file of flows at {shown}", "is it written as it is called, from this folder?") from failure
    except OSError as failure:
        raise _unavailable(shown, failure) from failure
    with file:
        if size > MAX_FLOW_BYTES:
            raise Invalid(f"{shown} has {size:,} bytes, more than a file of flows may ({MAX_FLOW_BYTES:,})", _SPLIT)
        yield lines(file, shown, size, progress)


def lines(stream: IO[bytes], shown: str, size: int = 0, progress: Progress | None = None) -> Iterator[bytes]:
    """The lines of an open stream (`sys.stdin.buffer`, say), plain or gzip, without their ends.

    Raises `Invalid` while it is read: for broken gzip, more than `MAX_FLOW_BYTES`, or a line of more than
    `MAX_LINE_BYTES`. `Unavailable` where reading fails.
    """
    rest: list[bytes] = []
    held = total = 0
    for chunk in _unpacked(stream, shown, size, progress):
        total += len(chunk)
        if total > MAX_FLOW_BYTES:
            raise Invalid(f"{shown} holds more than {MAX_FLOW_BYTES:,} bytes", _SPLIT)
        first, *others = chunk.split(b"\n")
        rest.append(first)
        held += len(first)
        if others:
            yield b"".join(rest)
            rest = [others.pop()]
            held = len(rest[0])
            yield from others
        if held > MAX_LINE_BYTES:
            raise Invalid(
                f"{shown} has a line of more than {MAX_LINE_BYTES:,} bytes", "flows are one to a line, or in pages"
            )
    if held:
        yield b"".join(rest)


_SPLIT = "split it, or observe for a shorter time"


def _unpacked(stream: IO[bytes], shown: str, size: int, progress: Progress | None) -> Iterator[bytes]:
    watched = _Watched(stream, size, progress)
    try:
        packed = watched.peek(2) == _GZIP
        source = gzip.GzipFile(fileobj=cast(Any, watched)) if packed else watched
        while chunk := source.read(_CHUNK):
            yield chunk
    except (gzip.BadGzipFile, EOFError, zlib.error) as failure:
        raise Invalid(
            f"{shown} is broken gzip: {failure}", "was it cut off? unpack what is whole: gzip -dc FILE"
        ) from failure
    except OSError as failure:
        raise _unavailable(shown, failure) from failure


def _unavailable(shown: str, failure: OSError) -> Unavailable:
    return Unavailable(
        f"{shown} cannot be read: {failure.strerror or failure}", "give the user that runs pilothouse the right to"
    )


class _Watched:
    """A stream that tells how far it was read, and whose first bytes can be looked at."""

    def __init__(self, stream: IO[bytes], size: int, progress: Progress | None) -> None:
        self._stream = stream
        self._size = size
        self._progress = progress
        self._held = b""
        self._done = 0

    def peek(self, count: int) -> bytes:
        while len(self._held) < count and (more := self._stream.read(count - len(self._held))):
            self._held += more
        return self._held

    def read(self, count: int = -1) -> bytes:
        held, self._held = self._held, b""
        found = held + self._stream.read(count if count < 0 else max(0, count - len(held)))
        self._done += len(found)
        if self._progress is not None:
            self._progress(self._done, self._size)
        return found

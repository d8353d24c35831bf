"""Audit logs as lines: plain or gzip, from a file or a stream; a log that grows is read on where it was left."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from pilothouse.problems import Invalid, Unavailable

LONGEST = 16 * 1024 * 1024
"""Of a line. An event with its request and response has at most a few MB, as etcd has."""
_CHUNK = 1 << 18
_HEAD = 512
"""Of bytes by which a file is known again; a line of either program holds a time within them."""
_GZIP = b"\x1f\x8b"
_PACKED = ".gz"
Progress = Callable[[int], object]
"""Told the bytes that were read so far, unpacked."""


@dataclass(frozen=True, slots=True)
class Line:
    """`number` from 1; `end` is where in the unpacked log the next one begins; `wrong` why `data` is not all of it."""

    number: int
    data: bytes
    end: int
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a log that grows was read: which file (its inode) and the bytes of it.

    `head` names its first bytes: a file that was emptied in place and has grown past the old offset is told by it.
    """

    inode: int = 0
    offset: int = 0
    head: str = ""


def lines(path: Path, progress: Progress | None = None) -> Iterator[Line]:
    """The lines of a file. `Invalid` where there is none, `Unavailable` where it may not be read."""
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError) as failure:
        raise Invalid(f"no audit log at {path.as_posix()}", "name the file that Vault or the API server writes") from (
            failure
        )
    except OSError as failure:
        raise _unavailable(path.as_posix(), failure) from failure
    with file:
        yield from of_stream(file, path.as_posix(), progress)


def of_stream(stream: IO[bytes], shown: str, progress: Progress | None = None) -> Iterator[Line]:
    """The lines of an open stream, plain or gzip. A gzip that breaks off ends them with one that says so."""
    head = stream.read(2)
    source: Any = _Joined(head, stream)
    if head == _GZIP:
        source = gzip.GzipFile(fileobj=cast(Any, source))
    yield from _split(source, shown, progress)


def _split(source: Any, shown: str, progress: Progress | None, complete: bool = False) -> Iterator[Line]:
    """`complete`: what has no end yet is left for the next time."""
    number = end = 0
    rest: list[bytes] = []
    held = skipped = 0
    while True:
        try:
            chunk = source.read(_CHUNK)
        except (gzip.BadGzipFile, EOFError, zlib.error) as failure:
            yield Line(number + 1, b"", end, f"the gzip is broken from here on: {failure}")
            return
        except OSError as failure:
            raise _unavailable(shown, failure) from failure
        if not chunk:
            break
        for part in _by_newline(chunk):
            held += len(part)
            if held + skipped > LONGEST:
                skipped, held, rest = skipped + held, 0, []
            else:
                rest.append(part)
            if part.endswith(b"\n"):
                number, end = number + 1, end + held + skipped
                text = b"".join(rest).strip()
                if skipped:
                    yield Line(number, b"", end, f"it has more than {LONGEST:,} bytes")
                elif text:
                    yield Line(number, text, end)
                rest, held, skipped = [], 0, 0
        if progress is not None:
            progress(end)
    text = b"".join(rest).strip()
    if text and not complete:
        yield Line(number + 1, text, end + held)


def _by_newline(chunk: bytes) -> list[bytes]:
    parts = [part + b"\n" for part in chunk.split(b"\n")]
    parts[-1] = parts[-1][:-1]
    return [part for part in parts if part]


class _Joined:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, stream: IO[bytes]) -> None:
        self._head = head
        self._stream = stream

    def read(self, count: int = -1) -> bytes:
        head, self._head = self._head, b""
        return head + self._stream.read(count if count < 0 else max(0, count - len(head)))


# ---------------------------------------------------------------- logs that grow


def since(path: Path, position: Position) -> Iterator[tuple[Line, Position]]:
    """The whole lines that were written since, each with the position after it.

    Where the file was rotated meanwhile, the rest of the old one comes first, and then those that came between it and
    the present one; they are found in the same folder, the old one by its inode, or where it was packed (gzip) by its
    first bytes. Where it was copied and emptied in place, the rest of the copy comes first, which is found so, too.
    """
    try:
        found = path.stat()
    except FileNotFoundError as failure:
        raise Unavailable(f"there is no audit log at {path.as_posix()}", "is it still written?") from failure
    except OSError as failure:
        raise _unavailable(path.as_posix(), failure) from failure
    if position.inode and found.st_ino != position.inode:
        for old, begun in _rotated(path, found.st_ino, position):
            yield from _from(old, begun)
        position = Position()
    elif position.offset and _is_emptied(path, position):
        for copy in _copies(path, position):
            yield from _from(copy, Position(copy.stat().st_ino, position.offset, position.head))
        position = Position()
    yield from _from(path, Position(found.st_ino, position.offset, position.head))


def _opened(path: Path) -> IO[bytes]:
    """What the file holds, unpacked."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def _from(path: Path, position: Position) -> Iterator[tuple[Line, Position]]:
    try:
        with _opened(path) as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != position.inode:
                return  # rotated in this very moment: the next run finds both
            start = position.offset
            head, named = _head(file, start), start >= _HEAD
            file.seek(start)
            for line in _split(file, path.as_posix(), None, complete=True):
                end = start + line.end
                if not named:
                    back = file.tell()
                    head, named = _head(file, end), end >= _HEAD
                    file.seek(back)
                yield line, Position(inode, end, head)
    except (EOFError, zlib.error):
        return  # a packed file that breaks off before what is new: nothing of that is in it
    except OSError as failure:
        raise _unavailable(path.as_posix(), failure) from failure


def _is_emptied(path: Path, position: Position) -> bool:
    """Whether it is not what was read up to there: shorter, or with another begin."""
    try:
        with _opened(path) as file:
            packed = isinstance(file, gzip.GzipFile)  # its size says nothing of what it holds
            if not packed and os.fstat(file.fileno()).st_size < position.offset:
                return True
            return bool(position.head) and position.head != _head(file, position.offset)
    except (EOFError, zlib.error):
        return True
    except OSError as failure:
        raise _unavailable(path.as_posix(), failure) from failure


def _copies(path: Path, position: Position) -> list[Path]:
    """What was copied of it, or packed: at most one file begins with the same line."""
    if not position.head:
        return []
    with os.scandir(path.parent) as entries:
        others = [Path(item.path) for item in entries if item.is_file() and _is_of(path, item.name)]
    return [other for other in others if not _is_emptied(other, position)][:1]


def _head(file: IO[bytes], read: int) -> str:
    """Of the first bytes, as far as they were read."""
    file.seek(0)
    return hashlib.sha256(file.read(min(read, _HEAD))).hexdigest()[:16]


def _rotated(path: Path, present: int, position: Position) -> Iterator[tuple[Path, Position]]:
    """The file that was read last, under whatever name, and what was begun and rotated after it, the oldest first.

    One that was packed meanwhile is another file, which begins with the same bytes.
    """
    with os.scandir(path.parent) as entries:
        there = [(Path(item.path), item.stat()) for item in entries if item.is_file()]
    old = next((item for item, stat in there if stat.st_ino == position.inode), None)
    if old is None:
        old = next(iter(_copies(path, position)), None)
    if old is None:
        return
    stat_of = dict(there)
    left = stat_of.get(old) or old.stat()
    yield old, Position(left.st_ino, position.offset, position.head)
    between = [
        (stat.st_mtime_ns, item, Position(stat.st_ino))
        for item, stat in there
        if stat.st_ino not in (present, left.st_ino)
        and stat.st_mtime_ns >= left.st_mtime_ns
        and _is_of(path, item.name)
        and not (item.suffix == _PACKED and item.with_suffix("") in stat_of)  # it is being packed
    ]
    for _, other, begin in sorted(between, key=lambda found: found[0]):
        yield other, begin


def _is_of(path: Path, name: str) -> bool:
    """Whether a name is one that a rotated `path` gets: `audit.log.2`, or `audit-2026-11-20T03-00-00.000.log`; packed,
    either with `.gz` behind it."""
    name = name.removesuffix(_PACKED)
    if name.startswith(f"{path.name}."):
        return not name.endswith((".xz", ".bz2", ".zst"))
    stem = f"{path.stem}-"
    return name.startswith(stem) and name.endswith(path.suffix) and name[len(stem) : len(stem) + 4].isdecimal()


def _unavailable(shown: str, failure: OSError) -> Unavailable:
    return Unavailable(
        f"the audit log {shown} cannot be read: {failure.strerror or failure}",
        "give the user that runs pilothouse the right to",
    )

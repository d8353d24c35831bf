"""Text files read from a folder: in a fixed order, with limits, never outside of the folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pilothouse.problems import Place, Problem, Problems, Unavailable, error
from pilothouse.source import MAX_BYTES, Source

MAX_FILES = 100_000
"""More than any platform has; a folder that holds more is the wrong one (a home directory, say)."""


@dataclass(frozen=True)
class Tree:
    """Sources and files by relative path, and what could not be read."""

    sources: Mapping[str, Source] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    problems: Problems = ()


def read_tree(
    root: Path,
    folder: str = "",
    *,
    origin: str = "platform",
    prefix: str = "",
    suffixes: tuple[str, ...] = (".yaml", ".yml"),
    skip: frozenset[str] = frozenset(),
) -> Tree:
    """Every file of those suffixes below `root/folder`, sorted by path.

    Hidden files and folders are left aside, as are the top-level folders named in `skip`.
    A link is followed where it stays below `root` and does not lead back into itself.
    """
    sources: dict[str, Source] = {}
    files: dict[str, Path] = {}
    problems: list[Problem] = []
    for path in walk(root, folder, skip, problems, prefix):
        if path.suffix not in suffixes:
            continue
        relative = path.relative_to(root).as_posix()
        found = read_text(path, prefix + relative, origin)
        if isinstance(found, Source):
            sources[relative] = found
            files[relative] = path
        else:
            problems.append(found)
    return Tree(sources, files, tuple(problems))


def walk(root: Path, folder: str, skip: frozenset[str], problems: list[Problem], prefix: str = "") -> Iterator[Path]:
    """The files below `root/folder`; a problem is added for each link that leads out."""
    boundary = root.resolve()
    count = 0

    def below(here: Path, above: tuple[Path, ...]) -> Iterator[Path]:
        nonlocal count
        real = here.resolve()
        if real in above:
            return
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as failure:
            problems.append(_unreadable(prefix + here.relative_to(root).as_posix(), failure))
            return
        for entry in entries:
            if entry.name.startswith(".") or (here == root and entry.name in skip):
                continue
            path = here / entry.name
            if entry.is_symlink() and not path.resolve().is_relative_to(boundary):
                problems.append(
                    error(
                        "files/link-outside",
                        f"`{entry.name}` is a link to a place outside of the folder",
                        Place(prefix + path.relative_to(root).as_posix()),
                        "copy what it points to into the folder, or let a Platform document extend that folder",
                    )
                )
            elif entry.is_dir():
                yield from below(path, (*above, real))
            elif entry.is_file():
                count += 1
                if count > MAX_FILES:
                    raise Unavailable(
                        f"{root} holds more than {MAX_FILES:,} files", "give the folder of a platform itself"
                    )
                yield path

    yield from below(root / folder if folder else root, ())


def read_text(path: Path, shown: str, origin: str = "platform") -> Source | Problem:
    """The file as a source, or the problem that keeps it from being one. `shown` is the path that problems print."""
    place = Place(shown)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
            length = os.fstat(stream.fileno()).st_size
    except OSError as failure:
        return _unreadable(shown, failure)
    if len(raw) > MAX_BYTES:
        return error(
            "source/too-large",
            f"{max(length, len(raw)):,} bytes are more than a document may have ({MAX_BYTES:,})",
            place,
            "split it into one file per document, or move data that is no declaration elsewhere",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        return _not_text(place, raw, f"byte {failure.start} is not UTF-8")
    if "\0" in text:
        return _not_text(place, raw, "it holds a NUL byte")
    return Source(shown, text, origin)


def _not_text(place: Place, raw: bytes, why: str) -> Problem:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return error("files/not-text", "the file is in UTF-16", place, "save it as UTF-8")
    return error(
        "files/not-text", f"this is no text file: {why}", place, "save it as UTF-8, or remove it from the folder"
    )


def _unreadable(shown: str, failure: OSError) -> Problem:
    return error(
        "files/unreadable",
        f"cannot be read: {failure.strerror or failure}",
        Place(shown),
        "give the user that runs pilothouse the right to read it",
    )

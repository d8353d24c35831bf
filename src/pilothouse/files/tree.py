"""Rendered trees: written in one step, compared, read back.

A tree is built beside the old one and takes its place by a rename, so that a reader sees either the old
tree or the new one, and whatever fails or is cancelled leaves the old one whole. A file named
`.pilothouse-tree` marks a folder as ours; no other folder is ever replaced.
"""

from __future__ import annotations

import ctypes
import difflib
import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pilothouse.problems import Invalid, Unavailable

MARKER = ".pilothouse-tree"
VERSION = 1
_MARK = json.dumps({"generator": "pilothouse", "version": VERSION}) + "\n"
_STALE_SECONDS = 3600
"""A half-built tree that old was left by a process that was killed."""


@dataclass(frozen=True)
class TreeDiff:
    """Paths that a tree would gain, change and lose, sorted; `old` and `new` hold the bytes of those alone."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    old: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    new: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.changed or self.removed)

    def __str__(self) -> str:
        if self.is_empty:
            return "no change"
        parts = (("added", self.added), ("changed", self.changed), ("removed", self.removed))
        return ", ".join(f"{len(paths)} {word}" for word, paths in parts if paths)

    @property
    def text(self) -> str:
        """A unified diff of everything, as `git diff` would print it; "" when nothing differs."""
        return "".join(self.text_of(path) for path in sorted((*self.added, *self.changed, *self.removed)))

    def text_of(self, path: str, context: int = 3) -> str:
        """The unified diff of one file."""
        before, after = self.old.get(path), self.new.get(path)
        old, new = _lines(before), _lines(after)
        if old is None or new is None:
            return f"Binary files a/{path} and b/{path} differ\n"
        lines = difflib.unified_diff(
            old,
            new,
            "/dev/null" if before is None else f"a/{path}",
            "/dev/null" if after is None else f"b/{path}",
            n=context,
        )
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(content: bytes | None) -> list[str] | None:
    try:
        return (content or b"").decode().splitlines(keepends=True)
    except UnicodeDecodeError:
        return None


def read_tree(out: Path) -> dict[str, bytes]:
    """Every file of a rendered tree by relative path, sorted, without the marker; {} where there is none."""
    found: dict[str, bytes] = {}
    with _explained(out, "read"):
        if not out.exists():
            return found
        for folder, folders, names in os.walk(out, onerror=_raise):
            folders.sort()
            for name in names:
                path = Path(folder, name)
                if path.is_file() and not (name == MARKER and Path(folder) == out):
                    found[path.relative_to(out).as_posix()] = path.read_bytes()
    return dict(sorted(found.items()))


def _raise(failure: OSError) -> None:
    raise failure


def diff_tree(out: Path, files: Mapping[str, bytes]) -> TreeDiff:
    """What writing `files` to `out` would change."""
    old = read_tree(out)
    added = tuple(sorted(files.keys() - old.keys()))
    removed = tuple(sorted(old.keys() - files.keys()))
    changed = tuple(path for path in sorted(files.keys() & old.keys()) if files[path] != old[path])
    return TreeDiff(
        added,
        changed,
        removed,
        {path: old[path] for path in (*changed, *removed)},
        {path: files[path] for path in (*added, *changed)},
    )


def write_tree(out: Path, files: Mapping[str, bytes]) -> TreeDiff:
    """Make `out` hold exactly these files, in one step; returns what changed. Nothing is written when nothing changes.

    Raises `Invalid` where `out` is a file or a folder of something else, and `Unavailable` when the
    disk is full or may not be written; the old tree is whole then.
    """
    return write_trees({out: files})[out]


def write_trees(trees: Mapping[Path, Mapping[str, bytes]]) -> dict[Path, TreeDiff]:
    """`write_tree` for several folders: all of them are built before the first takes its place.

    Whatever fails or is cancelled, every old tree is back where it was.
    """
    changes: dict[Path, TreeDiff] = {}
    made: list[Path] = []
    built: list[tuple[Path, Path]] = []
    try:
        for given, files in trees.items():
            out = _required(given, files)
            changes[given] = change = diff_tree(out, files)
            if change.is_empty and (out / MARKER).is_file():
                continue
            with _explained(out, "written"):
                made += _make(out.parent)
                _remove_stale(out)
                aside = Path(tempfile.mkdtemp(prefix=_prefix(out), dir=out.parent))
                built.append((aside, out))
                _build(aside, out, files, {*change.added, *change.changed})
        inodes = {aside: aside.stat().st_ino for aside, _ in built}
        try:
            for aside, out in built:
                with _explained(out, "written"):
                    _swap(aside, out)
        except BaseException:
            for aside, out in reversed(built):
                _swap_back(aside, out, inodes[aside])
            raise
    except BaseException:
        _remove_asides(built)
        for folder in reversed(made):
            with suppress(OSError):  # somebody else has put something into it meanwhile
                folder.rmdir()
        raise
    _remove_asides(built)  # they hold the old trees now
    return changes


def _remove_asides(built: Iterable[tuple[Path, Path]]) -> None:
    for aside, _ in built:
        shutil.rmtree(aside, ignore_errors=True)


def _required(given: Path, files: Mapping[str, bytes]) -> Path:
    """Where the tree really goes; `Invalid` where it may not."""
    for path in files:
        _require_plain(path)
    out = Path(os.path.abspath(given))  # noqa: PTH100  resolve() would follow a link that `out` itself is
    if out.is_symlink():
        out = out.resolve()
    _require_ours(out)
    return out


def _make(folder: Path) -> list[Path]:
    """Make the folder and those above it; returns the ones that were not there, the highest first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _require_plain(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or path == MARKER:
        raise ValueError(f"{path!r} is no path inside of a tree")


def _require_ours(out: Path) -> None:
    with _explained(out, "read"):
        if not out.exists():
            return
        if not out.is_dir():
            raise Invalid(f"{out} is a file", "give a folder, which is made if need be")
        marker = out / MARKER
        if not marker.is_file():
            if any(out.iterdir()):
                raise Invalid(
                    f"{out} holds other files and is left alone: it was not rendered by pilothouse",
                    "give a new or empty folder; rendering replaces everything in it",
                )
            return
        mark = marker.read_text(encoding="utf-8", errors="replace")
    try:
        version = json.loads(mark)["version"]
    except (ValueError, KeyError, TypeError):
        raise Invalid(f"{marker} is damaged", f"remove {out} if it is a rendered tree, and render again") from None
    if not isinstance(version, int) or version > VERSION:
        raise Invalid(
            f"{out} was rendered by a newer pilothouse (tree version {version})",
            "use that release, or give another folder",
        )


def _build(aside: Path, out: Path, files: Mapping[str, bytes], fresh: set[str]) -> None:
    """Write the new tree. Files that stay the same are linked, which saves most of the writing."""
    mode = out.stat().st_mode & 0o7777 if out.exists() else 0o777 & ~_umask()
    folders = {aside}
    written = [aside / MARKER]
    for path, content in sorted(files.items()):
        target = aside / path
        if target.parent not in folders:
            target.parent.mkdir(parents=True, exist_ok=True)
            folders.update(parent for parent in target.parents if parent.is_relative_to(aside))
        if path not in fresh and _link(out / path, target):
            continue
        _write(target, content)
        written.append(target)
    _write(aside / MARKER, _MARK.encode())
    _sync(aside, (*written, *sorted(folders)))
    aside.chmod(mode)


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without hard links: the file is written instead
        return False
    if target.is_symlink():
        target.unlink()
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    with path.open("wb", buffering=0) as stream:
        left = memoryview(content)
        while left:
            left = left[stream.write(left) :]


def _sync(root: Path, paths: Iterable[Path]) -> None:
    """Bring all of a tree to the disk: its file system at once where the system can, which for thousands of small files
    is ten times as fast, else each of `paths`.
    """
    if not _sync_file_system(root):
        for path in paths:
            _sync_path(path)


def _sync_file_system(path: Path) -> bool:
    """syncfs (https://man7.org/linux/man-pages/man2/sync.2.html); since Linux 5.8 it also tells of failed writes.

    False where the system has no such call.
    """
    try:
        call = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if call(descriptor) == 0:
            return True
        code = ctypes.get_errno()
    finally:
        os.close(descriptor)
    if code == errno.ENOSYS:
        return False
    raise OSError(code, os.strerror(code), str(path))


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(aside: Path, out: Path) -> None:
    """Put the new tree in place; afterwards `aside` holds the old one, if there was any."""
    if not out.exists():
        aside.rename(out)
    elif not _exchange(aside, out):
        # Without an exchange in one call there are two renames, and the old tree waits beside meanwhile.
        out.rename(_waiting(aside))
        aside.rename(out)
        _waiting(aside).rename(aside)
    _sync_path(out.parent)


def _swap_back(aside: Path, out: Path, inode: int) -> None:
    """Undo a swap, wherever it was interrupted; `inode` is that of the new tree."""
    if out.exists() and out.stat().st_ino == inode:
        if aside.exists() and _exchange(aside, out):
            return
        if aside.exists():
            aside.rename(_waiting(aside))
        out.rename(aside)
    if _waiting(aside).exists():
        _waiting(aside).rename(out)


def _waiting(aside: Path) -> Path:
    return aside.with_name(f"{aside.name}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step: renameat2 with RENAME_EXCHANGE (https://man7.org/linux/man-pages/man2/rename.2.html).

    False where the system or the file system has no such call.
    """
    at_cwd, rename_exchange = -100, 2
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if call(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), rename_exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _prefix(out: Path) -> str:
    return f".{out.name}.new-"


def _remove_stale(out: Path) -> None:
    now = time.time()
    for path in out.parent.glob(f"{_prefix(out)}*"):
        if now - path.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _explained(out: Path, what: str) -> Iterator[None]:
    """Errors of the operating system as one line with the way out."""
    try:
        yield
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(
                f"no space is left to write {out}; what was there is untouched",
                "free some space, or give a folder on another disk",
            ) from failure
        if failure.errno in (errno.EBUSY, errno.EXDEV):
            raise Unavailable(
                f"{out} cannot be replaced: it is a mount point or on another disk than its parent",
                "give a folder below it",
            ) from failure
        raise Unavailable(
            f"{out} cannot be {what}: {failure.strerror or failure}", "check the path and its rights"
        ) from failure

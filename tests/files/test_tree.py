"""Rendered trees: one step or none, whatever happens in between."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilothouse.files import tree
from pilothouse.files.tree import MARKER, TreeDiff, diff_tree, read_tree, write_tree, write_trees
from pilothouse.problems import Invalid, Unavailable

OLD = {"a.yaml": b"old\n", "same/b.yaml": b"same\n", "gone/c.yaml": b"gone\n"}
NEW = {"a.yaml": b"new\n", "same/b.yaml": b"same\n", "more/d/e.yaml": b"more\n"}


def neighbours(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir())


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_tree_is_written_read_and_replaced(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "build"
    assert write_tree(out, OLD) == TreeDiff(tuple(sorted(OLD)), (), (), {}, OLD)
    assert read_tree(out) == OLD
    assert json.loads((out / MARKER).read_text()) == {"generator": "pilothouse", "version": 1}
    change = write_tree(out, NEW)
    assert (change.added, change.changed, change.removed) == (("more/d/e.yaml",), ("a.yaml",), ("gone/c.yaml",))
    assert read_tree(out) == NEW
    assert not (out / "gone").exists()
    assert neighbours(out) == ["build"]


def test_nothing_changed_is_nothing_written(tmp_path: Path) -> None:
    out = tmp_path / "build"
    write_tree(out, OLD)
    before, folder = everything(out), out.stat().st_ino
    change = write_tree(out, OLD)
    assert change.is_empty
    assert str(change) == "no change"
    assert everything(out) == before
    assert out.stat().st_ino == folder


def test_files_that_stay_the_same_are_not_written_again(tmp_path: Path) -> None:
    out = tmp_path / "build"
    write_tree(out, OLD)
    inode = (out / "same/b.yaml").stat().st_ino
    write_tree(out, NEW)
    assert (out / "same/b.yaml").stat().st_ino == inode
    assert (out / "same/b.yaml").stat().st_nlink == 1


def test_without_hard_links_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "build"
    write_tree(out, OLD)
    monkeypatch.setattr(os, "link", _raiser(OSError(errno.EPERM, "no links here")))
    write_tree(out, NEW)
    assert read_tree(out) == NEW


def test_what_somebody_put_there_is_removed_and_said(tmp_path: Path) -> None:
    out = tmp_path / "build"
    write_tree(out, OLD)
    (out / "note.txt").write_text("by hand")
    assert write_tree(out, OLD).removed == ("note.txt",)
    assert read_tree(out) == OLD


def test_a_link_in_the_tree_is_replaced_by_a_file(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "build", tmp_path / "elsewhere"
    elsewhere.write_bytes(b"same\n")
    write_tree(out, OLD)
    (out / "same/b.yaml").unlink()
    (out / "same/b.yaml").symlink_to(elsewhere)
    write_tree(out, NEW)
    assert not (out / "same/b.yaml").is_symlink()
    assert elsewhere.read_bytes() == b"same\n"


def test_an_empty_folder_is_filled_and_keeps_its_mode(tmp_path: Path) -> None:
    out = tmp_path / "build"
    out.mkdir(mode=0o750)
    write_tree(out, OLD)
    assert read_tree(out) == OLD
    assert out.stat().st_mode & 0o777 == 0o750


def test_a_new_folder_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_tree(tmp_path / "build", OLD)
    finally:
        os.umask(before)
    assert (tmp_path / "build").stat().st_mode & 0o777 == 0o750


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    write_tree(tmp_path / "real", OLD)
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    write_tree(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert read_tree(tmp_path / "real") == NEW


# ---------------------------------------------------------------- what is refused


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("precious")
    with pytest.raises(Invalid, match="left alone"):
        write_tree(tmp_path / "home", OLD)
    assert neighbours(tmp_path / "home") == ["home"]
    assert (tmp_path / "home" / "thesis.txt").read_text() == "precious"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(Invalid, match="is a file"):
        write_tree(tmp_path / "x", OLD)


@pytest.mark.parametrize(
    ("mark", "says"),
    [('{"version": 2}', "newer pilothouse"), ("{}", "damaged"), ("[]", "damaged"), ("nonsense", "damaged")],
)
def test_a_marker_that_is_not_ours(tmp_path: Path, mark: str, says: str) -> None:
    write_tree(tmp_path / "out", OLD)
    (tmp_path / "out" / MARKER).write_text(mark)
    with pytest.raises(Invalid, match=says):
        write_tree(tmp_path / "out", NEW)
    assert read_tree(tmp_path / "out") == OLD


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", MARKER, "a\\b"])
def test_a_path_that_leads_out_is_a_mistake_of_ours(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="no path inside"):
        write_tree(tmp_path / "out", {path: b""})
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- what goes wrong


def _raiser(failure: BaseException, after: int = 0) -> Callable[..., Any]:
    calls = [0]

    def fail(*_: Any, **__: Any) -> None:
        calls[0] += 1
        if calls[0] > after:
            raise failure

    return fail


FAILURES = [
    (OSError(errno.ENOSPC, "No space left on device"), Unavailable, "no space is left"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), Unavailable, "no space is left"),
    (OSError(errno.EROFS, "Read-only file system"), Unavailable, "cannot be written"),
    (OSError(errno.EBUSY, "Device or resource busy"), Unavailable, "mount point"),
    (KeyboardInterrupt(), KeyboardInterrupt, ""),
    (MemoryError(), MemoryError, ""),
]


@pytest.mark.parametrize(("failure", "raised", "says"), FAILURES)
@pytest.mark.parametrize("step", ["_write", "_sync", "_swap"])
def test_whatever_fails_the_old_tree_is_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    failure: BaseException,
    raised: type[BaseException],
    says: str,
) -> None:
    out = tmp_path / "build"
    write_tree(out, OLD)
    before = everything(out)
    monkeypatch.setattr(tree, step, _raiser(failure))
    with pytest.raises(raised, match=says or None):
        write_tree(out, NEW)
    assert everything(out) == before
    assert neighbours(out) == ["build"], "nothing half-built is left"


def test_a_disk_that_fills_up_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "build"
    write_tree(out, OLD)
    monkeypatch.setattr(tree, "_sync_file_system", lambda _: False)
    monkeypatch.setattr(os, "fsync", _raiser(OSError(errno.ENOSPC, "No space left on device"), after=1))
    with pytest.raises(Unavailable, match="untouched") as refused:
        write_tree(out, NEW)
    assert "free some space" in refused.value.hint
    assert read_tree(out) == OLD


def _library(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """A C library whose syncfs fails with that number."""

    class Library:
        @staticmethod
        def syncfs(_: int) -> int:
            return -1

    monkeypatch.setattr(tree.ctypes, "CDLL", lambda *_, **__: Library)
    monkeypatch.setattr(tree.ctypes, "get_errno", lambda: code)


def test_a_write_that_fails_only_when_it_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "build"
    write_tree(out, OLD)
    _library(monkeypatch, errno.EIO)
    with pytest.raises(Unavailable, match="Input/output error"):
        write_tree(out, NEW)
    assert read_tree(out) == OLD
    assert neighbours(out) == ["build"]


@pytest.mark.parametrize("without", ["call", "support"])
def test_without_a_call_for_all_of_it_each_file_is_brought_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    if without == "call":
        monkeypatch.setattr(tree.ctypes, "CDLL", _raiser(OSError("no C library")))
    else:
        _library(monkeypatch, errno.ENOSYS)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    write_tree(tmp_path / "build", NEW)
    assert {path.stat().st_ino for path in (tmp_path / "build").rglob("*")} <= set(synced)


def test_a_first_render_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_write", _raiser(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_tree(tmp_path / "build", NEW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("without", ["call", "support"])
def test_without_an_exchange_two_renames_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str) -> None:
    out = tmp_path / "build"
    write_tree(out, OLD)
    if without == "call":
        monkeypatch.setattr(tree.ctypes, "CDLL", _raiser(OSError("no C library")))
    else:
        monkeypatch.setattr(tree, "_exchange", lambda *_: False)
    write_tree(out, NEW)
    assert read_tree(out) == NEW
    assert neighbours(out) == ["build"]


def test_the_second_rename_failing_undoes_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "build"
    write_tree(out, OLD)
    monkeypatch.setattr(tree, "_exchange", lambda *_: False)
    rename = Path.rename

    def once(self: Path, target: Path) -> Path:
        if Path(target) == out and self.name.startswith(".build.new-") and not self.name.endswith(".old"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", once)
    with pytest.raises(Unavailable, match="Input/output error"):
        write_tree(out, NEW)
    assert read_tree(out) == OLD
    assert neighbours(out) == ["build"]


@pytest.mark.parametrize("step", range(8))
@pytest.mark.parametrize("exchange", [True, False])
def test_several_trees_change_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool, step: int
) -> None:
    """Cancelled after each step of putting them in place: before it, between two renames, after it."""
    build = tmp_path / "deep" / "build"
    write_trees({build / "changed": OLD, build / "same": OLD, build / "last": OLD})
    before = everything(build)
    if not exchange:
        monkeypatch.setattr(tree, "_exchange", lambda *_: False)
    left = [step]

    def cancelled_after(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any) -> Any:
            result = call(*args)
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt
            return result

        return called

    monkeypatch.setattr(Path, "rename", cancelled_after(Path.rename))
    monkeypatch.setattr(tree, "_exchange", cancelled_after(tree._exchange))
    monkeypatch.setattr(tree, "_sync_path", cancelled_after(tree._sync_path))
    new = {build / "changed": NEW, build / "fresh": NEW, build / "same": OLD, build / "last": NEW}
    try:
        write_trees(new)
    except KeyboardInterrupt:
        assert everything(build) == before
        assert sorted(path.name for path in build.iterdir()) == ["changed", "last", "same"]
    else:
        assert step >= 6, "an exchange or a rename each, and their folder brought to the disk"
        assert {out: read_tree(out) for out in new} == new


def test_the_second_tree_that_does_not_fit_keeps_the_first_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "_sync", _raiser(OSError(errno.ENOSPC, "No space left on device"), after=1))
    with pytest.raises(Unavailable, match=r"no space is left to write .*/deep/build/two"):
        write_trees({tmp_path / "deep/build/one": NEW, tmp_path / "deep/build/two": NEW})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("code", "falls_back"), [(errno.ENOSYS, True), (errno.EINVAL, True), (errno.EBUSY, False)])
def test_what_the_exchange_may_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, falls_back: bool
) -> None:
    class Library:
        @staticmethod
        def renameat2(*_: object) -> int:
            return -1

    monkeypatch.setattr(tree.ctypes, "CDLL", lambda *_, **__: Library)
    monkeypatch.setattr(tree.ctypes, "get_errno", lambda: code)
    write_tree(tmp_path / "build", OLD)
    if falls_back:
        write_tree(tmp_path / "build", NEW)
        assert read_tree(tmp_path / "build") == NEW
    else:
        with pytest.raises(Unavailable, match="mount point"):
            write_tree(tmp_path / "build", NEW)
        assert read_tree(tmp_path / "build") == OLD


def test_what_a_killed_process_left_is_cleared_after_a_while(tmp_path: Path) -> None:
    old, young = tmp_path / ".build.new-old", tmp_path / ".build.new-young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (0, 0))
    write_tree(tmp_path / "build", OLD)
    assert neighbours(tmp_path / "build") == [".build.new-young", "build"]


def test_a_full_disk_for_real(tmp_path: Path) -> None:
    """A device that is always full, under one of the tree's files."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space left"), full.open("wb", buffering=0) as stream:
        stream.write(b"x")
    with pytest.raises(Unavailable, match="no space is left"), tree._explained(tmp_path, "written"):
        full.write_bytes(b"x")


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path / "build", OLD)
    monkeypatch.setattr(os, "scandir", _raiser(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(Unavailable, match="cannot be read: Permission denied"):
        read_tree(tmp_path / "build")


# ---------------------------------------------------------------- differences


def test_the_difference_without_writing(tmp_path: Path) -> None:
    out = tmp_path / "build"
    assert diff_tree(out, {}).is_empty
    write_tree(out, OLD)
    before = everything(out)
    change = diff_tree(out, NEW)
    assert str(change) == "1 added, 1 changed, 1 removed"
    assert everything(out) == before
    assert change.text == (
        "--- a/a.yaml\n+++ b/a.yaml\n@@ -1 +1 @@\n-old\n+new\n"
        "--- a/gone/c.yaml\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n"
        "--- /dev/null\n+++ b/more/d/e.yaml\n@@ -0,0 +1 @@\n+more\n"
    )


def test_differences_of_odd_files() -> None:
    change = TreeDiff((), ("a", "b"), (), {"a": b"\xff", "b": b"x"}, {"a": b"y", "b": b"x\n"})
    assert change.text == (
        "Binary files a/a and b/a differ\n--- a/b\n+++ b/b\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+x\n"
    )
    assert TreeDiff().text == ""


def test_a_tree_that_was_copied_elsewhere_reads_the_same(tmp_path: Path) -> None:
    write_tree(tmp_path / "build", OLD)
    shutil.copytree(tmp_path / "build", tmp_path / "copy")
    assert read_tree(tmp_path / "copy") == OLD

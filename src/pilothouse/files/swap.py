"""A folder whose files change all at once, laid out as the kubelet lays out a Secret.

    FOLDER/..2026_11_21_12_00_00.417/password     the files
    FOLDER/..data -> ..2026_11_21_12_00_00.417    renamed into place: the one step that counts
    FOLDER/password -> ..data/password            what a service opens

Who opens `password` reads the old file or the new one, whole. Who wants several that belong together resolves
`..data` once and reads there: what was there before stays until the next call
(https://kubernetes.io/docs/concepts/storage/volumes/#configmap, k8s.io/kubernetes/pkg/volume/util/atomic_writer.go).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pilothouse.problems import Conflict, Unavailable

DATA = "..data"
FOLDER_MODE = 0o755


def write(folder: Path, files: Mapping[str, bytes], mark: str, mode: int = 0o444, again: bool = False) -> bool:
    """Let the folder hold exactly these files; False where it did already, unless they are to be written `again`.

    `mark` goes into the name of the new folder: the time, handed in. `Unavailable` where it cannot be written; then
    the folder is as it was. `Conflict` where a file of somebody else has the name of one of ours.
    """
    with _writing(folder):
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        before = _target(folder)
        foreign = [name for name in files if (folder / name).exists() and not (folder / name).is_symlink()]
        if foreign:
            raise Conflict(
                f"{folder / foreign[0]} is there already, and is none of ours", "choose another folder, or remove it"
            )
        sweep(folder)
        same = before is not None and not again and read(folder) == files
        if not same:
            _swap(folder, files, mark, mode)
        _links(folder, files)
    return not same


def read(folder: Path) -> dict[str, bytes]:
    """The files of the folder, of one moment; empty where nothing was written yet."""
    target = _target(folder)
    if target is None:
        return {}
    return {path.name: path.read_bytes() for path in sorted(target.iterdir())}


def _target(folder: Path) -> Path | None:
    """The folder that `..data` leads to; None where there is none."""
    try:
        found = folder / (folder / DATA).readlink()
    except FileNotFoundError:
        return None
    return found if found.is_dir() else None


def _swap(folder: Path, files: Mapping[str, bytes], mark: str, mode: int) -> None:
    made = folder / f"..{mark}"
    number = 0
    while made.exists():
        number += 1
        made = folder / f"..{mark}-{number}"
    made.mkdir(mode=0o700)
    try:
        for name, content in files.items():
            path = made / name
            path.write_bytes(content)
            path.chmod(mode)
        made.chmod(FOLDER_MODE)
        aside = folder / f"{DATA}_tmp"
        aside.unlink(missing_ok=True)
        aside.symlink_to(made.name)
        aside.replace(folder / DATA)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _links(folder: Path, files: Mapping[str, bytes]) -> None:
    """The names that a service opens. Ones that are no longer there go last: until then they lead nowhere."""
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"{DATA}/{name}")
    for path in folder.iterdir():
        if path.is_symlink() and path.name not in files and os.fspath(path.readlink()).startswith(f"{DATA}/"):
            path.unlink()


def sweep(folder: Path) -> None:
    """Remove the folders that nothing leads to any more, also what an end in the middle left behind.

    To be called a while after a `write`, so that a reader that is under way finds what it began with.
    """
    with _writing(folder):
        current = _target(folder)
        for path in folder.iterdir() if folder.exists() else ():
            if path.name.startswith("..") and path.is_dir() and not path.is_symlink() and path != current:
                shutil.rmtree(path)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise Unavailable(
            f"cannot write to {failure.filename or folder}: {failure.strerror}",
            "is the volume mounted, writable for this user, and large enough?",
        ) from failure

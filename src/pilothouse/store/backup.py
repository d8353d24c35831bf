"""A data folder in one file and back: a consistent copy of the database, and everything else as it is.

The file holds the authorities' keys and the password hashes; it is written with mode 0600. A backup can be
taken while everything runs: SQLite's backup API copies one state (https://www.sqlite.org/backup.html).
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from pilothouse.problems import Conflict, Invalid, Unavailable
from pilothouse.store import address
from pilothouse.store.database import DATABASE, make_folder, shown

MANIFEST = "pilothouse-backup.json"
FORMAT = 1
BEFORE = "signer/head"
"""Copied before the database: a head of the ledger that is newer than the ledger would look like entries removed."""


def backup(folder: Path, target: Path, now: datetime) -> int:
    """Write `target`, a gzipped tar; how many files it holds. An existing file is never overwritten.

    A folder whose database lies elsewhere is saved without it: whoever asks for the backup says so (`address.of`).
    """
    if not address.exists(folder):
        raise Invalid(f"{folder} is no data folder of pilothouse (it has no {DATABASE})", "name it with --data")
    if target.exists():
        raise Conflict(f"{target} exists already", "choose another name: a backup overwrites nothing")
    target = target.absolute()
    if target.is_relative_to(folder.absolute()):
        raise Invalid(f"{target} lies inside the data folder", "write the backup somewhere else")
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # made with mode 0600
    except OSError as failure:
        raise Unavailable(f"cannot write {target}: {failure.strerror}") from failure
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            count = _write(folder, stream, now)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(partial, target)  # fails where somebody made the target in the meantime
    except FileExistsError as failure:
        raise Conflict(f"{target} exists already", "choose another name: a backup overwrites nothing") from failure
    except (OSError, sqlite3.Error) as failure:
        raise Unavailable(f"cannot write the backup {target}: {failure}", "is there space on the disk?") from failure
    finally:
        partial.unlink(missing_ok=True)
    return count


def _write(folder: Path, stream: io.BufferedWriter, now: datetime) -> int:
    count = 1
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(fileobj=stream, mode="w:gz") as tar:
        if (folder / BEFORE).is_file():
            tar.add(folder / BEFORE, BEFORE)
            count += 1
        copy = Path(scratch) / DATABASE
        elsewhere = database_of(folder)
        if not elsewhere:
            with closing(sqlite3.connect(folder / DATABASE)) as source, closing(sqlite3.connect(copy)) as destination:
                source.backup(destination)
        about = {"format": FORMAT, "made_at": now.isoformat()} | ({"database": elsewhere} if elsewhere else {})
        manifest = json.dumps(about).encode()
        head = tarfile.TarInfo(MANIFEST)
        head.size, head.mtime, head.mode = len(manifest), int(now.timestamp()), 0o600
        tar.addfile(head, io.BytesIO(manifest))
        if not elsewhere:
            tar.add(copy, DATABASE)
        else:
            count -= 1
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if name == BEFORE or name.startswith(DATABASE) or path.is_socket() or path.is_fifo():
                continue
            try:
                tar.add(path, name, recursive=False)
            except FileNotFoundError:
                continue  # a lock or temporary file that went away while we looked
            count += path.is_file()
    return count


def database_of(folder: Path) -> str:
    """The address of the database that a backup of the folder does not hold, without its password; "" where it does."""
    named = address.of(folder)
    return shown(address.url_of(named)) if named else ""


def restore(source: Path, folder: Path) -> int:
    """Bring a backup back to a folder that is missing or empty; how many files were written."""
    was_there = folder.exists()
    if folder.is_dir() and any(folder.iterdir()):
        raise Conflict(
            f"{folder} is not empty", "move it away first: a restore overwrites nothing, and mixes no two states"
        )
    made = make_folder(folder)
    staging = Path(tempfile.mkdtemp(dir=made.parent, prefix=f".{made.name}."))
    try:
        _read_to_the_end(source)
        count = _extract(source, staging)
        staging.chmod(0o700)
        made.rmdir()
        staging.rename(made)
    except FileNotFoundError as failure:
        raise Invalid(f"there is no file {source}") from failure
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, json.JSONDecodeError, KeyError) as failure:
        raise Invalid(f"{source} is no backup of pilothouse, or is damaged: {failure}") from failure
    except OSError as failure:
        raise Unavailable(f"cannot restore to {folder}: {failure}") from failure
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not was_there:
            with suppress(OSError):  # it holds what was restored
                folder.rmdir()
    return count


def _read_to_the_end(source: Path) -> None:
    """Compare gzip's own checksum: tarfile takes a header that was damaged for the end of the archive."""
    with gzip.open(source) as stream:
        while stream.read(1 << 20):
            pass


def _extract(source: Path, staging: Path) -> int:
    with tarfile.open(source, "r:gz") as tar:
        member = tar.extractfile(MANIFEST)
        manifest = json.loads(member.read()) if member else {}
        if manifest.get("format") != FORMAT:
            raise Invalid(f"{source} has a format that this version does not know", "restore it with a newer version")
        members = [item for item in tar.getmembers() if item.name != MANIFEST]
        tar.extractall(staging, members, filter="data")
    if not manifest.get("database"):
        with closing(sqlite3.connect(staging / DATABASE)) as database:
            answer = database.execute("PRAGMA integrity_check").fetchone()[0]
        if answer != "ok":
            raise Invalid(f"the database in {source} is damaged: {answer}", "use an older backup")
    for path in staging.rglob("*"):
        if not path.is_symlink():  # the filter leaves the modes of folders to the umask
            path.chmod(0o700 if path.is_dir() else path.stat().st_mode & 0o700)
    return sum(1 for item in members if item.isfile())

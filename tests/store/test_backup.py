"""A backup and the way back, tried."""

from __future__ import annotations

import io
import stat
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pilothouse.problems import Conflict, Invalid, Unavailable
from pilothouse.store import Store, settings, users
from pilothouse.store.backup import MANIFEST, backup, restore

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = Store(tmp_path / "data")
    store.migrate()
    users.add(store, "alice", "a long enough password", NOW)
    made = tmp_path / "data"
    (made / "authority").mkdir()
    (made / "authority" / "dev.key").write_text("the key")
    (made / "authority" / "dev.key").chmod(0o600)
    (made / "platform").mkdir()
    (made / "platform" / "platform.yaml").write_text("kind: Platform\n")
    (made / "platform" / "empty").mkdir()
    return made


def test_there_and_back(tmp_path: Path, folder: Path) -> None:
    busy = Store(folder)
    settings.put(busy, "written", "in the write-ahead log", NOW)
    count = backup(folder, tmp_path / "saved.tar.gz", NOW)
    assert stat.S_IMODE((tmp_path / "saved.tar.gz").stat().st_mode) == 0o600
    settings.put(busy, "written", "after the backup", NOW)
    assert restore(tmp_path / "saved.tar.gz", tmp_path / "again") == count == 3
    again = Store(tmp_path / "again")
    again.check()
    assert settings.get(again, "written") == "in the write-ahead log"
    assert users.verify(again, "alice", "a long enough password")
    key = tmp_path / "again" / "authority" / "dev.key"
    assert (key.read_text(), stat.S_IMODE(key.stat().st_mode)) == ("the key", 0o600)
    assert (tmp_path / "again" / "platform" / "empty").is_dir()
    folders = [tmp_path / "again", *(path for path in (tmp_path / "again").rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    assert not list(tmp_path.glob(".*"))


def test_the_ledgers_head_is_never_newer_than_the_ledger(tmp_path: Path, folder: Path) -> None:
    (folder / "signer").mkdir()
    (folder / "signer" / "head").write_text("8:d20141")
    assert backup(folder, tmp_path / "saved.tar.gz", NOW) == 4
    with tarfile.open(tmp_path / "saved.tar.gz") as tar:
        names = tar.getnames()
    assert names.index("signer/head") < names.index("pilothouse.db")
    assert names.count("signer/head") == 1


def test_a_backup_overwrites_nothing(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "saved.tar.gz").write_text("precious")
    with pytest.raises(Conflict, match="exists already"):
        backup(folder, tmp_path / "saved.tar.gz", NOW)
    assert (tmp_path / "saved.tar.gz").read_text() == "precious"


def test_a_backup_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match="cannot write"):
        backup(folder, tmp_path / "nowhere" / "saved.tar.gz", NOW)
    with pytest.raises(Invalid, match="inside the data folder"):
        backup(folder, folder / "saved.tar.gz", NOW)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "add", full)
    with pytest.raises(Unavailable, match="No space left"):
        backup(folder, tmp_path / "saved.tar.gz", NOW)
    assert not (tmp_path / "saved.tar.gz").exists()
    assert not list(tmp_path.glob(".saved*"))


def test_a_folder_without_a_database(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no data folder"):
        backup(tmp_path, tmp_path / "saved.tar.gz", NOW)


def test_a_restore_mixes_no_two_states(tmp_path: Path, folder: Path) -> None:
    backup(folder, tmp_path / "saved.tar.gz", NOW)
    with pytest.raises(Conflict, match="is not empty"):
        restore(tmp_path / "saved.tar.gz", folder)


def test_what_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no file"):
        restore(tmp_path / "missing", tmp_path / "again")
    (tmp_path / "text").write_text("something else")
    with pytest.raises(Invalid, match="no backup"):
        restore(tmp_path / "text", tmp_path / "again")
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("hello"))
    with pytest.raises(Invalid, match="no backup"):
        restore(tmp_path / "other.tar.gz", tmp_path / "again")
    assert not (tmp_path / "again").exists()
    (tmp_path / "given").mkdir()
    with pytest.raises(Invalid, match="no backup"):
        restore(tmp_path / "other.tar.gz", tmp_path / "given")
    assert list((tmp_path / "given").iterdir()) == [], "a folder that was given stays"
    with pytest.raises(Unavailable, match="is a file"):
        restore(tmp_path / "other.tar.gz", tmp_path / "text")


def _tar(path: Path, **members: bytes) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_a_backup_of_another_format(tmp_path: Path) -> None:
    _tar(tmp_path / "new.tar.gz", **{MANIFEST: b'{"format": 99}'})
    with pytest.raises(Invalid, match="format"):
        restore(tmp_path / "new.tar.gz", tmp_path / "again")


def test_a_backup_that_reaches_out_of_its_folder(tmp_path: Path) -> None:
    _tar(tmp_path / "evil.tar.gz", **{MANIFEST: b'{"format": 1}', "../escaped": b"x"})
    with pytest.raises(Invalid, match="no backup"):
        restore(tmp_path / "evil.tar.gz", tmp_path / "again")
    assert not (tmp_path / "escaped").exists()


def test_a_truncated_backup(tmp_path: Path, folder: Path) -> None:
    backup(folder, tmp_path / "saved.tar.gz", NOW)
    data = (tmp_path / "saved.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(Invalid, match="damaged"):
        restore(tmp_path / "cut.tar.gz", tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9, 0.999])
def test_a_damaged_backup_is_not_half_restored(tmp_path: Path, folder: Path, at: float) -> None:
    for number in range(50):
        (folder / "platform" / f"{number}.yaml").write_text(f"kind: Service  # {number}\n" * 20)
    backup(folder, tmp_path / "saved.tar.gz", NOW)
    data = bytearray((tmp_path / "saved.tar.gz").read_bytes())
    data[int(len(data) * at)] ^= 0xFF
    (tmp_path / "bad.tar.gz").write_bytes(data)
    with pytest.raises(Invalid, match="damaged"):
        restore(tmp_path / "bad.tar.gz", tmp_path / "again")
    assert not (tmp_path / "again").exists()

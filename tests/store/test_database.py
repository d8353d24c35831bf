"""The database: migrations, transactions, and what becomes of its exceptions."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from pilothouse.problems import Conflict, Invalid, Unavailable
from pilothouse.store import Store, settings
from pilothouse.store.database import MIGRATIONS, newest_revision
from pilothouse.store.schema import Moment, metadata

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "data")
    made.migrate()
    return made


def test_the_migrated_tables_are_those_of_the_metadata(store: Store) -> None:
    with store.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []


def test_the_newest_revision_is_that_of_the_last_file(store: Store) -> None:
    with store.read() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    assert found == newest_revision()
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert scripts.get_heads() == [found]
    for script in scripts.walk_revisions():
        assert Path(script.path).name.startswith(f"v{script.revision}_")


def test_migrating_twice_changes_nothing(store: Store) -> None:
    store.migrate()
    store.check()


def test_the_folder_and_the_database_are_for_the_owner_alone(store: Store) -> None:
    assert store.folder is not None
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((store.folder / "pilothouse.db").stat().st_mode) == 0o600


def test_sqlite_is_set_up_for_several_processes(store: Store) -> None:
    with store.read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_a_failed_write_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.write() as connection:
            connection.execute(text("INSERT INTO settings VALUES ('a', '1', 0)"))
            raise Conflict("on purpose")

    with pytest.raises(Conflict, match="on purpose"):
        fail()
    assert settings.get(store, "a") is None


def test_a_locked_database_is_one_clear_line(tmp_path: Path, store: Store) -> None:
    impatient = Store(tmp_path / "data", busy_seconds=0.05)
    with closing(sqlite3.connect(tmp_path / "data" / "pilothouse.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="is locked by another process") as caught:
            settings.put(impatient, "a", 1, NOW)
    assert "--data" in caught.value.hint
    settings.put(impatient, "a", 1, NOW)


def test_a_constraint_is_a_conflict(store: Store) -> None:
    row = text("INSERT INTO settings VALUES ('a', '1', 0)")
    with store.write() as connection:
        connection.execute(row)
    with pytest.raises(Conflict, match="refused"), store.write() as connection:
        connection.execute(row)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "pilothouse.db").write_bytes(b"this is something else, and long enough to be looked at" * 20)
    with pytest.raises(Unavailable, match="damaged or no database") as caught:
        Store(folder).migrate()
    assert "restore" in caught.value.hint


def test_a_database_without_tables(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="has no tables yet"):
        Store(tmp_path / "data").check()


def test_a_newer_schema_is_refused(tmp_path: Path, store: Store) -> None:
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Invalid, match="newer pilothouse"):
        store.migrate()


def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    with pytest.raises(Unavailable, match="is a file, not a folder"):
        Store(tmp_path / "data")
    with pytest.raises(Unavailable, match="not a folder"):
        Store(tmp_path / "data" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)
    with pytest.raises(Unavailable, match="cannot be written"):
        Store(tmp_path / "data")


def test_other_failures_of_the_database(store: Store) -> None:
    assert "--data" not in store._unavailable("disk I/O error").hint
    assert "owner" in store._unavailable("attempt to write a readonly database").hint


def test_urls() -> None:
    with pytest.raises(Invalid, match="no database URL"):
        Store("://nothing")
    with pytest.raises(Unavailable, match="driver"):
        Store("postgresql+psycopg://user:hush@db.example/pilothouse")


def test_moments_need_a_zone_and_come_back_as_they_went(store: Store) -> None:
    with pytest.raises(ValueError, match="time zone"):
        Moment().process_bind_param(datetime(2026, 1, 1), store._engine.dialect)  # noqa: DTZ001  # on purpose
    settings.put(store, "a", {"x": [1, "ü"]}, NOW.replace(microsecond=7))
    with store.read() as connection:
        row = connection.execute(metadata.tables["settings"].select()).one()
    assert row.updated_at == NOW.replace(microsecond=7)
    assert row.value == {"x": [1, "ü"]}


def test_a_setting_that_was_never_put_is_its_default(store: Store) -> None:
    assert settings.get(store, "nothing", "default") == "default"

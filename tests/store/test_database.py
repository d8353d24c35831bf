"""The database: migrations, transactions, and what becomes of its exceptions."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select, text, update

from pilothouse.problems import Conflict, Invalid, Unavailable
from pilothouse.store import Store, settings, sqlite
from pilothouse.store.database import MIGRATIONS, newest_revision
from pilothouse.store.schema import Moment, metadata

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)


@pytest.fixture
def in_folder(tmp_path: Path) -> Store:
    """A store on SQLite, for what concerns it alone."""
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


def test_the_folder_and_the_database_are_for_the_owner_alone(in_folder: Store) -> None:
    assert in_folder.folder is not None
    assert stat.S_IMODE(in_folder.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((in_folder.folder / "pilothouse.db").stat().st_mode) == 0o600


def test_sqlite_is_set_up_for_several_processes(in_folder: Store) -> None:
    with in_folder.read() as connection:
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


def test_a_locked_database_is_one_clear_line(tmp_path: Path, in_folder: Store) -> None:
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


def test_a_newer_schema_is_refused(store: Store) -> None:
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


def test_other_failures_of_the_database(in_folder: Store) -> None:
    assert "--data" not in sqlite.unavailable(in_folder.name, "disk I/O error").hint
    assert "owner" in sqlite.unavailable(in_folder.name, "attempt to write a readonly database").hint


def test_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="no database URL"):
        Store("://nothing")
    with pytest.raises(Invalid, match="mysql is no database"):
        Store("mysql://db.example/pilothouse")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(Unavailable, match="driver") as caught:
        Store("postgresql+psycopg://user:hush@db.example/pilothouse")
    assert "pilothouse[postgresql]" in caught.value.hint


def test_an_address_is_shown_without_what_is_secret() -> None:
    url = "postgresql://alice:hush@db.example:6432/pilothouse?sslpassword=hush"
    assert Store(url).name == "postgresql://alice@db.example:6432/pilothouse"


def test_writers_take_turns(where: Path | str, store: Store) -> None:
    """What a writer has read is still true when it writes: no count is lost, whoever else writes at the same time."""
    settings.put(store, "count", 0, NOW)
    key = metadata.tables["settings"].c.key

    def count_up(number: int) -> None:
        mine = Store(where)
        table = metadata.tables["settings"]
        for _ in range(10):
            with mine.write() as connection:
                found = connection.execute(select(table.c.value).where(key == "count")).scalar_one()
                connection.execute(update(table).where(key == "count").values(value=found + 1))
        mine.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_up, range(4)))
    assert settings.get(store, "count") == 40


def test_a_reader_sees_one_state(where: Path | str, store: Store) -> None:
    settings.put(store, "a", 1, NOW)
    other = Store(where)
    table = metadata.tables["settings"]
    with store.read() as connection:
        before = connection.execute(select(table.c.value)).scalars().all()
        settings.put(other, "a", 2, NOW)
        settings.put(other, "b", 3, NOW)
        assert connection.execute(select(table.c.value)).scalars().all() == before == [1]
    assert settings.get(store, "a") == 2
    other.close()


def test_a_value_is_made_once(store: Store) -> None:
    made = [settings.once(store, "key", lambda: number, NOW) for number in range(3)]  # noqa: B023  # called at once
    assert made == [0, 0, 0]


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

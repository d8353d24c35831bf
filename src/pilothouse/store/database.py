"""The database: connections, transactions, migrations; the only place that knows its exceptions.

`with store.read() as connection` reads one consistent state; `with store.write() as connection` is one
transaction that takes SQLite's write lock at its start (`BEGIN IMMEDIATE`), so that what it read is
still true when it writes. Both turn the database's exceptions into `Unavailable` and `Conflict`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection, Engine, event, exc
from sqlalchemy.engine import make_url
from sqlalchemy.pool import ConnectionPoolEntry

from pilothouse.problems import Conflict, Invalid, Unavailable

DATABASE = "pilothouse.db"
BUSY_SECONDS = 5.0
MIGRATIONS = Path(__file__).parent / "migrations"


class Store:
    """The database of one data folder, or at an SQLAlchemy URL.

    A folder is made with mode 0700 when it is missing. Nothing is opened before the first `read`,
    `write` or `migrate`. Safe to share between threads; each process makes its own.
    """

    def __init__(self, where: Path | str, busy_seconds: float = BUSY_SECONDS) -> None:
        self.folder: Path | None = None
        if isinstance(where, str) and "://" in where:
            try:
                self.url = make_url(where)
            except exc.ArgumentError as failure:
                raise Invalid(
                    f"{where!r} is no database URL", "write it as postgresql+psycopg://host/name"
                ) from failure
        else:
            self.folder = make_folder(Path(where))
            self.url = make_url(f"sqlite:///{self.folder / DATABASE}")
        self.name = (
            self.url.render_as_string(hide_password=True) if self.folder is None else str(self.folder / DATABASE)
        )
        self._engine = self._create_engine(busy_seconds)

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    def _create_engine(self, busy_seconds: float) -> Engine:
        if not self.is_sqlite:
            try:
                return sqlalchemy.create_engine(self.url, pool_pre_ping=True)
            except (ModuleNotFoundError, exc.NoSuchModuleError) as failure:
                raise Unavailable(
                    f"the database driver for {self.url.drivername} is not installed", "pip install 'psycopg[binary]'"
                ) from failure
        engine = sqlalchemy.create_engine(self.url, connect_args={"timeout": busy_seconds})

        @event.listens_for(engine, "connect")
        def connect(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
            connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")  # a row that was committed survives a power cut
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.close()

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            write = connection.get_execution_options().get("write", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

        return engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent state; nothing can be written by mistake to another's transaction."""
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back by any exception."""
        with self._translated(), self._engine.connect() as raw:
            connection = raw.execution_options(write=True)
            with connection.begin():
                yield connection

    def migrate(self) -> None:
        """Bring the tables to this version's schema. Safe when several processes start at once."""
        if self._is_current():
            return
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        try:
            with self.write() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as failure:
            raise Invalid(
                f"{self.name} was written by a newer pilothouse", "start the newer version, or restore an older backup"
            ) from failure
        if self.folder is not None:
            for path in self.folder.glob(f"{DATABASE}*"):
                path.chmod(0o600)

    def _is_current(self) -> bool:
        """Whether nothing is to be done: known without alembic, whose import takes longer than all the rest."""
        try:
            with self.read() as connection:
                found = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalars().all()
        except Unavailable:
            return False  # no tables yet, or something that the migration itself will name
        return list(found) == [newest_revision()]

    def check(self) -> None:
        """Raise `Unavailable` unless the database answers and has its tables."""
        with self.read() as connection:
            connection.execute(sqlalchemy.text("SELECT count(*) FROM alembic_version")).scalar()

    def close(self) -> None:
        """Give back every connection; the store may be used again afterwards."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError as failure:
            raise Conflict(
                f"the database refused it: {failure.orig}", "somebody else was faster: read it again"
            ) from failure
        except (exc.OperationalError, exc.DatabaseError) as failure:
            raise self._unavailable(str(failure.orig)) from failure
        except exc.TimeoutError as failure:
            raise Unavailable(f"{self.name} has no free connection", "try again in a moment") from failure

    def _unavailable(self, reason: str) -> Unavailable:
        if "locked" in reason:
            return Unavailable(
                f"the database {self.name} is locked by another process",
                "end the other process that holds it open, or choose another folder with --data",
            )
        if "not a database" in reason or "malformed" in reason:
            return Unavailable(
                f"{self.name} is damaged or no database ({reason})",
                "bring a backup back with `pilothouse restore FILE`",
            )
        if "no such table" in reason:
            return Unavailable(f"{self.name} has no tables yet", "start `pilothouse serve` once: it makes them")
        if "readonly" in reason or "unable to open" in reason:
            return Unavailable(
                f"cannot write the database {self.name} ({reason})", "check the owner and mode of the folder"
            )
        return Unavailable(f"the database {self.name} does not answer: {reason}", "check that it runs and has space")


def newest_revision() -> str:
    """The revision of the last migration: its file is called `v<revision>_<what>.py`."""
    return max(path.name[1:].split("_")[0] for path in (MIGRATIONS / "versions").glob("v*_*.py"))


def make_folder(folder: Path) -> Path:
    """The data folder, made with mode 0700 if it is missing; `Unavailable` where it cannot be written."""
    folder = folder.expanduser().absolute()
    hint = "choose another folder with --data"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError) as failure:
        raise Unavailable(f"{folder} is a file, not a folder", hint) from failure
    except OSError as failure:
        raise Unavailable(f"cannot make the data folder {folder}: {failure.strerror}", hint) from failure
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Unavailable(f"the data folder {folder} cannot be written", hint)
    return folder

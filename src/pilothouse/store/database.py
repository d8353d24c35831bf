"""The database: connections, transactions, migrations; the only place that knows its exceptions.

`with store.read() as connection` reads one consistent state; `with store.write() as connection` is one
transaction that takes the writers' lock at its start (`BEGIN IMMEDIATE` of SQLite, an advisory lock of PostgreSQL), so
that what it read is still true when it writes. Both turn the database's exceptions into `Unavailable` and `Conflict`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection, Engine, exc
from sqlalchemy.engine import make_url

from pilothouse.problems import Conflict, Invalid, PilothouseError, Unavailable
from pilothouse.store import postgresql, sqlite
from pilothouse.store.outage import Outage

DATABASE = "pilothouse.db"
BUSY_SECONDS = 5.0
MIGRATIONS = Path(__file__).parent / "migrations"
Guard = Callable[[Connection], None]


class Store:
    """The database of one data folder, or at an SQLAlchemy URL.

    A folder is made with mode 0700 when it is missing. Nothing is opened before the first `read`,
    `write` or `migrate`. Safe to share between threads; each process makes its own.
    """

    def __init__(self, where: Path | str, busy_seconds: float = BUSY_SECONDS) -> None:
        """`busy_seconds` is how long a writer waits for another one."""
        self.folder: Path | None = None
        if isinstance(where, str) and "://" in where:
            try:
                self.url = make_url(where)
            except exc.ArgumentError as failure:
                raise Invalid("that is no database URL", "write it as postgresql://user@host/name") from failure
            if self.url.get_backend_name() not in ("sqlite", "postgresql"):
                raise Invalid(f"{self.url.get_backend_name()} is no database that can be used", "PostgreSQL is")
        else:
            self.folder = make_folder(Path(where))
            self.url = make_url(f"sqlite:///{self.folder / DATABASE}")
        if self.url.get_backend_name() == "postgresql":
            self.url = self.url.set(drivername=postgresql.DRIVER)
        self.name = str(self.folder / DATABASE) if self.folder else shown(self.url)
        self._outage = Outage()
        self._guard: ContextVar[Guard | None] = ContextVar("guard", default=None)
        self._busy_seconds = busy_seconds
        self._writing = threading.Lock()
        self._engine = self._create_engine(busy_seconds)

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    def _create_engine(self, busy_seconds: float) -> Engine:
        if self.is_sqlite:
            return sqlite.engine(self.url, busy_seconds)
        return postgresql.engine(self.url, busy_seconds, self._outage)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent state; nothing can be written by mistake to another's transaction."""
        with self._translated():
            engine = self._engine
            if not self.is_sqlite:
                engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with engine.connect() as connection, connection.begin():
                yield connection

    @contextmanager
    def write(self, alone: bool = True) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back by any exception.

        `alone=False` is for a single statement that is right by itself, such as an upsert that counts: on PostgreSQL it
        does not wait for other writers.
        """
        guard = self._guard.get()
        with self._turn(), self._translated(), self._engine.connect() as raw:
            connection = raw.execution_options(write=True)
            with connection.begin():
                if not self.is_sqlite and (alone or guard is not None):
                    postgresql.begin_writing(connection)
                if guard is not None:
                    guard(connection)
                yield connection

    @contextmanager
    def part(self, connection: Connection) -> Iterator[None]:
        """A part of a transaction of `write` that an exception undoes alone; the rest can still be committed."""
        with self._translated(), connection.begin_nested():
            yield

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One writer of this process at a time, where the file takes one at all.

        SQLite's own waiting sleeps and tries again: threads of one process that fight over it halve each other's speed.
        """
        if not self.is_sqlite:
            yield
            return
        if not self._writing.acquire(timeout=self._busy_seconds):
            raise sqlite.unavailable(self.name, "the database is locked")
        try:
            yield
        finally:
            self._writing.release()

    @contextmanager
    def guarded(self, guard: Guard) -> Iterator[None]:
        """Every `write` of this thread first asks `guard`, in its own transaction; what it raises refuses the write."""
        token = self._guard.set(guard)
        try:
            yield
        finally:
            self._guard.reset(token)

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
            with self._migration() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as failure:
            raise Invalid(
                f"{self.name} was written by a newer pilothouse", "start the newer version, or restore an older backup"
            ) from failure
        if self.folder is not None:
            for path in self.folder.glob(f"{DATABASE}*"):
                path.chmod(0o600)

    @contextmanager
    def _migration(self) -> Iterator[Connection]:
        if self.is_sqlite:
            with self.write() as connection:
                yield connection
            return
        with self._translated(), self._engine.begin() as connection:
            postgresql.for_migrations(connection)
            yield connection

    def _is_current(self) -> bool:
        """Whether nothing is to be done: known without alembic, whose import takes longer than all the rest."""
        try:
            with self.read() as connection:
                found = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalars().all()
        except Unavailable as failure:
            if self.is_sqlite or isinstance(failure.__cause__, exc.ProgrammingError):
                return False  # no tables yet, or something that the migration itself will name
            raise
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
        except exc.DBAPIError as failure:
            raise self._as_ours(failure) from failure
        except exc.TimeoutError as failure:
            raise Unavailable(f"{self.name} has no free connection", "try again in a moment") from failure

    def _as_ours(self, failure: exc.DBAPIError) -> PilothouseError:
        if not self.is_sqlite:
            ours = postgresql.translated(self.name, failure, self.url.password or "")
            if isinstance(ours, Unavailable) and postgresql.is_outage(failure):
                self._outage.failed(ours)
            return ours
        if isinstance(failure, exc.IntegrityError):
            return Conflict(f"the database refused it: {failure.orig}", "somebody else was faster: read it again")
        return sqlite.unavailable(self.name, str(failure.orig))


def shown(url: sqlalchemy.URL) -> str:
    """The address without its password and without parameters, which may name secrets as well."""
    return sqlalchemy.URL.create(
        url.get_backend_name(), url.username, None, url.host, url.port, url.database
    ).render_as_string()


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

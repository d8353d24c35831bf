"""PostgreSQL, the database of several portals and workers: connections that cannot hang, and its exceptions in words.

- Writers take one advisory lock for their transaction, so that what one of them read is still true when it writes: what
  SQLite's `BEGIN IMMEDIATE` gives (https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS). The
  portal writes some rows a second at most; in return no step of it can meet a serialization failure.
- Readers see one state (`REPEATABLE READ`, read only), which PostgreSQL never ends for its own sake.
- The server ends a statement that runs too long, waits too long for a lock, or a transaction whose owner has fallen
  asleep with the lock in its hand. A server that says nothing at all is given up by us.
"""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy
from sqlalchemy import URL, Connection, Engine, event, exc
from sqlalchemy.engine import Dialect
from sqlalchemy.pool import ConnectionPoolEntry

from pilothouse.problems import Conflict, Invalid, PilothouseError, Unavailable
from pilothouse.store.outage import Outage

DRIVER = "postgresql+psycopg"
WRITERS = 0x70696C6F74
"""The advisory lock of everything that writes; advisory locks are those of one database."""
CONNECT_SECONDS = 3
PING_SECONDS = 2.0
STATEMENT_SECONDS = 8
SILENCE_SECONDS = 10.0
"""Longer than any statement may take: after it the server is gone, or stopped."""
MIGRATION_SECONDS = 600
IDLE_SECONDS = 10
"""A transaction in which nothing was said for so long belongs to a process that is paused or gone."""
POOL = 5
OVERFLOW = 5
RECYCLE_SECONDS = 1800


def engine(url: URL, lock_seconds: float, outage: Outage) -> Engine:
    """At most `POOL` + `OVERFLOW` connections; each is asked for a sign of life before it is used."""
    try:
        import psycopg
    except ImportError as failure:
        raise Unavailable(
            "the driver of PostgreSQL is not installed (no module `psycopg`)", "pip install 'pilothouse[postgresql]'"
        ) from failure
    connections = _bounded(psycopg)
    settings = {
        "statement_timeout": STATEMENT_SECONDS * 1000,
        "lock_timeout": max(1, int(lock_seconds * 1000)),
        "idle_in_transaction_session_timeout": IDLE_SECONDS * 1000,
        "timezone": "UTC",
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    theirs = url.query.get("options", "")
    arguments: dict[str, Any] = {
        "options": f"{theirs if isinstance(theirs, str) else ' '.join(theirs)} {options}".strip(),
        "application_name": url.query.get("application_name", "pilothouse"),
        "connect_timeout": CONNECT_SECONDS,
        # A pooler in front of the server may hand the next transaction to another connection.
        "prepare_threshold": None,
    }
    made = sqlalchemy.create_engine(
        url,
        connect_args=arguments,
        pool_size=POOL,
        max_overflow=OVERFLOW,
        pool_timeout=lock_seconds,
        pool_recycle=RECYCLE_SECONDS,
        hide_parameters=True,  # what was to be written stands in no message
    )

    @event.listens_for(made, "do_connect")
    def connect(_dialect: Dialect, _entry: ConnectionPoolEntry, arguments: Any, options: Any) -> Any:
        outage.check()
        found = connections.connect(*arguments, **options)
        outage.over()
        return found

    @event.listens_for(made, "checkout")
    def checkout(connection: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        if entry.info.pop("new", False):
            return
        outage.check()
        try:
            connection.ping()
        except psycopg.Error as failure:
            if isinstance(failure, Silent):
                # Others would wait as long, and a new connection too.
                raise
            raise exc.InvalidatePoolError("the connection is gone") from failure
        outage.over()

    @event.listens_for(made, "connect")
    def connected(_connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info["new"] = True

    return made


class Silent(Exception):
    """The server holds the connection and says nothing."""


def _bounded(psycopg: Any) -> Any:
    """psycopg's connection whose waiting ends: made here, so that the driver is imported only where it is used."""

    class NoAnswer(psycopg.OperationalError, Silent):  # type: ignore[misc]  # known only at run time
        pass

    class Bounded(psycopg.Connection):  # type: ignore[misc]  # known only at run time
        patience = SILENCE_SECONDS

        def wait(self, generator: Any, *arguments: Any, **options: Any) -> Any:
            return super().wait(self._until(generator, time.monotonic() + self.patience), *arguments, **options)

        def _until(self, generator: Any, deadline: float) -> Any:
            """The driver's generator of waits; resumed some times a second with 0 while nothing comes."""
            try:
                wanted = next(generator)
                while True:
                    ready = yield wanted
                    if not ready and time.monotonic() > deadline:
                        self.pgconn.finish()
                        raise NoAnswer(f"no answer within {self.patience:.0f} s")
                    wanted = generator.send(ready)
            except StopIteration as done:
                return done.value

        def ping(self) -> None:
            """One round trip, outside any transaction."""
            self.patience = PING_SECONDS
            self.autocommit = True
            try:
                self.execute("SELECT 1")
            finally:
                self.patience = SILENCE_SECONDS
                if not self.closed:
                    self.autocommit = False

    return Bounded


def begin_writing(connection: Connection) -> None:
    """Wait for the writers' lock; it is given back by the end of the transaction."""
    connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITERS})


def for_migrations(connection: Connection) -> None:
    """A migration may take its time, and so may another process' migration that we wait for."""
    for name in ("statement_timeout", "lock_timeout"):
        connection.exec_driver_sql(f"SET LOCAL {name} = '{MIGRATION_SECONDS}s'")
    bounded: Any = connection.connection.driver_connection
    bounded.patience = MIGRATION_SECONDS + SILENCE_SECONDS  # until the next ping
    begin_writing(connection)


# ---------------------------------------------------------------- in words

_HINTS = {
    "53100": ("has no space left on its disk", "free some, then it goes on by itself"),
    "53200": ("is out of memory", "give it more, or end what uses it"),
    "53300": (
        "has no connection left for us",
        f"raise max_connections: each portal, worker and signer uses up to {POOL + OVERFLOW}",
    ),
    "57P01": ("is shutting down", "it is asked again in a moment"),
    "57P02": ("was shut down by a crash of another of its processes", "it is asked again in a moment"),
    "57P03": ("is starting up or shutting down", "it is asked again in a moment"),
    "57014": (f"did not finish a statement within {STATEMENT_SECONDS} s", "look what else it is busy with"),
    "25P03": (f"ended a transaction that had said nothing for {IDLE_SECONDS} s", "try again"),
    "55P03": ("is busy with another process that writes", "try again in a moment"),
    "40P01": ("ended a transaction that waited for another one in a circle", "try again"),
    "40001": ("could not let two transactions pass at once", "try again"),
    "42501": ("lets its user not do that", "the user must own the database: ALTER DATABASE … OWNER TO …"),
    "25006": ("is read only", "name the primary server, not a standby: add ?target_session_attrs=read-write"),
    "42P01": ("has no tables yet", "start `pilothouse serve` once: it makes them"),
}
# While a connection is made there is no code, only words.
_WORDS = (
    (
        "password authentication failed",
        "refuses its user or password",
        "put the right one into the file of --database-file, or into a file that the address' `passfile` names",
    ),
    (
        "certificate",
        "shows a certificate that does not hold, or cannot be checked",
        "sslrootcert of the address names the file of its CA, and the certificate the host",
    ),
    ("no password supplied", "asks for a password", "put the whole address into a file and name it: --database-file"),
    ("role ", "does not know its user", "CREATE ROLE … LOGIN"),
    ("does not exist", "does not exist", "make it once: CREATE DATABASE … OWNER …"),
    ("too many clients", *_HINTS["53300"]),
    ("remaining connection slots", *_HINTS["53300"]),
    ("starting up", *_HINTS["57P03"]),
    ("shutting down", *_HINTS["57P03"]),
    ("recovery mode", *_HINTS["57P03"]),
    ("no pg_hba.conf entry", "lets nobody in from here", "add a line for this host to its pg_hba.conf"),
    ("does not support SSL", "does not speak TLS", "turn `ssl` on there, or choose another sslmode"),
    ("SSL error", "does not agree on TLS", "check sslmode and sslrootcert of the address"),
    ("resolve host", "has a host name that nobody knows", "check the host of the address"),
    ("Connection refused", "does not answer: nobody listens there", "check that it runs, and host and port"),
    ("timeout expired", f"does not answer within {CONNECT_SECONDS} s", "check that it runs and can be reached"),
    ("no answer within", "holds the connection and does not answer", "check that it runs; it is asked again by itself"),
    ("invalid connection option", "has an address with an unknown parameter", "parameters are those of libpq"),
    ("invalid URI query parameter", "has an address with an unknown parameter", "parameters are those of libpq"),
    ("session is read-only", *_HINTS["25006"]),
)


def translated(name: str, failure: exc.DBAPIError, password: str = "") -> PilothouseError:
    """What the driver raised, as one of ours; the server's own words in brackets, never the password."""
    original = failure.orig
    code = str(getattr(original, "sqlstate", None) or "")
    reason = " ".join(str(original).removeprefix("connection failed: ").split())
    if password:
        reason = reason.replace(password, "***")
    if isinstance(failure, exc.IntegrityError):
        return Conflict(f"the database refused it: {reason}", "somebody else was faster: read it again")
    if code.startswith("22") or isinstance(failure, exc.DataError):
        return Invalid(f"the database cannot hold that: {reason}", "shorten it, and leave out control characters")
    if code == "P0001":  # raised by a trigger of ours
        return Conflict(f"the database refused it: {reason}", "nothing was changed")
    said, hint = _HINTS.get(code, ("", ""))
    if not said:
        said, hint = next(((said, hint) for words, said, hint in _WORDS if words in reason), ("", ""))
    if not said:
        said, hint = "does not answer", "check that it runs, can be reached, and has space"
    return Unavailable(f"the database {name} {said} ({reason})", hint)


def is_outage(failure: exc.DBAPIError) -> bool:
    """Whether the server was waited for in vain, so that others need not wait as well."""
    return isinstance(failure.orig, Silent) or any(words in str(failure.orig) for words in _WAITED)


_WAITED = ("timeout expired", "resolve host")

"""SQLite, the database of one data folder: how its connections are set up, and its exceptions in words."""

from __future__ import annotations

import sqlite3

import sqlalchemy
from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from pilothouse.problems import Unavailable


def engine(url: URL, busy_seconds: float) -> Engine:
    """Write-ahead log, every commit on the disk, and transactions that begin where we say."""
    made = sqlalchemy.create_engine(url, connect_args={"timeout": busy_seconds})

    @event.listens_for(made, "connect")
    def connect(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # a row that was committed survives a power cut
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(made, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return made


def unavailable(name: str, reason: str) -> Unavailable:
    """What `reason`, SQLite's own words, means for whoever runs the portal."""
    if "locked" in reason:
        return Unavailable(
            f"the database {name} is locked by another process",
            "end the other process that holds it open, or choose another folder with --data",
        )
    if "not a database" in reason or "malformed" in reason:
        return Unavailable(
            f"{name} is damaged or no database ({reason})", "bring a backup back with `pilothouse restore FILE`"
        )
    if "no such table" in reason:
        return Unavailable(f"{name} has no tables yet", "start `pilothouse serve` once: it makes them")
    if "readonly" in reason or "unable to open" in reason:
        return Unavailable(f"cannot write the database {name} ({reason})", "check the owner and mode of the folder")
    return Unavailable(f"the database {name} does not answer: {reason}", "check that it runs and has space")

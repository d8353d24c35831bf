"""PostgreSQL with a database of its own for each test."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT
from typing import Any

from support import testbed
from support.bed.process import Served, Server, folder, free_port, own, own_folder, run_unprivileged

USER = "pilothouse"


@dataclass
class PostgreSQL(Served):
    port: int
    password: str = field(repr=False)
    server: Server

    def url(self, database: str) -> str:
        """SQLAlchemy's address of a database, with user and password."""
        return f"postgresql+psycopg://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> Any:
        """psycopg's connection, in autocommit."""
        import psycopg

        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self.password,
            dbname=database,
            autocommit=True,
            connect_timeout=3,
        )

    @contextmanager
    def database(self, prefix: str = "test") -> Iterator[str]:
        """The SQLAlchemy URL of a new database, dropped at the end."""
        name = f"{prefix.replace('-', '_')}_{secrets.token_hex(4)}"
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield self.url(name)
        finally:
            if self.alive:
                with self.connect() as connection:
                    connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def pause(self) -> None:
        """Every process of it: the connections that are open too."""
        self.server.pause()
        for child in _children(self.pid):
            os.kill(child, 19)

    def resume(self) -> None:
        for child in _children(self.pid):
            os.kill(child, 18)
        self.server.resume()


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = (entry / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1]
            except OSError:
                continue
            if int(parent) == pid:
                found.append(int(entry.name))
    return found


def start() -> PostgreSQL:
    programs = testbed.program("postgresql").resolve().parent
    made, port, password = own_folder("postgresql"), free_port(), secrets.token_hex(12)
    data = made / "data"
    password_file = folder() / f"{made.name}.password"
    password_file.touch(mode=0o600)
    password_file.write_text(password, encoding="ascii")
    own(made)
    if os.geteuid() == 0:
        os.chown(password_file, 65534, 65534)
    run_unprivileged(
        "postgresql",
        [
            programs / "initdb",
            f"--pgdata={data}",
            f"--username={USER}",
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
        ],
    )
    server = Server(
        "postgresql",
        [
            programs / "postgres",
            "-D",
            data,
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-k",
            "",
            "-c",
            "fsync=off",
            "-c",
            "max_connections=60",
        ],
        lambda: result.connect().close(),
        cwd=made,
        unprivileged=True,
        # The fast shutdown: a client that stays connected does not hold it up.
        stop_signal=SIGINT,
    )
    result = PostgreSQL(port, password, server)
    server.start()
    return result

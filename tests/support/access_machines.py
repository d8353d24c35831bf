"""Engineers' machines beside a portal that really listens: what is typed there, and what lies there afterwards."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from click.testing import CliRunner
from support.access_portal import access_portal
from support.access_world import World
from support.portal import PASSWORD, Clock
from werkzeug.serving import make_server

from pilothouse.cli.access import group
from pilothouse.files.wallet import Wallet
from pilothouse.problems import PilothouseError

NAMES = ("alice", "olga", "pat")


class Machine:
    """An engineer's machine: a home of its own, and the commands run on it."""

    def __init__(self, home: Path, server: str) -> None:
        self.home, self.server = home, server
        self.environment = {"XDG_CONFIG_HOME": str(home), "HOME": str(home), "PILOTHOUSE_SERVER": ""}

    def run(self, *arguments: str, stdin: str | None = None, code: int = 0) -> str:
        result = CliRunner().invoke(group, list(arguments), input=stdin, env=self.environment)
        if isinstance(result.exception, PilothouseError):
            raise result.exception
        assert result.exit_code == code, (result.output, result.exception)
        return result.stdout

    def json(self, *arguments: str, **more: Any) -> Any:
        return json.loads(self.run(*arguments, "-o", "json", **more))

    def login(self, name: str) -> str:
        return self.run("login", "--server", self.server, "--user", name, stdin=PASSWORD + "\n")

    @property
    def wallet(self) -> Wallet:
        return Wallet(self.home / "pilothouse")


@contextmanager
def access_site(folder: Path) -> Iterator[tuple[Callable[[str], Machine], World, Clock]]:
    """(a maker of machines, the world, the application's clock) with a portal that really listens."""
    # The portal runs in this process: its log must not mix with what a command prints.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    clock = Clock(datetime.now(UTC))
    with access_portal(folder, NAMES, clock=clock) as (app, world, _):
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"

        def machine(name: str) -> Machine:
            (folder / name).mkdir(exist_ok=True)
            made = Machine(folder / name, address)
            made.login(name)
            return made

        yield machine, world, clock
        server.shutdown()
        thread.join()
        server.server_close()
    structlog.reset_defaults()

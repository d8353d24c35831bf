"""A rotation by the command line: through the portal, which hands on a session, to the signer's own process."""

from __future__ import annotations

import html
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner
from cryptography import x509
from support.access_portal import USERS
from support.access_world import write_platform
from support.portal import PASSWORD, Clock, login, make_app
from werkzeug.serving import make_server

from pilothouse.cli.access import group
from pilothouse.problems import Denied, Invalid, PilothouseError
from pilothouse.signer import spawn
from pilothouse.store import ledger

Run = Callable[..., str]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Any, Callable[[str], Run]]]:
    """(the application, a maker of engineers' machines)."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    root = write_platform(tmp_path / "platform")
    app = make_app(tmp_path, root=root, users_={n: USERS[n] for n in ("alice", "olga")}, clock=Clock(datetime.now(UTC)))
    child = spawn.start(tmp_path / "data", root)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def machine(name: str) -> Run:
        home = tmp_path / name
        environment = {"XDG_CONFIG_HOME": str(home), "HOME": str(home), "PILOTHOUSE_SERVER": ""}

        def run(*arguments: str, stdin: str = "") -> str:
            result = CliRunner().invoke(group, list(arguments), input=stdin, env=environment)
            if isinstance(result.exception, PilothouseError):
                raise result.exception
            assert result.exit_code == 0, (result.output, result.exception)
            return result.stdout

        run("login", "--server", f"http://127.0.0.1:{server.server_port}", "--user", name, stdin=f"{PASSWORD}\n")
        return run

    yield app, machine
    server.shutdown()
    thread.join()
    server.server_close()
    spawn.stop(child)
    structlog.reset_defaults()


def test_the_plan_is_read_then_each_run_takes_a_stage(site: tuple[Any, Callable[[str], Run]], tmp_path: Path) -> None:
    app, machine = site
    olga = machine("olga")
    plan = olga("ca", "plan", "--cluster", "dev")
    assert "The rotation of dev is at-rest." in plan
    assert "next  made: makes a new key and authority beside the old one" in plan
    assert "Next: pilothouse access ca rotate --cluster dev\n" in plan
    before = login(app, "olga").get("/access/authorities/dev.crt").get_data()

    page = _page(app, "olga")
    assert "No rotation is under way" in page
    assert "made next" in page
    assert "pilothouse access ca rotate --cluster dev Copy" in page

    assert "is made" in olga("ca", "rotate", "--cluster", "dev")
    assert "A rotation is under way: made" in _page(app, "olga")
    said = olga("ca", "rotate", "--cluster", "dev")
    assert "Next: pilothouse access ca rotate --cluster dev --trusted\n" in said
    both = login(app, "olga").get("/access/authorities/dev.crt").get_data()
    assert len(x509.load_pem_x509_certificates(both)) == 2
    assert both.startswith(before)
    assert "pilothouse access ca rotate --cluster dev --trusted Copy" in _page(app, "olga")
    with pytest.raises(Invalid, match="cannot be seen from here"):
        olga("ca", "rotate", "--cluster", "dev")
    assert "is signing" in olga("ca", "rotate", "--cluster", "dev", "--trusted")
    done = json.loads(olga("ca", "rotate", "--cluster", "dev", "-o", "json"))
    assert (done["stage"], done["other"], done["alive"]) == ("at-rest", None, 0)
    after = login(app, "olga").get("/access/authorities/dev.crt").get_data()
    assert both == before + after
    kinds = [item.entry.kind for item in ledger.everything(app.config["STORE"])]
    assert kinds == [f"authority.{word}" for word in ("made", "trusted", "signing", "withdrawn")]
    key = (tmp_path / "data/signer/dev/ca-2.key").read_text()
    assert not any(line in said + plan for line in key.splitlines())


def _page(app: Any, name: str) -> str:
    """The page of dev's authority, as text."""
    found = login(app, name).get("/access/authorities/dev/rotation")
    assert found.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found.get_data(as_text=True))).split())


def test_an_engineer_may_not_even_look(site: tuple[Any, Callable[[str], Run]]) -> None:
    app, machine = site
    alice = machine("alice")
    assert "only the platform team may" in _page(app, "alice")
    for command in ("plan", "rotate"):
        with pytest.raises(Denied, match="only the platform team may"):
            alice("ca", command, "--cluster", "dev")

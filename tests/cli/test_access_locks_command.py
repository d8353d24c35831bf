"""`access lock`, `unlock`, `locks`, `who-can`, `what-can` against a portal that really listens."""

import json
import logging
import threading
from datetime import UTC, datetime

import pytest
import structlog
from click.testing import CliRunner
from support.access_portal import access_portal
from support.portal import PASSWORD, Clock
from werkzeug.serving import make_server

from pilothouse.cli.access import group
from pilothouse.problems import Denied, Invalid, PilothouseError


class Machine:
    def __init__(self, home, server, name):
        home.mkdir()
        self.environment = {"XDG_CONFIG_HOME": str(home), "HOME": str(home), "PILOTHOUSE_SERVER": ""}
        self.server, self.name = server, name
        self.login()

    def login(self):
        self.run("login", "--server", self.server, "--user", self.name, stdin=PASSWORD + "\n")

    def run(self, *arguments, stdin=None):
        result = CliRunner().invoke(group, list(arguments), input=stdin, env=self.environment)
        if isinstance(result.exception, PilothouseError):
            raise result.exception
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def json(self, *arguments):
        return json.loads(self.run(*arguments, "-o", "json"))


@pytest.fixture
def machine(tmp_path):
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with access_portal(tmp_path, ("alice", "olga", "pat"), clock=Clock(datetime.now(UTC))) as (app, _, _):
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield lambda name: Machine(tmp_path / name, f"http://127.0.0.1:{server.server_port}", name)
        server.shutdown()
        thread.join()
        server.server_close()
    structlog.reset_defaults()


def test_lock_look_and_unlock(machine):
    alice, olga = machine("alice"), machine("olga")
    serial = alice.json("cert", "developer", "-c", "dev")["serial"]
    said = olga.run("lock", serial, "--reason", "lost laptop", "--for", "2h")
    assert f"certificate {serial} of alice on dev is locked until" in said
    assert "1 session ended" in said
    with pytest.raises(Denied, match="authorized"):
        alice.run("cert", "developer", "-c", "dev")
    olga.run("lock", "alice", "--reason", "phished")
    alice.login()
    with pytest.raises(Denied, match="alice is locked by olga"):
        alice.run("cert", "developer", "-c", "dev")
    assert sorted(item["kind"] for item in olga.json("locks")["items"]) == ["certificate", "user"]
    assert "it is lifted" in olga.run("locks")
    assert "none of this can be had now" in olga.run("what-can", "alice")
    assert "locked" in olga.run("who-can", "get", "pods", "-n", "payments", "-c", "dev")
    assert olga.run("unlock", "alice", "--why", "all well") == "alice is not locked any more.\n"
    assert "lifted" in olga.run("locks", "--all")
    alice.run("cert", "developer", "-c", "dev")
    with pytest.raises(Invalid, match="no person and no certificate"):
        olga.run("lock", "nobody-here", "--reason", "phished")
    olga.run("lock", "nobody-here", "--reason", "phished", "--anyway")


def test_what_can_and_who_can_in_words(machine):
    olga = machine("olga")
    said = olga.run("what-can", "alice", "-c", "dev")
    assert "RoleBinding payments/ph:developer:payments" in said
    said = olga.run("who-can", "delete", "nodes", "-c", "dev")
    assert "cluster-admin (elevated)" in said
    assert "platform-admins must agree" in said
    found = olga.json("who-can", "delete", "nodes", "-c", "dev")
    assert found["ways"][0]["people"] == ["olga", "pat"]


def test_the_webhook_needs_a_certificate_and_a_data_folder(tmp_path):
    for more, message in (((), "over TLS alone"), (("--tls-cert", "a", "--tls-key", "b"), "no data folder")):
        result = CliRunner().invoke(group, ["webhook", "--data", str(tmp_path), *more])
        assert isinstance(result.exception, Invalid)
        assert message in result.exception.message

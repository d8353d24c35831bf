"""`pilothouse access self-test`, on a signer that runs and on the stand-in for Vault."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.access_world import World, make_world
from support.vault_fake import fake_vault
from support.vault_site import PASSWORD
from support.vault_world import declare, set_up

from pilothouse.cli.main import cli, main
from pilothouse.clients.vault import VaultClient
from pilothouse.signer import spawn
from pilothouse.store import ledger


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    made = make_world(tmp_path)
    made.now = datetime.now(UTC)
    return made


def run(world: World, *arguments: object) -> Result:
    given = ["access", "self-test", str(world.platform), "--data", str(world.data), *map(str, arguments)]
    return CliRunner().invoke(cli, given)


def token_file(tmp_path: Path, token: str) -> Path:
    path = tmp_path / "token"
    path.write_text(token)
    return path


def test_through_the_socket_of_a_running_signer(world: World, tmp_path: Path) -> None:
    child = spawn.start(world.data, world.platform)
    try:
        by_itself = run(world, "--cluster", "dev", "-o", "json")
        with_session = run(world, "--cluster", "dev", "--token-file", token_file(tmp_path, world.token("alice")))
    finally:
        spawn.stop(child)
    assert by_itself.exit_code == 0, by_itself.output
    (report,) = json.loads(by_itself.output)["reports"]
    assert report["backend"] == "embedded"
    assert len(report["attempts"]) > 50
    assert list(ledger.everything(world.store))  # what the session got stands in the ledger, in her name
    assert {item.entry.actor for item in ledger.everything(world.store)} == {"alice"}
    assert with_session.exit_code == 0, with_session.output
    assert "dev (embedded, through the socket)" in with_session.output
    assert "none succeeded" in with_session.output
    assert world.token("alice") not in with_session.output


def test_where_no_signer_answers_nothing_is_claimed(world: World) -> None:
    done = run(world, "--cluster", "dev", "-o", "json")
    assert done.exit_code == 2
    (problem,) = json.loads(done.output)["problems"]
    assert problem["code"] == "access/self-test-incomplete"
    assert "does not answer" in problem["message"]


def test_at_vault(world: World, tmp_path: Path) -> None:
    with fake_vault() as server:
        declare(world.platform, server.url)
        set_up(server, world.platform)
        token = VaultClient(server.engineers_endpoint).login_ldap("ldap", "alice", PASSWORD).token
        given = ("--cluster", "vaulted", "--token-file", token_file(tmp_path, token))
        closed = run(world, *given)
        assert closed.exit_code == 0, closed.output
        assert "vaulted (vault)" in closed.output
        assert token not in closed.output
        server.state.pki["pki-vaulted"].roles["developer.payments"]["cn_validations"] = ["disabled"]
        opened = run(world, *given)
        assert opened.exit_code == 1
        assert "access/escape-open" in opened.output
        assert "the name of somebody else" in opened.output
        assert run(world, "--cluster", "vaulted").exit_code == 2  # without a login


@pytest.mark.parametrize(
    ("text", "said"), [("", "holds no token"), ("two words", "holds no token"), (None, "cannot read the token file")]
)
def test_a_token_file_that_does_not_do(world: World, tmp_path: Path, capsys: Any, text: str | None, said: str) -> None:
    path = tmp_path / "none" if text is None else token_file(tmp_path, text)
    with pytest.raises(SystemExit) as ended:
        main(["access", "self-test", str(world.platform), "--cluster", "dev", "--token-file", str(path)])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_one_token_is_for_one_authority(world: World, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["access", "self-test", str(world.platform), "--token-file", str(token_file(tmp_path, "x"))])
    assert ended.value.code == 2
    assert "name its cluster" in capsys.readouterr().err

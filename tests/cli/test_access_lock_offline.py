"""`access lock --data`: the same lock and the same entry of the ledger, while no portal answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.access_values import csr, key
from support.access_world import World, make_world

from pilothouse.access import grants
from pilothouse.access.grants import State
from pilothouse.access.locks import Kind
from pilothouse.cli.access import group
from pilothouse.problems import Denied, Invalid, PilothouseError
from pilothouse.store import grants as grant_rows
from pilothouse.store import ledger, locks, sessions
from pilothouse.workflows.issuance import Ask


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = make_world(tmp_path)
    found.now = datetime.now(UTC)
    return found


def run(world: World, *arguments: str, platform: Path | None = None, **environment: str) -> str:
    given = ["lock", *arguments, "--data", str(world.data), "--platform", str(platform or world.platform)]
    result = CliRunner().invoke(group, given, env={"PILOTHOUSE_SERVER": "", **environment})
    if isinstance(result.exception, PilothouseError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def entries(world: World, kind: str) -> list[Any]:
    return [item.entry for item in ledger.everything(world.store) if item.entry.kind == kind]


def test_a_person_is_locked_and_the_ledger_says_by_whom(world: World) -> None:
    token = world.token("alice")
    found = json.loads(run(world, "alice", "--reason", "phished, SEC-88", "--for", "12h", "-o", "json"))
    assert (found["kind"], found["subject"], found["holds"], found["sessions"]) == ("user", "alice", True, 1)
    assert found["by"].endswith("(command line)")
    assert found["notes"] == []
    (entry,) = entries(world, "lock.set")
    assert (entry.actor, entry.subject, entry.data["reason"]) == (found["by"], "alice", "phished, SEC-88")
    assert ledger.verify(world.store, [])[0] == ()
    world.now = datetime.now(UTC)
    held = locks.holding(world.store, Kind.USER, "alice", world.now)
    assert held is not None
    assert held.id == found["id"]
    assert not sessions.living(world.store, "alice", world.now)
    with world.authorities() as keys:
        issuance = world.issuance(keys)
        for session, why in ((token, "session"), (world.token("alice"), "alice is locked by")):
            with pytest.raises(Denied, match=why):
                issuance.issue(Ask(session, csr(key("alice")), "dev", "developer"))


def test_a_certificate_is_locked_by_its_serial(world: World) -> None:
    with world.authorities() as keys:
        issued = world.issuance(keys).issue(Ask(world.token("alice"), csr(key("alice")), "dev", "developer"))
    said = run(world, issued.serial, "--reason", "lost laptop")
    assert f"certificate {issued.serial} of alice on dev is locked until it is lifted; 1 session ended." in said
    assert "Not ended: " in said, "dev does not ask the webhook"
    held = locks.held(world.store, datetime.now(UTC))
    assert len(held) == 1


def test_what_was_asked_for_is_over_with_it(world: World) -> None:
    profile = world.declared().profiles["cluster-admin"]
    grant_rows.add(world.store, grants.request("g-1", "olga", profile, "dev", "repair the node", 1800, world.now))
    said = run(world, "olga", "--reason", "phished, SEC-88")
    assert "Request g-1: The request was withdrawn." in said
    found = grant_rows.get(world.store, "g-1")
    assert found is not None
    assert found.state is State.WITHDRAWN


def test_documents_that_cannot_be_read_hold_no_lock_up(world: World, tmp_path: Path) -> None:
    said = run(world, "alice", "--reason", "phished, SEC-88", platform=tmp_path / "nowhere")
    assert "alice is locked until it is lifted" in said
    assert "Note: the documents in" in said
    assert "only accounts are known by name" in said
    (entry,) = entries(world, "lock.set")
    assert entry.subject == "alice"


def test_a_mistake_locks_nothing(world: World, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="there is no person and no certificate `alicia`"):
        run(world, "alicia", "--reason", "phished, SEC-88")
    with pytest.raises(Invalid, match="a reason is needed"):
        run(world, "alice", "--reason", "x")
    world.data = tmp_path / "empty"
    world.data.mkdir()
    with pytest.raises(Invalid, match="is no data folder of pilothouse"):
        run(world, "alice", "--reason", "phished, SEC-88")
    assert list(world.data.iterdir()) == []
    assert entries(world, "lock.set") == []


def test_the_environment_alone_leads_past_no_portal(world: World) -> None:
    """`PILOTHOUSE_DATA` is set on the machine of the portal: without `--data` the portal decides, with a session."""
    home = world.data / "home"
    environment = {"PILOTHOUSE_DATA": str(world.data), "XDG_CONFIG_HOME": str(home), "PILOTHOUSE_SERVER": ""}
    result = CliRunner().invoke(group, ["lock", "alice", "--reason", "phished, SEC-88"], env=environment)
    assert isinstance(result.exception, PilothouseError)
    assert "not logged in" in result.exception.message
    assert entries(world, "lock.set") == []

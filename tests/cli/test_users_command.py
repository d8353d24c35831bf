"""`pilothouse users`: accounts made, changed and closed, and what the portal makes of them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli.main import main
from pilothouse.store import Store, events, sessions, users

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["users", *arguments, "--data", str(tmp_path / "data")])
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


@pytest.fixture
def store(tmp_path: Path) -> Callable[[], Store]:
    return lambda: Store(tmp_path / "data")


def test_an_account_is_made_with_a_password_that_is_shown_once(run: Run, store: Callable[[], Store]) -> None:
    code, out, _ = run("add", "peggy", "--name", "Peggy Park", "--group", "on-call", "--group", "platform-admins")
    assert code == 0
    found = re.search(r"shown this once: (\S+)", out)
    assert found
    peggy = users.verify(store(), "peggy", found[1])
    assert peggy
    assert (peggy.display_name, peggy.groups) == ("Peggy Park", {"on-call", "platform-admins"})
    listed = json.loads(run("list", "--output", "json")[1])
    assert [(user["name"], user["groups"]) for user in listed] == [("peggy", ["on-call", "platform-admins"])]
    assert found[1] not in run("list")[1]


def test_a_password_from_stdin_is_not_shown(
    run: Run, store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    code, out, _ = run("add", "alice", "--password-stdin")
    assert code == 0
    assert "horse" not in out
    assert users.verify(store(), "alice", "correct horse battery")
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    code, _, err = run("password", "alice", "--password-stdin")
    assert code == 2
    assert "12 to 200 characters" in err
    assert users.verify(store(), "alice", "correct horse battery"), "the old one stays"


def test_whatever_takes_something_away_ends_the_sessions(run: Run, store: Callable[[], Store]) -> None:
    run("add", "alice")
    alice, now = users.get(store(), "alice"), datetime.now(UTC)
    assert alice
    for arguments in (["change", "alice", "--not-group", "on-call"], ["password", "alice"], ["close", "alice"]):
        token, _ = sessions.start(store(), alice, now)
        assert sessions.find(store(), token, now)
        assert run(*arguments)[0] == 0
        assert sessions.find(store(), token, now) is None
    assert "closed" in run("list")[1]
    assert run("reopen", "alice")[0] == 0
    assert "closed" not in run("list")[1]


def test_groups_are_changed(run: Run, store: Callable[[], Store]) -> None:
    run("add", "alice", "--group", "engineers", "--group", "on-call")
    code, out, _ = run("change", "alice", "--not-group", "on-call", "--group", "auditors")
    assert (code, out) == (0, "alice: in auditors, engineers.\n")
    known = users.get(store(), "alice")
    assert known
    assert known.groups == {"auditors", "engineers"}


def test_every_change_is_an_event(run: Run, store: Callable[[], Store]) -> None:
    for arguments in (["add", "bob"], ["change", "bob"], ["password", "bob"], ["close", "bob"], ["reopen", "bob"]):
        run(*arguments)
    found, _ = events.find(store(), events.Filter(kind="user."))
    assert [event.kind for event in found] == [
        "user.reopened",
        "user.closed",
        "user.password",
        "user.changed",
        "user.added",
    ]
    assert {event.subject for event in found} == {"bob"}
    assert all("(command line)" in event.actor for event in found)


def test_an_account_without_a_name_of_its_own_is_its_number(
    run: Run, store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert run("add", "bob")[0] == 0
    (event,), _ = events.find(store(), events.Filter(kind="user."))
    assert re.fullmatch(r"uid \d+ \(command line\)", event.actor)


@pytest.mark.parametrize("command", ["change", "password", "close", "reopen"])
def test_an_unknown_user_is_named(run: Run, command: str) -> None:
    run("add", "alice")
    code, _, err = run(command, "alicia")
    assert code == 2
    assert "no user `alicia`" in err
    assert "did you mean `alice`?" in err


def test_what_cannot_be_added(run: Run) -> None:
    run("add", "alice")
    for name, says in (("alice", "a user `alice` already"), ("Not A Name", "is no user name")):
        code, _, err = run("add", name)
        assert code == 2
        assert says in err


def test_a_folder_that_is_none_of_ours_is_not_made_one(run: Run, tmp_path: Path) -> None:
    code, _, err = run("list")
    assert code == 2
    assert "is no data folder" in err
    assert not (tmp_path / "data").exists()


def test_a_portal_without_people_says_so(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Ended:
        def __init__(self, _: Any) -> None:
            pass

        def run(self) -> int:
            return 0

    monkeypatch.setattr("pilothouse.cli.processes.Supervisor", Ended)
    platform = str(root / "examples" / "bank")
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--data", str(tmp_path / "data"), "--platform", platform, "--port", "0"])
    assert not ended.value.code
    assert "`pilothouse users add` makes one" in capsys.readouterr().err


def test_a_machine_is_made_with_a_token_that_is_shown_once(run: Run, store: Callable[[], Store]) -> None:
    code, out, _ = run("add", "ci", "--machine", "--profile", "deployer", "--team", "payments", "--days", "7")
    assert code == 0
    found = re.search(r"Token, shown this once: (\S+)", out)
    assert found
    held = sessions.find(store(), found[1], datetime.now(UTC))
    assert held is not None
    assert (held.kind, held.user.name, (held.expires_at - held.created_at).days) == ("machine", "ci", 7)
    listed = json.loads(run("list", "--output", "json")[1])
    assert [(item["name"], item["kind"], item["profiles"], item["team"]) for item in listed] == [
        ("ci", "machine", ["deployer"], "payments")
    ]
    again = json.loads(run("token", "ci", "--days", "1", "--output", "json")[1])
    assert again["token"] != found[1]
    assert sessions.find(store(), found[1], datetime.now(UTC)) is None
    recorded, _ = events.find(store(), events.Filter())
    assert {event.kind for event in recorded} == {"user.added", "user.token"}
    assert not any(again["token"] in event.message for event in recorded)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--machine", "--group", "engineers", "--profile", "deployer"), "has no groups"),
        (("--machine",), "could do nothing"),
        (("--profile", "deployer"), "listed for machines"),
    ],
)
def test_a_machine_is_no_person(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = run("add", "ci", *arguments)
    assert code != 0
    assert said in err

"""Login by a directory beside accounts of our own: who wins, what counts, what a dead directory does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.builders import platform, service
from support.portal import PASSWORD, Client, make_app

from pilothouse.clients.directory import Entry
from pilothouse.portal.auth import PER_USER
from pilothouse.problems import Unavailable
from pilothouse.store import events, sessions, users


class Directory:
    """People by the name that they type; remembers whom it was asked about."""

    def __init__(self) -> None:
        self.people = {
            "alice": Entry("alice", "Alice Adler", "alice@bank.example", frozenset(("payments",))),
            "ALICE": Entry("alice", "Alice Adler", "alice@bank.example", frozenset(("payments",))),
            "mallory": Entry("Admin"),
        }
        self.asked: list[str] = []
        self.up = True

    def authenticate(self, typed: str, password: str) -> Entry | None:
        self.asked.append(typed)
        if not self.up:
            raise Unavailable("the directory does not answer", "try again in a moment")
        return self.people.get(typed) if password == "of the directory" else None


@pytest.fixture
def directory() -> Directory:
    return Directory()


@pytest.fixture
def app(tmp_path: Path, directory: Directory) -> Flask:
    found = platform([service("payments/api")])
    return make_app(tmp_path, found, {"admin": {"groups": ["platform-admins"]}}, extra={"directory": directory})


def post(app: Flask, user: str, password: str) -> Any:
    client = app.test_client()
    assert isinstance(client, Client)
    return client.post("/login", data={"user": user, "password": password})


def session_of(app: Flask, user: str) -> tuple[sessions.Session, ...]:
    return sessions.living(app.config["STORE"], user, app.config["CLOCK"]())


def test_a_person_of_the_directory_logs_in_with_its_groups(app: Flask) -> None:
    assert post(app, "ALICE", "of the directory").status_code == 302
    assert session_of(app, "alice")
    assert post(app, "alice", "of the directory").status_code == 302
    found = session_of(app, "alice")[0].user
    assert (found.display_name, found.groups) == ("Alice Adler", {"payments"})
    assert users.get(app.config["STORE"], "alice") is None


@pytest.mark.parametrize("typed", ["admin", "ADMIN", " Admin "])
def test_the_directory_is_never_asked_about_an_account_of_ours(app: Flask, directory: Directory, typed: str) -> None:
    directory.people[typed] = Entry("admin", groups=frozenset(("platform-admins",)))
    assert post(app, typed, "of the directory").status_code == 422
    assert directory.asked == []
    assert post(app, "admin", PASSWORD).status_code == 302


def test_a_closed_account_is_not_opened_by_the_directory(app: Flask, directory: Directory) -> None:
    users.set_disabled(app.config["STORE"], "admin", True, app.config["CLOCK"]())
    directory.people["admin"] = Entry("admin")
    assert post(app, "admin", "of the directory").status_code == 422
    assert directory.asked == []


def test_nobody_takes_over_the_name_of_an_account_of_ours(app: Flask) -> None:
    assert post(app, "mallory", "of the directory").status_code == 422
    assert session_of(app, "Admin") == session_of(app, "admin") == ()
    found, _ = events.find(app.config["STORE"], events.Filter(kind="login.refused"))
    assert "under the name of an account" in found[0].message


def test_a_dead_directory_says_so_and_counts_no_attempt(app: Flask, directory: Directory) -> None:
    directory.up = False
    for _ in range(PER_USER.count + 2):
        answer = post(app, "alice", "of the directory")
        assert answer.status_code == 503
        assert "the directory does not answer" in answer.get_data(as_text=True)
    refused = app.test_client().post("/api/v1/session", json={"user": "alice", "password": "of the directory"})
    assert refused.status_code == 503
    assert post(app, "admin", PASSWORD).status_code == 302
    directory.up = True
    assert post(app, "alice", "of the directory").status_code == 302


def test_wrong_passwords_of_the_directory_are_counted_below_its_lock_out(app: Flask, directory: Directory) -> None:
    codes = [post(app, "alice", "wrong").status_code for _ in range(5)]
    assert codes == [422] * 4 + [429]
    assert len(directory.asked) == 4
    app.config["CLOCK"].moment += timedelta(minutes=16)
    assert post(app, "alice", "of the directory").status_code == 302


def test_a_new_account_of_ours_ends_the_sessions_of_the_directorys_person(app: Flask) -> None:
    assert post(app, "alice", "of the directory").status_code == 302
    users.add(app.config["STORE"], "alice", PASSWORD, app.config["CLOCK"](), groups=["platform-admins"])
    assert session_of(app, "alice") == ()

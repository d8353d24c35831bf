"""Logins at a real slapd, with what attackers type; settings that would be unsafe are refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilothouse.clients.directory import Directory, DirectorySettings, from_file
from pilothouse.problems import Invalid, Unavailable

PASSWORD = "correct horse battery"
USERS = {"base": "ou=people,dc=bank,dc=example"}


def settings(**fields: Any) -> dict[str, Any]:
    return {"servers": ["ldaps://ldap.bank.example"], "users": USERS, **fields}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"servers": ["ldap://ldap.bank.example"]}, "travel unencrypted"),
        ({"servers": ["https://ldap.bank.example"]}, "no address such as"),
        ({"servers": ["ldaps://ldap.bank.example/dc=bank"]}, "no address such as"),
        ({"servers": []}, "at least 1 item"),
        ({"bindDN": "cn=x"}, "belong together"),
        ({"users": {**USERS, "filter": "(uid={name})"}}, "write {user}"),
        ({"users": {**USERS, "filter": "uid={user}"}}, "in parentheses"),
        ({"users": {**USERS, "filter": "(uid={user)"}}, "do not pair up"),
        ({"insecure": True}, "Extra inputs"),
        ({"timeout": 60}, "less than or equal to 10"),
    ],
)
def test_settings_that_are_unsafe_or_mistaken_are_refused(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    path = tmp_path / "directory.yaml"
    path.write_text(yaml.safe_dump(settings(**fields)))
    with pytest.raises(Invalid, match=said):
        from_file(path)


def test_without_a_file_there_is_no_directory(tmp_path: Path) -> None:
    assert from_file(tmp_path / "directory.yaml") is None


def test_what_cannot_be_a_login_is_not_sent_anywhere() -> None:
    directory = Directory(DirectorySettings.model_validate(settings(servers=["ldap://127.0.0.1:1"])))
    pairs = (
        ("alice", ""),
        ("", "x"),
        (" ", "x"),
        ("a" * 201, "x"),
        ("alice", "\0"),
        ("al\0ice", "x"),
        ("alice", "x\n"),
    )
    assert [directory.authenticate(*pair) for pair in pairs] == [None] * len(pairs)


def test_a_directory_that_does_not_answer_says_so() -> None:
    directory = Directory(DirectorySettings.model_validate(settings(servers=["ldap://127.0.0.1:1"])))
    with pytest.raises(Unavailable, match="does not answer") as refused:
        directory.authenticate("alice", PASSWORD)
    assert "accounts of pilothouse itself still work" in refused.value.hint
    assert PASSWORD not in refused.value.message


# ---------------------------------------------------------------- slapd


@pytest.fixture
def branch(slapd: Any) -> Iterator[Any]:
    with slapd.subtree("login") as found:
        found.add_user("alice", PASSWORD, cn="Alice Adler")
        found.add_user("bob", PASSWORD)
        found.add_group("engineers", ("alice", "bob"))
        found.add_group("payments (core), old", ("alice",))
        found.add_group("büro", ("bob",))
        yield found


@pytest.fixture
def connect(slapd: Any, branch: Any, tmp_path: Path) -> Callable[..., Directory]:
    def make(**fields: Any) -> Directory:
        (tmp_path / "password").write_text(slapd.admin_password)
        defaults = {
            "servers": [slapd.url],
            "bindDN": slapd.admin_dn,
            "passwordFile": str(tmp_path / "password"),
            "users": {"base": branch.people},
            "groups": {"base": branch.groups},
        }
        (tmp_path / "directory.yaml").write_text(yaml.safe_dump({**defaults, **fields}))
        found = from_file(tmp_path / "directory.yaml")
        assert found is not None
        return found

    return make


@pytest.mark.real
@pytest.mark.parametrize("typed", ["alice", "ALICE", " alice ", "Alice"])
def test_the_name_is_what_the_directory_returned(connect: Any, typed: str) -> None:
    found = connect().authenticate(typed, PASSWORD)
    assert (found.name, found.display_name, found.email) == ("alice", "Alice Adler", "alice@bank.example")
    assert found.groups == {"engineers", "payments (core), old"}


@pytest.mark.real
@pytest.mark.parametrize(
    ("typed", "password"),
    [
        ("alice", "wrong"),
        ("nobody", PASSWORD),
        ("*", PASSWORD),
        ("a*", PASSWORD),
        (")(uid=*", PASSWORD),
        ("alice)(|(uid=*", PASSWORD),
        ("alice\0", PASSWORD),
        ("alice,ou=people", PASSWORD),
        ("uid=alice", PASSWORD),
        ("{dn}", PASSWORD),
        ("alice", ""),
    ],
)
def test_what_is_not_a_name_with_its_password_fails(connect: Any, typed: str, password: str) -> None:
    assert connect().authenticate(typed, password) is None


@pytest.mark.real
def test_groups_may_be_those_that_the_entry_names(connect: Any) -> None:
    assert connect(groups={}).authenticate("alice", PASSWORD).groups == {"engineers", "payments (core), old"}


@pytest.mark.real
def test_letters_beyond_ascii_are_the_same_in_both(connect: Any) -> None:
    assert connect(groups={}).authenticate("bob", PASSWORD).groups == {"engineers", "büro"}
    assert connect().authenticate("bob", PASSWORD).groups == {"engineers", "büro"}


@pytest.mark.real
def test_groups_of_groups_count_only_where_they_are_asked_for(connect: Any, slapd: Any, branch: Any) -> None:
    inner = f"cn=engineers,{branch.groups}"
    slapd.add(f"cn=staff,{branch.groups}", "groupOfNames", {"cn": "staff", "member": [inner]})
    slapd.modify(inner, {"member": [("MODIFY_ADD", [f"cn=staff,{branch.groups}"])]})  # a circle
    assert connect().authenticate("bob", PASSWORD).groups == {"engineers", "büro"}
    assert connect(groups={"base": branch.groups, "nested": True}).authenticate("bob", PASSWORD).groups == {
        "engineers",
        "büro",
        "staff",
    }


@pytest.mark.real
def test_the_next_server_is_asked_where_one_is_gone(connect: Any, slapd: Any) -> None:
    directory = connect(servers=["ldap://127.0.0.1:1", slapd.url])
    assert directory.authenticate("alice", PASSWORD).name == "alice"
    assert directory.authenticate("alice", "wrong") is None


@pytest.mark.real
def test_a_name_that_is_no_user_of_a_cluster_is_refused(connect: Any, branch: Any) -> None:
    for name in ("system:admin", "a b"):
        branch.add_user(name, PASSWORD)
        with pytest.raises(Unavailable, match="cannot be a user here"):
            connect().authenticate(name, PASSWORD)


@pytest.mark.real
def test_a_name_that_several_people_have_is_nobodys(connect: Any, branch: Any) -> None:
    directory = connect(users={"base": branch.people, "filter": "(|(uid={user})(uid=bob))"})
    with pytest.raises(Unavailable, match="several people"):
        directory.authenticate("alice", PASSWORD)


@pytest.mark.real
def test_a_service_account_that_is_refused_is_told_as_that(connect: Any, tmp_path: Path) -> None:
    directory = connect()
    (tmp_path / "password").write_text("wrong")
    with pytest.raises(Unavailable, match="does not accept cn=admin"):
        directory.authenticate("alice", PASSWORD)


@pytest.mark.real
def test_a_directory_that_hangs_is_left_within_its_time(slapd: Any, connect: Any) -> None:
    directory = connect(timeout=1)
    slapd.pause()
    try:
        done = threading.Event()

        def ask() -> None:
            with pytest.raises(Unavailable):
                directory.authenticate("alice", PASSWORD)
            done.set()

        thread = threading.Thread(target=ask)
        thread.start()
        assert done.wait(20)
        thread.join()
    finally:
        slapd.resume()
    for _ in range(50):
        if directory.authenticate("alice", PASSWORD):
            return
        time.sleep(0.1)
    pytest.fail("slapd did not come back")

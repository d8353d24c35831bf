"""A machine's token: certificates of its list, through signer and portal, and nothing else anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.access_portal import access_portal
from support.access_values import csr, key

from pilothouse.access.permissions import Action, machine_of, may
from pilothouse.problems import Denied, Invalid
from pilothouse.store import ledger, machines, sessions, users
from pilothouse.store.users import User
from pilothouse.workflows.issuance import Ask


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Any]:
    with access_portal(tmp_path, ("alice", "olga", "pat")) as found:
        yield found


def token_of(world: Any, *profiles: str, team: str = "payments") -> str:
    return machines.add(world.store, "ci", profiles or ("developer",), team, timedelta(days=30), world.clock())


def call(app: Any, token: str, method: str, path: str, body: Any = None) -> Any:
    return app.test_client().open(path, method=method, json=body, headers={"Authorization": f"Bearer {token}"})


def cert(app: Any, token: str, profile: str = "developer", cluster: str = "dev") -> Any:
    body = {"profile": profile, "cluster": cluster, "csr": csr(key("ci"))}
    return call(app, token, "POST", "/api/v1/access/certificates", body)


def test_a_machine_gets_a_certificate_of_its_list_for_its_team(site: Any) -> None:
    app, world, _ = site
    token = token_of(world)
    answer = cert(app, token)
    assert answer.status_code == 201, answer.get_data(as_text=True)
    assert (answer.json["user"], answer.json["groups"]) == ("ci", ["ph:developer:payments"])
    intent = next(iter(ledger.everything(world.store)))
    assert (intent.entry.actor, intent.entry.data["machine"]) == ("ci", True)
    refused = cert(app, token, "on-call")
    assert (refused.status_code, refused.json["detail"]) == (403, "it is not on the list of machine ci")
    mine = [item["name"] for item in call(app, token, "GET", "/api/v1/access/profiles").json["items"] if item["mine"]]
    assert mine == ["developer"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/access/"),
        ("GET", "/audit/"),
        ("GET", "/api/v1/me"),
        ("GET", "/api/v1/access/ledger"),
        ("GET", "/api/v1/access/requests"),
        ("GET", "/api/v1/access/break-glass"),
        ("POST", "/api/v1/access/requests"),
        ("POST", "/api/v1/access/requests/g-1/approve"),
        ("POST", "/api/v1/access/requests/g-1/claim"),
        ("POST", "/api/v1/access/requests/g-1/review"),
        ("POST", "/api/v1/access/give-back/1000"),
        ("POST", "/api/v1/proposals"),
        ("GET", "/api/v1/access/authorities/dev/rotation"),
        ("DELETE", "/api/v1/session"),
    ],
)
def test_nothing_else_opens_for_it(site: Any, method: str, path: str) -> None:
    app, world, _ = site
    answer = call(app, token_of(world), method, path, {} if method == "POST" else None)
    assert answer.status_code == 403
    assert "a machine gets certificates and does nothing else" in answer.get_data(as_text=True)


def test_the_token_is_no_cookie(site: Any) -> None:
    app, world, _ = site
    client = app.test_client()
    client.set_cookie("pilothouse", token_of(world))
    assert client.get("/api/v1/access/profiles").status_code == 401


def test_a_list_gives_no_elevated_profile(site: Any) -> None:
    app, world, _ = site
    answer = cert(app, token_of(world, "cluster-admin"), "cluster-admin")
    assert answer.status_code == 403
    assert "it is elevated" in answer.json["detail"]
    platform = world.declared()
    machine = machine_of(platform, "ci", ("cluster-admin",), "infra")
    for action in Action:
        subject = platform.profiles["cluster-admin"] if action is Action.REQUEST else None
        assert not may(machine, action, subject, platform)


def test_without_a_team_that_exists_a_profile_of_teams_holds_nowhere(site: Any) -> None:
    app, world, _ = site
    token = token_of(world, team="gone")
    assert "works for none" in cert(app, token).json["detail"]


def test_the_signer_looks_at_the_account_itself(site: Any) -> None:
    app, world, _ = site
    issuance = app.extensions["pilothouse"].settings.extra["signer"].issuance
    token = token_of(world)
    ask = Ask(token, csr(key("ci")), "dev", "developer")
    assert issuance.issue(ask).user == "ci"
    forged, _ = sessions.start(world.store, User("ci", groups=frozenset(("engineers",))), world.clock(), kind="token")
    with pytest.raises(Denied, match="not of ci as it is now"):
        issuance.issue(Ask(forged, csr(key("ci")), "dev", "developer"))
    other, _ = sessions.start(world.store, User("alice"), world.clock(), kind="machine")
    with pytest.raises(Denied, match="not of alice as it is now"):
        issuance.issue(Ask(other, csr(key("alice")), "dev", "developer"))
    users.set_disabled(world.store, "ci", True, world.clock())
    with pytest.raises(Denied):
        issuance.issue(ask)


def test_an_approval_in_a_machines_name_is_worth_nothing(site: Any) -> None:
    app, world, _ = site
    token_of(world)
    people = app.extensions["pilothouse"].settings.extra["signer"].issuance._people
    with pytest.raises(Denied, match="account of ci, who approved, is closed"):
        people.approver(world.declared(), "ci", world.clock())


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("abc\n", 0o604, "can be read by everybody"),
        ("", 0o600, "holds no token"),
        ("a b", 0o600, "holds no token"),
        ("é", 0o600, "holds no token"),
    ],
)
def test_a_token_file_that_does_not_do_is_refused(tmp_path: Path, text: str, mode: int, said: str) -> None:
    from pilothouse.files.tokens import read_token

    path = tmp_path / "token"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    with pytest.raises(Invalid, match=said):
        read_token(path)
    path.chmod(0o600)
    path.write_text(" abc \n")
    assert read_token(path) == "abc"

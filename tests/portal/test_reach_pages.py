"""The pages of who can do something and what somebody can do: for whom, with what, and what a mistake brings."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.access_portal import access_portal
from support.access_values import csr, key
from support.portal import bearer, login, make_app


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Any]:
    with access_portal(tmp_path, ("alice", "bob", "olga", "pat")) as found:
        yield found


def text(response: Any, status: int = 200) -> str:
    assert response.status_code == status, response.get_data(as_text=True)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", response.get_data(as_text=True))).split())


def certificate(app: Any, name: str) -> str:
    body = {"profile": "developer", "cluster": "dev", "csr": csr(key(name))}
    answer = app.test_client().bare_post("/api/v1/access/certificates", json=body, headers=bearer(app, name))
    assert answer.status_code == 201, answer.get_data(as_text=True)
    return str(answer.json["serial"])


def test_everybody_sees_what_they_can_themselves_and_nobody_else_s(site: Any) -> None:
    app, _, _ = site
    serial = certificate(app, "bob")
    bob = login(app, "bob")
    page = bob.get("/access/what-can")
    said = text(page)
    assert "What can bob do?" in said
    assert "developer" in said
    assert serial in said
    assert "pilothouse access what-can bob" in said
    assert 'name="user"' not in page.get_data(as_text=True)
    refused = text(bob.get("/access/what-can?user=alice"), 403)
    assert "who can do what is for those who may read the ledger" in refused
    assert "What you can do" in text(bob.get("/access/"))
    assert 'name="user"' in login(app, "olga").get("/access/what-can").get_data(as_text=True)


def test_who_can_leads_from_the_rule_to_the_certificate(site: Any) -> None:
    app, _, _ = site
    serial = certificate(app, "alice")
    olga = login(app, "olga")
    question = {"verb": "get", "resource": "pods", "namespace": "payments", "cluster": "dev"}
    said = text(olga.get("/access/who-can", query_string=question))
    assert "To get pods in payments on dev" in said
    assert serial in said
    assert "members of" in said
    assert "pilothouse access who-can get pods -n payments -c dev" in said
    earlier = text(olga.get("/access/who-can", query_string=question | {"at": "2020-01-01"}))
    assert "Nobody holds such a certificate" in earlier
    assert serial not in earlier
    assert "declarations are those of now" in earlier


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"verb": "get", "cluster": "dev"}, "say to what"),
        ({"resource": "pods", "cluster": "dev"}, "say what is done"),
        ({"verb": "get", "resource": "pods"}, "which one?"),
        ({"verb": "get", "resource": "widgets", "cluster": "dev"}, "write it with its group: widgets.example.org"),
        ({"verb": "get", "resource": "pods", "cluster": "devv"}, "no cluster `devv`"),
        ({"verb": "get", "resource": "pods", "cluster": "dev", "at": "yesterday"}, "is no moment"),
        ({"verb": "get", "resource": "pods", "cluster": "dev", "at": "2999-01-01"}, "has not come yet"),
    ],
)
def test_a_mistake_is_named_and_what_was_typed_stays(site: Any, query: dict[str, str], said: str) -> None:
    app, _, _ = site
    answer = login(app, "olga").get("/access/who-can", query_string=query)
    assert said in text(answer, 422)
    for value in query.values():
        assert f'value="{value}"' in answer.get_data(as_text=True) or value == "devv"


def test_who_can_is_not_for_everybody_and_says_whom_to_ask(site: Any) -> None:
    app, _, _ = site
    bob = login(app, "bob")
    assert "ask olga, pat" in text(bob.get("/access/who-can"))
    said = text(bob.get("/access/who-can?verb=get&resource=secrets&cluster=dev"), 403)
    assert "for those who may read the ledger" in said
    assert "Who can do something" not in text(bob.get("/access/"))
    assert "Who can do something" in text(login(app, "olga").get("/access/"))


def test_a_locked_person_is_shown_as_such(site: Any) -> None:
    app, _, _ = site
    olga = login(app, "olga")
    olga.post("/access/locks", data={"subject": "alice", "reason": "lost laptop", "duration": ""})
    said = text(olga.get("/access/what-can?user=alice&cluster=dev"))
    assert "alice is locked by olga" in said
    assert "none of this can be had now" in said
    assert "there is no person `alicia`" in text(olga.get("/access/what-can?user=alicia"), 422)


def test_where_nothing_is_declared(tmp_path: Path) -> None:
    root = tmp_path / "platform"
    root.mkdir()
    app = make_app(tmp_path, users_={"admin": {"groups": ["platform-admins"]}}, root=root)
    admin = login(app, "admin")
    assert "nothing is declared yet" in text(admin.get("/access/what-can"))
    assert "Who can do that?" in text(admin.get("/access/who-can"))
    answer = app.test_client().get("/api/v1/access/what-can/admin", headers=bearer(app, "admin"))
    assert (answer.status_code, "nothing is declared" in answer.json["detail"]) == (503, True)

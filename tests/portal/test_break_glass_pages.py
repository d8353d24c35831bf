"""Break-glass through the API and the pages: open by two, seen by all, reviewed by a third."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support import break_glass
from support.access_portal import USERS, access_portal
from support.access_values import csr, key
from support.access_world import write_platform
from support.portal import bearer, login


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Any]:
    root = write_platform(tmp_path / "platform")
    break_glass.declare(root, "olga", "bob")
    with access_portal(tmp_path, tuple(USERS)) as found:
        yield found


def call(app: Any, name: str, path: str, body: dict[str, Any] | None = None, status: int = 200) -> Any:
    client, headers = app.test_client(), bearer(app, name)
    path = f"/api/v1/access{path}"
    response = client.get(path, headers=headers) if body is None else client.bare_post(path, json=body, headers=headers)
    assert response.status_code == status, response.get_data(as_text=True)
    return response.json


def opened(app: Any) -> str:
    body = {"profile": "glass", "cluster": "dev", "reason": "directory is down"}
    asked = call(app, "olga", "/requests", body, 201)
    assert asked["break_glass"] is True
    call(app, "pat", f"/requests/{asked['id']}/approve", {}, 403)  # of the platform team, and not named
    call(app, "olga", f"/requests/{asked['id']}/approve", {}, 403)
    call(app, "bob", f"/requests/{asked['id']}/approve", {"comment": "go"})
    call(app, "olga", f"/requests/{asked['id']}/claim", {"csr": csr(key("olga"))}, 201)
    return str(asked["id"])


def test_it_is_told_to_everybody_at_each_step_and_reviewed_by_a_third(site: Any) -> None:
    app, _world, heard = site
    id = opened(app)
    assert [message.subject for message in heard.messages] == [
        f"BREAK-GLASS {what}: glass on dev" for what in ("asked for", "approved", "claimed")
    ]
    for message in heard.messages:
        assert set(message.to) >= {"olga@bank.example", "bob@bank.example", "pat@bank.example", "alice@bank.example"}
        assert "directory is down" in message.text
    found = call(app, "zoe", "/break-glass")
    assert ([item["id"] for item in found["open"]], found["waiting"]) == ([id], [])
    call(app, "pat", f"/requests/{id}/review", {"text": break_glass.REVIEW}, 409)  # not over yet
    call(app, "pat", f"/give-back/{id}", {})  # by hand, by the platform team
    assert heard.messages[-1].subject.startswith("BREAK-GLASS ended by Pat")
    found = call(app, "zoe", "/break-glass")
    assert (found["open"], [item["id"] for item in found["waiting"]]) == ([], [id])
    for name in ("olga", "bob", "zoe"):
        answer = call(app, name, f"/requests/{id}/review", {"text": break_glass.REVIEW}, 403)
        assert "pat" in answer["hint"]
    call(app, "pat", f"/requests/{id}/review", {"text": "fine"}, 422)
    done = call(app, "pat", f"/requests/{id}/review", {"text": break_glass.REVIEW})
    assert (done["reviewed_by"], done["review"], done["state"]) == ("pat", break_glass.REVIEW, "given-back")
    assert call(app, "zoe", "/break-glass") == {"open": [], "waiting": []}
    kinds = [item["kind"] for item in call(app, "pat", "/ledger?kind=break-glass")["items"]]
    assert kinds == [f"break-glass.{step}" for step in ("reviewed", "given-back", "claimed", "approved", "requested")]


def test_it_stands_on_everybodys_home_page_until_it_is_reviewed(site: Any) -> None:
    app, _world, _ = site
    zoe = login(app, "zoe")
    assert "Break-glass" not in zoe.get("/").get_data(as_text=True)
    id = opened(app)
    zoe = login(app, "zoe")
    text = zoe.get("/").get_data(as_text=True)
    assert re.search(r"glass on dev</a>: olga and bob", text)
    assert zoe.get(f"/access/requests/{id}").status_code == 200  # it is meant to be seen
    assert "Any two of olga, bob" in zoe.get("/access/profiles/glass").get_data(as_text=True)
    app.config["CLOCK"].moment += timedelta(minutes=31)
    assert "not reviewed" in zoe.get("/").get_data(as_text=True)
    page = zoe.get("/access/break-glass").get_data(as_text=True)
    assert "reviews are for the platform team and approvers of teams" in page
    assert f"pilothouse access review {id}" in page
    alice = login(app, "alice")  # approves for her team
    short = alice.post(f"/access/requests/{id}/review", data={"text": "all <fine>"})
    assert short.status_code == 422
    assert "all &lt;fine&gt;</textarea>" in short.get_data(as_text=True)  # nothing typed is lost
    assert alice.post(f"/access/requests/{id}/review", data={"text": break_glass.REVIEW}).status_code == 302
    assert "Nothing waits for a review" in alice.get("/access/break-glass").get_data(as_text=True)
    assert break_glass.REVIEW in alice.get(f"/access/requests/{id}").get_data(as_text=True)
    assert "Break-glass" not in zoe.get("/").get_data(as_text=True)
    denied = login(app, "bob").post(f"/access/requests/{id}/review", data={"text": break_glass.REVIEW})
    assert denied.status_code == 403


def test_profiles_say_how_it_is_opened(site: Any) -> None:
    app, _, _ = site
    (item,) = [item for item in call(app, "pat", "/profiles")["items"] if item["name"] == "glass"]
    assert (item["mine"], item["ask"]) == (False, ["olga", "bob"])
    assert "after another of olga, bob agrees" in item["terms"]

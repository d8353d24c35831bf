"""The pages of the clusters' authorities, and where a profile's page leads to."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
from support.access_portal import access_portal
from support.portal import login


@pytest.fixture
def app(tmp_path: Any) -> Iterator[Any]:
    with access_portal(tmp_path, ("alice", "bob", "olga")) as (found, _, _):
        yield found


def read(app: Any, name: str, path: str, status: int = 200) -> str:
    response = login(app, name).get(path)
    assert response.status_code == status, response.get_data(as_text=True)
    return str(response.get_data(as_text=True))


def text(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_every_authority_is_listed_with_its_end(app: Any) -> None:
    assert "Authorities" in text(read(app, "bob", "/access/"))
    read(app, "bob", "/access/authorities/dev.crt")  # the signer makes it where somebody asks first
    page = read(app, "bob", "/access/authorities")
    rows = [text(row) for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)]
    assert [row.split()[0] for row in rows[1:]] == ["dev", "prod", "vaulted"]
    assert "dev.crt" in rows[1]
    assert "not made yet" in rows[2]
    assert "Vault" in rows[3]
    assert "as Vault says" in rows[3]
    assert "pilothouse access ca plan --cluster dev" in text(page)


def test_a_rotation_that_cannot_be_shown_says_why(app: Any) -> None:
    """The steps themselves: tests/signer/test_rotation_with_portal.py, with a signer's process."""
    said = text(read(app, "bob", "/access/authorities/dev/rotation"))
    assert "only the platform team may" in said
    assert "ask olga" in said
    for cluster in ("dev", "vaulted"):
        assert "no authority can be rotated" in text(read(app, "olga", f"/access/authorities/{cluster}/rotation"))
    assert "there is no cluster nowhere" in text(read(app, "olga", "/access/authorities/nowhere/rotation", 404))


def test_a_profile_leads_to_who_else_can_do_that(app: Any) -> None:
    page = read(app, "alice", "/access/profiles/developer")
    first, *_ = re.findall(r'href="(/access/who-can\?[^"]*)"', page)
    said = text(read(app, "alice", html.unescape(first)))
    assert "ph:developer:payments" in said
    assert "/access/who-can?" not in read(app, "bob", "/access/profiles/developer")  # bob would be refused there
    assert 'href="/access/what-can"' in read(app, "bob", "/access/profiles/developer")


def test_an_empty_question_comes_with_examples(app: Any) -> None:
    page = read(app, "olga", "/access/who-can")
    found = re.findall(r'href="(/access/who-can\?[^"]*)"', page)
    assert len(found) == 4
    for address in found:
        assert "cluster-admin" in text(read(app, "olga", html.unescape(address)))
    assert "who can read Secrets" not in text(read(app, "bob", "/access/who-can"))

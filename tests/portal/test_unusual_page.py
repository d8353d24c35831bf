"""The page of unusual days: evidence, filters, CSV, and who may call what expected."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
from support.access_portal import access_portal
from support.access_values import NOW
from support.portal import login

from pilothouse.access.unusual import Alert, Signal
from pilothouse.store import ledger, unusual


def _alert(who: str, paged: bool = True) -> Alert:
    signals = (
        Signal("new-network", 25, "198.51.100.0/24", "198.51.100.0/24, first at 03:00 UTC", "9 usual days"),
        Signal("denied-spike", 30, "", "=40 requests refused <in> a day", "at most 2"),
    )
    return Alert(who, NOW.date(), 55 if paged else 25, paged, signals[: 2 if paged else 1])


@pytest.fixture
def site(tmp_path: Any) -> Iterator[Any]:
    with access_portal(tmp_path, ("alice", "zoe", "olga", "pat")) as (app, world, _):
        unusual.keep(world.store, [_alert("zoe"), _alert("olga"), _alert("bob", paged=False)])
        yield app, world.store


def text(response: Any, status: int = 200) -> str:
    assert response.status_code == status, response.get_data(as_text=True)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", response.get_data(as_text=True))).split())


def test_the_evidence_for_those_who_may_read_it(site: Any) -> None:
    app, _ = site
    page = text(login(app, "alice").get("/audit/unusual/"))
    assert "198.51.100.0/24, first at 03:00 UTC" in page
    assert "9 usual days" in page
    assert "only the platform team may" in page
    assert "pilothouse access audit unusual --days 90" in page
    refused = login(app, "zoe")
    assert "Unusual activity" not in text(refused.get("/audit/"))
    for path in ("/audit/unusual/", "/audit/unusual/list.csv"):
        assert "for approvers and the platform team" in text(refused.get(path), 403)


def test_filters_and_csv(site: Any) -> None:
    app, _ = site
    olga = login(app, "olga")
    assert "bob" not in text(olga.get("/audit/unusual/?standing=paged"))
    assert "Nothing matches" in text(olga.get("/audit/unusual/?who=nobody"))
    answer = olga.get("/audit/unusual/list.csv?who=zoe")
    head, *rows = answer.get_data(as_text=True).strip().split("\r\n")
    assert head == "id,day,who,score,standing,rule,points,evidence,usual"
    assert len(rows) == 2
    assert ",'=40 requests" in rows[1]
    assert "attachment" in answer.headers["Content-Disposition"]


def test_expected_with_a_reason_by_another_person_of_the_platform_team(site: Any) -> None:
    app, store = site
    olga = login(app, "olga")
    url = f"/audit/unusual/{unusual.id_for(_alert('zoe'))}/expected"
    page = text(olga.post(url, data={"reason": "ok"}), 422)
    assert "a reason is needed" in page
    assert olga.post(url, data={"reason": "she is in Lisbon"}).status_code == 302
    assert "she is in Lisbon" in text(olga.get("/audit/unusual/?standing=expected"))
    (entry,), _ = ledger.find(store, ledger.Filter(kind="audit.expected"))
    assert entry.entry.actor == "olga"
    assert "called" in text(olga.post(url, data={"reason": "once more"}), 422)
    assert olga.post("/audit/unusual/a-nothing/expected", data={"reason": "x"}).status_code == 404
    own = f"/audit/unusual/{unusual.id_for(_alert('olga'))}/expected"
    assert "nobody calls their own doings expected" in text(olga.post(own, data={"reason": "it was me"}), 403)
    assert "only the platform team" in text(login(app, "alice").post(url, data={"reason": "it was me"}), 403)
    assert login(app, "pat").post(own, data={"reason": "she told me"}).status_code == 302

"""Findings of audit logs and unusual days over the API: filters, pages, and who may call what expected."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from support.access_portal import access_portal
from support.access_values import NOW
from support.audit_logs import event, text, vault_line
from support.portal import bearer

from pilothouse.access.unusual import Alert, Signal
from pilothouse.files import audit_logs
from pilothouse.files.audit_settings import AuditSettings
from pilothouse.portal.api import document
from pilothouse.store import ledger, unusual
from pilothouse.workflows import audit
from pilothouse.workflows.audit import Imported, Mounts, Reader
from pilothouse.workflows.rendering import open_platform


def _alert(who: str, paged: bool = True) -> Alert:
    signals = (
        Signal("new-network", 25, "198.51.100.0/24", "198.51.100.0/24, first at 03:00 UTC", "9 usual days", ("n",)),
        Signal("denied-spike", 30, "", "40 requests refused", "at most 2"),
    )
    return Alert(who, NOW.date(), 55 if paged else 25, paged, signals[: 2 if paged else 1])


class Api:
    def __init__(self, app: Any, name: str) -> None:
        self.client, self.headers = app.test_client(), bearer(app, name)

    def get(self, path: str, status: int = 200) -> Any:
        return self._checked(self.client.get(f"/api/v1/access/audit{path}", headers=self.headers), status)

    def expect(self, id: str, body: Any, status: int = 201) -> Any:
        path = f"/api/v1/access/audit/{id}/expected"
        return self._checked(self.client.bare_post(path, json=body, headers=self.headers), status)

    def _checked(self, response: Any, status: int) -> Any:
        assert response.status_code == status, response.get_data(as_text=True)
        return response.json


@pytest.fixture
def site(tmp_path: Any) -> Iterator[Any]:
    """Olga used a certificate that is not ours, alice signed past the portal, and three days are unusual."""
    with access_portal(tmp_path, ("alice", "zoe", "olga", "pat")) as (app, world, _):
        unusual.keep(world.store, [_alert("zoe"), _alert("olga"), _alert("bob", paged=False)])
        opened = open_platform(world.platform)
        for lines in ([event(1, user__username="olga")], [vault_line(-1440 * 9)]):
            reader = Reader(world.store, Mounts.of(opened), Imported("log", cluster="vaulted"))
            reader.read(audit_logs.of_stream(io.BytesIO(text(*lines)), "log"))
        audit.record_findings(world.store, opened, AuditSettings(), NOW)
        yield app, world.store


def test_findings_are_listed_filtered_and_paged(site: Any) -> None:
    app, _ = site
    alice = Api(app, "alice")
    all_ = alice.get("/findings")
    assert (all_["total"], all_["page"], all_["pages"]) == (2, 1, 1)
    assert {item["code"] for item in all_["items"]} == {"access/unknown-certificate", "access/signed-past-portal"}
    (one,) = alice.get("/findings?code=access/signed-past-portal&cluster=vaulted&severity=error")["items"]
    assert one["id"].startswith("a-")
    assert one["id"] in one["hint"]
    assert one["first_seen"] == one["last_seen"]
    assert alice.get("/findings?cluster=dev")["items"] == []
    assert alice.get("/findings?severity=warning")["items"] == []
    assert [item["id"] for item in alice.get(f"/findings?q={one['id']}")["items"]] == [one["id"]]
    up = [item["code"] for item in alice.get("/findings?sort=code")["items"]]
    assert up == sorted(up)
    assert [item["code"] for item in alice.get("/findings?sort=-code")["items"]] == up[::-1]


def test_unusual_days_are_listed_filtered_and_paged(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app, _ = site
    alice = Api(app, "alice")
    found = alice.get("/unusual?who=zoe")
    (zoe,) = found["items"]
    assert (zoe["day"], zoe["score"], zoe["standing"]) == (NOW.date().isoformat(), 55, "paged")
    assert (zoe["workload"], zoe["expected"]) == (False, None)
    assert zoe["signs"][0] == {
        "rule": "new-network", "points": 25, "value": "198.51.100.0/24", "also": ["n"],
        "evidence": "198.51.100.0/24, first at 03:00 UTC", "baseline": "9 usual days",
    }  # fmt: skip
    assert [item["who"] for item in alice.get("/unusual?standing=digest")["items"]] == ["bob"]
    assert [item["who"] for item in alice.get("/unusual?sort=who")["items"]] == ["bob", "olga", "zoe"]
    assert alice.get("/unusual?days=400&q=refused")["total"] == 2
    monkeypatch.setattr("pilothouse.portal.api_audit.PER_PAGE", 2)
    second = alice.get("/unusual?page=2&sort=who")
    assert ([item["who"] for item in second["items"]], second["pages"], second["total"]) == (["zoe"], 2, 3)


@pytest.mark.parametrize("days", ["0", "401", "x", "-1", "1e2"])
def test_a_number_of_days_that_is_none_is_said(site: Any, days: str) -> None:
    app, _ = site
    assert "from 1 to 400" in Api(app, "olga").get(f"/unusual?days={days}", 422)["hint"]


def test_who_may_not_read_the_ledger_reads_neither(site: Any) -> None:
    app, _ = site
    zoe = Api(app, "zoe")
    for path in ("/findings", "/unusual"):
        assert "for approvers and the platform team" in zoe.get(path, 403)["detail"]
    assert app.test_client().get("/api/v1/access/audit/findings").status_code == 401


def test_an_unusual_day_is_called_expected_by_another(site: Any) -> None:
    app, store = site
    olga, pat = Api(app, "olga"), Api(app, "pat")
    zoe, own = unusual.id_for(_alert("zoe")), unusual.id_for(_alert("olga"))
    assert "a reason is needed" in olga.expect(zoe, {"reason": "ok"}, 422)["detail"]
    assert "why" in olga.expect(zoe, {"why": "she is in Lisbon"}, 422)["detail"]
    said = olga.expect(zoe, {"reason": "she is in Lisbon"})
    assert (said["id"], said["by"], said["reason"]) == (zoe, "olga", "she is in Lisbon")
    (kept,) = olga.get("/unusual?standing=expected")["items"]
    assert kept["expected"] == said
    assert "called" in olga.expect(zoe, {"reason": "once more"}, 409)["detail"]
    assert "nobody calls their own doings expected" in olga.expect(own, {"reason": "it was me"}, 403)["detail"]
    assert pat.expect(own, {"reason": "she told me"})["by"] == "pat"
    (entry, _), total = ledger.find(store, ledger.Filter(kind="audit.expected"))
    assert (total, entry.entry.actor) == (2, "pat")


def test_a_finding_is_called_expected_and_goes(site: Any) -> None:
    app, store = site
    olga, pat = Api(app, "olga"), Api(app, "pat")
    by_code = {item["code"]: item["id"] for item in olga.get("/findings")["items"]}
    own, other = by_code["access/unknown-certificate"], by_code["access/signed-past-portal"]
    assert "only the platform team" in Api(app, "alice").expect(own, {"reason": "it was her"}, 403)["detail"]
    assert "nobody calls their own" in Api(app, "alice").expect(other, {"reason": "it was me"}, 403)["detail"]
    assert "nobody calls their own doings expected" in olga.expect(own, {"reason": "it was me"}, 403)["detail"]
    assert olga.expect(other, {"reason": "tried by hand, PLAT-9"})["by"] == "olga"
    assert pat.expect(own, {"reason": "made with openssl, PLAT-9"})["by"] == "pat"
    assert olga.get("/findings")["items"] == []
    assert ledger.find(store, ledger.Filter(kind="audit.expected"))[1] == 2
    assert "there is no finding" in olga.expect("a-nothing", {"reason": "it was me"}, 404)["detail"]
    assert "only the platform team" in Api(app, "alice").expect("a-nothing", {"reason": "it was"}, 403)["detail"]


def test_the_document_describes_all_three() -> None:
    paths = document()["paths"]
    base = "/api/v1/access/audit"
    assert {path for path in paths if path.startswith(base)} == {
        f"{base}/findings", f"{base}/unusual", f"{base}/{{id}}/expected",
    }  # fmt: skip
    assert {item["name"] for item in paths[f"{base}/unusual"]["get"]["parameters"]} >= {"who", "standing", "days"}

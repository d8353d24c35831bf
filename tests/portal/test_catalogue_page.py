"""Home, catalogue, problems, jobs, audit, API, health: what they say."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from support.builders import platform, service, team
from support.portal import NOW, FakeEngine, bearer, login, make_app

from pilothouse.access.ledger import Entry
from pilothouse.problems import Unavailable, error
from pilothouse.store import events, jobs, ledger

USERS: dict[str, dict[str, object]] = {"infra-1": {}, "payments-1": {}, "stranger": {}}


@pytest.fixture
def engine() -> FakeEngine:
    services = [service(f"payments/s{n:02}", description=f"number {n}") for n in range(60)] + [service("ledger/ledger")]
    return FakeEngine(
        platform(services, teams=[team("infra", platform=True), team("payments", approvers=("payments-2",))])
    )


@pytest.fixture
def app(tmp_path: Path, engine: FakeEngine) -> Flask:
    return make_app(tmp_path, engine=engine, users_=USERS)


def text(app: Flask, path: str, user: str = "payments-1") -> str:
    response = login(app, user).get(path)
    assert response.status_code == 200, response.get_data(as_text=True)
    return response.get_data(as_text=True)


def test_the_catalogue_is_paged_searched_filtered_and_sorted(app: Flask) -> None:
    first = text(app, "/catalogue/")
    assert "1–50 of 61 services" in first
    assert "ledger</a>" in first
    assert "page=2" in first
    second = text(app, "/catalogue/?page=2")
    assert "51–61 of 61 services" in second
    assert "s59" in second
    assert "51–61" in text(app, "/catalogue/?page=99")
    found = text(app, "/catalogue/?q=number+7")
    assert "1 service (of 61)" not in found
    assert "s07" in found
    assert "s08" not in found
    assert "1 service" in text(app, "/catalogue/?team=ledger")
    assert text(app, "/catalogue/?namespace=payments&sort=-namespace").index("s59") > 0
    assert 'aria-sort="descending"' in text(app, "/catalogue/?sort=-team")
    assert "No service matches" in text(app, "/catalogue/?q=nothing")


def test_a_service_that_is_not_there(app: Flask) -> None:
    client = login(app, "payments-1")
    assert client.get("/catalogue/payments/none").status_code == 404
    assert client.get("/catalogue/payments/s01?cluster=mars").status_code == 404


def test_a_page_says_who_may_not_propose_and_whom_to_ask(app: Flask) -> None:
    page = text(app, "/catalogue/payments/s01", "stranger")
    assert "disabled" in page
    assert "payments-2" in page


def test_the_dashboard_is_named_once_the_cluster_is_checked(app: Flask) -> None:
    assert "service-payments.s01.json" not in text(app, "/catalogue/payments/s01")
    app.extensions["pilothouse"].current.get().checked("dev")
    assert "dashboards/service-payments.s01.json" in text(app, "/catalogue/payments/s01")


def test_home_shows_what_is_mine(app: Flask) -> None:
    page = text(app, "/")
    assert "payments/s00" in page
    assert "ledger/ledger" not in page
    assert "All 60 services" in page
    assert "No service belongs to a team of yours" in text(app, "/", "stranger")


def test_the_last_good_platform_stays_with_the_reason(app: Flask, engine: FakeEngine) -> None:
    current = app.extensions["pilothouse"].current
    current.get()
    folder = current.root
    engine.failure = Unavailable("the folder is gone", "bring it back")
    (folder / "changed.yaml").write_text("x")
    current.refresh()
    page = text(app, "/catalogue/")
    assert "last good state" in page
    assert "the folder is gone" in page
    assert "s00" in page
    engine.failure = None
    engine.problems = (error("platform/bad", "a bad document"),)
    (folder / "changed.yaml").write_text("xyz")
    current.refresh()
    page = text(app, "/problems/")
    assert "the documents have errors" in page
    assert "a bad document" in page
    engine.problems = ()
    (folder / "changed.yaml").write_text("x and more")
    current.refresh()
    assert "last good state" not in text(app, "/catalogue/")


def test_jobs_are_run_by_the_platform_team_alone(app: Flask) -> None:
    store = app.config["STORE"]
    jobs.register(store, "render", "Render", "every 5 minutes", NOW)
    assert "only the platform team" in text(app, "/jobs/")
    assert login(app, "payments-1").post("/jobs/render/run").status_code == 403
    assert jobs.requested(store) == ()
    assert login(app, "infra-1").post("/jobs/render/run").status_code == 302
    assert jobs.requested(store) == ("render",)
    assert login(app, "infra-1").post("/jobs/dance/run").status_code == 422


# ---------------------------------------------------------------- audit


@pytest.fixture
def written(app: Flask) -> Flask:
    store = app.config["STORE"]
    with store.write() as connection:
        for number in range(3):
            entry = Entry("certificate.intent", "payments-1", f"c{number}", "dev", {"profile": "developer"})
            ledger.append(connection, entry, NOW)
        ledger.append(connection, Entry("grant.approved", "payments-2", "g1", "prod", {"comment": "=1+1"}), NOW)
    events.record(store, events.Event(NOW, "job.requested", "infra-1", "render", "=cmd|' /C calc'!A0"))
    return app


def rows(body: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body)))


def test_audit_filters_and_csv(written: Flask) -> None:
    assert "4 entries" in text(written, "/audit/", "infra-1")
    assert "1 entry" in text(written, "/audit/?kind=grant.", "infra-1")
    assert "1 entry" in text(written, "/audit/?subject=c1", "infra-1")
    assert "3 entries" in text(written, "/audit/?q=developer&cluster=dev", "infra-1")
    assert "Nothing matches" in text(written, "/audit/?since=2027-01-01", "infra-1")
    assert "4 entries" in text(written, "/audit/?until=2026-11-21&since=2026-11-21", "infra-1")
    assert "is no date" in text(written, "/audit/?since=yesterday", "infra-1")
    found = rows(text(written, "/audit/ledger.csv?kind=grant.", "infra-1"))
    assert [(row["actor"], row["cluster"]) for row in found] == [("payments-2", "prod")]
    found = rows(text(written, "/audit/events.csv?kind=job.", "infra-1"))
    assert [row["details"] for row in found] == ["'=cmd|' /C calc'!A0"]


def test_one_reads_ones_own_trail_and_approvers_read_all(written: Flask) -> None:
    page = text(written, "/audit/?actor=payments-2", "payments-1")
    assert "3 entries" in page
    assert "grant.approved" not in page
    assert len(rows(text(written, "/audit/ledger.csv", "payments-1"))) == 3
    assert rows(text(written, "/audit/ledger.csv", "stranger")) == []
    assert login(written, "stranger").get("/audit/verify").status_code == 403


def test_the_chain_is_verified_on_the_page(written: Flask) -> None:
    assert "All 4 entries follow" in text(written, "/audit/verify", "infra-1")


def test_events_are_the_second_log(written: Flask) -> None:
    assert "job.requested" in text(written, "/audit/events", "infra-1")
    assert "job.requested" not in text(written, "/audit/events", "payments-1")


# ---------------------------------------------------------------- machines


def test_the_api_shows_what_the_pages_show(app: Flask) -> None:
    client, headers = app.test_client(), bearer(app, "payments-1")
    found = client.get("/api/v1/services?q=ledger", headers=headers).json
    assert (found["total"], found["items"][0]["name"]) == (1, "ledger")
    assert client.get("/api/v1/services/ledger/ledger", headers=headers).json["team"] == "ledger"
    missing = client.get("/api/v1/services/ledger/none", headers=headers)
    assert (missing.status_code, missing.json["detail"]) == (404, "no service ledger/none is declared")
    teams = {item["name"]: item["services"] for item in client.get("/api/v1/teams", headers=headers).json["items"]}
    assert teams == {"infra": 0, "ledger": 1, "payments": 60}
    assert client.get("/api/v1/clusters", headers=headers).json["items"][0]["name"] == "dev"
    assert client.get("/api/v1/problems?severity=error&team=x&cluster=dev", headers=headers).json["items"] == []
    assert client.get("/api/v1/problems?severity=awful", headers=headers).status_code == 422
    assert client.get("/api/v1/jobs", headers=headers).json == {"items": []}
    assert client.get("/api/v1/none", headers=headers).status_code == 404


def test_the_api_says_how_often_a_job_has_failed_and_who_ran_it(app: Flask) -> None:
    store = app.config["STORE"]
    jobs.register(store, "render", "Render", "every 5 minutes", NOW)
    held = jobs.claim(store, "render", "worker-1", NOW, timedelta(minutes=5))
    assert held is not None
    jobs.finish(store, held, jobs.JobState.FAILED, "no space", NOW, timedelta(minutes=5))
    (item,) = app.test_client().get("/api/v1/jobs", headers=bearer(app, "payments-1")).json["items"]
    assert (item["state"], item["failures"], item["holder"]) == ("failed", 1, "worker-1")
    assert datetime.fromisoformat(item["failing_since"]) == NOW
    schema = app.test_client().get("/api/v1/openapi.json").json["components"]["schemas"]["JobOut"]
    assert {"failures", "failing_since", "holder"} <= set(schema["required"])


def _paths(rule: str) -> list[str]:
    """The address of a rule as OpenAPI writes it; one for each word of an `any(…)`."""
    words = re.search(r"<any\((.*?)\):\w+>", rule)
    if words:
        return [path for word in words[1].split(",") for path in _paths(rule.replace(words[0], word.strip()))]
    return [re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)]


def test_openapi_describes_every_operation_of_the_api(app: Flask) -> None:
    document = app.test_client().get("/api/v1/openapi.json").json
    assert document["openapi"] == "3.1.0"
    described = {
        (path, method)
        for path, operations in document["paths"].items()
        for method in operations
        if method != "parameters"
    }
    real = {
        (path, method.lower())
        for rule in app.url_map.iter_rules()
        for path in _paths(rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/v1/") and rule.endpoint != "api.nothing"
    }
    assert described == real
    names = set(document["components"]["schemas"])

    def references(value: object) -> set[str]:
        if isinstance(value, dict):
            found = {value["$ref"].rsplit("/", 1)[1]} if "$ref" in value else set()
            return found.union(*(references(item) for item in value.values()))
        if isinstance(value, list):
            return set().union(*(references(item) for item in value))
        return set()

    assert references(document) <= names
    ids = [item["operationId"] for operations in document["paths"].values() for item in operations.values()]
    assert len(ids) == len(set(ids))


def test_metrics_count_and_show(app: Flask) -> None:
    login(app, "payments-1").get("/catalogue/")
    jobs.register(app.config["STORE"], "render", "Render", "always", NOW)
    body = app.test_client().get("/metrics").get_data(as_text=True)
    assert 'pilothouse_requests_total{endpoint="catalogue.index",method="GET",status="200"} 1.0' in body
    assert 'pilothouse_job_state{job="render",state="waiting"} 1.0' in body
    assert "pilothouse_platform_stale 0.0" in body
    assert 'pilothouse_logins_total{result="ok"} 1.0' in body


def test_ready_names_every_backend_and_fails_only_without_the_store(app: Flask) -> None:
    def dead() -> str:
        raise Unavailable("the signer does not answer")

    app.extensions["pilothouse"].backends["signer"] = dead
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 200
    assert answer.json["backends"]["signer"] == {"ok": False, "state": "the signer does not answer"}
    assert answer.json["backends"]["platform"]["ok"]
    assert answer.json["backends"]["worker"]["state"] == "it has not run yet"


def test_a_broken_backend_does_not_break_a_page(
    app: Flask, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise Unavailable("the snapshot cannot be read")

    monkeypatch.setattr(engine, "inputs", fail)
    page = text(app, "/catalogue/payments/s01")
    assert "the snapshot cannot be read" in page
    assert "no snapshot" in text(app, "/catalogue/")

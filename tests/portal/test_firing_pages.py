"""What fires now on the pages and in the API, and silences from there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.alertmanager_fake import FakeAlertmanager
from support.builders import bundle_content, cluster, platform, service, team
from support.portal import Client, bearer, login, make_app

from pilothouse.alerts import rendered_routing
from pilothouse.alerts.routing.render import CONFIG
from pilothouse.artifacts.write import serialise
from pilothouse.platform.model import AlertSeverity, Member, Platform, Receiver, Servers
from pilothouse.store import ledger

LABELS = {"alertname": "ReplicasBelow", "team": "pay", "severity": "page", "namespace": "pay", "service": "api",
          "cluster": "prod"}  # fmt: skip


NONE = Servers()


def declared(servers: Servers = NONE) -> Platform:
    receivers = tuple(Receiver(severity, webhook="https://hook.example/p") for severity in AlertSeverity)
    teams = [
        team("pay", members=(Member("ann", "Ann Alder"),), receivers=receivers, groups=("payers",)),
        team("risk", members=(Member("rob", "Rob Rice"),), receivers=receivers, groups=("riskers",)),
        team("infra", platform=True, members=(Member("ida", "Ida Ihle"),), receivers=receivers, groups=("infra",)),
    ]
    return platform([service("pay/api")], teams, [cluster("prod", servers=servers)])


@pytest.fixture
def fake() -> Iterator[FakeAlertmanager]:
    plain = declared()
    _, rendered = rendered_routing(plain, plain.clusters["prod"], bundle_content())
    made = FakeAlertmanager(serialise(rendered.artifacts[CONFIG]).decode())
    yield made
    made.close()


@pytest.fixture
def app(tmp_path: Path, fake: FakeAlertmanager) -> Flask:
    return made_app(tmp_path, fake)


def made_app(tmp_path: Path, *fakes: FakeAlertmanager) -> Flask:
    users = {"ann": {"groups": ("payers",)}, "rob": {"groups": ("riskers",)}, "ida": {"groups": ("infra",)}}
    servers = Servers(alertmanagers=tuple(item.endpoint for item in fakes))
    # Silences are judged by the Alertmanager's own clock, so this portal's is the real one.
    return make_app(tmp_path, declared(servers), users, clock=lambda: datetime.now(UTC))


def text(browser: Client, path: str, status: int = 200) -> str:
    response = browser.get(path)
    assert response.status_code == status, response.get_data(as_text=True)
    return response.get_data(as_text=True)


def fire(fake: FakeAlertmanager, **changes: str) -> None:
    fake.fire({**LABELS, **changes})


def test_the_list_says_whose_since_when_and_where_to(app: Flask, fake: FakeAlertmanager) -> None:
    fake.fire(LABELS, since=datetime.now(UTC) - timedelta(hours=3))
    fire(fake, severity="ticket", alertname="Slow")
    page = text(login(app, "ann"), "/alerts/firing?cluster=prod")
    assert "ReplicasBelow" in page
    assert "pay-page" in page
    assert "3 h ago" in page
    assert "by ReplicasBelow</span>" in page
    assert ">Silence</a>" in page
    assert ">Silence</a>" not in text(login(app, "rob"), "/alerts/firing?cluster=prod"), "of others"
    assert re.search(r'href="/alerts/\?cluster=prod&amp;labels=[^"]*alertname%3DReplicasBelow', page)
    assert "pilothouse alerts firing" in page
    assert 'hx-trigger="every 15s"' in page


def test_filters_and_pages_are_made_here(app: Flask, fake: FakeAlertmanager) -> None:
    fake.fire(*({**LABELS, "pod": f"api-{number}"} for number in range(120)))
    fire(fake, team="risk", alertname="Other", service="fraud")
    browser = login(app, "ann")
    page = text(browser, "/alerts/firing?cluster=prod&team=pay")
    assert "1–50 of 120 alerts" in page
    assert "Other" not in re.sub(r"<select.*?</select>", "", page, flags=re.DOTALL)
    assert "51–100 of 120" in text(browser, "/alerts/firing?cluster=prod&team=pay&page=2")
    assert "1 alert" in text(browser, "/alerts/firing?cluster=prod&q=fraud")
    assert "No alert that fires is like that" in text(browser, "/alerts/firing?cluster=prod&state=muted")
    assert "1–50 of 120" in text(browser, "/alerts/firing?cluster=prod&receiver=pay-page")


def test_the_routing_page_shows_what_fires_and_what_holds_back_now(app: Flask, fake: FakeAlertmanager) -> None:
    fire(fake)
    browser = login(app, "ann")
    page = text(browser, "/alerts/?cluster=prod")
    assert "Firing now" in page
    assert 'hx-get="/alerts/now?cluster=prod"' in page
    assert "has loaded something else" not in page
    assert "1 page" in text(browser, "/alerts/now?cluster=prod")
    asked = "/alerts/?cluster=prod&labels=alertname%3DX+team%3Dpay+severity%3Dticket+namespace%3Dpay+service%3Dapi"
    page = text(browser, asked + "+cluster%3Dprod")
    assert "What holds it back right now" in page
    assert "inhibition page-over-ticket: ReplicasBelow fires" in page
    assert "What holds it back right now" not in text(browser, asked + "&at=sunday+03:00")
    assert "No silence matches it" in text(browser, "/alerts/?cluster=prod&labels=team%3Drisk")


def test_the_page_says_where_the_loaded_configuration_differs(app: Flask, fake: FakeAlertmanager) -> None:
    fake.config = fake.config.replace('receiver: "pay-page"', 'receiver: "risk-page"').replace(
        "receiver: pay-page", "receiver: risk-page"
    )
    page = text(login(app, "ann"), "/alerts/?cluster=prod")
    assert "has loaded something else than what is rendered" in page
    assert "risk-page" in page
    found = app.test_client().get("/api/v1/alerts/loaded?cluster=prod", headers=bearer(app, "ann")).json
    (server,) = found["items"]
    assert {"part": "route", "rendered": "pay-page", "loaded": "risk-page"}.items() <= next(
        item for item in server["differences"] if item["part"] == "route"
    ).items()


def test_a_dead_server_is_a_reason_and_the_last_good_state_stays(tmp_path: Path, fake: FakeAlertmanager) -> None:
    app = made_app(tmp_path, fake)
    fire(fake)
    browser = login(app, "ann")
    assert "ReplicasBelow" in text(browser, "/alerts/firing?cluster=prod")
    watch = (
        app.extensions["pilothouse"]
        .settings.extra["firing"]
        .board(app.extensions["pilothouse"].current.get().platform.clusters["prod"])
    )
    fake.close()
    watch.forget()
    watch.get(wait=True)
    page = text(browser, "/alerts/firing?cluster=prod")
    assert "not fresh" in page
    assert "does not answer" in page
    assert "ReplicasBelow" in page, "what was last heard is shown still"


def test_a_server_that_never_answered_makes_no_page_fail(tmp_path: Path, fake: FakeAlertmanager) -> None:
    fake.hangs = 60
    app = made_app(tmp_path, fake)
    browser = login(app, "ann")
    for path in ("/", "/alerts/", "/alerts/firing", "/alerts/silences", "/alerts/?labels=team%3Dpay"):
        text(browser, path)
    assert "has not answered yet" in text(browser, "/alerts/firing")


def test_home_shows_the_alerts_of_my_teams(app: Flask, fake: FakeAlertmanager) -> None:
    fire(fake)
    assert "ReplicasBelow" in text(login(app, "ann"), "/")
    page = text(login(app, "rob"), "/")
    assert "ReplicasBelow" not in page
    assert "Alerts of my teams that fire" not in page


# ---------------------------------------------------------------- silences


def test_a_silence_on_the_page_from_its_making_to_its_end(app: Flask, fake: FakeAlertmanager) -> None:
    fire(fake)
    browser = login(app, "ann")
    page = text(browser, "/alerts/firing?cluster=prod")
    form = re.search(r'href="(/alerts/silences\?[^"]+)"', page.replace("&amp;", "&"))
    assert form
    wanted = '{alertname="ReplicasBelow",team="pay",namespace="pay",service="api"}'
    page = text(browser, "/alerts/silences?cluster=prod&matchers=" + wanted.replace('"', "%22"))
    assert "1 alert that fires now would be held back" in page
    data = {"matchers": wanted, "length": "2h", "comment": "rolling it back"}
    assert browser.post("/alerts/silences?cluster=prod", data=data).status_code == 302
    page = text(browser, "/alerts/silences?cluster=prod")
    assert "rolling it back" in page
    (id,) = fake.silences
    assert fake.silences[id]["createdBy"] == "ann"
    entries, _ = ledger.find(app.config["STORE"], ledger.Filter(kind="silence."))
    assert [item.entry.kind for item in entries] == ["silence.created", "silence.intent"]
    assert entries[0].entry.data["comment"] == "rolling it back"

    assert "by ann until" in text(browser, "/alerts/firing?cluster=prod")
    other = login(app, "rob")
    assert "it belongs to team pay, and you do not" in text(other, "/alerts/silences?cluster=prod")
    assert other.post(f"/alerts/silences/{id}/end?cluster=prod", data={}).status_code == 403
    assert login(app, "ida").post(f"/alerts/silences/{id}/end?cluster=prod", data={}).status_code == 302
    assert fake._state(fake.silences[id]) == "expired"
    entries, _ = ledger.find(app.config["STORE"], ledger.Filter(kind="silence.end"))
    assert [(item.entry.kind, item.entry.actor) for item in entries] == [
        ("silence.ended", "ida"),
        ("silence.end-intent", "ida"),
    ]


def test_what_a_team_left_that_is_gone_is_for_the_platform_team_to_end(app: Flask, fake: FakeAlertmanager) -> None:
    body = {
        "matchers": [{"name": "team", "value": "gone", "isRegex": False, "isEqual": True}],
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        "createdBy": "max",
        "comment": "left",
    }
    fake.answer("POST", "/api/v2/silences", body)
    (id,) = fake.silences
    assert login(app, "ann").post(f"/alerts/silences/{id}/end?cluster=prod", data={}).status_code == 403
    assert "gone" in text(login(app, "ida"), "/alerts/silences?cluster=prod")
    assert login(app, "ida").post(f"/alerts/silences/{id}/end?cluster=prod", data={}).status_code == 302


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"matchers": '{team="risk"}'}, "it belongs to team risk"),
        ({"matchers": '{alertname="X"}'}, "add team="),
        ({"matchers": '{team=~"pay.*"}'}, "add team="),
        ({"matchers": '{team="nobody"}'}, "no team &#39;nobody&#39; is declared"),
        ({"matchers": '{pod=~".*"}'}, "this would silence alerts without any of these labels"),
        ({"matchers": "{team"}, "cannot be read"),
        ({"length": "40d"}, "between a minute and 30 days"),
        ({"length": "soon"}, "no length of time"),
        ({"comment": " "}, "what is done about it meanwhile"),
    ],
)
def test_a_silence_that_is_refused(app: Flask, fake: FakeAlertmanager, fields: dict[str, str], says: str) -> None:
    data = {"matchers": '{team="pay"}', "length": "2h", "comment": "why", **fields}
    response = login(app, "ann").post("/alerts/silences?cluster=prod", data=data)
    assert response.status_code == 422
    assert says in response.get_data(as_text=True)
    assert fake.silences == {}
    assert ledger.find(app.config["STORE"], ledger.Filter(kind="silence."))[1] == 0


def test_a_silence_that_no_server_takes_is_in_the_ledger(tmp_path: Path, fake: FakeAlertmanager) -> None:
    app = made_app(tmp_path, fake)
    fake.close()
    data = {"matchers": '{team="pay"}', "length": "2h", "comment": "why"}
    assert login(app, "ann").post("/alerts/silences?cluster=prod", data=data).status_code == 422
    entries, _ = ledger.find(app.config["STORE"], ledger.Filter(kind="silence."))
    assert [item.entry.kind for item in entries] == ["silence.failed", "silence.intent"]


# ---------------------------------------------------------------- the API


def test_the_api_says_the_same(app: Flask, fake: FakeAlertmanager) -> None:
    fire(fake)
    client, headers = app.test_client(), bearer(app, "ann")
    found = client.get("/api/v1/alerts/firing?cluster=prod&team=pay", headers=headers).json
    assert (found["total"], found["reason"], found["reasons"]) == (1, "", {})
    (item,) = found["items"]
    assert (item["alert"], item["state"], item["receivers"]) == ("ReplicasBelow", "told", ["pay-page"])
    body: dict[str, Any] = {"cluster": "prod", "matchers": '{team="pay"}', "seconds": 3600, "comment": "so"}
    made = client.post("/api/v1/alerts/silences", json=body, headers=headers)
    assert made.status_code == 201
    listed = client.get("/api/v1/alerts/silences?cluster=prod", headers=headers)
    assert listed.status_code == 200
    ended = client.delete(f"/api/v1/alerts/silences/prod/{made.json['id']}", headers=headers)
    assert ended.status_code == 200
    assert client.delete(f"/api/v1/alerts/silences/prod/{made.json['id']}", headers=headers).status_code == 422
    refused = client.post("/api/v1/alerts/silences", json={**body, "matchers": '{team="risk"}'}, headers=headers)
    assert refused.status_code == 403
    assert client.get("/api/v1/alerts/firing?cluster=none", headers=headers).status_code == 404
    assert json.loads(listed.get_data())["cluster"] == "prod"


def test_a_cluster_without_an_alertmanager_says_so(tmp_path: Path) -> None:
    app = make_app(tmp_path, declared(), {"ann": {"groups": ("payers",)}})
    browser = login(app, "ann")
    assert "prod declares no Alertmanager" in text(browser, "/alerts/firing?cluster=prod")
    assert "prod declares no Alertmanager" in text(browser, "/alerts/?cluster=prod")
    assert "prod declares no Alertmanager" in text(browser, "/alerts/silences?cluster=prod")

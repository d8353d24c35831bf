"""Dashboards in Grafana, against a stub written from the published API reference: there is no server to run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.builders import cluster, inputs, service
from support.grafana_stub import GrafanaStub

from pilothouse import dashboards
from pilothouse.clients.grafana import Grafana
from pilothouse.dashboards.live import Step
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Endpoint, Servers
from pilothouse.problems import Conflict, Denied, Unavailable
from pilothouse.workflows import grafana


@pytest.fixture
def stub() -> Iterator[GrafanaStub]:
    made = GrafanaStub()
    yield made
    made.close()


@pytest.fixture
def given(stub: GrafanaStub) -> Inputs:
    return inputs([service("pay/api"), service("pay/web")], on=cluster("dev", servers=Servers(grafana=stub.endpoint)))


def steps(given: Inputs, stub: GrafanaStub) -> list[tuple[str, str]]:
    return [(item.step.value, item.uid) for item in grafana.compare(given, Grafana(stub.endpoint))]


def applied(given: Inputs, stub: GrafanaStub) -> list[str]:
    client = Grafana(stub.endpoint)
    return [item.failed for item in grafana.apply(given, client, grafana.compare(given, client))]


def test_all_are_created_and_a_second_apply_changes_nothing(given: Inputs, stub: GrafanaStub) -> None:
    rendered = {board.uid for board in dashboards.derive(given).boards}
    assert {uid for step, uid in steps(given, stub)} == rendered
    assert set(applied(given, stub)) == {""}
    assert set(stub.boards) == rendered
    assert {folder for _, folder in stub.boards.values()} == {"pilothouse_dev"}
    assert stub.folders == {"pilothouse_dev": "pilothouse dev"}
    assert steps(given, stub) == []
    assert {item.uid for item in Grafana(stub.endpoint).search("pilothouse-cluster-dev")} == rendered


def test_what_was_edited_is_put_back_and_what_is_not_declared_any_more_goes(given: Inputs, stub: GrafanaStub) -> None:
    applied(given, stub)
    uid = "service_dev_pay_api"
    stub.boards[uid][0]["panels"][0]["title"] = "Edited by hand"
    (change,) = grafana.compare(given, Grafana(stub.endpoint))
    assert (change.step, change.uid, change.version) == (Step.CHANGE, uid, 1)
    assert "title" in change.why
    assert applied(given, stub) == [""]
    assert stub.boards[uid][0]["version"] == 2
    assert [item[0] for item in Grafana(stub.endpoint).versions(uid)] == [2, 1]

    fewer = replace(given, platform=replace(given.platform, services={"pay/web": given.platform.services["pay/web"]}))
    assert steps(fewer, stub) == [("remove", uid)]
    applied(fewer, stub)
    assert uid not in stub.boards


def test_foreign_dashboards_stay_as_they_are(given: Inputs, stub: GrafanaStub) -> None:
    """By hand with an identity of ours, in our folder without the tag, with the tag elsewhere, of another cluster."""
    stub.put("service_dev_pay_api", "Somebody's own", folder="")
    stub.put("hand-made", "In our folder", folder="pilothouse_dev")
    stub.put("moved", "Moved away", folder="team", tags=("pilothouse-cluster-dev",))
    stub.put("other", "Of prod", folder="pilothouse_prod", tags=("pilothouse-cluster-prod",))
    before = json.dumps({uid: stub.boards[uid] for uid in ("service_dev_pay_api", "hand-made", "moved", "other")})
    (foreign,) = [item for item in grafana.compare(given, Grafana(stub.endpoint)) if item.step is Step.FOREIGN]
    assert foreign.uid == "service_dev_pay_api"
    assert "General" in foreign.why
    assert [text for text in applied(given, stub) if text] == [
        "its identity is taken by a dashboard that is not ours: in the folder General, with the tags none"
    ]
    assert json.dumps({uid: stub.boards[uid] for uid in json.loads(before)}) == before


def test_somebody_saves_in_between(given: Inputs, stub: GrafanaStub) -> None:
    applied(given, stub)
    uid = "service_dev_pay_api"
    stub.boards[uid][0]["panels"] = []
    client = Grafana(stub.endpoint)
    changes = grafana.compare(given, client)
    stub.boards[uid][0]["version"] = 5
    (done,) = grafana.apply(given, client, changes)
    assert "412" in done.failed
    with pytest.raises(Conflict) as caught:
        client.save({"uid": uid, "title": "x"}, "", "m", 1)
    assert "meanwhile" in caught.value.hint


def test_health_tokens_and_a_dead_server(stub: GrafanaStub, tmp_path: Path, given: Inputs) -> None:
    assert Grafana(stub.endpoint).health().version == "12.1.0"
    stub.token = "made for this test"
    with pytest.raises(Denied):
        Grafana(stub.endpoint).search("x")
    token = tmp_path / "token"
    token.write_text(f"{stub.token}\n")
    assert Grafana(Endpoint(stub.url, token_file=str(token))).search("x") == ()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        Grafana(Endpoint("http://127.0.0.1:9")).health()
    with pytest.raises(Unavailable, match="declares no Grafana"):
        grafana.server_of(replace(given, cluster=cluster("dev")))


def test_more_than_one_page_of_a_search(stub: GrafanaStub, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        stub.put(f"b{number}", "x", tags=("t",))
    monkeypatch.setattr("pilothouse.clients.grafana.PAGE", 3)
    assert [item.uid for item in Grafana(stub.endpoint).search("t")] == [f"b{number}" for number in range(7)]

"""`/api/v1/network`: questions, maps and adoption for programs; on the example bank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.portal import bearer, make_app

BANK = Path(__file__).parents[2] / "examples" / "bank"
BASE = "/api/v1/network"
QUESTION = {"cluster": "prod", "from": "payments/payments", "to": "ledger/ledger"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    return make_app(tmp_path_factory.mktemp("network-api"), root=BANK, users_={"nadia": {}})


def get(app: Flask, path: str, query: dict[str, str], status: int = 200) -> Any:
    response = app.test_client().get(BASE + path, query_string=query, headers=bearer(app, "nadia"))
    assert response.status_code == status, response.text
    return response.get_json(force=True)


def test_a_question_gets_the_answer_of_the_command_line(app: Flask) -> None:
    found = get(app, "/can", {**QUESTION, "port": "9090"})
    assert (found["cluster"], found["verdict"], found["asked"]) == ("prod", "allow", "9090/TCP")
    assert found["pairs"][0]["egress"]["outcome"] == "allow"
    at_what = get(app, "/can", QUESTION)
    assert any("9090" in (pair["allowed"] or "") for pair in at_what["pairs"])


def test_an_explanation_has_both_sides_and_the_edit_with_its_proposal(app: Flask) -> None:
    words = {**QUESTION, "port": "9091"}
    found = get(app, "/explain", words)
    assert (found["verdict"], found["wanted"]) == ("deny", "allow")
    assert {side["direction"] for side in found["stories"][0]["sides"]} == {"egress", "ingress"}
    (start, *_) = found["edits"][0]["proposals"]
    assert start["service"] == "payments/payments"
    assert "/egress/new?service=payments" in start["page"]
    short = get(app, "/explain", {**words, "edits": "no"})
    assert short["edits"] == []
    assert short["stories"] == found["stories"]


def test_the_map_of_a_service_says_where_declarations_differ(app: Flask) -> None:
    found = get(app, "/map", {"cluster": "prod", "service": "cards/tokenizer", "enforced": "yes"})
    links = {(link["source"]["name"], link["destination"]["name"]) for link in found["connections"]}
    assert ("cards/cards", "cards/tokenizer") in links
    assert set(found["declared"]) == {"same", "more", "less"}
    whole = get(app, "/map", {"cluster": "prod"})
    assert whole["declared"] is None
    assert len(whole["connections"]) > len(found["connections"])
    assert {party["name"] for party in whole["parties"] if party["pods"]} >= {"payments/payments", "ledger/ledger"}


def test_adoption_names_what_ends(app: Flask) -> None:
    found = get(app, "/adoption", {"cluster": "prod"})
    risk = next(item for item in found["items"] if item["namespace"] == "risk")
    assert risk["mode"] == "staged"
    assert any(item["pod"].startswith("notebook-") for item in risk["undeclared"])
    assert risk["flows"]["ready"] is False
    assert found["files"] or found["reason"]


@pytest.mark.parametrize(
    ("path", "query", "status", "said"),
    [
        ("/can", {**QUESTION, "cluster": "nowhere"}, 404, "no cluster 'nowhere'"),
        ("/can", {"cluster": "prod", "to": "ledger/ledger"}, 422, "`from`"),
        ("/can", {**QUESTION, "from": "x" * 301}, 422, "too long"),
        ("/explain", QUESTION, 422, "`port`"),
        ("/can", {**QUESTION, "from": "payments/payment"}, 422, "payments/payment"),
        ("/map", {"cluster": "prod", "service": "cards/nobody"}, 422, "cards/nobody"),
        ("/map", {"cluster": "prod", "enforced": "perhaps"}, 422, "perhaps"),
    ],
)
def test_what_cannot_be_asked_says_why(app: Flask, path: str, query: dict[str, str], status: int, said: str) -> None:
    assert said in get(app, path, query, status)["detail"]


def test_nobody_asks_without_a_login(app: Flask) -> None:
    assert app.test_client().get(f"{BASE}/map?cluster=prod").status_code == 401

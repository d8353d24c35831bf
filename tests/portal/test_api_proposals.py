"""`/api/v1/proposals`: the same steps as the egress pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.egress_world import FILES, write
from support.portal import bearer, make_app

from pilothouse.files.git import Repository, init
from pilothouse.portal.state import Workflows

USERS = tuple(f"{team}-{number}" for team in ("shop", "money", "infra") for number in ("one", "two", "three"))
QUOTES = {"to": {"service": "money/quotes"}, "ports": ["http"]}
RATES = {"to": {"service": "money/rates"}, "ports": ["http"]}
BASE = "/api/v1/proposals"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "platform"
    root.mkdir()
    write(root)
    init(root).commit_all("The platform", "test", "test@localhost")
    return root


@pytest.fixture
def app(folder: Path, tmp_path: Path) -> Flask:
    users = {user: {"groups": []} for user in USERS}
    return make_app(tmp_path / "data", users_=users, engine=Workflows(), root=folder, watch_seconds=0)


class Caller:
    """The API as one person calls it."""

    def __init__(self, app: Flask, user: str) -> None:
        self.client: FlaskClient = FlaskClient(app)
        self.headers = bearer(app, user)

    def get(self, path: str = "", status: int = 200) -> Any:
        return self._of(self.client.get(BASE + path, headers=self.headers), status)

    def post(self, path: str = "", status: int = 200, **body: Any) -> Any:
        return self._of(self.client.post(BASE + path, json=body, headers=self.headers), status)

    def put(self, path: str, status: int = 200, **body: Any) -> Any:
        return self._of(self.client.put(BASE + path, json=body, headers=self.headers), status)

    @staticmethod
    def _of(response: Any, status: int) -> Any:
        assert response.status_code == status, response.text
        return response.get_json(force=True)


@pytest.fixture
def shop(app: Flask) -> Caller:
    return Caller(app, "shop-one")


@pytest.fixture
def money(app: Flask) -> Caller:
    return Caller(app, "money-three")


def test_a_preview_stores_nothing(shop: Caller) -> None:
    found = shop.post("/preview", service="shop/cart", add=[QUOTES])
    assert found["can_submit"]
    assert found["needed"][0]["role"] == "team:money"
    assert found["others"] == ["quotes.yaml"]
    assert "+    - {to: {service: money/quotes}, ports: [http]}" in found["diff"]
    assert "money/quotes" in found["document"]
    assert shop.get()["total"] == 0


def test_problems_have_a_place_and_a_caret(shop: Caller) -> None:
    text = FILES["cart.yaml"].replace("  team:", "  taem:")
    found = shop.post("/preview", service="shop/cart", text=text)
    unknown = next(item for item in found["problems"] if item["code"] == "platform/unknown-field")
    assert (unknown["path"], unknown["line"], unknown["width"]) == ("cart.yaml", 5, 4)
    assert unknown["excerpt"] == "  taem: shop"
    refused = shop.post(status=422, service="shop/cart", text=text, reason="Because")
    assert "platform/unknown-field" in {item["code"] for item in refused["errors"]}
    assert shop.get()["total"] == 0
    kept = shop.post(status=201, service="shop/cart", text=text, submit=False)
    assert kept["state"] == "draft"
    assert kept["document"] == text
    assert not kept["preview"]["can_submit"]


def test_from_a_proposal_to_a_commit(app: Flask, shop: Caller, money: Caller, folder: Path) -> None:
    made = shop.post(status=201, service="shop/cart", add=[QUOTES], reason="Prices", title="Show prices")
    assert (made["state"], made["version"], made["mine"]) == ("submitted", 2, [])
    path = f"/{made['number']}"
    (waiting,) = money.get("?waiting=yes")["items"]
    assert (waiting["title"], waiting["mine"]) == ("Show prices", ["team:money"])
    assert shop.get("?waiting=yes")["total"] == 0

    denied = shop.post(f"{path}/decide", status=403, version=2, approve=True)
    assert "own proposal" in denied["detail"]
    stale = money.post(f"{path}/decide", status=409, version=1, approve=True)
    assert "changed in the meantime" in stale["detail"]
    unsaid = money.post(f"{path}/decide", status=422, version=2, approve=False)
    assert "needs a comment" in unsaid["detail"]
    done = money.post(f"{path}/decide", version=2, approve=True, comment="fine")
    assert done["state"] == "committed"
    assert done["required"][0]["agreed_by"] == "money-three"
    assert [item["step"] for item in done["history"]] == ["created", "submitted", "agreed", "committed"]
    assert Repository(folder).log(limit=1)[0].sha == done["commit"]
    assert done["preview"] is None
    assert shop.get(path)["diff"].startswith("--- a/cart.yaml")
    services = FlaskClient(app).get("/api/v1/services/shop/cart", headers=shop.headers).get_json()
    assert "money/quotes" in [edge["peer"] for edge in services["egress"]]


def test_items_count_from_one(shop: Caller) -> None:
    found = shop.post("/preview", service="shop/cart", remove=[1], add=[RATES])
    assert "-    - {to: {service: money/ledger}, ports: [http]}" in found["diff"]
    assert "has no egress item 2" in shop.post("/preview", status=422, service="shop/cart", remove=[2])["detail"]
    shop.post("/preview", status=422, service="shop/cart", remove=[0])


def test_where_nobody_must_agree_it_is_committed(shop: Caller) -> None:
    assert shop.post(status=201, service="shop/cart", add=[RATES], reason="Rates")["state"] == "committed"


def test_a_draft_is_written_anew_submitted_and_withdrawn(shop: Caller) -> None:
    made = shop.post(status=201, service="shop/cart", add=[RATES], submit=False)
    path = f"/{made['number']}"
    text = made["document"].replace("ports: [http]}", "ports: [grpc]}")
    revised = shop.put(path, version=1, text=text, reason="Rates", title="Rates")
    assert (revised["version"], revised["title"]) == (2, "Rates")
    shop.put(path, status=409, version=1, text=text)
    asked = shop.post(f"{path}/submit", version=2)
    assert asked["state"] == "submitted"  # the port at the ledger changes, and the ledger lists
    gone = shop.post(f"{path}/withdraw", version=asked["version"], comment="no more")
    assert gone["state"] == "withdrawn"
    assert gone["history"][-1]["comment"] == "no more"
    shop.post(f"{path}/withdraw", status=409, version=gone["version"])


def test_a_failed_one_is_tried_again(shop: Caller, folder: Path) -> None:
    made = shop.post(status=201, service="shop/cart", add=[RATES], reason="Rates", submit=False)
    path = f"/{made['number']}"
    (folder / "cart.yaml").write_text(FILES["cart.yaml"] + "# by hand\n")
    failed = shop.post(f"{path}/submit", version=1)
    assert failed["state"] == "failed"
    assert "nobody committed" in failed["error"]
    (folder / "cart.yaml").write_text(FILES["cart.yaml"])
    assert shop.post(f"{path}/retry", version=failed["version"])["state"] == "committed"


def test_another_teams_service_is_looked_at_and_not_changed(money: Caller) -> None:
    assert money.post("/preview", service="shop/cart", add=[RATES])["can_submit"]
    refused = money.post(status=403, service="shop/cart", add=[RATES], reason="x", submit=False)
    assert "belongs to team shop" in refused["detail"]


def test_lists_are_filtered(shop: Caller) -> None:
    for service in ("shop/cart", "shop/web"):
        shop.post(status=201, service=service, add=[RATES], submit=False)
    shop.post(status=201, service="shop/web", add=[RATES], reason="Rates")
    assert shop.get()["total"] == 3
    assert shop.get("?state=draft")["total"] == 2
    assert shop.get("?service=shop/web")["total"] == 2
    assert shop.get("?author=money-one")["total"] == 0
    assert shop.get("?team=shop&page=2") == {"items": [], "total": 3}
    assert "no state" in shop.get("?state=lost", status=422)["detail"]
    assert "no page" in shop.get("?page=0", status=422)["detail"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"service": "shop/cart", "text": "x", "add": [RATES]}, "either `text`"),
        ({"service": "shop/crat", "add": [RATES]}, "no service `shop/crat`"),
        ({"service": "shop/cart", "unknown": 1}, "unknown"),
        ({"service": "shop/cart", "add": ["x"]}, "add.0"),
        ({}, "service"),
    ],
)
def test_a_body_that_cannot_be_used_is_explained(shop: Caller, body: dict[str, Any], words: str) -> None:
    assert words in shop.post("/preview", status=422, **body)["detail"]


def test_nothing_and_nobody(app: Flask, shop: Caller) -> None:
    assert "nothing is changed" in shop.post(status=422, service="shop/cart", reason="x")["detail"]
    assert "nothing is changed" in shop.post(status=422, service="shop/cart", submit=False)["detail"]
    assert "needs a reason" in shop.post(status=422, service="shop/cart", add=[RATES])["detail"]
    assert "no proposal 99" in shop.get("/99", status=422)["detail"]
    assert FlaskClient(app).get(BASE).status_code == 401
    assert FlaskClient(app).post(f"{BASE}/preview", json={"service": "shop/cart"}).status_code == 401


def test_every_operation_is_described(app: Flask, shop: Caller) -> None:
    paths = FlaskClient(app).get("/api/v1/openapi.json").get_json()["paths"]
    assert {"get", "post"} <= paths[BASE].keys()
    for word in ("decide", "submit", "withdraw", "retry"):
        assert "post" in paths[f"{BASE}/{{number}}/{word}"]
    assert {"get", "put"} <= paths[f"{BASE}/{{number}}"].keys()
    schema = paths[f"{BASE}/preview"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["$ref"].endswith("/ChangeIn")

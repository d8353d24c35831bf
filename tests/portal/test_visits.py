"""No page is left out of those that the browser looks at."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint
from support.portal import make_app
from support.visits import unvisited


def test_every_route_is_visited(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    assert unvisited(app) == [], "add them to tests/support/visits.py, so that a browser looks at them"


def test_a_new_route_is_found(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    before = unvisited(app)
    more = Blueprint("more", __name__, url_prefix="/more")
    more.get("/")(lambda: "a page")
    more.post("/send", endpoint="send")(lambda: "another")
    app.register_blueprint(more)
    found = [text for text in unvisited(app) if text not in before]
    assert [text.partition(" (")[0] for text in found] == ["GET /more/", "POST /more/send"]

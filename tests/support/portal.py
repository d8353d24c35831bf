"""The portal in a test: an application on a temporary data folder, with users, a clock and a platform of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from support.builders import bundle_content
from werkzeug.test import TestResponse

from pilothouse.inputs import Content, Inputs
from pilothouse.inventory.model import Snapshot
from pilothouse.platform.model import Platform
from pilothouse.policies import edges
from pilothouse.portal import Settings, create_app
from pilothouse.portal.state import Checked
from pilothouse.problems import PilothouseError, Problem, Problems
from pilothouse.store import Store, users

PASSWORD = "a long enough password"
NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


class Clock:
    """A clock that stands still until `moment` is changed."""

    def __init__(self, moment: datetime = NOW) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment


class Now(Clock):
    """The time that it is, for what stands beside processes of its own."""

    def __call__(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class FakeEngine:
    """Hands out values that the test made, where the real engine reads a folder and derives."""

    platform: Platform
    snapshots: Mapping[str, Snapshot] | None = None
    problems: Problems = ()
    checked: Mapping[str, Iterable[Problem]] | None = None
    failure: PilothouseError | None = None
    content: Content | None = None
    opened: int = 0

    def open(self, root: Path) -> tuple[Platform, Content, Problems, Any]:
        self.opened += 1
        if self.failure is not None:
            raise self.failure
        return self.platform, self.content or bundle_content(), self.problems, self

    def inputs(self, opened: Any, cluster: str, today: date) -> tuple[Inputs, Problems]:
        snapshot = (self.snapshots or {}).get(cluster, Snapshot())
        content = self.content or bundle_content()
        return Inputs(self.platform, self.platform.clusters[cluster], snapshot, content, today), ()

    def check(self, opened: Any, cluster: str, today: date) -> Checked:
        paths = tuple(
            f"dashboards/service-{item.namespace}.{item.name}.json" for item in self.platform.services.values()
        )
        return Checked(tuple((self.checked or {}).get(cluster, ())), paths)

    def edges(self, inputs: Inputs) -> edges.Edges:
        return edges.of(inputs)


def make_app(
    tmp_path: Path,
    platform: Platform | None = None,
    users_: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    engine: Any = None,
    root: Path | None = None,
    **settings: Any,
) -> Flask:
    """An application. `users_` maps names to `groups`, `email`, `display_name`; all have `PASSWORD`.

    `platform` is served as it is; `root` (a folder) is read by the real engine instead.
    `app.config["CLOCK"].moment` is the time, `app.config["STORE"]` the store.
    """
    clock = settings.pop("clock", None) or Clock()
    folder = root or tmp_path / "platform"
    folder.mkdir(parents=True, exist_ok=True)
    made = Store(tmp_path / "data")
    made.migrate()
    given = Settings(
        data=tmp_path / "data", platform=folder, secret_key=b"only for tests, 32 bytes long...", clock=clock, **settings
    )
    if engine is None and root is None:
        engine = FakeEngine(platform or Platform())
    app = create_app(given, store=made, engine=engine, warm=False)
    app.testing = False  # errors become pages, as they do when it serves
    app.config["CLOCK"], app.config["STORE"] = clock, made
    for name, fields in (users_ or {}).items():
        users.add(made, name, PASSWORD, clock(), **fields)
    app.test_client_class = Client
    return app


class Client(FlaskClient):
    """A browser: `post` sends the CSRF token of the page's form along, as a browser's form does."""

    def token(self, path: str = "/me") -> str:
        page = self.get(path)
        found = re.search(r'name="csrf_token" value="([^"]+)"', page.get_data(as_text=True))
        assert found, f"no form on {path}: {page.status}"
        return found.group(1)

    def post(self, path: str, *args: Any, data: Mapping[str, Any] | None = None, **more: Any) -> TestResponse:
        if "json" not in more:
            form = "/login" if self.get("/me").status_code == 302 else "/me"
            data = {"csrf_token": self.token(form), **(data or {})}
        return self.bare_post(path, *args, data=data, **more)

    def bare_post(self, *args: Any, **more: Any) -> TestResponse:
        """A POST exactly as given."""
        return super().post(*args, **more)


def login(app: Flask, name: str, password: str = PASSWORD) -> Client:
    """A browser in which that person is logged in."""
    client = app.test_client()
    assert isinstance(client, Client)
    response = client.post("/login", data={"user": name, "password": password})
    assert response.status_code == 302, response.get_data(as_text=True)
    return client


def bearer(app: Flask, name: str, password: str = PASSWORD) -> dict[str, str]:
    """Headers of the command line of that person."""
    response = app.test_client().post("/api/v1/session", json={"user": name, "password": password})
    assert response.status_code == 201, response.get_data(as_text=True)
    return {"Authorization": f"Bearer {response.json['token']}"}

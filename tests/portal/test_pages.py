"""What every page keeps to: headers, well-formed HTML, no inline code, labels, headings, landmarks; and errors."""

from __future__ import annotations

from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask import Flask
from support.builders import cluster, platform, pod, service, snapshot, team
from support.portal import NOW, FakeEngine, login, make_app
from werkzeug.test import TestResponse

from pilothouse.platform.model import (
    Alert,
    AlertSeverity,
    Edge,
    Expression,
    LogDrop,
    Logs,
    Metrics,
    PortRef,
    ReplicasBelow,
    Secret,
    Sensitivity,
    ServicePeer,
    SqlLatencyAbove,
)
from pilothouse.portal import security
from pilothouse.problems import Conflict, Place, Unavailable, error, warning
from pilothouse.store import findings, jobs

VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
PAGES = tuple(
    """/ /me /catalogue/ /catalogue/?q=nothing-like-this /catalogue/payments/api /catalogue/ledger/ledger?cluster=dev
    /problems/ /problems/?severity=info /problems/platform/overlap /jobs/ /audit/ /audit/events /runbooks/
    /runbooks/pod-stuck /nowhere""".split()
)
XSS = "<script>alert('x')</script>"


def declared() -> FakeEngine:
    place = Place("services/api.yaml", 3, 5, 4, "  - bad: <b>value</b>")
    payments = service(
        "payments/api",
        place=Place("services/api.yaml", 1, 1),
        description=XSS,
        sensitivity=Sensitivity.HIGH,
        egress=(Edge(ServicePeer("ledger", "ledger"), (PortRef(name="http"),), reason=XSS),),
        ingress=(),
        metrics=Metrics("http"),
        alerts=(
            Alert(ReplicasBelow(3), AlertSeverity.PAGE),
            Alert(SqlLatencyAbove("insert", 0.25, 0.99), AlertSeverity.TICKET, clusters=frozenset(("dev",))),
            Alert(Expression("Stuck", "up == 0"), AlertSeverity.INFO),
        ),
        logs=Logs(drop=(LogDrop("level", "debug"),), redact=("card",)),
        secrets=(Secret("payments/db", "/secrets/db", frozenset(("dev",))),),
    )
    made = platform(
        [payments, service("ledger/ledger"), service("lonely/lonely", clusters=frozenset(("dev",)))],
        teams=[team("infra", platform=True)],
        clusters=[cluster("dev"), cluster("prod", max_severity=AlertSeverity.TICKET)],
    )
    pods = [pod("payments/api.1"), pod("payments/api.2", ready=False), pod("ledger/ledger.1")]
    return FakeEngine(
        made,
        {"prod": snapshot(pods)},
        problems=(
            warning("platform/overlap", f"two selectors overlap {XSS}", place, "narrow one", teams=("payments",)),
        ),
        checked={"prod": [error("policies/broken", "a policy is broken", place, cluster="prod")]},
    )


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    made = make_app(
        tmp_path_factory.mktemp("pages"),
        engine=declared(),
        users_={"payments-1": {"display_name": XSS}, "infra-1": {}, "stranger": {}},
    )
    store = made.config["STORE"]
    jobs.register(store, "render", "Render", "every 5 minutes", NOW)
    held = jobs.claim(store, "render", "worker", NOW, timedelta(minutes=5))
    assert held is not None
    jobs.finish(store, held, jobs.JobState.FAILED, XSS, NOW, timedelta(minutes=5))
    findings.replace(store, "drift", "prod", [warning("drift/changed", XSS)], NOW)
    for name in ("dev", "prod"):
        made.extensions["pilothouse"].current.get().checked(name)
    return made


class Checker(HTMLParser):
    """Reads a page as a strict reader would, and notes what a page must not have."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.mistakes: list[str] = []
        self.ids: list[str] = []
        self.labels: set[str] = set()
        self.fields: list[tuple[str, bool]] = []
        self.headings: list[int] = []
        self.landmarks: list[str] = []
        self.scripts: list[str] = []
        self.references: list[str] = []
        self.language = ""
        self.images_without_text = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if len(values) != len(attrs):
            self.mistakes.append(f"an attribute twice in <{tag}>")
        for name in values:
            if name == "style" or name.startswith("on"):
                self.mistakes.append(f"inline code: {name} in <{tag}>")
        if tag == "html":
            self.language = values.get("lang") or ""
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag == "label":
            self.labels.add(values.get("for") or "")
        if tag in ("input", "select", "textarea") and values.get("type") not in ("hidden", "submit"):
            named = "aria-label" in values or "label" in self.open
            self.fields.append((values.get("id") or "", named))
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))
        if tag in ("main", "nav", "header", "footer"):
            self.landmarks.append(tag)
        if tag == "script":
            self.scripts.append(values.get("src") or "")
        if tag == "style":
            self.mistakes.append("a <style>")
        if tag == "img" and "alt" not in values:
            self.images_without_text += 1
        for name in ("aria-labelledby", "aria-describedby"):
            self.references.extend((values.get(name) or "").split())
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.mistakes.append(f"</{tag}> closes nothing at {self.getpos()}")


def check(response: TestResponse) -> Checker:
    text = response.get_data(as_text=True)
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.mistakes == []
    assert checker.open == []
    assert checker.language == "en"
    assert len(checker.ids) == len(set(checker.ids))
    assert set(checker.references) <= set(checker.ids)
    assert all(named or name in checker.labels for name, named in checker.fields)
    assert checker.headings.count(1) == 1
    assert checker.headings[0] == 1
    assert all(b - a <= 1 for a, b in zip(checker.headings, checker.headings[1:], strict=False))
    assert checker.landmarks.count("main") == 1
    assert all(source.startswith("/static/") for source in checker.scripts)
    assert checker.images_without_text == 0
    assert "<script>alert" not in text
    assert len(text) < 60_000
    return checker


@pytest.mark.parametrize("user", ["payments-1", "infra-1", "stranger"])
@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_sound(app: Flask, path: str, user: str) -> None:
    response = login(app, user).get(path)
    assert response.status_code == (404 if path == "/nowhere" else 200)
    checker = check(response)
    assert "nav" in checker.landmarks
    assert "#main" in response.get_data(as_text=True)


def test_the_login_page_is_sound(app: Flask) -> None:
    check(app.test_client().get("/login"))


@pytest.mark.parametrize("path", ["/login", "/", "/nowhere", "/api/v1/me", "/static/app.css", "/healthz", "/metrics"])
def test_every_answer_carries_the_headers(app: Flask, path: str) -> None:
    headers = app.test_client().get(path).headers
    for name, value in security.HEADERS.items():
        assert headers[name] == value
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "Strict-Transport-Security" not in headers
    assert headers["X-Request-Id"]
    if path != "/static/app.css":
        assert headers["Cache-Control"] == "no-store"


def test_static_files_may_be_kept_and_are_our_own(app: Flask, root: Path) -> None:
    import hashlib

    assert "max-age=31536000" in app.test_client().get("/static/app.js").headers["Cache-Control"]
    folder = root / "src/pilothouse/portal/static"
    digest, name = (folder / "htmx.min.js.sha256").read_text().split()
    assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "Zero-Clause BSD" in (folder / "htmx.LICENSE").read_text()
    for path in folder.glob("*.css"):
        assert "@import" not in path.read_text()
        assert "url(" not in path.read_text()


def test_no_view_but_the_named_ones_is_public(app: Flask) -> None:
    public = {name for name, view in app.view_functions.items() if getattr(view, "public", False)}
    assert public >= {"auth.login", "health.healthz"}
    assert public - {"access.revoked"} == {
        "auth.login", "auth.theme", "oidc.begin", "oidc.back", "api.log_in", "api.openapi", "api.nothing",
        "health.healthz", "health.readyz", "health.metrics",
    }  # fmt: skip


def test_every_page_that_takes_no_argument_needs_a_login(app: Flask) -> None:
    client = app.test_client()
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if rule.arguments or "GET" not in (rule.methods or ()) or getattr(view, "public", False):
            continue
        response = client.get(rule.rule)
        assert response.status_code in (302, 401), rule.rule
        if response.status_code == 302:
            assert response.location.startswith("/login"), rule.rule


# ---------------------------------------------------------------- errors


def test_errors_of_ours_have_a_page_and_a_way_out(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    client = login(app, "infra-1")
    for failure, status in (
        (Unavailable("the signer does not answer", "start it"), 503),
        (Conflict("somebody was faster"), 409),
        (RuntimeError("hush: a detail of ours"), 500),
    ):

        def fail(problem: Exception = failure) -> None:
            raise problem

        with monkeypatch.context() as patch:
            patch.setitem(app.view_functions, "jobs.index", fail)
            response = client.get("/jobs/")
            page = response.get_data(as_text=True)
            assert response.status_code == status
            check(response)
            assert "hush" not in page
            if status != 500:
                assert str(failure) in page


def test_a_wrong_method(app: Flask) -> None:
    response = login(app, "infra-1").post("/catalogue/")
    assert response.status_code == 405
    assert "GET" in response.headers["Allow"]


def test_a_body_that_is_too_large(app: Flask) -> None:
    response = app.test_client().post("/api/v1/session", json={"user": "x" * 3_000_000, "password": "x"})
    assert response.status_code == 413
    assert response.content_type == "application/problem+json"


def test_a_dead_store_is_a_page_not_a_traceback(tmp_path: Path) -> None:
    app = make_app(tmp_path, users_={"alice": {}})
    client = login(app, "alice")
    app.config["STORE"].close()
    for path in (tmp_path / "data").glob("pilothouse.db*"):
        path.unlink()
    response = client.get("/")
    assert response.status_code == 503
    assert "has no tables" in response.get_data(as_text=True)
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json["ready"]) == (503, False)
    assert client.get("/healthz").status_code == 200


# ---------------------------------------------------------------- proxies


def address_seen(app: Flask, remote: str, **headers: str) -> tuple[str, str]:
    seen = {}

    def look() -> str:
        from flask import request

        seen["address"], seen["host"] = request.remote_addr or "", request.host_url
        return "ok"

    look.public = True  # type: ignore[attr-defined]  # as the decorator does
    app.view_functions["health.healthz"] = look
    app.test_client().get(
        "/healthz",
        environ_overrides={"REMOTE_ADDR": remote},
        headers={k.replace("_", "-"): v for k, v in headers.items()},
    )
    return seen["address"], seen["host"]


def test_forwarded_headers_are_believed_from_named_proxies_only(tmp_path: Path) -> None:
    app = make_app(tmp_path, trusted_proxies=("10.0.0.0/8",))
    forwarded = {
        "X_Forwarded_For": "203.0.113.9, 198.51.100.7, 10.0.0.2",
        "X_Forwarded_Proto": "https",
        "X_Forwarded_Host": "p.example",
    }
    assert address_seen(app, "10.0.0.1", **forwarded) == ("198.51.100.7", "https://p.example/")
    assert address_seen(app, "192.0.2.1", **forwarded) == ("192.0.2.1", "http://localhost/")
    assert address_seen(app, "10.0.0.1", X_Forwarded_For="nonsense")[0] == "10.0.0.1"
    assert address_seen(app, "10.0.0.1")[0] == "10.0.0.1"
    assert address_seen(app, "unix")[0] == "unix"


def test_without_proxies_forwarded_headers_mean_nothing(tmp_path: Path) -> None:
    assert address_seen(make_app(tmp_path), "127.0.0.1", X_Forwarded_For="203.0.113.9")[0] == "127.0.0.1"

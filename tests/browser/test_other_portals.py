"""Pages that the demo does not show: where nothing is declared, where the platform cannot be read, and errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from support.alertmanager_fake import FakeAlertmanager
from support.browser import People, expect
from support.builders import bundle_content, cluster, service, team
from support.builders import platform as declared
from support.demo import Demo, until
from support.pages import mistakes, served
from support.portal import PASSWORD, Clock, FakeEngine, make_app
from support.visits import PAGES

from pilothouse.alerts import rendered_routing
from pilothouse.alerts.routing.render import CONFIG
from pilothouse.artifacts.write import serialise
from pilothouse.platform.model import AlertSeverity, Endpoint, Member, Platform, Receiver, Servers, Team
from pilothouse.portal.auth import TooMany
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, Unavailable

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NOTHING = Platform(
    name="nothing",
    teams={
        "platform": Team(name="platform", title="Platform", members=(Member("peggy", "Peggy Park"),), platform=True)
    },
)
FAILURES: dict[str, PilothouseError] = {
    "403": Denied("it is for members of platform-admins", "ask peggy"),
    "409": Conflict("somebody else changed services/payments.yaml meanwhile", "look at what is there now"),
    "422": Invalid("the time `never` is none that can be read", "write it as 2026-11-22T03:00"),
    "429": TooMany(60),
    "503": Unavailable("the signer does not answer", "is it running? `pilothouse serve` starts it beside the portal"),
}


@contextmanager
def portal(browser: Browser, app: Flask, folder: Path) -> Iterator[People]:
    """People of an application of this process; `peggy` has an account."""
    with served(app) as address:
        people = People(browser, Demo(address, {"peggy": PASSWORD}, folder, folder / "portal.log"))
        try:
            yield people
        finally:
            people.close()


def application(folder: Path, **more: Any) -> Flask:
    return make_app(folder, users_={"peggy": {"display_name": "Peggy Park"}}, **more)


def clean(people: People, paths: dict[str, int]) -> None:
    """Every address is answered with its status, and its page has no mistake."""
    page = people("peggy")
    found = {}
    for path, status in paths.items():
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == status, path
        assert page.get_by_role("heading", level=1).inner_text().strip(), path
        if wrong := mistakes(page):
            found[path] = wrong
    assert not found, found


def test_nothing_is_declared(browser: Browser, tmp_path: Path) -> None:
    """The empty state of every page, which says the next step."""
    paths = {path for path in PAGES if "?" not in path and path.count("/") < 3 and path != "/nowhere"}
    assert len(paths) > 8
    with portal(browser, application(tmp_path, platform=NOTHING), tmp_path) as people:
        clean(people, dict.fromkeys(sorted(paths), 200))
        page = people("peggy")
        for path in ("/catalogue/", "/alerts/", "/jobs/", "/egress/"):
            page.goto(path)
            expect(page.locator(".empty").first).to_be_visible()
        assert people.complaints == []


def test_the_platform_cannot_be_read(browser: Browser, tmp_path: Path) -> None:
    engine = FakeEngine(NOTHING, failure=Invalid("services/payments.yaml: a tab where YAML wants spaces"))
    with portal(browser, application(tmp_path, engine=engine), tmp_path) as people:
        clean(people, {"/": 200, "/catalogue/": 200, "/egress/": 200, "/problems/": 200})
        expect(people.pages()[-1].get_by_role("status")).to_contain_text("a tab where YAML wants spaces")


@pytest.fixture
def stand_in() -> Iterator[FakeAlertmanager]:
    """A stand-in that runs the configuration rendered for `on_call_platform`, while some alerts fire."""
    plain = on_call_platform()
    _, rendered = rendered_routing(plain, plain.clusters["prod"], bundle_content())
    made = FakeAlertmanager(serialise(rendered.artifacts[CONFIG]).decode())
    labels = {"alertname": "ReplicasBelow", "team": "pay", "severity": "page", "namespace": "pay", "service": "api"}
    for change in ({}, {"severity": "ticket", "alertname": "Slow"}, {"team": "risk", "service": "fraud"}):
        made.fire({**labels, "cluster": "prod", **change})
    yield made
    made.close()


def on_call_platform(*alertmanagers: Endpoint) -> Platform:
    receivers = tuple(Receiver(severity, webhook="https://hook.example/p") for severity in AlertSeverity)
    people = {"pay": "ann", "risk": "rob", "platform": "peggy"}
    teams = [
        team(name, platform=name == "platform", members=(Member(user, user.capitalize()),), receivers=receivers)
        for name, user in people.items()
    ]
    return declared([service("pay/api")], teams, [cluster("prod", servers=Servers(alertmanagers=alertmanagers))])


def on_call(
    browser: Browser, folder: Path, stand_in: FakeAlertmanager, clock: Clock | None = None
) -> AbstractContextManager[People]:
    """Silences are judged by the Alertmanager's own clock, so this portal's is the real one unless one is given."""
    platform = on_call_platform(stand_in.endpoint)
    given = clock or (lambda: datetime.now(UTC))
    return portal(browser, application(folder, platform=platform, clock=given), folder)


def test_alerts_fire(browser: Browser, tmp_path: Path, stand_in: FakeAlertmanager) -> None:
    with on_call(browser, tmp_path, stand_in) as people:
        page = people("peggy")
        page.goto("/alerts/silences?cluster=prod&matchers=team%3D%22risk%22")
        page.get_by_label("Reason", exact=True).fill("the scores are late, and known to be")
        page.get_by_role("button", name="Hold them back").click()
        expect(page.get_by_role("button", name="End it")).to_be_visible()
        page.goto("/alerts/firing?cluster=prod")
        expect(page.get_by_role("row").filter(has_text="fraud")).to_contain_text("silenced")
        paths = ("/", "/alerts/?cluster=prod", "/alerts/firing", "/alerts/firing?q=none-like-this", "/alerts/silences")
        clean(people, dict.fromkeys(paths, 200))
        assert people.complaints == []


def test_an_alertmanager_that_is_away(browser: Browser, tmp_path: Path, stand_in: FakeAlertmanager) -> None:
    stand_in.close()
    with on_call(browser, tmp_path, stand_in) as people:
        clean(people, dict.fromkeys(("/", "/alerts/?cluster=prod", "/alerts/firing", "/alerts/silences"), 200))
        expect(people.pages()[-1].get_by_role("status").first).to_contain_text(stand_in.url)


@pytest.mark.parametrize(
    ("path", "kept", "told"),
    [
        ("/alerts/firing", "#list td a[href*='silences']", "4 alerts"),
        ("/alerts/", "#now a[href*='firing']", "Firing now: 3 page, 1 inhibited"),
    ],
)
def test_the_focus_outlives_what_renews_itself(
    browser: Browser, tmp_path: Path, stand_in: FakeAlertmanager, path: str, kept: str, told: str
) -> None:
    """What fires is asked for again by itself: the link that has the focus keeps it, and a change is said."""
    clock = Clock(datetime.now(UTC))
    with on_call(browser, tmp_path, stand_in, clock) as people:
        page = people("peggy")
        page.clock.install()
        page.goto(f"{path}?cluster=prod")
        link, said = page.locator(kept).first, page.locator("#said")
        link.focus()
        expect(said).to_be_empty()
        stand_in.fire({"alertname": "New", "team": "pay", "severity": "page"})

        def heard() -> bool:
            clock.moment += timedelta(seconds=15)
            page.clock.run_for(15_000)
            return told in (said.text_content() or "")

        until(heard, 20, lambda: f"said is {said.text_content()!r}")
        expect(link).to_be_focused()


def raising(app: Flask, path: str, failure: Exception) -> None:
    def fail() -> str:
        raise failure

    app.add_url_rule(path, path, fail)


def test_errors(browser: Browser, tmp_path: Path) -> None:
    app = application(tmp_path, platform=NOTHING)
    for status, failure in FAILURES.items():
        raising(app, f"/raised/{status}", failure)
    raising(app, "/raised/500", ZeroDivisionError("a mistake of ours"))
    with portal(browser, app, tmp_path) as people:
        raised = {f"/raised/{status}": int(status) for status in (*FAILURES, "500")}
        clean(people, {**raised, "/gone": 404, "/logout": 405})
        page = people("peggy")
        page.goto("/me")
        page.evaluate("document.querySelectorAll('[name=csrf_token]').forEach((field) => field.value = 'forged')")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("That request cannot be used")
        found = mistakes(page)
        assert not found, found
        told = {text.rpartition(": answered ")[2] for text in people.complaints if ": answered " in text}
        assert told == {"500", "503"}


def test_the_store_is_away(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page for that needs no store: it has neither frame nor navigation."""
    app = application(tmp_path, platform=NOTHING)
    with portal(browser, app, tmp_path) as people:
        page = people("peggy")
        page.goto("/me")

        def away(*_: Any, **__: Any) -> None:
            raise Unavailable("the database does not answer", "is it there?")

        monkeypatch.setattr("pilothouse.store.sessions.find", away)
        answer = page.goto("/catalogue/")
        assert answer is not None
        assert answer.status == 503
        expect(page.get_by_role("main")).to_contain_text("the database does not answer")
        wrong = mistakes(page)
        assert set(wrong) <= {"names", "structure", "narrow"}, wrong
        for texts in wrong.values():
            assert set(texts) <= {"no banner", "no navigation", "0 of role contentinfo", "0 of body > .shell > footer"}

"""The routing page: who gets this, when, and why."""

from __future__ import annotations

import io
import re
from datetime import date
from pathlib import Path
from urllib.parse import quote

import pytest
from flask import Flask
from support.builders import cluster, platform, service, team
from support.portal import Client, login, make_app

from pilothouse.platform.model import (
    Alert,
    AlertSeverity,
    Member,
    Platform,
    Receiver,
    ReplicasBelow,
    Rotation,
)

PAGE, TICKET = AlertSeverity.PAGE, AlertSeverity.TICKET


def declared(teams: int = 0) -> Platform:
    receivers = (Receiver(PAGE, webhook="https://hook.example/p"), Receiver(TICKET, email="t@bank.example"))
    pay = team(
        "pay",
        members=(Member("ann", "Ann Alder", "ann@bank.example"),),
        receivers=receivers,
        rotation=Rotation(("ann",), date(2026, 1, 5), (9, 0), "Europe/Berlin"),
        groups=("payers",),
    )
    infra = team("infra", platform=True, receivers=receivers)
    more = [team(f"t{number:02}", receivers=receivers) for number in range(teams)]
    return platform(
        [service("pay/api", alerts=(Alert(ReplicasBelow(2), PAGE),))],
        [pay, infra, *more],
        [cluster("dev"), cluster("prod")],
    )


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return make_app(tmp_path, declared(), {"ann": {"groups": ("payers",)}})


@pytest.fixture
def browser(app: Flask) -> Client:
    return login(app, "ann")


def text(browser: Client, path: str, status: int = 200) -> str:
    response = browser.get(path)
    assert response.status_code == status, response.get_data(as_text=True)
    return response.get_data(as_text=True)


def test_the_page_begins_with_declared_alerts_and_who_is_on_call(browser: Client) -> None:
    page = text(browser, "/alerts/")
    assert "Begin with a declared alert" in page
    assert re.search(r'href="(/alerts/\?[^"]*alertname%3DReplicasBelow[^"]*)"', page)
    assert "Ann Alder" in page
    assert "The whole tree" in page
    assert 'class="lit"' not in page
    assert "pilothouse alerts route" in page


def test_the_answer_down_to_the_person(browser: Client) -> None:
    page = text(browser, "/alerts/?cluster=prod&labels=team%3Dpay+severity%3Dticket&at=sunday+03:00")
    assert "pay-ticket" in page
    assert "held back" in page
    assert "sent from Mon 2026-11-23 07:00 UTC" in page
    assert "Ann Alder (ann) until Mon 2026-11-23 08:00 UTC" in page
    assert "mailto:ann@bank.example" in page
    assert '<path class="lit"' in page
    assert 'id="route-root" class="lit"' in page
    assert "team=&#34;infra&#34;: team is &#34;pay&#34;" in page, "the reason stands in the table as well"
    assert "--cluster prod --at &#39;sunday 03:00&#39; team=pay severity=ticket" in page
    assert "amtool config routes test" in page
    assert "at=2026-11-22T03%3A00Z" in page, "a link to that very moment"


def test_the_address_of_the_alerts_explain_url_leads_here(browser: Client) -> None:
    response = browser.get("/alerts?cluster=dev&labels=alertname%3DReplicasBelow%20team%3Dpay%20severity%3Dpage")
    assert response.status_code == 308
    page = text(browser, response.headers["Location"])
    assert "pay-page" in page


def test_a_preset_keeps_what_was_typed(browser: Client) -> None:
    response = browser.get("/alerts/?cluster=dev&labels=team%3Dpay&at=x&preset=sunday+03:00")
    assert response.status_code == 303
    assert response.headers["Location"] == "/alerts/?cluster=dev&labels=team%3Dpay&at=sunday+03%3A00"


def test_mistakes_are_marked_and_nothing_typed_is_lost(browser: Client) -> None:
    page = text(browser, "/alerts/?labels=nonsense&at=never&timezone=Nowhere", 422)
    assert "is not a label" in page
    assert 'value="nonsense"' in page
    assert 'value="never"' in page
    assert "unknown time zone" in page
    assert "is not a time" in text(browser, "/alerts/?at=never", 422)
    assert browser.get("/alerts/?cluster=nope").status_code == 404


CONFIG = """\
route: {receiver: all, routes: [{matchers: ['team="a"'], receiver: a}]}
receivers: [{name: all}, {name: a, slack_configs: [{channel: '#a'}]}]
"""


def test_any_configuration_is_looked_at(browser: Client) -> None:
    assert "Configuration" in text(browser, "/alerts/config")
    data = {"config": CONFIG, "labels": "team=a", "at": "now", "timezone": "UTC", "release": "0.27"}
    response = browser.post("/alerts/config", data=data)
    page = response.get_data(as_text=True)
    assert response.status_code == 200
    assert "slack" in page
    assert "#a" in page
    assert "--config alertmanager.yml --alertmanager 0.27 team=a" in page
    uploaded = {**data, "config": "", "file": (io.BytesIO(CONFIG.encode()), "alertmanager.yml")}
    response = browser.post("/alerts/config", data=uploaded, content_type="multipart/form-data")
    assert response.status_code == 200
    assert "matchers: [&#39;team=" in response.get_data(as_text=True), "the file's text is in the form now"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("", "paste a configuration"),
        ("route: [", "source/yaml-syntax"),
        ("receivers: []", "there is no routing tree in it"),
        (CONFIG.replace("receiver: a}", "receiver: b}"), "Alertmanager would refuse it"),
    ],
)
def test_a_broken_configuration_stays_in_the_form_with_its_carets(browser: Client, config: str, said: str) -> None:
    response = browser.post("/alerts/config", data={"config": config, "labels": "team=a"})
    page = response.get_data(as_text=True)
    assert response.status_code == 422
    assert said in page
    if config.strip() and "routes" in config:
        assert "is not defined" in page
        assert '<pre class="caret"' in page
        assert "no such receiver" in page
        assert "receiver: b}" in page


def test_a_file_that_is_no_text(browser: Client) -> None:
    data = {"config": "", "file": (io.BytesIO(b"\xff\xfe\x00"), "x.bin")}
    response = browser.post("/alerts/config", data=data, content_type="multipart/form-data")
    assert response.status_code == 422
    assert "x.bin is no text in UTF-8" in response.get_data(as_text=True)


def test_declared_alerts_are_searched_and_lead_to_their_answer(browser: Client) -> None:
    page = text(browser, "/alerts/declared?cluster=dev&team=pay&q=ReplicasBelow")
    assert "1 alert" in page
    (link,) = re.findall(r'href="(/alerts/\?[^"]*labels=[^"]*)"', page)
    assert "pay-page" in text(browser, link.replace("&amp;", "&"))
    assert "No alert is like that" in text(browser, "/alerts/declared?q=" + quote("nothing like it"))
    assert "standard" in text(browser, "/alerts/declared?severity=page&sort=-severity")


def test_a_large_tree_is_folded_and_opened_by_links(tmp_path: Path) -> None:
    browser = login(make_app(tmp_path, declared(40), {"ann": {}}), "ann")
    page = text(browser, "/alerts/?cluster=dev&labels=team%3Dpay+severity%3Dpage")
    (link,) = set(re.findall(r'href="(/alerts/\?[^"]*open=root[^"]*)"', page))
    opened = text(browser, link.replace("&amp;", "&"))
    assert opened.count('class="node ') > page.count('class="node ') + 30


def test_nothing_is_declared(tmp_path: Path) -> None:
    browser = login(make_app(tmp_path, Platform(), {"ann": {}}), "ann")
    assert "No cluster is declared" in text(browser, "/alerts/")
    assert "No cluster is declared" in text(browser, "/alerts/declared")


def test_without_a_tree_the_page_says_why(tmp_path: Path) -> None:
    nobody = platform([service("pay/api")], [team("pay")], [cluster("dev")])
    browser = login(make_app(tmp_path, nobody, {"ann": {}}), "ann")
    page = text(browser, "/alerts/?labels=team%3Dpay", 422)
    assert "there is no routing tree of cluster dev" in page
    assert "alerts/no-platform-team" in page


def test_one_must_be_logged_in(app: Flask) -> None:
    assert app.test_client().get("/alerts/").status_code == 302

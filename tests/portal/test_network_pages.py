"""The network pages on the example bank: maps, a question with its reasons and its proposal, and adoption."""

from __future__ import annotations

import re
import shutil
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.builders import cluster, platform, service
from support.egress_world import service as document
from support.egress_world import write
from support.portal import FakeEngine, login, make_app

from pilothouse.files.git import Repository, init
from pilothouse.platform.model import Platform
from pilothouse.portal import network, network_ask
from pilothouse.portal.state import Workflows
from pilothouse.problems import Unavailable

BANK = Path(__file__).parents[2] / "examples" / "bank"
DENIED = "/network/can?cluster=prod&from=risk/fraud&to=cards/tokenizer&port=8443&enforced=yes"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    app: Flask = make_app(tmp_path_factory.mktemp("network"), root=BANK, users_={"nadia": {}})
    return login(app, "nadia")


def page(client: FlaskClient, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status, response.get_data(as_text=True)[:3000]
    return response.get_data(as_text=True)


def words(html: str) -> str:
    main = html.partition("<main")[2].partition("</main>")[0]
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", main)))


def link(html: str, text: str) -> str:
    """Where the link with that text leads."""
    found = re.search(r'<a [^>]*href="([^"]+)"[^>]*>' + re.escape(text), html)
    assert found, f"no link {text!r}"
    return unescape(found[1])


# ---------------------------------------------------------------- maps


def test_the_map_of_a_cluster_is_a_picture_and_a_table(client: FlaskClient) -> None:
    html = page(client, "/network/?cluster=prod")
    assert "<svg" in html
    assert 'href="/network/service/payments/payments?cluster=prod"' in html
    assert "policies map PLATFORM --cluster prod</code>" in html
    assert "--preview" in page(client, "/network/?cluster=prod&enforced=yes")
    assert "No policy isolates the ingress of" in words(html)
    page(client, "/network/?cluster=nowhere", 404)


def test_the_map_of_a_team_has_its_connections_alone(client: FlaskClient) -> None:
    html = page(client, "/network/?cluster=prod&team=risk&enforced=yes")
    text = words(html)
    assert "risk/fraud accounts/accounts 8080" in text
    assert "ledger/ledger data/kafka" not in text
    assert "policies map PLATFORM --team risk --cluster prod --preview" in text
    page(client, "/network/?cluster=prod&team=nobody", 404)


def test_what_is_too_much_is_counted(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "MOST_ROWS", 10)
    monkeypatch.setattr(network, "MOST_DRAWN", 3)
    text = words(page(client, "/network/?cluster=prod"))
    assert "too many parties for a picture" in text
    assert re.search(r"and \d+ connections more", text)


def test_on_a_large_platform_a_team_of_ones_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "MOST_LISTED", 5)
    member = login(make_app(tmp_path, root=BANK, users_={"niaj": {}}), "niaj")
    assert "--team risk" in page(member, "/network/?cluster=prod")
    assert "--team" not in words(page(member, "/network/?cluster=prod&team="))


def test_the_map_of_an_enforced_service_is_as_declared(client: FlaskClient) -> None:
    html = page(client, "/network/service/payments/payments?cluster=prod")
    text = words(html)
    assert "The policies allow exactly what is declared" in text
    assert "ledger/ledger 9090 grpc services/payments/payments.yaml" in text
    assert "Prometheus 9102 metrics: Prometheus scrapes /metrics implied" in text
    assert 'class="neighbours wide"' in html
    assert "not declared" not in text
    page(client, "/network/service/payments/nobody", 404)


def test_the_map_of_a_staged_service_shows_what_nobody_declared(client: FlaskClient) -> None:
    html = page(client, "/network/service/risk/fraud?cluster=prod")
    text = words(html)
    assert "Allowed, and not declared" in text
    assert "Namespace risk is staged" in text
    assert "every address not declared" in re.sub(r"every address : ", "every address ", text)
    then = words(page(client, "/network/service/risk/fraud?cluster=prod&enforced=yes"))
    assert "The policies allow exactly what is declared" in then


def test_a_service_that_does_not_run_here_is_said(tmp_path: Path) -> None:
    made = platform([service("shop/web", clusters=frozenset(("dev",)))], clusters=[cluster("dev"), cluster("prod")])
    shopper = login(make_app(tmp_path, engine=FakeEngine(made), users_={"shop-1": {}}), "shop-1")
    text = words(page(shopper, "/network/service/shop/web?cluster=prod"))
    assert "no pods of `shop/web` run here: it is not declared to run on prod" in text
    assert "no pods of `shop/web` run here" in words(page(shopper, "/network/service/shop/web?cluster=dev"))
    assert "Nothing is known of what runs on prod" in words(page(shopper, "/network/adoption?cluster=prod"))


# ---------------------------------------------------------------- can A reach B


def test_a_denied_connection_says_who_decides_and_what_would_change_it(client: FlaskClient) -> None:
    html = page(client, "/network/can?cluster=prod&from=payments/payments&to=ledger/ledger&port=9091")
    text = words(html)
    assert "deny payments/payments → ledger/ledger at 9091" in text
    assert "NetworkPolicy ledger/pilothouse-ledger-ingress" in text
    assert "wanted 9091/TCP, it is declared for grpc" in text
    assert "What would allow it" in text
    assert "ports: [grpc, 9091]" in text
    assert "It changes no other connection" in text
    assert "policies explain PLATFORM payments/payments ledger/ledger 9091 --cluster prod" in text
    assert "You may look, and not submit" in text
    assert BANK.as_posix() not in html, "places are those below the platform's folder"


def test_tiers_stand_in_the_order_in_which_they_are_met(client: FlaskClient) -> None:
    text = words(page(client, "/network/can?cluster=prod&from=payments/payments&to=ledger/ledger&port=9091"))
    found = re.findall(r"Tier (\w+)", text.partition("Egress of")[2].partition("Ingress of")[0])
    assert found[-1] == "default"
    assert len(found) == len(dict.fromkeys(found))


def test_an_allowed_connection_names_the_line_that_declares_it(client: FlaskClient) -> None:
    text = words(page(client, "/network/can?cluster=prod&from=payments/payments&to=ledger/ledger&port=9090"))
    assert "allow payments/payments → ledger/ledger at 9090" in text
    assert "declared ledger/ledger at grpc" in text
    assert "What would deny it" in text


def test_without_a_port_it_says_at_what(client: FlaskClient) -> None:
    html = page(client, "/network/can?cluster=prod&from=payments/payments&to=ledger/ledger")
    text = words(html)
    assert "allowed 9090" in text
    assert "policies can PLATFORM payments/payments ledger/ledger --cluster prod" in text
    assert "port=grpc" in link(html, "grpc")
    assert "What would" not in text


def test_a_service_says_what_its_port_becomes(client: FlaskClient) -> None:
    text = words(page(client, "/network/can?cluster=prod&from=channels/web-bff&to=svc:payments/payments"))
    assert "becomes 8080/TCP" in text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("from=payments/payment&to=ledger/ledger", "did you mean"),
        ("from=payments/payments&to=", "whom should it reach?"),
        ("from=payments/payments&to=ledger/ledger&port=80x/TCP/9", "is no port"),
    ],
)
def test_what_is_wrong_stays_in_the_form(client: FlaskClient, query: str, said: str) -> None:
    html = page(client, f"/network/can?cluster=prod&{query}", 422)
    assert said in html
    assert 'value="payments/payment' in html


def test_a_name_with_markup_is_only_text(client: FlaskClient) -> None:
    html = page(client, "/network/can?cluster=prod&from=%3Cb%3Ex&to=%3Cscript%3E", 422)
    assert "<script>" not in html.replace('<script src="', "")
    assert "&lt;b&gt;x" in html


def test_on_a_large_cluster_the_edit_comes_later(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilothouse.workflows import network as workflow

    monkeypatch.setattr(workflow, "MANY_PODS", 10)
    asked = "/network/can?cluster=prod&from=risk/fraud&to=ledger/ledger&port=9090&enforced=yes"
    html = page(client, asked)
    assert "ports: [grpc]" not in html
    later = link(html, "Look for the smallest edit")
    assert f'hx-get="{later.partition("#")[0]}"'.replace("&", "&amp;") in html
    assert "ports: [grpc]" in page(client, later.partition("#")[0])


def test_names_are_suggested_while_they_are_typed(client: FlaskClient) -> None:
    html = page(client, "/network/ends?cluster=prod&from=ledg")
    assert html.startswith('<option value="ledger/ledger">')
    assert "pod:ledger/" in html
    assert page(client, "/network/ports?cluster=prod&to=%3Cb%3E").strip() == ""
    assert 'value="grpc"' in page(client, "/network/ports?cluster=prod&to=ledger/ledger")


# ---------------------------------------------------------------- from the question to the other team


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(BANK, tmp_path / "platform"))
    init(folder).commit_all("The bank", "test", "test@localhost")
    return folder


def test_from_a_denied_question_to_the_agreement_of_the_other_team(bank: Path, tmp_path: Path) -> None:
    users = {"niaj": {}, "alice": {}}
    app = make_app(tmp_path / "data", users_=users, engine=Workflows(), root=bank, watch_seconds=0)
    author, other = login(app, "niaj"), login(app, "alice")
    html = page(author, DENIED)
    assert "deny risk/fraud → cards/tokenizer" in words(html)
    start = link(html, "Propose it, and ask team payments")
    assert parse_qs(urlsplit(start).query)["service"] == ["risk/fraud"]
    draft = page(author, start)
    text = unescape(draft.partition('name="yaml"')[2].partition(">")[2].partition("</textarea>")[0])
    assert "{to: {service: cards/tokenizer}" in text
    assert "services/cards/tokenizer.yaml changes along" in draft
    data = {"service": "risk/fraud", "yaml": text, "action": "submit", "reason": "Fraud looks at tokens"}
    sent = author.post("/egress/new", data=data)
    assert sent.status_code == 302, sent.text[:2000]
    where = sent.headers["Location"]
    # The other team finds it at home, and on the map of the service that is asked.
    assert where in page(other, "/")
    asked = words(page(other, "/network/service/cards/tokenizer?cluster=prod"))
    assert "risk/fraud asks to be let in" in asked
    roles = re.findall(r'name="role" value="([^"]+)"', page(other, where))
    agreed = other.post(f"{where}/decide", data={"role": roles[0], "version": "2", "action": "approve"})
    assert agreed.status_code == 302
    assert "Fraud looks at tokens" in Repository(bank).log(limit=1)[0].body
    app.extensions["pilothouse"].current.refresh()
    assert "allow risk/fraud → cards/tokenizer" in words(page(author, DENIED))


def test_what_is_declared_at_one_end_is_asked_for(tmp_path: Path) -> None:
    """The documents say it at one end only when the portal starts: that is an error which the other team mends."""
    root = tmp_path / "platform"
    root.mkdir()
    write(root)
    goes = "  egress:\n    - {to: {service: money/quotes}, ports: [grpc]}\n"
    (root / "web.yaml").write_text(document("shop/web", "shop", goes))
    init(root).commit_all("The platform", "test", "test@localhost")
    users = {"shop-one": {}, "money-one": {}}
    app = make_app(tmp_path / "data", users_=users, engine=Workflows(), root=root, watch_seconds=0)
    author, other = login(app, "shop-one"), login(app, "money-one")
    question = "/network/can?cluster=prod&from=shop/web&to=money/quotes&port=grpc&enforced=yes"
    start = link(page(author, question), "Ask team money to let shop/web in")
    draft = page(author, start)
    assert "quotes.yaml changes along" in draft
    assert "asked to let it in" in draft
    assert link(page(author, "/network/service/shop/web?cluster=prod"), "Ask team money") == start
    hidden = {"service": "shop/web", "asks": "money/quotes", "reason": "Quotes on the front page"}
    text = unescape(draft.partition('name="yaml"')[2].partition(">")[2].partition("</textarea>")[0])
    assert text == (root / "web.yaml").read_text()
    back = author.post("/egress/new", data={**hidden, "yaml": text, "action": "unask:money/quotes"}).text
    assert "Nothing is changed yet" in words(back)
    again = author.post("/egress/new", data={**hidden, "asks": "", "yaml": text, "action": "ask:money/quotes"}).text
    assert "quotes.yaml changes along" in again
    sent = author.post("/egress/new", data={**hidden, "yaml": text, "action": "submit"})
    assert sent.status_code == 302, words(sent.text)[:2000]
    where = sent.headers["Location"]
    assert "asks to be let in" in words(page(other, "/network/service/money/quotes?cluster=prod"))
    assert "money/quotes" in page(author, f"{where}/edit")
    agreed = other.post(f"{where}/decide", data={"role": "team:money", "version": "2", "action": "approve"})
    assert agreed.status_code == 302
    assert "{from: {service: shop/web}, ports: [grpc]}" in (root / "quotes.yaml").read_text()
    assert (root / "web.yaml").read_text() == text


@pytest.mark.parametrize(
    "query",
    [
        "add=%7Bto%3A",
        "add=just+words",
        "add=%7Ba%3A+%26x+1%2C+b%3A+*x%7D",
        "remove=99",
        f"add={'x' * 3000}",
    ],
)
def test_an_address_that_brings_nonsense_along_changes_nothing(bank: Path, tmp_path: Path, query: str) -> None:
    app = make_app(tmp_path / "data", users_={"niaj": {}}, engine=Workflows(), root=bank, watch_seconds=0)
    found = page(login(app, "niaj"), f"/egress/new?service=risk/fraud&{query}", 422)
    text = unescape(found.partition('name="yaml"')[2].partition(">")[2].partition("</textarea>")[0])
    assert text == (bank / "services" / "risk" / "fraud.yaml").read_text()


# ---------------------------------------------------------------- adoption


def test_adoption_names_what_would_be_cut(client: FlaskClient) -> None:
    text = words(page(client, "/network/adoption?cluster=prod"))
    assert "risk staged staged 10 1" in text
    assert "1 pod that nobody declares" in text
    assert "notebook-niaj" in text
    assert "ingress of 10 pods in risk comes under policy" in text
    assert "notifications/dispatcher → accounts/accounts at 8080/TCP , 260 connections" in text
    assert "policies adoption PLATFORM --flows PLATFORM/flows/prod.csv --cluster prod" in text
    then = words(page(client, "/network/adoption?cluster=dev"))
    assert "no flows lie in flows/dev" in then.lower()
    assert "Every running pod is declared" in then


# ---------------------------------------------------------------- where nothing is known


@pytest.mark.parametrize("path", ["/network/", "/network/can", "/network/adoption"])
def test_without_a_cluster_there_is_a_reason(tmp_path: Path, path: str) -> None:
    text = words(page(login(make_app(tmp_path, Platform(), users_={"nadia": {}}), "nadia"), path))
    assert "no cluster is declared" in text


@pytest.mark.parametrize(
    "path", ["/network/", "/network/can", "/network/adoption", "/network/service/payments/payments"]
)
def test_a_snapshot_that_cannot_be_read_is_a_reason_on_the_page(tmp_path: Path, path: str) -> None:
    class Away(Workflows):
        def inputs(self, *_: object) -> None:  # type: ignore[override]
            raise Unavailable("the snapshot of prod does not answer", "look at its folder")

    app = make_app(tmp_path, users_={"nadia": {}}, engine=Away(), root=BANK)
    text = words(page(login(app, "nadia"), f"{path}?cluster=prod"))
    assert "the snapshot of prod does not answer: look at its folder" in text


def test_a_stranger_sees_nothing(tmp_path: Path) -> None:
    app = make_app(tmp_path, engine=FakeEngine(Platform()))
    for path in ("/network/", "/network/can", "/network/adoption", "/network/ends", "/network/ports"):
        assert app.test_client().get(path).status_code == 302


def test_a_verdict_has_a_tone_of_its_own() -> None:
    from pilothouse.policies.engine.decide import Outcome

    assert {network_ask.tone(outcome) for outcome in Outcome} == {"ok", "bad", "warn"}

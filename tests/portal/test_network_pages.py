"""The network pages: the map, one service's, a question with its reasons, and adoption; on the example bank."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.portal import login, make_app

BANK = Path(__file__).parents[2] / "examples" / "bank"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    app: Flask = make_app(tmp_path_factory.mktemp("network"), root=BANK, users_={"nadia": {}})
    return login(app, "nadia")


def page(client: FlaskClient, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status, response.get_data(as_text=True)[:3000]
    return response.get_data(as_text=True)


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def proposal_of(client: FlaskClient, html: str, service: str) -> str:
    """The document as the page opens it to which the answer leads."""
    link = re.search(rf'href="(/egress/new\?service={service}&amp;[^"]+)"', html)
    assert link, html
    written = re.search(r"<textarea[^>]*name=\"yaml\".*?</textarea>", page(client, unescape(link[1])), re.DOTALL)
    assert written
    return unescape(written[0])


def test_the_map_of_a_cluster_is_a_picture_and_a_table(client: FlaskClient) -> None:
    html = page(client, "/network/?cluster=prod")
    assert "<svg" in html
    assert 'href="/network/service/payments/payments?cluster=prod"' in html
    assert "policies map PLATFORM --cluster prod</code>" in html
    assert "--preview" in page(client, "/network/?cluster=prod&enforced=yes")
    assert page(client, "/network/?cluster=nowhere", 404)


def test_the_map_of_a_service(client: FlaskClient) -> None:
    text = words(page(client, "/network/service/cards/tokenizer?cluster=prod&enforced=yes"))
    assert "cards/cards cards/tokenizer 8443" in text
    assert "channels/gateway" not in text
    assert "Beside what is declared" in text
    assert page(client, "/network/service/cards/nobody", 404)
    assert 'href="/network/service/cards/tokenizer?cluster=prod"' in page(client, "/catalogue/cards/tokenizer")


def test_what_policies_allow_beside_the_declarations(client: FlaskClient) -> None:
    text = words(page(client, "/network/service/risk/fraud?cluster=prod"))
    assert "Allowed and not declared" in text


def test_a_denied_connection_says_who_decides_and_what_would_change_it(client: FlaskClient) -> None:
    html = page(client, "/network/can?cluster=prod&from=payments/payments&to=ledger/ledger&port=9091")
    text = words(html)
    assert "deny payments/payments → ledger/ledger at 9091" in text
    assert "NetworkPolicy ledger/pilothouse-ledger-ingress" in text
    assert "The smallest edit after which the answer is allow" in text
    assert "ports: [grpc, 9091]" in text
    assert "Both ends are written along, and team accounts is asked." in text
    assert proposal_of(client, html, "payments/payments").count("ports: [grpc, 9091]") >= 1
    assert "policies explain PLATFORM payments/payments ledger/ledger 9091 --cluster prod" in text


def test_the_other_team_is_named_where_its_list_holds_back(client: FlaskClient) -> None:
    html = page(client, "/network/can?cluster=prod&from=risk/fraud&to=cards/tokenizer&port=8443&enforced=yes")
    text = words(html)
    assert "deny risk/fraud → cards/tokenizer" in text
    assert "Both ends are written along, and team payments is asked." in text
    written = proposal_of(client, html, "risk/fraud")
    assert "{to: {service: cards/tokenizer}, ports: [http]}" in written


def test_without_a_port_it_says_at_what(client: FlaskClient) -> None:
    text = words(page(client, "/network/can?cluster=prod&from=payments/payments&to=ledger/ledger"))
    assert "9090" in text
    assert "policies can PLATFORM payments/payments ledger/ledger --cluster prod" in text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("from=payments/payment&to=ledger/ledger", "did you mean"),
        ("from=payments/payments&to=", "whom should it reach?"),
        ("from=payments/payments&to=ledger/ledger&port=80x/TCP/9", "port"),
    ],
)
def test_what_is_wrong_stays_in_the_form(client: FlaskClient, query: str, said: str) -> None:
    html = page(client, f"/network/can?cluster=prod&{query}", 422)
    assert said in html
    assert 'value="payments/payment' in html


def test_adoption_names_the_pods_that_would_be_cut(client: FlaskClient) -> None:
    text = words(page(client, "/network/adoption?cluster=prod"))
    assert "risk" in text
    assert "1 running pod that nobody declares would lose every connection but DNS: notebook-" in text
    assert "policies adoption PLATFORM --cluster prod" in text


def test_a_name_with_markup_is_only_text(client: FlaskClient) -> None:
    html = page(client, "/network/can?cluster=prod&from=%3Cb%3Ex&to=%3Cscript%3E", 422)
    assert "<script>" not in html.replace('<script src="', "")
    assert "&lt;b&gt;x" in html

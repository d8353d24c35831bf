"""May my service reach theirs, and why not? From the question to a proposal, the other team's agreement, and back."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from support.browser import People, expect
from support.demo import until

SERVICE, PEER, PORT = "accounts/accounts", "payments/payments", "http"


@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no-javascript"])
def test_a_question_is_asked(people: People, javascript: bool) -> None:
    page = people("ivan", java_script_enabled=javascript)
    page.goto("/")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Network").click()
    page.get_by_role("link", name="channels/web-bff").last.click()
    expect(page.get_by_text("The policies allow exactly what is declared")).to_be_visible()
    expect(page.get_by_role("group", name="Neighbours of channels/web-bff").first).to_be_visible()
    page.get_by_label("May it reach").fill("cards/cards")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("heading", name="allow channels/web-bff → cards/cards")).to_be_visible()
    page.get_by_role("combobox", name="Port").fill("9999")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("heading", name="deny channels/web-bff → cards/cards at 9999")).to_be_visible()
    expect(page.get_by_text("wanted 9999/TCP, it is declared for http").first).to_be_visible()
    assert "port=9999" in page.url
    page.get_by_role("combobox", name="From").fill("channels/nobody")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("alert")).to_contain_text("channels/nobody")
    expect(page.get_by_role("combobox", name="To")).to_have_value("cards/cards")


def test_names_come_while_they_are_typed(people: People) -> None:
    page = people("ivan")
    page.goto("/network/can?cluster=prod")
    options = "() => [...document.querySelectorAll('#ends option')].map((option) => option.value)"
    page.get_by_role("combobox", name="To").press_sequentially("ledger/l", delay=20)
    until(lambda: (page.evaluate(options) or [""])[0] == "ledger/ledger", 10)
    page.get_by_role("combobox", name="To").fill("ledger/ledger")
    page.get_by_role("combobox", name="Port").focus()
    ports = "() => [...document.querySelectorAll('#ports option')].map((option) => option.value)"
    until(lambda: "grpc" in page.evaluate(ports), 10)


def test_from_no_to_yes(people: People) -> None:
    question = f"/network/can?cluster=prod&from={SERVICE}&to={PEER}&port={PORT}"
    page = people("erin")
    page.goto(question)
    expect(page.get_by_role("heading", name=f"deny {SERVICE} → {PEER} at {PORT}")).to_be_visible()
    page.get_by_role("link", name="Propose it, and ask team payments").click()
    document = page.get_by_role("textbox", name=".yaml")
    expect(document).to_have_value(re.compile(re.escape(f"{{to: {{service: {PEER}}}, ports: [{PORT}]}}")))
    expect(page.get_by_text(f"services/{PEER}.yaml changes along")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="appears").first).to_contain_text("8080")
    page.get_by_role("textbox", name="Why").fill("Statements show what is pending")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile(r"/egress/\d+$"))
    proposal = urlsplit(page.url).path

    other = people("alice")
    other.goto(f"/network/service/{PEER}?cluster=prod")
    expect(other.get_by_text(f"{SERVICE} asks to be let in")).to_be_visible()
    other.locator(f"main a[href='{proposal}']").click()
    other.get_by_role("button", name="Agree").first.click()
    expect(other.get_by_text("Agreed, and committed as")).to_be_visible()

    page.goto(question)
    expect(page.get_by_role("heading", name=f"allow {SERVICE} → {PEER} at {PORT}")).to_be_visible()
    page.goto(f"/network/service/{SERVICE}?cluster=prod")
    expect(page.get_by_role("link", name=PEER, exact=True).first).to_be_visible()


def test_adoption_is_read(people: People) -> None:
    page = people("peggy")
    page.goto("/network/adoption?cluster=prod")
    page.get_by_role("link", name="risk", exact=True).click()
    region = page.get_by_role("region", name="risk")
    expect(region).to_contain_text("1 pod that nobody declares")
    expect(region).to_contain_text("notebook-niaj")
    region.get_by_text("Everything that changes at once").click()
    expect(region).to_contain_text("comes under policy")

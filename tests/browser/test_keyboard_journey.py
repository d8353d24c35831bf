"""The whole way of a change of egress by keyboard alone, and what htmx changes: it is said, and the focus stays."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from support.browser import People, expect, press_until
from support.demo import Demo

if TYPE_CHECKING:
    from playwright.sync_api import Page

SERVICE, PEER, PORT = "accounts/statements", "payments/payments", "http"
AUTHOR, REVIEWER = "erin", "alice"
# A pointer of any kind would be a complaint, which fails the test: keys make clicks, never a pointer.
NO_POINTER = """
addEventListener("pointerdown", () => console.error("a pointer was used"), true);
"""


def log_in(people: People, user: str) -> Page:
    page = people.anonymous()
    page.add_init_script(NO_POINTER)
    page.goto("/login")
    expect(page.get_by_label("User")).to_be_focused()
    page.keyboard.type(user)
    page.keyboard.press("Tab")
    page.keyboard.type(people.demo.passwords[user])
    page.keyboard.press("Enter")
    page.wait_for_url("/")
    return page


def to_content(page: Page) -> None:
    """Past the navigation, by the link that is there for it."""
    press_until(page, "Tab", "a.skip")
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def replace(page: Page, text: str) -> None:
    """What the field that has the focus holds, by other text."""
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


def test_the_checks_see_a_pointer(people: People) -> None:
    page = log_in(people, AUTHOR)
    page.get_by_role("link", name="Egress").click()
    assert [text.rpartition(": ")[2] for text in people.complaints] == ["a pointer was used"]
    people.complaints.clear()


def test_proposal_by_keyboard_alone(people: People, demo: Demo) -> None:
    page = log_in(people, AUTHOR)
    press_until(page, "Tab", "nav a[href='/egress/']")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Egress")
    to_content(page)
    press_until(page, "Tab", f"a[href='/egress/new?service={SERVICE}']")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(SERVICE)

    # The kind by arrows, the rest by typing; Space presses a button as Enter does.
    to_content(page)
    press_until(page, "Tab", "#f-peer")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("Kind")).not_to_have_value("service")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("Kind")).to_have_value("service")
    press_until(page, "Tab", "#f-value")
    page.keyboard.type(PEER)
    page.keyboard.press("Escape")  # the list of suggestions
    press_until(page, "Tab", "#f-ports")
    page.keyboard.type(PORT)
    press_until(page, "Tab", "button[value=add]")
    page.keyboard.press("Space")
    expect(page.get_by_text(f"{PEER} stands in the document now")).to_be_visible()
    assert "adds 1 connection" in page.get_by_role("main").inner_text()

    to_content(page)
    press_until(page, "Tab", "#f-title")
    replace(page, "Statements list pending payments")
    press_until(page, "Tab", "button[value=submit]")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Title")).to_have_value("Statements list pending payments")
    press_until(page, "Tab", "#f-reason")
    page.keyboard.type("Customers ask why a payment is not on their statement yet")
    press_until(page, "Tab", "button[value=submit]")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/egress/\d+$"))
    address = urlsplit(page.url).path

    other = log_in(people, REVIEWER)
    to_content(other)
    press_until(other, "Tab", f"a[href='{address}']")
    other.keyboard.press("Enter")
    expect(other.get_by_role("heading", level=1)).to_have_text("Statements list pending payments")
    to_content(other)
    press_until(other, "Tab", "textarea[name=comment]")
    other.keyboard.type("welcome")
    press_until(other, "Tab", "button[value=approve]")
    other.keyboard.press("Enter")
    expect(other.get_by_text("Agreed, and committed as")).to_be_visible()
    written = (demo.platform / "services" / f"{SERVICE}.yaml").read_text(encoding="utf-8")
    assert f"- {{to: {{service: {PEER}}}, ports: [{PORT}]}}" in written

    press_until(other, "Shift+Tab", "button[name=theme][value=dark]")
    other.keyboard.press("Enter")
    expect(other.locator("html")).to_have_attribute("data-theme", "dark")


def test_what_htmx_changes_is_said(people: People) -> None:
    page = log_in(people, AUTHOR)
    page.goto("/catalogue/")
    said = page.locator("[aria-live]#said")
    expect(said).to_be_empty()
    press_until(page, "Tab", "[type=search]")
    page.keyboard.type("ledger/ledger")
    page.wait_for_url("**q=ledger*")
    expect(said).to_have_text(re.compile(r"^1 service \(of \d+\)$"))
    expect(page.get_by_role("searchbox")).to_be_focused()
    replace(page, "nothing like this")
    expect(said).to_contain_text("No service matches.")
    expect(page.get_by_role("searchbox")).to_be_focused()
    replace(page, "")
    expect(page.get_by_role("link", name="ledger/ledger")).to_be_visible()
    press_until(page, "Tab", "select[name=team]")
    page.keyboard.type("risk")
    page.wait_for_url("**team=risk*")
    expect(said).to_have_text(re.compile(r"^3 services"))
    expect(page.get_by_role("combobox", name="Team")).to_be_focused()


def test_the_focus_outlives_a_list_that_renews_itself(people: People) -> None:
    page = log_in(people, "peggy")
    page.goto("/jobs/")
    press_until(page, "Tab", "#run-expire")
    page.evaluate("document.querySelector('#list').dataset.old = 'yes'")
    expect(page.locator("#list:not([data-old])")).to_be_visible()
    expect(page.locator("#run-expire")).to_be_focused()
    expect(page.locator("#said")).to_be_empty()

"""What every page keeps to: no complaint of the browser, names and landmarks, contrast, what axe-core says, 320 pixels,
no JavaScript.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from support import axe
from support.browser import People, expect, press_until
from support.demo import until
from support.pages import NARROW, look, mistakes, nameless
from support.visits import PAGES, STATUS

HREFS = "links => links.map((link) => new URL(link.getAttribute('href'), document.baseURI).href)"


BAD = """
<style>p { color: #888 } ::before { color: #888 } b { opacity: .5 } #wide { display: block; width: 900px }</style>
<h1>One</h1><h1>Two</h1><h3>Three</h3>
<p>grey</p><b>faint</b><i id="wide" class="before">wide</i><style>.before::before { content: "pale" }</style>
<input name="nameless"><a href="/"></a><img src="data:,"><i id="wide"></i><label for="nothing">x</label>
<svg width="90" height="20"><rect width="90" height="20" fill="#000"/><text y="14" fill="#333">dark</text></svg>
"""


def test_the_checks_see_mistakes(people: People) -> None:
    page = people("alice", viewport=NARROW)
    page.goto("/")
    page.evaluate("document.head.append(document.createElement('style'))")
    page.evaluate("document.querySelector('style').append('b {}')")
    assert any("CSP violation: style-src" in text for text in people.complaints)
    page.evaluate("setTimeout(() => { throw new Error('a mistake in a script') })")
    until(lambda: page.evaluate("1") and any("a mistake in a script" in text for text in people.complaints), 10)
    people.complaints.clear()

    page = people.anonymous(viewport=NARROW)
    page.set_content(BAD)
    found = look(page)
    assert {text.partition(">")[2].strip() for text in found["contrast"]} == {"grey", "faint", "wide", "dark"}
    assert found["width"]
    said = "\n".join([*found["structure"], *nameless(page)])
    for text in (
        "2 of h1",
        "h1 is followed by <h3",
        "no language",
        "two elements of id wide",
        "for=nothing",
        "no label: <input",
        "no alt",
        "a picture without a title",
        "a link without a name",
        "no navigation",
    ):
        assert text in said, text
    by_axe = {finding.rule for finding in axe.findings(page) if finding.fails}
    assert {"color-contrast", "html-has-lang", "label", "link-name"} <= by_axe
    dull = [finding for finding in axe.findings(page, colours_only=True) if finding.rule != "color-contrast"]
    assert dull == []


def test_every_page(people: People, later: Mapping[str, str]) -> None:
    """As two people see them, the platform's administrator and an engineer; also the page that says no."""
    found: dict[str, dict[str, list[str]]] = {}
    denied = set()
    for user in ("peggy", "alice"):
        page = people(user)
        for path in (*PAGES, *later.values()):
            answer = page.goto(path)
            assert answer is not None
            if answer.status == 403:
                denied.add((user, path))
            else:
                assert answer.status == STATUS.get(path, 200), path
            if wrong := mistakes(page):
                found[f"{path} as {user}"] = wrong
    assert denied == {("peggy", later["egress.edit"])}
    page.goto("/")
    named = page.get_by_role("navigation", name="Pages").get_by_role("link").evaluate_all(HREFS)
    assert {urlsplit(href).path.rstrip("/") for href in named} <= {path.partition("?")[0].rstrip("/") for path in PAGES}
    page = people.anonymous()
    page.goto("/login")
    if wrong := mistakes(page):
        found["/login"] = wrong
    assert not found, json.dumps(found, indent=1)


def test_every_page_without_javascript(people: People, later: Mapping[str, str]) -> None:
    page = people("peggy", java_script_enabled=False, viewport=NARROW)
    for path in (*PAGES, *later.values()):
        page.goto(path)
        heading = page.get_by_role("heading", level=1)
        assert heading.inner_text().strip(), path
    # On a narrow screen the menu opens by itself, and the search is a form like any other.
    page.goto("/catalogue/")
    page.get_by_text("Menu", exact=True).click()
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Jobs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    page.goto("/catalogue/")
    page.get_by_role("searchbox").fill("tokenizer")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**q=tokenizer*")
    expect(page.get_by_role("link", name="cards/tokenizer")).to_be_visible()
    expect(page.get_by_role("link", name="risk/fraud")).to_have_count(0)
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.get_by_text("Menu", exact=True).click()
        page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.get_by_text("Menu", exact=True).click()
        page.get_by_role("button", name="System").click()


def test_focus_is_seen_everywhere(people: People) -> None:
    """Tab goes through the whole page, round to the start again, and can always be seen."""
    page = people("alice")
    for path in ("/", "/access/profiles/shell", "/egress/new?service=payments/payments", "/audit/"):
        page.goto(path)
        press_until(page, "Tab", "a.skip")
        press_until(page, "Tab", "main button, main a")
        press_until(page, "Tab", "a.skip")


def test_lists_are_searched_while_typing(people: People) -> None:
    """htmx swaps the list and keeps the address, which the back button undoes."""
    page = people("alice")
    page.goto("/catalogue/")
    rows = page.locator("#list tbody tr")
    everything = rows.count()
    page.get_by_role("searchbox").press_sequentially("ledger", delay=20)
    page.wait_for_url("**q=ledger*")
    expect(page.get_by_role("link", name="ledger/ledger")).to_be_visible()
    assert rows.count() < everything
    page.get_by_role("combobox", name="Team").select_option("accounts")
    page.wait_for_url("**team=accounts*")
    assert "q=ledger" in page.url
    page.reload()
    expect(page.get_by_role("searchbox")).to_have_value("ledger")
    expect(page.get_by_role("combobox", name="Team")).to_have_value("accounts")
    page.goto("/catalogue/")
    page.get_by_role("combobox", name="Team").select_option("risk")
    page.wait_for_url("**team=risk*")
    expect(rows).to_have_count(3)
    page.go_back()
    expect(rows).to_have_count(everything)


def test_no_link_leads_nowhere(people: People, later: Mapping[str, str]) -> None:
    """Every link of every page that was looked at is answered."""
    page = people("peggy")
    targets: dict[str, str] = {}
    for path in (*PAGES, later["access.grant"], later["egress.show"]):
        page.goto(path)
        for href in page.locator("a[href]").evaluate_all(HREFS):
            parts = urlsplit(href)
            if f"{parts.scheme}://{parts.netloc}" == people.demo.address:
                targets.setdefault(f"{parts.path}?{parts.query}".rstrip("?"), path)
    wrong = {}
    for target, path in targets.items():
        answer = page.request.get(target)
        if answer.status != STATUS.get(target, 200):
            wrong[target] = f"{answer.status}, linked from {path}"
    assert wrong == {}
    assert len(targets) > 50

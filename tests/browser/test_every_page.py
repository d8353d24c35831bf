"""What every page keeps to: no complaint of the browser, names and landmarks, contrast, 360 pixels, no JavaScript."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from support import testbed
from support.browser import People, expect, press_until
from support.demo import Laptop, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGES = """
/ /me /access/ /access/profiles/developer /access/profiles/cluster-admin
/egress/ /egress/?all=yes /egress/new?service=payments/payments
/alerts/ /alerts/?cluster=prod&labels=team%3Dpayments+severity%3Dpage&at=sunday+03:00
/alerts/?labels=nonsense&at=never /alerts/declared?cluster=prod /alerts/config
/catalogue/ /catalogue/?q=nothing-like-this /catalogue/payments/payments /catalogue/data/postgres?cluster=dev
/runbooks /problems/ /problems/?severity=info /problems/platform/unknown-service
/audit/ /audit/events /audit/?since=never /audit/verify /jobs/ /nowhere
""".split()
STATUS = {"/alerts/?labels=nonsense&at=never": 422, "/nowhere": 404}
CHECKS = (testbed.ROOT / "tests" / "support" / "page_checks.js").read_text(encoding="utf-8")
NAMED = frozenset("button link textbox searchbox combobox checkbox radio region navigation image".split())
HREFS = "links => links.map((link) => new URL(link.getAttribute('href'), document.baseURI).href)"
PROPOSED = "cards/tokenizer"


def look(page: Page) -> dict[str, list[str]]:
    """The mistakes of the page as it is now, by kind."""
    found: dict[str, list[str]] = page.evaluate(CHECKS)
    return found


def mistakes(page: Page) -> dict[str, list[str]]:
    """The mistakes of a page in light and dark, wide and narrow, and what has no name for a screen reader."""
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")
    light, names = look(page), nameless(page)
    page.emulate_media(color_scheme="dark")
    dark = look(page)
    page.set_viewport_size({"width": 360, "height": 740})
    narrow = look(page)
    found = {
        "light": light["contrast"],
        "dark": dark["contrast"],
        "narrow, dark": narrow["contrast"],
        "structure": light["structure"],
        "narrow": narrow["width"],
        "names": names,
    }
    return {kind: texts for kind, texts in found.items() if texts}


def nameless(page: Page) -> list[str]:
    """What the browser's own accessibility tree has no name for; and landmarks that are missing."""
    session = page.context.new_cdp_session(page)
    nodes: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    seen = [(str(n["role"]["value"]), str(n.get("name", {}).get("value", ""))) for n in nodes if not n["ignored"]]
    roles = [role for role, _ in seen]
    found = [f"a {role} without a name" for role, name in seen if role in NAMED and not name.strip()]
    found += [f"{roles.count(role)} of role {role}" for role in ("main", "contentinfo") if roles.count(role) != 1]
    if urlsplit(page.url).path != "/login":
        found += [f"no {role}" for role in ("banner", "navigation") if role not in roles]
    return found


@pytest.fixture(scope="module")
def eventful(everybody: People, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Addresses of things that only exist once somebody did something: a request, a proposal, a certificate."""
    home = tmp_path_factory.mktemp("home")
    laptop = Laptop(home, everybody.demo)
    laptop.log_in("peggy")
    laptop.run("access", "cert", "developer", "--cluster", "test")
    laptop.run("access", "cert", "on-call", "--cluster", "prod")
    reason = "Node 7 of prod reports no metrics: look at its kubelet"
    asked = laptop.json("access", "elevate", "cluster-admin", "--cluster", "prod", "--reason", reason)
    page = everybody("alice")
    page.goto(f"/egress/new?service={PROPOSED}")
    page.get_by_label("Which one").fill("accounts/accounts")
    page.get_by_role("textbox", name="Ports").fill("http")
    page.get_by_role("button", name="Add to the document").click()
    page.get_by_role("textbox", name="Why").fill("The tokenizer asks for the owner of an account")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile(r"/egress/\d+$"))
    proposal = urlsplit(page.url).path
    page.context.close()
    return [f"/access/requests/{asked['id']}", proposal]


BAD = """
<style>p { color: #888 } ::before { color: #888 } b { opacity: .5 } #wide { display: block; width: 900px }</style>
<h1>One</h1><h1>Two</h1><h3>Three</h3>
<p>grey</p><b>faint</b><i id="wide" class="before">wide</i><style>.before::before { content: "pale" }</style>
<input name="nameless"><a href="/"></a><img src="data:,"><i id="wide"></i><label for="nothing">x</label>
<svg width="90" height="20"><rect width="90" height="20" fill="#000"/><text y="14" fill="#333">dark</text></svg>
"""


def test_the_checks_see_mistakes(people: People) -> None:
    page = people("alice", viewport={"width": 360, "height": 740})
    page.goto("/")
    page.evaluate("document.head.append(document.createElement('style'))")
    page.evaluate("document.querySelector('style').append('b {}')")
    assert any("CSP violation: style-src" in text for text in people.complaints)
    page.evaluate("setTimeout(() => { throw new Error('a mistake in a script') })")
    until(lambda: page.evaluate("1") and any("a mistake in a script" in text for text in people.complaints), 10)
    people.complaints.clear()

    page = people.anonymous(viewport={"width": 360, "height": 740})
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


def test_every_page(people: People, eventful: list[str]) -> None:
    """As two people see them, the platform's administrator and an engineer."""
    found = {}
    for user in ("peggy", "alice"):
        page = people(user)
        for path in (*PAGES, *eventful):
            answer = page.goto(path)
            assert answer is not None
            if answer.status == 403 and user == "alice":
                assert path in ("/audit/verify", eventful[0])
            else:
                assert answer.status == STATUS.get(path, 200), path
            if wrong := mistakes(page):
                found[f"{path} as {user}"] = wrong
    page.goto("/")
    named = page.get_by_role("navigation", name="Pages").get_by_role("link").evaluate_all(HREFS)
    assert {urlsplit(href).path.rstrip("/") for href in named} <= {path.partition("?")[0].rstrip("/") for path in PAGES}
    page = people.anonymous()
    page.goto("/login")
    page.get_by_label("User").fill("alice")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    if wrong := mistakes(page):
        found["/login"] = wrong
    assert not found, json.dumps(found, indent=1)


def test_forms_with_mistakes(people: People) -> None:
    """Pages that only a POST shows."""
    page = people("alice")
    page.goto("/egress/new?service=payments/payments")
    text = page.get_by_role("textbox", name=".yaml")
    text.fill(text.input_value().replace("sensitivity: high", "sensitivity: [high"))
    page.get_by_role("button", name="Look at the effect").click()
    expect(page.locator(".caret")).to_be_visible()
    assert not (found := mistakes(page)), found

    page.goto("/egress/new?service=payments/payments")
    page.get_by_label("Kind").select_option("internet")
    page.get_by_role("button", name="Add to the document").click()
    page.get_by_role("button", name="Remove ledger/ledger").click()
    expect(page.get_by_role("button", name="Submit")).to_be_visible()
    assert not (found := mistakes(page)), found

    page.goto("/alerts/config")
    page.get_by_label("Configuration").fill("route: {receiver: desk, group_by: [a, a]}\nreceivers: [{name: other}]\n")
    page.get_by_role("button", name="Show the path").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert not (found := mistakes(page)), found

    page.goto("/access/profiles/developer")
    page.get_by_role("textbox", name="Signing request").fill("no request")
    page.get_by_role("button", name="Sign").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert not (found := mistakes(page)), found


def test_every_page_without_javascript(people: People, eventful: list[str]) -> None:
    page = people("peggy", java_script_enabled=False, viewport={"width": 360, "height": 740})
    for path in (*PAGES, *eventful):
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


def test_no_link_leads_nowhere(people: People, eventful: list[str]) -> None:
    """Every link of every page that was looked at is answered."""
    page = people("peggy")
    targets: dict[str, str] = {}
    for path in (*PAGES, *eventful):
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

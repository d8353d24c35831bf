"""On-call needs to know who is paged, and why: typed labels, a declared alert, any configuration; also by keyboard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from support.browser import People, expect, press_until
from support.demo import Laptop, until
from support.real_bank import ALERT, RealBank

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROKEN = """\
route:
  receiver: desk
  group_by: [alertname]
  routes:
    - receiver: night
      matchers: ['severity=~"(page"']
receivers:
  - name: desk
  - name: night
# kept: everything that was typed
"""
SOUND = BROKEN.replace("(page", "page|critical")


def lit_path(page: Page) -> list[str]:
    """The labels of the nodes that the picture lights, from the root on."""
    found: list[str] = page.locator(".route-tree a.matched .label").all_text_contents()
    return found


def test_typed_labels_light_the_path_to_a_person(people: People, laptop: Laptop) -> None:
    page = people("carol")
    page.goto("/")
    page.get_by_role("link", name="Alert routing").click()
    page.get_by_label("Cluster").select_option("prod")
    page.get_by_role("textbox", name="Labels of the alert").fill("team=payments severity=page")
    page.get_by_role("button", name="Show the path").click()
    expect(page.locator(".route-tree a.final .target")).to_have_text("→ payments-page")
    assert lit_path(page) == ["root", 'team="payments"', 'severity="page"']
    reasons = page.locator(".route-tree a.matched .reason").all_text_contents()
    assert reasons[-1] == 'matches severity="page"'
    # The table says the same as the picture.
    expect(page.locator("tr.lit")).to_have_count(3)

    page.get_by_role("button", name="03:00 on Sunday").click()
    expect(page.get_by_role("textbox", name="Time")).to_have_value("sunday 03:00")
    expect(page.get_by_role("textbox", name="Labels of the alert")).to_have_value("team=payments severity=page")
    end = page.locator(".ends section")
    expect(end).to_have_count(1)
    expect(end.get_by_role("heading")).to_have_text("payments-page")
    expect(end).to_contain_text("03:00 UTC")
    expect(end).to_contain_text("first after")

    # The command line gives the same person for the same moment.
    link = page.get_by_role("link", name="A link to this very moment").get_attribute("href") or ""
    at = parse_qs(urlsplit(link).query)["at"][0]
    options = ("--cluster", "prod", "--at", at)
    said = laptop.json("alerts", "route", laptop.demo.platform, "team=payments", "severity=page", *options)
    assert [found["receiver"] for found in said["receivers"]] == ["payments-page"]
    expect(page.locator(".person")).to_have_text(said["receivers"][0]["person"])
    assert re.fullmatch(r"(Alice Adler|Bob Brandt|Carol Castro)", said["receivers"][0]["person"])

    # Somebody else sees the same under the same address.
    other = people("heidi")
    other.goto(link)
    assert other.locator(".ends").inner_text() == page.locator(".ends").inner_text()
    assert lit_path(other) == lit_path(page)
    expect(other.get_by_role("textbox", name="Time")).to_have_value(at)


def test_declared_alert_is_picked(people: People) -> None:
    page = people("heidi")
    page.goto("/alerts/")
    page.get_by_role("link", name="Declared alerts", exact=True).click()
    page.get_by_label("Cluster").select_option("prod")
    page.wait_for_url("**cluster=prod*")  # htmx puts each choice into the address
    page.get_by_role("searchbox", name="Search alerts").fill("RefundQueue")
    page.wait_for_url("**q=RefundQueue*")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    page.get_by_role("link", name="RefundQueueStuck").click()
    expect(page.get_by_role("textbox", name="Labels of the alert")).to_have_value(re.compile("RefundQueueStuck"))
    expect(page.get_by_label("Cluster")).to_have_value("prod")
    assert lit_path(page)[:2] == ["root", 'team="payments"']
    expect(page.locator(".ends h2")).to_have_text("payments-page")
    page.get_by_role("textbox", name="Time").fill("some day")
    page.get_by_role("button", name="Show the path").click()
    expect(page.get_by_role("textbox", name="Time")).to_have_value("some day")
    expect(page.get_by_role("textbox", name="Labels of the alert")).to_have_value(re.compile("RefundQueueStuck"))
    expect(page.locator("#error-at")).to_be_visible()


def test_what_fires_leads_to_whom_it_reaches(real_bank: RealBank, real_everybody: People) -> None:
    """A rule of a real Prometheus fires, a real Alertmanager tells somebody, and the portal says whom and why."""
    name = ALERT["alertname"]
    until(lambda: real_bank.receivers(name), 30, lambda: "no alert reached Alertmanager")
    page = real_everybody("erin")
    try:
        page.goto("/")
        fires = page.get_by_role("region", name="Alerts of my teams that fire")
        expect(fires).to_contain_text(name)
        fires.get_by_role("link", name="Everything that fires").click()
        page.get_by_label("Cluster").select_option("prod")
        row = page.get_by_role("row").filter(has_text=name)
        expect(row).to_contain_text("told")
        said = set(row.get_by_role("code").all_text_contents())
        assert said == real_bank.receivers(name)
        row.get_by_role("link", name=name).click()
        page.wait_for_url("**/alerts/?**")
        assert lit_path(page)[:2] == ["root", 'team="accounts"']
        assert {text.strip() for text in page.locator(".ends h2").all_text_contents()} == said
        expect(page.locator(".ends .person")).to_be_visible()
        expect(page.get_by_text("has loaded something else")).to_have_count(0)
        assert real_everybody.complaints == []
    finally:
        real_everybody.close()


def test_pasted_configuration(people: People) -> None:
    page = people("heidi")
    page.goto("/alerts/config")
    page.get_by_label("Configuration").fill(BROKEN)
    page.get_by_role("textbox", name="Labels of the alert").fill("severity=page")
    with page.expect_response("**/alerts/config") as answered:
        page.get_by_role("button", name="Show the path").click()
    assert answered.value.status == 422
    expect(page.get_by_label("Configuration")).to_have_value(BROKEN)
    expect(page.get_by_role("textbox", name="Labels of the alert")).to_have_value("severity=page")
    problem = page.locator(".problem").first
    expect(problem).to_contain_text("alertmanager.yml:6:")
    expect(problem.locator(".caret")).to_contain_text("severity=~")
    expect(problem.locator(".caret")).to_contain_text("^")

    page.get_by_label("Configuration").fill(SOUND)
    page.get_by_role("button", name="Show the path").click()
    expect(page.locator(".ends h2")).to_have_text("night")
    assert lit_path(page) == ["root", 'severity=~"page|critical"']


def test_keyboard_alone(people: People) -> None:
    page = people("carol")
    page.goto("/alerts/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    press_until(page, "Tab", "#f-labels")
    page.keyboard.type("team=payments severity=page")
    press_until(page, "Tab", "#f-cluster")
    page.keyboard.type("prod")
    press_until(page, "Tab", "button[value='sunday 03:00']")
    page.keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Time")).to_have_value("sunday 03:00")
    expect(page.get_by_label("Cluster")).to_have_value("prod")
    expect(page.locator(".ends .person")).to_be_visible()
    # A node of the picture is a link to its row of the table.
    press_until(page, "Tab", ".route-tree a.final")
    page.keyboard.press("Enter")
    page.wait_for_url("**#*")
    row = page.locator("tr:target")
    expect(row).to_contain_text("payments-page")
    expect(row).to_be_in_viewport()

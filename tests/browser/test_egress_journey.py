"""A team changes what its service may talk to: by form or text, with and without JavaScript, until it is rendered."""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml
from support.browser import People, expect
from support.demo import Demo, until
from support.real_bank import Site

if TYPE_CHECKING:
    from playwright.sync_api import Page

REVIEWER = "erin"  # of team accounts, which has both the accounts and the ledger


def document(page: Page) -> Any:
    """The text of the document."""
    return page.get_by_role("textbox", name=".yaml")


def newest_commit(demo: Demo) -> str:
    """Hash, author, message and changed files of the newest commit of the demo's repository."""
    command = ["git", "-C", str(demo.platform), "show", "--stat", "--format=%H%n%an <%ae>%n%B", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def rendered(demo: Demo, cluster: str, namespace: str) -> list[Any]:
    """The policies of a namespace as the worker rendered them, enforced or staged."""
    path = demo.rendered / cluster / "policies" / f"{namespace}.yaml"
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8"))) if path.exists() else []


def allowed(policies: list[Any], app: str, peer: str) -> bool:
    """Whether a policy lets pods of `app` out to pods labelled `app: peer`."""
    for policy in policies:
        selected = policy["spec"].get("podSelector", {}).get("matchLabels", {})
        if selected.get("app") != app:
            continue
        for rule in policy["spec"].get("egress", ()):
            for to in rule.get("to", ()):
                if to.get("podSelector", {}).get("matchLabels", {}).get("app") == peer:
                    return True
    return False


def in_force(site: Site, service: str, peer: str) -> None:
    """The worker renders what was agreed; where the cluster is a real one it applies it, too, by itself."""
    began = time.monotonic()
    namespace, app = service.split("/")
    other = peer.partition("/")[2]
    until(
        lambda: allowed(rendered(site.demo, "prod", namespace), app, other),
        60,
        lambda: f"no rendered policy lets {service} out to {peer}",
    )
    if (real := site.real) is not None:
        until(
            lambda: allowed(real.policies(namespace), app, other),
            60,
            lambda: f"the API server has no policy that lets {service} out to {peer}",
        )
    print(f"{service} may go out {time.monotonic() - began:.1f} s after the page said so")


@pytest.mark.parametrize(
    ("javascript", "service", "author", "peer", "port", "number"),
    [
        pytest.param(True, "cards/cards", "alice", "accounts/accounts", "http", "8080", id="javascript"),
        pytest.param(False, "risk/fraud", "niaj", "ledger/ledger", "grpc", "9090", id="no-javascript"),
    ],
)
def test_proposal(site: Site, javascript: bool, service: str, author: str, peer: str, port: str, number: str) -> None:
    people, demo = site.people, site.demo
    if site.real is not None:
        namespace, app = service.split("/")
        assert not allowed(site.real.policies(namespace), app, peer.partition("/")[2])
    before, reason = newest_commit(demo), f"A reason for {service}"
    page = people(author, java_script_enabled=javascript)
    page.goto("/")
    page.get_by_role("link", name="Egress").click()
    page.get_by_role("link", name=f"Propose a change of {service}").click()
    text = document(page).input_value()
    assert f"name: {service.partition('/')[2]}" in text

    broken_document_keeps_everything(page, text)

    page.get_by_label("Kind").select_option("service")
    page.get_by_label("Which one").fill(peer)
    page.get_by_role("textbox", name="Ports").fill(port)
    page.get_by_role("button", name="Add to the document").click()
    expect(document(page)).to_have_value(re.compile(re.escape(f"- {{to: {{service: {peer}}}, ports: [{port}]}}")))
    expect(page.get_by_role("heading", level=1)).to_contain_text(service)
    assert "adds 1 connection" in page.get_by_role("main").inner_text()
    appears = page.get_by_role("row").filter(has_text="appears").filter(has_text=peer.partition("/")[2])
    expect(appears.first).to_contain_text(number)
    expect(page.get_by_role("region", name="Submit")).to_contain_text("team accounts")

    # Nothing typed is lost where the reason is missing.
    changed = document(page).input_value()
    page.get_by_role("textbox", name="Title").fill(f"{service} asks {peer}")
    with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
        page.get_by_role("button", name="Submit").click()
    assert answered.value.status == 422
    expect(document(page)).to_have_value(changed)
    expect(page.get_by_role("textbox", name="Title")).to_have_value(f"{service} asks {peer}")
    page.get_by_role("textbox", name="Why").fill(reason)
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile(r"/egress/\d+$"))
    address = urlsplit(page.url).path
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{service} asks {peer}")
    expect(page.get_by_text("Those who must agree were told.")).to_be_visible()
    expect(page.get_by_role("button", name="Agree")).to_be_disabled()
    assert newest_commit(demo) == before

    # The other end's team finds it on its home page, looks at it and agrees.
    other = people(REVIEWER, java_script_enabled=javascript)
    other.goto("/")
    other.get_by_role("link", name=f"{service} asks {peer}").click()
    expect(other.get_by_role("row").filter(has_text="appears").first).to_contain_text(number)
    other.get_by_role("button", name="Refuse").click()
    expect(other.get_by_text("a refusal needs a comment")).to_be_visible()
    other.get_by_role("button", name="Agree").click()
    expect(other.get_by_text("Agreed, and committed as")).to_be_visible()
    commit = other.get_by_text(re.compile(r"^[0-9a-f]{12}$")).inner_text()

    newest = newest_commit(demo)
    assert newest.startswith(commit)
    assert newest.splitlines()[1] == {"alice": "Alice Adler", "niaj": "Niaj Nath"}[author] + f" <{author}@bank.example>"
    assert reason in newest
    assert f"Approved-by: {REVIEWER}" in newest
    assert f"services/{peer}.yaml" in newest  # the other end's list changes along
    kept = demo.platform / "services" / f"{service}.yaml"
    assert kept.read_text(encoding="utf-8") == changed
    in_force(site, service, peer)
    page.goto(address)
    history = page.get_by_role("region", name="History")
    expect(history).to_contain_text("committed")
    expect(history).to_contain_text(REVIEWER)
    page.goto(f"/catalogue/{service}")
    expect(page.get_by_role("link", name=peer).first).to_be_visible()


def broken_document_keeps_everything(page: Page, text: str) -> None:
    """A mistake on a line of its own: shown at line and column, and nothing that was typed goes away."""
    lines = text.rstrip("\n").split("\n")
    at = next(number for number, line in enumerate(lines) if line.strip() == "egress:") + 1
    broken = "\n".join([*lines[:at], "    - {to: {service: ledger/ledger}, ports: [grpc}", *lines[at:], ""])
    document(page).fill(broken)
    page.get_by_role("textbox", name="Ports").fill("8000-8100")
    page.get_by_text("Reason and end").click()
    page.get_by_role("textbox", name="Reason").fill("typed before the mistake showed")
    page.get_by_role("button", name="Look at the effect").click()
    problem = page.get_by_role("article")
    expect(problem).to_have_count(1)  # not what others would say of a service that cannot be read
    expect(problem).to_contain_text(re.compile(rf"\.yaml:{at + 1}:50\b"))
    expect(problem).to_contain_text("^")
    expect(document(page)).to_have_value(broken)
    expect(page.get_by_role("textbox", name="Ports")).to_have_value("8000-8100")
    expect(page.get_by_role("textbox", name="Reason")).to_have_value("typed before the mistake showed")
    page.get_by_role("button", name="Start over").click()
    expect(document(page)).to_have_value(text)
    page.get_by_role("textbox", name="Reason").fill("")


def test_draft_is_kept_and_withdrawn(people: People, demo: Demo) -> None:
    before = newest_commit(demo)
    page = people("carol")
    page.goto("/egress/new?service=payments/payments")
    page.get_by_role("button", name="Remove data/kafka").click()
    assert "removes 1 connection" in page.get_by_role("main").inner_text()
    expect(page.get_by_role("row").filter(has_text="goes").first).to_contain_text("kafka")
    page.get_by_role("textbox", name="Title").fill("Payments without Kafka")
    page.get_by_role("button", name="Keep as draft").click()
    page.wait_for_url(re.compile(r"/egress/\d+$"))
    expect(page.get_by_text("Kept as a draft.")).to_be_visible()

    # Two browsers of one person: the one that comes second sees the conflict, and keeps what it typed.
    address = page.url
    page.get_by_role("link", name="Edit").click()
    second = people("carol")
    second.goto(page.url)
    page.get_by_role("textbox", name="Title").fill("Payments without Kafka, first")
    page.get_by_role("button", name="Keep as draft").click()
    page.wait_for_url(address)
    second.get_by_role("textbox", name="Title").fill("Payments without Kafka, second")
    second.get_by_role("button", name="Keep as draft").click()
    expect(second.get_by_role("alert")).to_contain_text("the stored version is on the proposal's page")
    expect(second.get_by_role("textbox", name="Title")).to_have_value("Payments without Kafka, second")

    page.reload()
    page.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_text("Withdrawn.")).to_be_visible()
    assert newest_commit(demo) == before

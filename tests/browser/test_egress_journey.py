"""A team changes what its service may talk to: by the form or as text, with and without JavaScript, until it is rendered."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml
from support.browser import People, expect
from support.demo import Demo, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

REASON = "Show the balance beside the card"


def document(page: Page) -> Any:
    """The text of the document."""
    return page.get_by_role("textbox", name=".yaml")


def log_of(demo: Demo) -> str:
    """The demo's Git log, with every commit's author, message and files."""
    done = subprocess.run(
        ["git", "-C", str(demo.platform), "log", "--stat", "--format=%H%n%an <%ae>%n%B"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def allowed(rendered: Path, cluster: str, namespace: str, app: str, peer: str) -> bool:
    """Whether a rendered policy lets pods of `app` out to pods labelled `app: peer`."""
    path = rendered / cluster / "policies" / f"{namespace}.yaml"
    if not path.exists():
        return False
    for policy in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        if policy["kind"] != "NetworkPolicy" or policy["spec"]["podSelector"].get("matchLabels") != {"app": app}:
            continue
        for rule in policy["spec"].get("egress", ()):
            for to in rule.get("to", ()):
                if to.get("podSelector", {}).get("matchLabels", {}).get("app") == peer:
                    return True
    return False


@pytest.mark.parametrize(
    ("javascript", "service", "author", "team", "peer", "port", "reviewer"),
    [
        pytest.param(True, "cards/cards", "alice", "payments", "accounts/accounts", "http", "erin", id="javascript"),
        pytest.param(False, "risk/fraud", "niaj", "risk", "ledger/ledger", "grpc", "erin", id="no-javascript"),
    ],
)
def test_proposal(
    people: People,
    demo: Demo,
    javascript: bool,
    service: str,
    author: str,
    team: str,
    peer: str,
    port: str,
    reviewer: str,
) -> None:
    page = people(author, java_script_enabled=javascript)
    page.goto("/")
    page.get_by_role("link", name="Egress").click()
    expect(page.get_by_role("row").filter(has_text=service)).to_contain_text(team)
    page.get_by_role("link", name=f"Propose a change of {service}").click()
    text = document(page).input_value()
    assert f"name: {service.partition('/')[2]}" in text

    broken_document_keeps_everything(page, text)

    page.get_by_label("Kind").select_option("service")
    page.get_by_role("textbox", name="Which one").or_(page.get_by_role("combobox", name="Which one")).fill(peer)
    page.get_by_role("textbox", name="Ports").fill(port)
    page.get_by_role("button", name="Add to the document").click()
    expect(document(page)).to_have_value(re.compile(re.escape(f"- {{to: {{service: {peer}}}, ports: [{port}]}}")))
    expect(page.get_by_role("heading", level=1)).to_contain_text(service)
    assert "adds 1 connection" in page.get_by_role("main").inner_text()
    appears = page.get_by_role("row").filter(has_text="appears").filter(has_text=peer.partition("/")[2])
    expect(appears.first).to_contain_text(port)
    assert f"team {peer.partition('/')[0]}" in page.get_by_role("main").inner_text()

    # Nothing typed is lost where the reason is missing.
    changed = document(page).input_value()
    page.get_by_role("textbox", name="Title").fill(f"{service} asks {peer}")
    with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
        page.get_by_role("button", name="Submit").click()
    assert answered.value.status == 422
    expect(document(page)).to_have_value(changed)
    expect(page.get_by_role("textbox", name="Title")).to_have_value(f"{service} asks {peer}")
    page.get_by_role("textbox", name="Why").fill(REASON)
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile(r"/egress/\d+$"))
    number = urlsplit(page.url).path
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{service} asks {peer}")
    expect(page.get_by_text("Those who must agree were told.")).to_be_visible()
    expect(page.get_by_role("button", name="Agree")).to_be_disabled()
    assert REASON not in log_of(demo)

    # The other end's team finds it on its home page, looks at it and agrees.
    other = people(reviewer, java_script_enabled=javascript)
    other.goto("/")
    other.get_by_role("link", name=f"{service} asks {peer}").click()
    expect(other.get_by_role("row").filter(has_text="appears").first).to_contain_text(port)
    other.get_by_role("button", name="Refuse").click()
    expect(other.get_by_text("a refusal needs a comment")).to_be_visible()
    other.get_by_role("button", name="Agree").click()
    expect(other.get_by_text("Agreed, and committed as")).to_be_visible()
    commit = other.get_by_text(re.compile(r"^[0-9a-f]{12}$")).inner_text()

    log = log_of(demo)
    assert log.startswith(commit)
    newest = log.partition("\n")[2].partition(f"\n{'0' * 40}")[0]
    assert newest.startswith({"alice": "Alice Adler", "niaj": "Niaj Nath"}[author])
    assert REASON in newest
    assert f"Approved-by: {reviewer}" in newest
    kept = demo.platform / "services" / f"{service}.yaml"
    assert kept.read_text(encoding="utf-8") == changed
    namespace, app = service.split("/")
    until(
        lambda: allowed(demo.rendered, "prod", namespace, app, peer.partition("/")[2]),
        60,
        lambda: f"no rendered policy lets {service} out to {peer}",
    )
    page.goto(number)
    history = page.get_by_role("region", name="History")
    expect(history).to_contain_text("committed")
    expect(history).to_contain_text(reviewer)
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
    problem = page.get_by_role("article").first
    expect(problem).to_contain_text(re.compile(rf"\.yaml:{at + 1}:50\b"))
    expect(problem).to_contain_text("^")
    expect(document(page)).to_have_value(broken)
    expect(page.get_by_role("textbox", name="Ports")).to_have_value("8000-8100")
    expect(page.get_by_role("textbox", name="Reason")).to_have_value("typed before the mistake showed")
    page.get_by_role("button", name="Start over").click()
    expect(document(page)).to_have_value(text)
    page.get_by_role("textbox", name="Reason").fill("")


def test_draft_is_kept_and_withdrawn(people: People, demo: Demo) -> None:
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
    assert "Kafka" not in log_of(demo)
